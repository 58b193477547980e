/* The names beside lanes and charts; a click on one folds its group or lane. */

import { element } from "./dom.js";
import { heightOf } from "./lane_layout.js";

/* `labels`: of `layOut`. `fold(set, key)` folds or unfolds what has the key, in a set of `closed`. */
export function showLaneLabels(gutter, labels, closed, fold) {
  gutter.replaceChildren(
    ...labels.map((label, k) => {
      const { group, lane } = label;
      const { name, note, derived } = lane || group;
      const folds = group || lane.rows.length > 1;
      const made = element(
        folds ? "button" : "div",
        { className: group ? "group" : "lane", title: note ? `${name}\n${note}` : name },
        element("span", {}, name),
      );
      if (derived) made.append(element("small", {}, "derived"));
      place(made, label.y, label.height);
      if (!folds) return made;
      made.type = "button";
      made.setAttribute("aria-expanded", label.open);
      made.addEventListener("click", () => {
        if (group) fold(closed.groups, label.index);
        else fold(closed.lanes, lane.index);
        gutter.children[k].focus(); // its successor: folding changes only what follows
      });
      return made;
    }),
  );
}

/* `bands`: of `layOutCharts`. */
export function showChartLabels(gutter, bands) {
  gutter.replaceChildren(
    ...bands.map(({ chart, y, height, label }) => {
      const { name, meaning, note } = chart;
      const title = [name, meaning, note].filter(Boolean).join("\n");
      const made = element(
        "div",
        { className: "chart", title },
        element("span", {}, name),
        element("small", {}, meaning),
      );
      place(made, y, label || height);
      return made;
    }),
  );
  gutter.style.height = `${heightOf(bands)}px`;
}

function place(label, y, height) {
  label.style.top = `${y}px`;
  label.style.height = `${height}px`;
}
