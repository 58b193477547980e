/* The work of devices: when each was busy, with what, and for how long. */

import { count } from "./numbers.js";
import { firstVisible, touches } from "./slices.js";
import { byStart, lowerBound } from "./sorted.js";
import { isStatic } from "./times.js";

/* What kept each device busy (work on lanes that no tool derived from others), in order of start. Where
   nothing ran on a device, as in a trace of the CPU alone, framework operators stand in: those nest, so only
   unions add up. */
export function workOf(timeline) {
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

/* A number of pieces of work, in words. */
export function workCount({ standsIn }, number) {
  return isStatic()
    ? `${count(number, "instruction")} with an estimate`
    : count(number, standsIn ? "operator" : "kernel");
}

/* Whether an instruction of a device has no estimate: its time comes on top. */
export function hasUnestimated({ rows, kind, kinds }, device) {
  return rows.some(
    ({ lane, from, to }) =>
      lane.device === device && kind.subarray(from, to).some((k) => kinds[k].name === "unestimated"),
  );
}

/* Merged intervals of slices given in order of start, with the busy time before each. */
export function unionOf({ start, duration }, order) {
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
export function busyWithin({ from, to, before }, t0, t1) {
  const until = (t) => {
    const i = lowerBound(from, t, 0, from.length);
    return i === 0 ? 0 : before[i] - Math.max(0, to[i - 1] - t);
  };
  return t1 > t0 ? until(t1) - until(t0) : 0;
}

/* Per name within [t0, t1]: slices, clipped total, union over streams. */
export function byName(timeline, t0, t1) {
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
      if (!entry) {
        entry = { name: name[i], count: 0, total: 0, union: 0, first: i };
        found.set(name[i], entry);
      }
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

/* Per name of the whole timeline, on every lane: how many slices, and their durations added up. */
export function totalsByName({ name, duration }) {
  const totals = new Map();
  for (let i = 0; i < name.length; i++) {
    let entry = totals.get(name[i]);
    if (!entry) {
      entry = { count: 0, total: 0 };
      totals.set(name[i], entry);
    }
    entry.count++;
    entry.total += duration[i];
  }
  return totals;
}

/* What lies in [t0, t1]: slices of all lanes, and of each device its slices and busy union. */
export function measured(timeline, t0, t1) {
  let slices = 0;
  for (const row of timeline.rows) {
    let i = firstVisible(timeline, row, t0);
    while (i < row.to && timeline.start[i] < t1 && !touches(timeline.start[i], timeline.duration[i], t0, t1))
      i++;
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
