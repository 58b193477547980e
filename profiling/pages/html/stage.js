/* One timeline on the page: its canvases, its labels, its view. Times are those of the timeline; the view is
   shared in time since the chosen zero, so that linked timelines move together. */

import { deviceFacts } from "./describe.js";
import { element } from "./dom.js";
import { drawAxis } from "./draw_axis.js";
import { drawCharts } from "./draw_charts.js";
import { drawLanes } from "./draw_lanes.js";
import { drawMarks } from "./draw_marks.js";
import { showChartLabels, showLaneLabels } from "./gutter.js";
import { AXIS, closedAtFirst, heightOf, layOut, layOutCharts } from "./lane_layout.js";
import { count } from "./numbers.js";
import { listenToPointer } from "./pointer.js";
import { firstVisible, longestOfBlocks, partnersOf, rowOf, sliceAt } from "./slices.js";
import { lowerBound } from "./sorted.js";
import { kept, panned, revealing, snapped, viewOfSlice, wholeView, zoomed } from "./view.js";
import { workOf } from "./work.js";

const KEYS =
  "W and S zoom, A and D pan, arrow keys go from slice to slice; " +
  "the table of kernels below has the same in text.";
const SNAP = 7; // CSS pixels within which a measured point jumps to an edge

export class Stage {
  constructor(timeline, app) {
    Object.assign(this, { timeline, app });
    this.zero = 0;
    this.call = null; // the call at zero, [from, to] in time of the timeline
    this.view = null; // { from, to } since zero
    this.hover = this.selected = -1;
    this.partners = [];
    this.pointer = null;
    this.search = null;
    this.closed = closedAtFirst(timeline);
    timeline.longest = longestOfBlocks(timeline);
    timeline.work = workOf(timeline);
    this.build();
  }

  get start() {
    return this.view.from + this.zero;
  }
  get end() {
    return this.view.to + this.zero;
  }
  /* What the strip above the ticks covers; the same for all that move together. */
  get overview() {
    const [from, to] = this.app.bounds(this);
    const margin = (to - from) * 0.005;
    return { from: from + this.zero - margin, to: to + this.zero + margin };
  }
  get scroll() {
    return this.scroller.scrollTop;
  }
  get interval() {
    const { measure } = this.app;
    return measure && (measure.stage === null || measure.stage === this)
      ? measure.at.map((t) => t + this.zero)
      : null;
  }

  build() {
    const canvas = (className) => element("canvas", { className, "aria-hidden": "true" });
    this.axis = canvas("axis");
    this.base = canvas("lanes");
    this.marks = canvas("marks");
    this.chart = canvas("chart-canvas");
    this.plot = element("div", { className: "plot" }, this.base, this.marks);
    this.gutter = element("div", { className: "gutter" });
    this.sizer = element("div", { className: "sizer" }, this.gutter, this.plot);
    this.scroller = element(
      "div",
      {
        className: "scroller",
        tabIndex: 0,
        role: "group",
        "aria-label": `Timeline ${this.timeline.title}: ${count(this.timeline.count, "slice")}. ${KEYS}`,
      },
      this.sizer,
    );
    this.chartGutter = element("div", { className: "gutter" });
    this.charts = element(
      "div",
      { className: "charts", hidden: !this.timeline.charts.length },
      this.chartGutter,
      this.chart,
    );
    this.cross = element("div", { className: "cross", hidden: true });
    this.facts = element("p", { className: "soft" });
    this.element = element(
      "section",
      { className: "stage" },
      element("h2", { hidden: document.title === this.timeline.title }, this.timeline.title),
      this.facts,
      element("div", { className: "instrument" }, this.axis, this.scroller, this.charts, this.cross),
    );
    this.contexts = {
      axis: this.axis.getContext("2d", { alpha: false }),
      base: this.base.getContext("2d", { alpha: false, willReadFrequently: true }),
      marks: this.marks.getContext("2d"),
      chart: this.chart.getContext("2d", { alpha: false }),
    };
    listenToPointer(this);
    this.scroller.addEventListener("scroll", () => this.app.draw());
    this.scroller.addEventListener("focusin", () => this.app.focus(this));
    new ResizeObserver(() => this.app.arranged(this)).observe(this.scroller);
  }

  /* Puts zero somewhere else; the line above the canvases is about the call there, if there is one. */
  align({ zero, call }) {
    this.zero = zero;
    this.call = call;
    this.facts.textContent = [...this.timeline.facts, ...deviceFacts(this.timeline, call)].join(" · ");
  }

