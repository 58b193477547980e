/* The legend: a swatch for each colour in use, with its meaning. */

import { RANKS } from "./colours.js";
import { byId, element, swatch } from "./dom.js";

export function showLegend(app) {
  const list = byId("legend");
  const used = new Map();
  for (const { timeline } of app.stages) {
    const present = new Uint8Array(timeline.kinds.length);
    for (let i = 0; i < timeline.count; i++) present[timeline.kind[i]] = 1;
    timeline.kinds.forEach((kind, k) => {
      if (present[k]) used.set(kind.name, [kind, timeline.kindFill[k]]);
    });
  }
  const item = (fills, text) =>
    element("li", {}, ...fills.map((fill) => swatch(app.colours.fills[fill])), text);
  const ranks = Array.from({ length: RANKS }, (_, i) => i + 1);
  const items = [...used.values()].flatMap(([kind, fill]) =>
    fill < 0
      ? [item(ranks, "kernels with the largest totals, a colour each"), item([0], "other kernels")]
      : [item([fill], kind.label)],
  );
  const texts = items.map((one) => one.textContent);
  list.replaceChildren(...items.filter((one, i) => texts.indexOf(one.textContent) === i));
}
