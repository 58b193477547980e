/* What stands below the timelines: the slice chosen and the interval measured. */

import { describeSlice } from "./describe.js";
import { element } from "./dom.js";
import { count, integer, percent } from "./numbers.js";
import { shortName } from "./short_name.js";
import { isStatic, moment, time } from "./times.js";
import { measured, workCount } from "./work.js";

/* `facts`: [label, text] pairs. */
export function definition(facts) {
  const list = element("dl");
  for (const [label, value] of facts) list.append(element("dt", {}, label), element("dd", {}, value));
  return list;
}

export function showSelected(panel, stage) {
  if (!stage || stage.selected < 0) {
    panel.replaceChildren(
      element("p", { className: "soft" }, "Click a slice, or go from slice to slice with the arrow keys."),
    );
    return;
  }
  const { title, soft, facts } = describeSlice(stage.timeline, stage.selected, stage.zero);
  const { timeline } = stage;
  const name = timeline.name[stage.selected];
  const more = stage.app.stages.length > 1 ? [["Timeline", timeline.title]] : [];
  const all = stage.nameTotals.get(name);
  if (all) more.push(["All of this name", `${count(all.count, "slice")}, ${time(all.total)} in total`]);
  for (const other of stage.partners) {
    const gap = timeline.start[other] - timeline.start[stage.selected];
    const [label, where] = gap < 0 ? ["Launched by", "before"] : ["Launches", "after"];
    const partner = shortName(timeline.names[timeline.name[other]]);
    more.push([label, `${partner}, starts ${time(Math.abs(gap))} ${where}`]);
  }
  panel.replaceChildren(
    element("p", { className: "name" }, title),
    element("p", { className: "soft" }, soft),
    definition([...facts, ...more]),
  );
}

export function showMeasured(panel, app) {
  const { measure } = app;
  if (!measure) {
    panel.replaceChildren(
      element(
        "p",
        { className: "soft" },
        app.pending === null
          ? "Drag with Shift held, or press M and click two points. Points snap to the edges of slices."
          : "Now click the second point.",
      ),
    );
    return;
  }
  const [a, b] = measure.at;
  const made = [
    element("p", { className: "name" }, time(b - a, 5)),
    element("p", { className: "soft" }, `from ${moment(a, b - a)} to ${moment(b, b - a)}`),
  ];
  for (const stage of app.stages) {
    if (!stage.interval) continue;
    const found = measured(stage.timeline, ...stage.interval);
    const facts = [["Slices within", `${integer(found.slices)}, on all lanes`]];
    for (const device of found.devices) {
      const share = isStatic() ? "" : ` (${percent(device.busy / (b - a))})`;
      facts.push([
        device.name,
        `${workCount(stage.timeline, device.slices)}, busy ${time(device.busy, 4)}${share}`,
      ]);
    }
    if (app.stages.length > 1) made.push(element("h4", {}, stage.timeline.title));
    made.push(definition(facts));
  }
  panel.replaceChildren(...made);
}
