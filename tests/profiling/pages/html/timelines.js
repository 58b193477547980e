/* Small timelines in the form that `unpack` gives them, for tests. */

const KINDS = [
  { name: "kernel", label: "kernel", work: true, standIn: false, ranked: true, range: false, launched: true },
  { name: "memcpy", label: "memory copy", work: true, standIn: false, ranked: false, range: false },
  { name: "framework_op", label: "framework operator", work: false, standIn: true, ranked: false },
  { name: "user_range", label: "user range", work: false, standIn: false, ranked: false, range: true },
  { name: "unestimated", label: "no estimate", work: false, standIn: false, ranked: false, range: false },
];

/* `lanes`: { name, group, device, derived, rows }, all but `rows` optional; a row is a list of slices
   [start, duration, name, kind, correlation], the last two optional. */
export function timelineOf(lanes, { groups, ...more } = {}) {
  const names = [];
  const found = { start: [], duration: [], name: [], kind: [], correlation: [] };
  const rows = [];
  const madeLanes = lanes.map((lane, index) => {
    const made = { name: `lane ${index}`, group: 0, device: 0, derived: false, index, ...lane };
    made.rows = lane.rows.map((slices, depth) => {
      const row = { lane: made, depth, from: found.start.length, to: found.start.length + slices.length };
      for (const [start, duration, name, kind = "kernel", correlation = 0] of slices) {
        if (!names.includes(name)) names.push(name);
        found.start.push(start);
        found.duration.push(duration);
        found.name.push(names.indexOf(name));
        found.kind.push(KINDS.findIndex((one) => one.name === kind));
        found.correlation.push(correlation);
      }
      rows.push(row);
      return row;
    });
    return made;
  });
  const count = found.start.length;
  const busy = new Float64Array(count + 1);
  for (let i = 0; i < count; i++) busy[i + 1] = busy[i] + found.duration[i];
  return {
    title: "small",
    kinds: KINDS,
    names,
    devices: ["GPU 0", "GPU 1"],
    groups: groups || [{ name: "GPU 0", device: true }],
    lanes: madeLanes,
    rows,
    count,
    busy,
    start: Float64Array.from(found.start),
    duration: Float64Array.from(found.duration),
    name: Uint32Array.from(found.name),
    kind: Uint32Array.from(found.kind),
    correlation: Float64Array.from(found.correlation),
    detail: new Uint32Array(count),
    details: [{}],
    sparse: [],
    charts: [],
    span: Math.max(0, ...found.start.map((start, i) => start + found.duration[i])),
    ...more,
  };
}

/* Integers in [0, limit), the same for the same seed. */
export function random(seed) {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % limit;
  };
}
