/* Where time zero of a timeline lies: the start of the trace, the first kernel, or the first call of a marked
   range. */

const MOST_RANGES = 200;

/* For each name of a user range the slice that starts first. */
export function firstRanges(timeline) {
  const found = new Map();
  for (const row of timeline.rows) {
    for (let i = row.from; i < row.to; i++) {
      if (!timeline.kinds[timeline.kind[i]].range) continue;
      const name = timeline.names[timeline.name[i]];
      const before = found.get(name);
      // Host and device may both show a range: what the host marked comes first.
      if (before === undefined || timeline.start[i] < timeline.start[before]) found.set(name, i);
    }
  }
  return found;
}

/* Names that every timeline has a range of. `ranges`: what firstRanges found in each. */
export function sharedRanges(ranges) {
  return [...ranges[0].keys()]
    .filter((name) => ranges.every((found) => found.has(name)))
    .slice(0, MOST_RANGES);
}

/* Zero, and the call that begins there as [from, to] or null. `alignment`: "start", "kernel" or "call:<name
   of a range>". */
export function zeroOf(timeline, ranges, alignment) {
  const { start, duration, work } = timeline;
  if (alignment === "kernel") {
    const starts = work.map(({ order }) => start[order[0]]);
    return { zero: starts.length ? Math.min(...starts) : 0, call: null };
  }
  if (alignment.startsWith("call:")) {
    const i = ranges.get(alignment.slice(5));
    return { zero: start[i], call: [start[i], start[i] + duration[i]] };
  }
  return { zero: 0, call: null };
}
