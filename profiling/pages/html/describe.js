/* What is known of a slice, of a chart at a moment and of a device, in words: [label, text] pairs and
   sentences. What the profiler did not record is left out or unknown, never 0. */

import { count, integer, memory, percent, quantity, significant } from "./numbers.js";
import { rowOf } from "./slices.js";
import { lowerBound } from "./sorted.js";
import { isStatic, moment, time } from "./times.js";
import { hasUnestimated, measured, workCount } from "./work.js";

/* All that is known of slice i: its name as title, its kind below that, and facts. */
export function describeSlice(timeline, i, zero) {
  const kind = timeline.kinds[timeline.kind[i]];
  const { lane } = rowOf(timeline, i);
  const facts = [
    ["Duration", timeline.duration[i] ? time(timeline.duration[i], 4) : "instant"],
    ["Start", moment(timeline.start[i] - zero, Math.max(timeline.duration[i], 100))],
    ["Lane", `${timeline.groups[lane.group].name} · ${lane.name}${lane.derived ? " (derived)" : ""}`],
  ];
  const details = { ...timeline.details[timeline.detail[i]] };
  for (const { name, at, value, names } of timeline.sparse) {
    const k = lowerBound(at, i);
    if (at[k] === i) details[name] = names ? timeline.names[value[k]] : value[k];
  }
  if (kind.launched)
    for (const name of ["grid", "block", "registers", "shared memory"]) details[name] ??= null;
  for (const [name, value] of Object.entries(details)) {
    facts.push([name[0].toUpperCase() + name.slice(1), detailText(name, value)]);
  }
  facts.push(["Correlation", timeline.correlation[i] ? String(timeline.correlation[i] - 1) : "unknown"]);
  return { title: timeline.names[timeline.name[i]], soft: kind.label, facts };
}

export function detailText(name, value) {
  if (value === null) return "unknown";
  if (Array.isArray(value)) return value.map(integer).join(" × ");
  if (typeof value !== "number" || /\bid\b/.test(name)) return String(value);
  if (name.startsWith("shared memory") || name.startsWith("bytes")) return memory(value);
  return Number.isInteger(value) ? integer(value) : significant(value, 4);
}

/* Each series of a chart at time t; a sampled one has no value between its samples. `chartName` stands before
   the name of a series, unless it is the same. */
export function seriesFacts(chart, t, chartName = "") {
  const named = (name) =>
    !chartName || chartName.startsWith(name) ? chartName || name : `${chartName}, ${name}`;
  return chart.series.map(({ name, time: moments, value, step }) => {
    const i = lowerBound(moments, t + 1e-9) - 1;
    const known = i >= 0 && !Number.isNaN(value[i]);
    return [
      `${named(name)}${step ? "" : ", last sample"}`,
      known ? quantity(value[i], chart.unit) : "unknown",
    ];
  });
}

/* A chart at time t; `window` is how much time is shown. */
export function describeChart(chart, t, zero, window) {
  return {
    title: chart.name,
    soft: [chart.meaning, chart.note].filter(Boolean).join("; "),
    facts: [["At", moment(t - zero, window)], ...seriesFacts(chart, t)],
  };
}

/* What each device did, during `call` where one is given; of many devices the least and the most busy. */
export function deviceFacts(timeline, call) {
  const { work } = timeline;
  const found = call
    ? measured(timeline, ...call).devices.map((one) => ({ ...one, span: call[1] - call[0] }))
    : work.map(({ name, order, union }) => {
        const last = union.to.length - 1;
        return {
          name,
          slices: order.length,
          busy: union.before[last + 1],
          span: union.to[last] - union.from[0],
        };
      });
  const sentences = found.map(({ name, slices, busy, span }, k) => {
    const length = isStatic()
      ? `${hasUnestimated(timeline, work[k].device) ? "at least " : ""}${time(busy)}`
      : `busy ${time(busy)} of ${time(span)} (${percent(busy / (span || 1))})`;
    return {
      busy,
      text: `${name}${call ? ", the call at zero" : ""}: ${workCount(timeline, slices)}, ${length}`,
    };
  });
  if (sentences.length <= 2) return sentences.map((one) => one.text);
  sentences.sort((a, b) => a.busy - b.busy);
  const all = found.reduce((sum, { slices }) => sum + slices, 0);
  return [
    `${count(work.length, "device")}, ${workCount(timeline, all)}`,
    `least busy ${sentences[0].text}`,
    `most busy ${sentences.at(-1).text}`,
  ];
}
