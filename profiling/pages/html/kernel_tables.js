/* The tables of kernels: of one timeline, and of two side by side. */

import { fillOf } from "./colours.js";
import { byId, element } from "./dom.js";
import { count, integer, percent } from "./numbers.js";
import { scopeOf } from "./scope.js";
import { SortableTable } from "./table.js";
import { isStatic, time } from "./times.js";
import { byName, workCount } from "./work.js";

const STANDS_IN =
  " Nothing ran on a device: these are host operators, which nest, " +
  "so totals count inner time more than once.";

const slicesOf = (rows) => rows.reduce((sum, row) => sum + row.count, 0);

/* The sentence above the table of kernels, for what `byName` found in `span` of time. */
function summary(timeline, rows, busy, span) {
  if (!rows.length) return "Nothing here.";
  const devices = timeline.work.length > 1 ? ` over ${timeline.work.length} devices` : "";
  const found = `${workCount(timeline, slicesOf(rows))} of ${count(rows.length, "name")}`;
  const doubt = timeline.standsIn ? STANDS_IN : "";
  return `${found}; busy ${time(busy, 4)}${devices} in ${time(span, 4)}.${doubt}`;
}

export class Kernels {
  constructor(app) {
    this.app = app;
    this.table = new SortableTable(
      byId("kernel-table"),
      [
        { label: "Name" },
        { label: "Count", number: true },
        { label: "Total", number: true, title: "Sum of durations" },
        {
          label: "Union",
          number: true,
          title: "Time in which at least one of this name ran, summed over devices",
        },
        { label: "Share of busy", number: true, title: "Union over the time in which the devices were busy" },
        { label: "Mean", number: true },
      ],
      2,
    );
    this.which = byId("kernel-timeline");
    this.scope = byId("kernel-scope");
    this.which.append(...app.stages.map((stage, i) => element("option", { value: i }, stage.timeline.title)));
    this.which.parentElement.hidden = app.stages.length < 2;
    for (const select of [this.which, this.scope]) select.addEventListener("change", () => this.render());
  }

  render() {
    const { app } = this;
    const stage = app.stages[this.which.value || 0];
    const { timeline } = stage;
    const [from, to] = scopeOf(stage, this.scope.value);
    const { busy, rows } = byName(timeline, from, to);
    byId("kernel-summary").textContent = summary(timeline, rows, busy, Math.min(to - from, timeline.span));
    this.table.set(
      rows.map((row) => {
        const name = timeline.names[row.name];
        return {
          title: name,
          fill: app.colours.fills[fillOf(timeline, row.first)],
          action: () => app.chooseName(stage, row.name, this.scope.value),
          cells: [
            [name, name],
            [integer(row.count), row.count],
            [time(row.total), row.total],
            [time(row.union), row.union],
            [busy ? percent(row.union / busy) : "–", row.union],
            [time(row.total / row.count), row.total / row.count],
          ],
        };
      }),
    );
  }
}

export class Difference {
  constructor(app) {
    this.app = app;
    this.section = byId("difference");
    this.section.hidden = app.stages.length < 2;
    if (this.section.hidden) return;
    this.selects = ["before", "after"].map((id, i) => {
      const select = byId(id);
      select.append(...app.stages.map((stage, k) => element("option", { value: k }, stage.timeline.title)));
      select.value = i;
      return select;
    });
    this.scope = byId("difference-scope");
    for (const select of [...this.selects, this.scope])
      select.addEventListener("change", () => this.render());
    this.pairs();
    this.table = new SortableTable(
      byId("difference-table"),
      [
        { label: "Name" },
        { label: "", title: "Which of the two has it" },
        { label: "Count before", number: true },
        { label: "Count after", number: true },
        { label: "Total before", number: true },
        { label: "Total after", number: true },
        { label: "Change", number: true, title: "Largest first, up or down" },
      ],
      6,
    );
  }

  /* The tables of what became what stand in the page; one is shown, and its kernels lead to their slices. */
  pairs() {
    const pairs = [...this.section.querySelectorAll(".pair")];
    const select = byId("pair");
    const choose = () =>
      pairs.forEach((pair, i) => {
        pair.hidden = i !== Number(select ? select.value : 0);
      });
    if (select) select.addEventListener("change", choose);
    choose();
    for (const button of this.section.querySelectorAll("button.kernel")) {
      const stage = this.app.stages[button.dataset.timeline];
      button.addEventListener("click", () => this.app.chooseText(stage, button.title));
    }
  }

  render() {
    if (this.section.hidden) return;
    const { app } = this;
    const sides = this.selects.map((select) => {
      const stage = app.stages[select.value];
      const { busy, rows } = byName(stage.timeline, ...scopeOf(stage, this.scope.value));
      return { stage, busy, found: new Map(rows.map((row) => [stage.timeline.names[row.name], row])) };
    });
    const [before, after] = sides;
    const names = new Set([...before.found.keys(), ...after.found.keys()]);
    let [vanished, appeared] = [0, 0];
    this.table.set(
      [...names].map((name) => {
        const [a, b] = sides.map(({ found }) => found.get(name));
        const state = !b ? "vanished" : !a ? "appeared" : a.count === b.count ? "same count" : "both";
        vanished += !b;
        appeared += !a;
        const [stage, row] = b ? [after.stage, b] : [before.stage, a];
        const change = (b ? b.total : 0) - (a ? a.total : 0);
        return {
          title: name,
          className: state,
          fill: app.colours.fills[fillOf(stage.timeline, row.first)],
          action: () => app.chooseName(stage, row.name, this.scope.value),
          cells: [
            [name, name],
            [state, state],
            ...[a, b].map((one) => [one ? integer(one.count) : "–", one ? one.count : 0]),
            ...[a, b].map((one) => [one ? time(one.total) : "–", one ? one.total : 0]),
            [`${change > 0 ? "+" : change < 0 ? "−" : ""}${time(Math.abs(change))}`, Math.abs(change)],
          ],
        };
      }),
    );
    const [slicesBefore, slicesAfter] = sides.map(({ found }) => integer(slicesOf([...found.values()])));
    const both = integer(names.size - vanished - appeared);
    byId("difference-summary").textContent = [
      `${count(vanished, "name")} vanished, ${integer(appeared)} appeared, ${both} in both.`,
      `${isStatic() ? "Instructions with an estimate" : "Kernels"} ${slicesBefore} → ${slicesAfter};`,
      `busy ${time(before.busy, 4)} → ${time(after.busy, 4)}.`,
    ].join(" ");
  }
}
