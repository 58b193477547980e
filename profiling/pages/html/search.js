/* Search by name: part of it in any case, or a regular expression between slashes. */

import { byStart } from "./sorted.js";

export function matcher(text) {
  const expression = /^\/(.+)\/$/.exec(text);
  if (expression) {
    const pattern = new RegExp(expression[1], "i");
    return (name) => pattern.test(name);
  }
  const wanted = text.toLowerCase();
  return (name) => name.toLowerCase().includes(wanted);
}

/* The hits of one timeline: how many lie before each slice, so that a pixel knows at once whether it hides
   one, and which they are in order of start. */
export function searchIn(timeline, matches) {
  const named = Uint8Array.from(timeline.names, (name) => matches(name));
  const before = new Uint32Array(timeline.count + 1);
  for (let i = 0; i < timeline.count; i++) before[i + 1] = before[i] + named[timeline.name[i]];
  const hits = new Uint32Array(before[timeline.count]);
  for (let i = 0; i < timeline.count; i++) if (before[i + 1] > before[i]) hits[before[i]] = i;
  return { before, hits: byStart(hits, timeline.start) };
}

/* The number of the hit to begin with: the first one, or going back the last one, for which
   `isPreferred(timeline's index, slice)` holds; of all hits if it holds for none. `hits` has the slices of each
   timeline, and the hits of all timelines are numbered in turn. */
export function firstHit(hits, step, isPreferred) {
  let number = 0;
  let last = -1;
  for (const [k, slices] of hits.entries()) {
    for (const i of slices) {
      if (isPreferred(k, i)) {
        if (step > 0) return number;
        last = number;
      }
      number++;
    }
  }
  if (last >= 0) return last;
  return step > 0 ? 0 : number - 1;
}

/* The index of the timeline and the slice of a hit by its number. */
export function hitAt(hits, number) {
  let left = number;
  for (const [k, slices] of hits.entries()) {
    if (left < slices.length) return [k, slices[left]];
    left -= slices.length;
  }
  throw new RangeError(`there is no hit ${number}`);
}
