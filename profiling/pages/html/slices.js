/* Questions about slices: which one is here, which is longest, how long was a device busy.

   Within a row slices are sorted and do not overlap (the model puts overlaps and nesting into rows of their own),
   so everything is a binary search, and a frame costs pixels times logarithms, not slices. */

const BLOCK = 64;

/* The first i in [from, to) with values[i] >= limit. */
function lowerBound(values, limit, from, to) {
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (values[middle] < limit) from = middle + 1;
    else to = middle;
  }
  return from;
}

/* As lowerBound, but cheap when the answer is near `from`, as it is between one pixel and the next. */
function gallop(values, limit, from, to) {
  let step = 1;
  let low = from;
  while (low + step < to && values[low + step] < limit) {
    low += step;
    step *= 2;
  }
  return lowerBound(values, limit, low, Math.min(low + step + 1, to));
}

/* The first slice of the row that ends after t. */
function firstVisible({ start, duration }, row, t) {
  const i = lowerBound(start, t, row.from, row.to);
  return i > row.from && start[i - 1] + duration[i - 1] > t ? i - 1 : i;
}

/* For each block of slices the longest one: what stands for the block when it shares a pixel. */
function longestOfBlocks({ duration }) {
  const longest = new Uint32Array(Math.ceil(duration.length / BLOCK));
  for (let i = 0; i < duration.length; i++) {
    const block = (i / BLOCK) | 0;
    if (i % BLOCK === 0 || duration[i] > duration[longest[block]]) longest[block] = i;
  }
  return longest;
}

function longestIn({ duration, longest }, from, to) {
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

/* Indices sorted by start, by least significant digits first: comparing 500,000 numbers takes ten times as long. */
function byStart(indices, start) {
  let from = indices;
  let to = new Uint32Array(indices.length);
  const largest = indices.reduce((most, i) => Math.max(most, start[i]), 0);
  for (let scale = 1; scale <= largest; scale *= 65536) {
    const counts = new Uint32Array(65537);
    const digit = (i) => Math.floor(start[i] / scale) % 65536;
    for (const i of from) counts[digit(i) + 1]++;
    for (let d = 0; d < 65536; d++) counts[d + 1] += counts[d];
    for (const i of from) to[counts[digit(i)]++] = i;
    [from, to] = [to, from];
  }
  return from;
}

/* What kept each device busy (work on lanes that no tool derived from others), in order of start. Where nothing ran
   on a device, as in a trace of the CPU alone, framework operators stand in: those nest, so only unions add up. */
function workOf(timeline) {
  const chosen = timeline.devices.map(() => []);
  for (const property of ["work", "standIn"]) {
    for (const row of timeline.rows) {
      if (row.lane.derived) continue;
      for (let i = row.from; i < row.to; i++) {
        if (timeline.kinds[timeline.kind[i]][property]) chosen[row.lane.device].push(i);
      }
    }
    timeline.standsIn = property === "standIn";
    if (chosen.some((indices) => indices.length)) break;
  }
  return chosen
    .map((indices, device) => ({ device, name: timeline.devices[device], indices }))
    .filter(({ indices }) => indices.length)
    .map(({ device, name, indices }) => {
      const order = byStart(Uint32Array.from(indices), timeline.start);
      return { device, name, order, union: unionOf(timeline, order) };
    });
}

/* A static plan: its work is instructions, of which those without an estimate have no length. */
const planned = () => TIME_UNITS === UNITS.cycles;

function workCount({ standsIn }, number) {
  return planned() ? `${count(number, "instruction")} with an estimate` : count(number, standsIn ? "operator" : "kernel");
}

/* Merged intervals of slices given in order of start, with the busy time before each. */
function unionOf({ start, duration }, order) {
  const from = [];
  const to = [];
  for (const i of order) {
    const end = start[i] + duration[i];
    const last = to.length - 1;
    if (last >= 0 && start[i] <= to[last]) {
      if (end > to[last]) to[last] = end;
    } else {
      from.push(start[i]);
      to.push(end);
    }
  }
  const before = new Float64Array(from.length + 1);
  for (let i = 0; i < from.length; i++) before[i + 1] = before[i] + to[i] - from[i];
  return { from: Float64Array.from(from), to: Float64Array.from(to), before };
}

/* How much of [t0, t1] the union covers. */
function busyWithin({ from, to, before }, t0, t1) {
  const until = (t) => {
    const i = lowerBound(from, t, 0, from.length);
    return i === 0 ? 0 : before[i] - Math.max(0, to[i - 1] - t);
  };
  return t1 > t0 ? until(t1) - until(t0) : 0;
}

/* Per name within [t0, t1]: slices, clipped total, union over streams. */
function byName(timeline, t0, t1) {
  const { start, duration, name, work } = timeline;
  const found = new Map();
  let busy = 0;
  for (const { order, union } of work) {
    busy += busyWithin(union, t0, t1);
    const reached = new Map(); // until when this name is counted on this device
    for (const i of order) {
      if (start[i] >= t1) break;
      if (!touches(start[i], duration[i], t0, t1)) continue;
      const from = Math.max(start[i], t0);
      const to = Math.min(start[i] + duration[i], t1);
      let entry = found.get(name[i]);
      if (!entry) found.set(name[i], (entry = { name: name[i], count: 0, total: 0, union: 0, first: i }));
      entry.count++;
      entry.total += to - from;
      const end = reached.get(name[i]) ?? -Infinity;
      if (to > end) {
        entry.union += to - Math.max(from, end);
        reached.set(name[i], to);
      }
    }
  }
  return { busy, rows: [...found.values()] };
}

/* Half-open intervals, but a slice of no length still is somewhere. */
function touches(start, duration, t0, t1) {
  return start < t1 && (start + duration > t0 || (duration === 0 && start >= t0));
}

/* What lies in [t0, t1]: slices of all lanes, and of each device its slices and busy union. */
function measured(timeline, t0, t1) {
  let slices = 0;
  for (const row of timeline.rows) {
    let i = firstVisible(timeline, row, t0);
    while (i < row.to && timeline.start[i] < t1 && !touches(timeline.start[i], timeline.duration[i], t0, t1)) i++;
    slices += Math.max(0, lowerBound(timeline.start, t1, i, row.to) - i);
  }
  const devices = timeline.work.map(({ name, order, union }) => {
    let within = 0;
    for (const i of order) {
      if (timeline.start[i] >= t1) break;
      if (touches(timeline.start[i], timeline.duration[i], t0, t1)) within++;
    }
    return { name, slices: within, busy: busyWithin(union, t0, t1) };
  });
  return { from: t0, to: t1, slices, devices };
}

/* The slice of a row at time t, or one so near that `slack` covers it; -1 if there is none. */
function sliceAt(timeline, row, t, slack) {
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
