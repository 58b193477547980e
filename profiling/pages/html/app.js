/* The page: its stages and what they share (zero, view, selection, measurement, search). */

import { firstRanges, sharedRanges, zeroOf } from "./alignment.js";
import { assignFills, Colours } from "./colours.js";
import { describeSlice } from "./describe.js";
import { byId, element } from "./dom.js";
import { Difference, Kernels } from "./kernel_tables.js";
import { listenToKeys } from "./keys.js";
import { showLegend } from "./legend.js";
import { count, integer } from "./numbers.js";
import { definition, showMeasured, showSelected } from "./panels.js";
import { within } from "./scope.js";
import { firstHit, hitAt, matcher, searchIn } from "./search.js";
import { shortName } from "./short_name.js";
import { slicesOfName } from "./slices.js";
import { Stage } from "./stage.js";
import { connectToolbar } from "./toolbar.js";
import { SHORTEST } from "./view.js";
import { totalsByName } from "./work.js";

const SETTLED = 160; // ms without a change, after which tables that depend on it are made anew

export class App {
  constructor(timelines, settings) {
    this.measuring = false;
    this.pending = null; // first point of a measurement: { stage, since zero }
    this.crossAt = null; // what is pointed at: { stage, since zero }
    this.measure = null; // { stage or null for all, at: [from, to] since zero }
    this.hit = -1;
    this.linked = true;
    this.dirty = { all: false, marks: false, frame: 0 };
    this.pageScroll = this.lastWheel = -1e9;
    this.stages = timelines.map((timeline) => new Stage(timeline, this));
    this.kindNames = assignFills(timelines);
    this.colours = new Colours(this.kindNames);
    this.current = this.stages[0];
    byId("stages").replaceChildren(...this.stages.map((stage) => stage.element));
    this.offerAlignments(settings.call);
    for (const stage of this.stages) stage.arrange();
    for (const stage of this.stages) stage.showAll();
    this.showCalls();
    connectToolbar(this);
    listenToKeys(this);
    addEventListener("resize", () => {
      for (const stage of this.stages) this.arranged(stage);
    });
    const scrolled = () => {
      this.pageScroll = performance.now();
    };
    addEventListener("scroll", scrolled, { passive: true });
  }

  /* What needs a pass over all slices, done once the page can be used. */
  finish() {
    for (const stage of this.stages) stage.nameTotals = totalsByName(stage.timeline);
    byId("kernels").hidden = !this.stages.some(({ timeline }) => timeline.work.length);
    this.kernels = new Kernels(this);
    this.difference = new Difference(this);
    if (this.stages.every((stage) => stage.call)) {
      for (const id of ["kernel-scope", "difference-scope"]) byId(id).value = "call";
    }
    showLegend(this);
    this.tables();
    this.panels();
  }

  /* A wheel gesture that began on the page goes on scrolling it when it comes across a canvas. */
  scrollingPage() {
    const now = performance.now();
    return now - this.pageScroll < 250 && now - this.lastWheel > 250;
  }
  wheeled() {
    this.lastWheel = performance.now();
  }

  draw() {
    this.dirty.all = true;
    this.schedule();
  }
  drawMarks() {
    this.dirty.marks = true;
    this.schedule();
  }
  schedule() {
    if (this.dirty.frame) return;
    this.dirty.frame = requestAnimationFrame(() => {
      this.dirty.frame = 0;
      this.render();
    });
  }
  render() {
    for (const stage of this.stages) {
      if (this.dirty.all) stage.draw(this.colours);
      stage.drawMarks(this.colours);
    }
    this.dirty.all = this.dirty.marks = false;
  }

  arranged(stage) {
    stage.arrange();
    this.draw();
  }

  focus(stage) {
    this.current = stage;
  }

  /* Fills the choice of zeros; `call` names the range to begin with, where every timeline has it. */
  offerAlignments(call) {
    const select = byId("align");
    this.ranges = this.stages.map(({ timeline }) => firstRanges(timeline));
    const shared = sharedRanges(this.ranges);
    for (const name of shared) {
      select.append(element("option", { value: `call:${name}` }, `start of ${name}`));
    }
    if (call && shared.includes(call)) select.value = `call:${call}`;
    select.addEventListener("change", () => this.align(select.value, true));
    this.align(select.value, false);
  }

  /* Where calls are marked, one call is what the page is about. */
  showCalls() {
    const calls = this.stages.map((stage) => stage.call);
    if (!calls.every(Boolean)) return;
    const longest = Math.max(...calls.map(([from, to]) => to - from)) || SHORTEST;
    this.setView(this.current, { from: -0.04 * longest, to: 1.06 * longest });
  }

  /* Puts zero where the choice says; `show` also goes there. */
  align(value, show) {
    for (const [k, stage] of this.stages.entries()) {
      stage.align(zeroOf(stage.timeline, this.ranges[k], value));
    }
    this.measure = this.pending = null;
    const noCall = !this.stages[0].call;
    for (const option of document.querySelectorAll('option[value="call"]')) {
      option.hidden = option.disabled = noCall;
    }
    if (show) {
      for (const stage of this.stages) stage.showAll();
      this.showCalls();
      this.panels();
      this.tables();
    }
  }

  /* First and last moment since zero that a view may reach. */
  bounds(stage) {
    const stages = this.linked ? this.stages : [stage];
    return [
      Math.min(...stages.map((one) => -one.zero)),
      Math.max(...stages.map((one) => one.timeline.span - one.zero), SHORTEST),
    ];
  }

