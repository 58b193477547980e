/* What stands below the timelines: the slice chosen, the interval measured, the kernels, their difference. */

const FIRST_ROWS = 60;

function definition(facts) {
  const list = element("dl");
  for (const [label, value] of facts) list.append(element("dt", {}, label), element("dd", {}, value));
  return list;
}

function showSelected(panel, stage) {
  if (!stage || stage.selected < 0) {
    panel.replaceChildren(element("p", { className: "soft" }, "Click a slice, or go from slice to slice with the arrow keys."));
    return;
  }
  const { title, soft, facts } = describe(stage, stage.selected);
  const { timeline } = stage;
  const name = timeline.name[stage.selected];
  const more = stage.app.stages.length > 1 ? [["Timeline", timeline.title]] : [];
  const all = stage.nameTotals.get(name);
  if (all) more.push(["All of this name", `${count(all.count, "slice")}, ${time(all.total)} in total`]);
  for (const other of stage.partners) {
    const gap = timeline.start[other] - timeline.start[stage.selected];
    more.push([gap < 0 ? "Launched by" : "Launches", `${short(timeline.names[timeline.name[other]])}, starts ${time(Math.abs(gap))} ${gap < 0 ? "before" : "after"}`]);
  }
  panel.replaceChildren(
    element("p", { className: "name" }, title), element("p", { className: "soft" }, soft),
    definition([...facts, ...more]));
}

function showMeasured(panel, app) {
  const { measure } = app;
  if (!measure) {
    panel.replaceChildren(element("p", { className: "soft" }, app.pending === null
      ? "Drag with Shift held, or press M and click two points. Points snap to the edges of slices."
      : "Now click the second point."));
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
    const facts = [["Slices within", `${found.slices.toLocaleString("en-US")}, on all lanes`]];
    for (const device of found.devices) {
      const share = planned() ? "" : ` (${percent(device.busy / (b - a))})`;
      facts.push([device.name, `${workCount(stage.timeline, device.slices)}, busy ${time(device.busy, 4)}${share}`]);
    }
    if (app.stages.length > 1) made.push(element("h4", {}, stage.timeline.title));
    made.push(definition(facts));
  }
  panel.replaceChildren(...made);
}

/* A table whose columns sort. Rows are [key, cells]; a cell is [text or node, value to sort by]. */
class Table {
  constructor(table, columns, sorted) {
    this.table = table;
    this.sorted = sorted; // column, negative direction is descending
    this.direction = -1;
    this.all = false;
    this.rows = [];
    const head = element("tr");
    columns.forEach(({ label, number, title }, column) => {
      const button = element("button", { type: "button" }, label);
      if (title) button.title = title;
      const header = element("th", { scope: "col", className: number ? "number" : "" }, button);
      button.addEventListener("click", () => {
        this.direction = this.sorted === column ? -this.direction : number ? -1 : 1;
        this.sorted = column;
        this.render();
      });
      head.append(header);
    });
    this.columns = columns;
    this.body = element("tbody");
    this.more = element("button", { type: "button", hidden: true });
    this.more.addEventListener("click", () => { this.all = true; this.render(); });
    table.replaceChildren(element("thead", {}, head), this.body);
    table.parentElement.after(this.more);
  }

  set(rows) { this.rows = rows; this.render(); }