  /* Sizes and labels, after anything but the view has changed. */
  arrange() {
    const narrow = innerWidth < 700;
    this.element.classList.toggle("narrow", narrow);
    this.ratio = Math.min(devicePixelRatio || 1, 2);
    this.layout = layOut(this.timeline, this.closed, narrow);
    this.chartBands = layOutCharts(this.timeline, narrow);
    this.bandIndex = new Map(this.layout.bands.map((band) => [band.row, band]));
    this.scroller.classList.toggle("empty", !this.layout.height);
    this.sizer.style.height = `${this.layout.height}px`;
    // A reader who pulled the corner has chosen another height, which stays.
    if (!this.givenHeight || this.scroller.style.height === this.givenHeight) {
      const share = this.app.stages.length > 1 ? 0.36 : 0.56;
      this.scroller.style.height =
        this.givenHeight = `${Math.ceil(Math.min(this.layout.height, Math.max(innerHeight * share, 180)))}px`;
    }
    this.inset = narrow ? 0 : this.gutter.offsetWidth; // where the plot begins
    const width = Math.max(this.scroller.clientWidth - this.inset, 50);
    const height = Math.max(this.scroller.clientHeight, 1);
    this.width = width;
    const size = (canvas, w, h) => {
      const [pw, ph] = [Math.round(w * this.ratio), Math.round(h * this.ratio)];
      if (canvas.width !== pw || canvas.height !== ph) Object.assign(canvas, { width: pw, height: ph });
      Object.assign(canvas.style, { width: `${w}px`, height: `${h}px` });
    };
    size(this.axis, width, AXIS);
    size(this.base, width, height);
    size(this.marks, width, height);
    size(this.chart, width, Math.max(heightOf(this.chartBands), 1));
    this.plot.style.height = `${height}px`;
    this.axis.style.marginLeft = this.chart.style.marginLeft = this.plot.style.marginLeft = `${this.inset}px`;
    if (!this.pixels || this.pixels.width !== this.base.width || this.pixels.height !== this.base.height) {
      this.pixels = this.contexts.base.createImageData(this.base.width, this.base.height);
    }
    const fold = (closed, key) => {
      if (!closed.delete(key)) closed.add(key);
      this.arrange();
      this.app.draw();
    };
    showLaneLabels(this.gutter, this.layout.labels, this.closed, fold);
    showChartLabels(this.chartGutter, this.chartBands);
  }

  draw(colours) {
    drawLanes(this.contexts.base, this, colours);
    drawAxis(this.contexts.axis, this, colours);
    if (this.timeline.charts.length) drawCharts(this.contexts.chart, this, colours);
  }

  drawMarks(colours) {
    drawMarks(this.contexts.marks, this, colours, this.app);
    const { crossAt, linked } = this.app;
    const x = crossAt && (linked || crossAt.stage === this) ? this.xOf(crossAt.since + this.zero) : -1;
    this.cross.hidden = !(x >= 0 && x <= this.width);
    this.cross.style.transform = `translateX(${this.inset + x}px)`;
  }

  bandOf(i) {
    return this.bandIndex.get(rowOf(this.timeline, i));
  }

  xOf(t) {
    return ((t - this.start) / (this.end - this.start)) * this.width;
  }
  timeAt(x) {
    return this.start + (x / this.width) * (this.end - this.start);
  }
  timeOfPixels(pixels) {
    return (pixels / this.width) * (this.view.to - this.view.from);
  }

  /* The slice at a place on the plot, or -1. */
  hit(x, y) {
    const at = y + this.scroll;
    const band = this.layout.bands.find((one) => at >= one.y && at < one.y + one.height);
    return band ? sliceAt(this.timeline, band.row, this.timeAt(x), this.timeOfPixels(2.5)) : -1;
  }

  /* The time at a place on the plot, or the edge of a slice near it. */
  snap(x, y) {
    const i = this.hit(x, y);
    if (i < 0) return this.timeAt(x);
    return snapped(
      this.timeAt(x),
      this.timeline.start[i],
      this.timeline.duration[i],
      this.timeOfPixels(SNAP),
    );
  }

  zoom(factor, x = this.width / 2) {
    this.show(zoomed(this.view, factor, this.timeAt(x) - this.zero, this.app.bounds(this)));
  }

  pan(pixels) {
    this.show(panned(this.view, this.timeOfPixels(pixels)));
  }

  show(view) {
    this.app.setView(this, kept(view, this.app.bounds(this)));
  }

  showAll() {
    this.app.setView(this, wholeView(this.app.bounds(this)));
  }

  showSlice(i) {
    const { start, duration } = this.timeline;
    this.show(viewOfSlice(start[i] - this.zero, duration[i]));
  }

  /* Pan, zoom and scroll only as far as it takes to see the slice. */
  reveal(i) {
    const { start, duration } = this.timeline;
    const { lane } = rowOf(this.timeline, i);
    this.closed.groups.delete(lane.group);
    if (!(this.bandOf(i)?.height >= 8)) {
      this.closed.lanes.delete(lane.index);
      this.arrange();
    }
    const view = revealing(this.view, start[i] - this.zero, duration[i], this.width);
    if (view !== this.view) this.show(view);
    const band = this.bandOf(i);
    if (band.y < this.scroll || band.y + band.height > this.scroll + this.scroller.clientHeight) {
      this.scroller.scrollTop = band.y - this.scroller.clientHeight / 3;
    }
  }

  select(i) {
    this.selected = i;
    this.partners = i < 0 ? [] : partnersOf(this.timeline, i);
  }

  /* The slice that the arrow keys lead to. */
  neighbour(key) {
    const { timeline, selected } = this;
    if (selected < 0) {
      const middle = (this.start + this.end) / 2;
      const band = this.layout.bands.find(
        (one) => one.y + one.height > this.scroll && one.row.to > one.row.from,
      );
      if (!band) return -1;
      return Math.min(lowerBound(timeline.start, middle, band.row.from, band.row.to), band.row.to - 1);
    }
    const row = rowOf(timeline, selected);
    if (key === "ArrowLeft") return selected > row.from ? selected - 1 : selected;
    if (key === "ArrowRight") return selected + 1 < row.to ? selected + 1 : selected;
    const { bands } = this.layout;
    const step = key === "ArrowUp" ? -1 : 1;
    for (let k = bands.findIndex((band) => band.row === row) + step; k >= 0 && k < bands.length; k += step) {
      const other = bands[k].row;
      if (other.to === other.from) continue;
      return Math.min(firstVisible(timeline, other, timeline.start[selected]), other.to - 1);
    }
    return selected;
  }
}