  setView(stage, view) {
    for (const one of this.linked ? this.stages : [stage]) one.view = view;
    this.draw();
    if (!this.kernels) return;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.tables("window"), SETTLED);
  }

  /* Makes the tables anew; with `only`, those about that part of a timeline. */
  tables(only) {
    if (!this.kernels) return;
    for (const panel of [this.kernels, this.difference]) {
      if (panel.section?.hidden) continue;
      if (!only || panel.scope.value === only) panel.render();
    }
  }

  panels() {
    if (!this.kernels) return;
    const chosen = this.stages.find((stage) => stage.selected >= 0);
    showSelected(byId("selected"), chosen);
    showMeasured(byId("measured"), this);
  }

  /* Selects slice i, -1 for none; `say` has a screen reader read it. */
  choose(stage, i, say = false) {
    for (const one of this.stages) if (one !== stage) one.select(-1);
    stage.select(i);
    this.panels();
    this.drawMarks();
    if (!say || i < 0) return;
    const { title, facts } = describeSlice(stage.timeline, i, stage.zero);
    byId("live").textContent =
      `${shortName(title)}, ${facts.map(([label, value]) => `${label} ${value}`).join(", ")}`;
  }

  /* From a table to the canvas: goes to the next slice of that name, among those that the table covers. */
  chooseName(stage, name, scope) {
    const slices = slicesOfName(stage.timeline, name);
    if (!slices.length) return;
    const inside = slices.filter((i) => within(stage, i, scope));
    const chosen = inside.length ? inside : slices;
    this.goTo(stage, chosen[(chosen.indexOf(stage.selected) + 1) % chosen.length]);
  }

  goTo(stage, i) {
    this.choose(stage, i, true);
    stage.reveal(i);
    this.draw();
    stage.element.scrollIntoView({ block: "nearest" });
  }

  /* As chooseName, by the text in a table: a slice's name, or that without the number that XLA appends. */
  chooseText(stage, text) {
    const { names } = stage.timeline;
    const exact = names.indexOf(text);
    this.chooseName(
      stage,
      exact >= 0 ? exact : names.findIndex((name) => name.startsWith(`${text}.`)),
      "call",
    );
  }

  /* The first of two points to measure between, or the second. */
  measurePoint(stage, t) {
    if (this.pending && (this.linked || this.pending.stage === stage)) {
      const first = this.pending.since + stage.zero;
      this.pending = null;
      this.setMeasure(stage, first, t);
    } else {
      this.pending = { stage, since: t - stage.zero };
      this.measure = { stage: this.linked ? null : stage, at: [t - stage.zero, t - stage.zero] };
      showMeasured(byId("measured"), { ...this, measure: null, pending: this.pending });
      this.drawMarks();
    }
  }

  setMeasure(stage, a, b) {
    const at = [Math.min(a, b) - stage.zero, Math.max(a, b) - stage.zero];
    this.measure = at[1] > at[0] ? { stage: this.linked ? null : stage, at } : null;
    this.drawMarks();
    this.panels();
    clearTimeout(this.measuringTables);
    this.measuringTables = setTimeout(() => this.tables("measured"), SETTLED);
  }

  setMeasuring(on) {
    this.measuring = on;
    this.pending = null;
    byId("measure").setAttribute("aria-pressed", on);
    document.body.classList.toggle("measuring", on);
    this.panels();
    this.drawMarks();
  }

  /* Searches all timelines; how many hits there are. */
  find(text) {
    const output = byId("hits");
    const input = byId("search");
    this.hit = -1;
    let matches = null;
    input.removeAttribute("aria-invalid");
    if (text) {
      try {
        matches = matcher(text);
      } catch {
        input.setAttribute("aria-invalid", "true");
      }
    }
    for (const stage of this.stages) stage.search = matches && searchIn(stage.timeline, matches);
    this.hits = matches ? this.stages.reduce((sum, stage) => sum + stage.search.hits.length, 0) : 0;
    output.textContent = matches ? count(this.hits, "hit") : text ? "not a regular expression" : "";
    for (const id of ["previous", "next"]) byId(id).disabled = !this.hits;
    this.draw();
    return this.hits;
  }

  /* From hit to hit, over all timelines in turn; the first is one that the table of kernels is about. */
  go(step) {
    if (!this.hits) return;
    const hits = this.stages.map((stage) => stage.search.hits);
    const scope = this.kernels ? this.kernels.scope.value : "call";
    this.hit =
      this.hit < 0
        ? firstHit(hits, step, (k, i) => within(this.stages[k], i, scope))
        : (this.hit + step + this.hits) % this.hits;
    const [k, i] = hitAt(hits, this.hit);
    byId("hits").textContent = `${integer(this.hit + 1)} of ${integer(this.hits)}`;
    this.goTo(this.stages[k], i);
  }

  showDetails({ title, soft, facts }, x, y) {
    const panel = byId("details");
    panel.replaceChildren(
      element("p", {}, title),
      element("p", { className: "soft" }, soft),
      definition(facts),
    );
    panel.hidden = false;
    const { width, height } = panel.getBoundingClientRect();
    panel.style.left = `${Math.max(8, Math.min(x + 16, innerWidth - width - 8))}px`;
    panel.style.top = `${y + 20 + height > innerHeight ? Math.max(8, y - height - 14) : y + 20}px`;
  }

  hideDetails() {
    byId("details").hidden = true;
  }
}