  render() {
    const c = this.sorted;
    const ordered = [...this.rows].sort((a, b) => {
      const [x, y] = [a.cells[c][1], b.cells[c][1]];
      return this.direction * (typeof x === "string" ? x.localeCompare(y) : x - y);
    });
    [...this.table.tHead.rows[0].cells].forEach((header, i) => {
      if (i === c) header.setAttribute("aria-sort", this.direction < 0 ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    });
    const shown = this.all ? ordered : ordered.slice(0, FIRST_ROWS);
    this.body.replaceChildren(...shown.map((row) => {
      const made = element("tr", { className: row.className || "" });
      row.cells.forEach(([content], i) => {
        const cell = element(i === 0 ? "th" : "td", { className: this.columns[i].number ? "number" : "" });
        if (i === 0) {
          cell.scope = "row";
          const button = element("button", { type: "button", title: row.title || "" });
          const swatch = element("i", { className: "swatch" });
          swatch.style.background = row.fill;
          button.append(swatch, element("span", {}, content));
          button.addEventListener("click", row.action);
          cell.append(button);
        } else {
          cell.append(content);
        }
        made.append(cell);
      });
      return made;
    }));
    this.more.hidden = shown.length === ordered.length;
    this.more.textContent = `Show all ${ordered.length.toLocaleString("en-US")}`;
  }
}

/* The interval a table is about, in time of the stage's timeline. */
function scopeOf(stage, scope) {
  if (scope === "window") return [stage.start, stage.end];
  if (scope === "measured" && stage.interval) return stage.interval;
  if (scope === "call" && stage.call) return stage.call;
  return [0, stage.timeline.span + 1];
}

function within(stage, i, scope) {
  const { start, duration } = stage.timeline;
  return touches(start[i], duration[i], ...scopeOf(stage, scope));
}

class Kernels {
  constructor(app) {
    this.app = app;
    this.table = new Table(document.getElementById("kernel-table"), [
      { label: "Name" },
      { label: "Count", number: true },
      { label: "Total", number: true, title: "Sum of durations" },
      { label: "Union", number: true, title: "Time in which at least one of this name ran, summed over devices" },
      { label: "Share of busy", number: true, title: "Union over the time in which the devices were busy" },
      { label: "Mean", number: true },
    ], 2);
    this.which = document.getElementById("kernel-timeline");
    this.scope = document.getElementById("kernel-scope");
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
    document.getElementById("kernel-summary").textContent = rows.length
      ? `${workCount(timeline, rows.reduce((sum, row) => sum + row.count, 0))} of ${count(rows.length, "name")}; busy ${time(busy, 4)}${timeline.work.length > 1 ? ` over ${timeline.work.length} devices` : ""} in ${time(Math.min(to - from, timeline.span), 4)}.${timeline.standsIn ? " Nothing ran on a device: these are host operators, which nest, so totals count inner time more than once." : ""}`
      : "Nothing here.";
    this.table.set(rows.map((row) => {
      const name = timeline.names[row.name];
      return {
        title: name,
        fill: app.colours.fills[fillOf(timeline, row.first)],
        action: () => app.chooseName(stage, row.name, this.scope.value),
        cells: [
          [name, name],
          [row.count.toLocaleString("en-US"), row.count],
          [time(row.total), row.total],
          [time(row.union), row.union],
          [busy ? percent(row.union / busy) : "–", row.union],
          [time(row.total / row.count), row.total / row.count],
        ],
      };
    }));
  }
}

class Difference {
  constructor(app) {
    this.app = app;
    this.section = document.getElementById("difference");
    this.section.hidden = app.stages.length < 2;
    if (this.section.hidden) return;
    this.selects = ["before", "after"].map((id, i) => {
      const select = document.getElementById(id);
      select.append(...app.stages.map((stage, k) => element("option", { value: k }, stage.timeline.title)));
      select.value = i;
      return select;
    });
    this.scope = document.getElementById("difference-scope");
    for (const select of [...this.selects, this.scope]) select.addEventListener("change", () => this.render());
    this.pairs();
    this.table = new Table(document.getElementById("difference-table"), [
      { label: "Name" },
      { label: "", title: "Which of the two has it" },
      { label: "Count before", number: true },
      { label: "Count after", number: true },
      { label: "Total before", number: true },
      { label: "Total after", number: true },
      { label: "Change", number: true, title: "Largest first, up or down" },
    ], 6);
  }

  /* The tables of what became what stand in the page; one is shown, and its kernels lead to their slices. */
  pairs() {
    const pairs = [...this.section.querySelectorAll(".pair")];
    const select = document.getElementById("pair");
    const choose = () => pairs.forEach((pair, i) => { pair.hidden = i !== Number(select ? select.value : 0); });
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
    this.table.set([...names].map((name) => {
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
          ...[a, b].map((one) => [one ? one.count.toLocaleString("en-US") : "–", one ? one.count : 0]),
          ...[a, b].map((one) => [one ? time(one.total) : "–", one ? one.total : 0]),
          [`${change > 0 ? "+" : change < 0 ? "−" : ""}${time(Math.abs(change))}`, Math.abs(change)],
        ],
      };
    }));
    const total = (side) => [...side.found.values()].reduce((sum, row) => sum + row.count, 0);
    document.getElementById("difference-summary").textContent =
      `${count(vanished, "name")} vanished, ${appeared.toLocaleString("en-US")} appeared, ${(names.size - vanished - appeared).toLocaleString("en-US")} in both. ` +
      `${planned() ? "Instructions with an estimate" : "Kernels"} ${total(before).toLocaleString("en-US")} → ${total(after).toLocaleString("en-US")}; busy ${time(before.busy, 4)} → ${time(after.busy, 4)}.`;
  }
}
