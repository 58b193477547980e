/* Questions about slices: which one is here, which is longest, which belong together.

   Within a row slices are sorted and do not overlap (the model puts overlaps and nesting into rows of their
   own), so everything is a binary search, and a frame costs pixels times logarithms, not slices. */

import { lowerBound } from "./sorted.js";

const BLOCK = 64;
const MOST_PARTNERS = 20;

/* The first slice of the row that ends after t. */
export function firstVisible({ start, duration }, row, t) {
  const i = lowerBound(start, t, row.from, row.to);
  return i > row.from && start[i - 1] + duration[i - 1] > t ? i - 1 : i;
}

/* For each block of slices the longest one: what stands for the block when it shares a pixel. */
export function longestOfBlocks({ duration }) {
  const longest = new Uint32Array(Math.ceil(duration.length / BLOCK));
  for (let i = 0; i < duration.length; i++) {
    const block = (i / BLOCK) | 0;
    if (i % BLOCK === 0 || duration[i] > duration[longest[block]]) longest[block] = i;
  }
  return longest;
}

/* The longest slice of [from, to), the first of equal ones. */
export function longestIn({ duration, longest }, from, to) {
  let best = from;
  let i = from + 1;
  while (i < to) {
    if (i % BLOCK === 0 && i + BLOCK <= to) {
      const other = longest[i / BLOCK];
      if (duration[other] > duration[best]) best = other;
      i += BLOCK;
    } else {
      if (duration[i] > duration[best]) best = i;
      i++;
    }
  }
  return best;
}

/* Half-open intervals, but a slice of no length still is somewhere. */
export function touches(start, duration, t0, t1) {
  return start < t1 && (start + duration > t0 || (duration === 0 && start >= t0));
}

/* The slice of a row at time t, or one so near that `slack` covers it; -1 if there is none. */
export function sliceAt(timeline, row, t, slack) {
  const { start, duration } = timeline;
  const i = lowerBound(start, t, row.from, row.to);
  let best = -1;
  let distance = slack;
  for (const j of [i - 1, i]) {
    if (j < row.from || j >= row.to) continue;
    const away = Math.max(start[j] - t, t - start[j] - duration[j], 0);
    if (away <= distance) {
      // Inside beats near, and of two as near the earlier one is what the pixel shows.
      if (best < 0 || away < distance) best = j;
      distance = away;
    }
  }
  return best;
}

/* The row that holds slice i. */
export function rowOf({ rows }, i) {
  let [low, high] = [0, rows.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].to <= i) low = middle + 1;
    else high = middle;
  }
  return rows[low];
}

/* Slices with the same correlation: the launch of a kernel, the kernels of a launch. */
export function partnersOf({ correlation, count }, i) {
  if (!correlation[i]) return [];
  const found = [];
  for (let j = 0; j < count; j++) if (correlation[j] === correlation[i] && j !== i) found.push(j);
  return found.slice(0, MOST_PARTNERS);
}

/* Slices of a name in order of start: the devices' work or, if none of it has that name, the first slice on any
   lane, such as an instruction without an estimate. */
export function slicesOfName({ name, start, work, count }, wanted) {
  const found = [];
  for (const { order } of work) for (const i of order) if (name[i] === wanted) found.push(i);
  for (let i = 0; !found.length && i < count; i++) if (name[i] === wanted) found.push(i);
  return found.sort((a, b) => start[a] - start[b]);
}
