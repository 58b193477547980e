/* One timeline on the page: its canvases, its labels, and what the pointer does there. Times are those of the
   timeline; the view is shared in time since the chosen zero, so that linked timelines move together. */

const CLICK = 4; // CSS pixels a pointer may move and still have clicked
const SNAP = 7; // CSS pixels within which a measured point jumps to an edge
const SHORTEST = 20; // ns: deeper zoom would show nothing but rounding

class Stage {
  constructor(timeline, index, app) {
    Object.assign(this, { timeline, index, app });
    this.zero = 0;
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

  get start() { return this.view.from + this.zero; }
  get end() { return this.view.to + this.zero; }
  /* What the strip above the ticks covers; the same for all that move together. */
  get overview() {
    const [from, to] = this.app.bounds(this);
    const margin = (to - from) * 0.005;
    return { from: from + this.zero - margin, to: to + this.zero + margin };
  }
  get scroll() { return this.scroller.scrollTop; }
  get interval() {
    const { measure } = this.app;
    return measure && (measure.stage === null || measure.stage === this) ? measure.at.map((t) => t + this.zero) : null;
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
    this.scroller = element("div", {
      className: "scroller",
      tabIndex: 0,
      role: "group",
      "aria-label": `Timeline ${this.timeline.title}: ${count(this.timeline.count, "slice")}. W and S zoom, A and D pan, arrow keys go from slice to slice; the table of kernels below has the same in text.`,
    }, this.sizer);
    this.chartGutter = element("div", { className: "gutter" });
    this.charts = element("div", { className: "charts", hidden: !this.timeline.charts.length }, this.chartGutter, this.chart);
    this.cross = element("div", { className: "cross", hidden: true });
    this.facts = element("p", { className: "soft" });
    this.element = element("section", { className: "stage" },
      element("h2", { hidden: document.title === this.timeline.title }, this.timeline.title), this.facts,
      element("div", { className: "instrument" }, this.axis, this.scroller, this.charts, this.cross));
    for (const [i, chart] of this.timeline.charts.entries()) chart.index = i;
    this.contexts = {
      axis: this.axis.getContext("2d", { alpha: false }),
      base: this.base.getContext("2d", { alpha: false, willReadFrequently: true }),
      marks: this.marks.getContext("2d"),
      chart: this.chart.getContext("2d", { alpha: false }),
    };
    this.listen();
  }

  /* The line above the canvases, which is about the call at zero where one is. */
  tell() {
    this.facts.textContent = [...this.timeline.facts, ...this.devices()].join(" · ");
  }

  /* What each device did; of many devices the least and the most busy. */
  devices() {
    const { timeline, call } = this;
    const { work } = timeline;
    const found = call
      ? measured(timeline, ...call).devices.map((one) => ({ ...one, span: call[1] - call[0] }))
      : work.map(({ name, order, union }) => {
        const last = union.to.length - 1;
        return { name, slices: order.length, busy: union.before[last + 1], span: union.to[last] - union.from[0] };
      });
    const told = found.map(({ name, slices, busy, span }, k) => {
      const length = planned()
        ? `${this.unestimated(work[k].device) ? "at least " : ""}${time(busy)}`
        : `busy ${time(busy)} of ${time(span)} (${percent(busy / (span || 1))})`;
      return { busy, text: `${name}${call ? ", the call at zero" : ""}: ${workCount(timeline, slices)}, ${length}` };
    });
    if (told.length <= 2) return told.map((one) => one.text);
    told.sort((a, b) => a.busy - b.busy);
    const all = found.reduce((sum, { slices }) => sum + slices, 0);
    return [`${count(work.length, "device")}, ${workCount(timeline, all)}`, `least busy ${told[0].text}`, `most busy ${told[told.length - 1].text}`];
  }

  /* Whether an instruction of a device has no estimate: what it takes comes on top. */
  unestimated(device) {
    const { rows, kind, kinds } = this.timeline;
    return rows.some(({ lane, from, to }) => lane.device === device
      && kind.subarray(from, to).some((k) => kinds[k].name === "unestimated"));
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
    // Whoever pulled the corner has chosen a height of their own.
    if (!this.set || this.scroller.style.height === this.set) {
      const share = this.app.stages.length > 1 ? 0.36 : 0.56;
      this.scroller.style.height = this.set = `${Math.ceil(Math.min(this.layout.height, Math.max(innerHeight * share, 180)))}px`;
    }
    const gutter = this.inset = narrow ? 0 : this.gutter.offsetWidth;
    const width = Math.max(this.scroller.clientWidth - gutter, 50);
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
    const charts = this.chartBands.reduce((sum, band) => sum + band.height, 0);
    size(this.chart, width, Math.max(charts, 1));
    this.plot.style.height = `${height}px`;
    this.axis.style.marginLeft = this.chart.style.marginLeft = this.plot.style.marginLeft = `${gutter}px`;
    if (!this.pixels || this.pixels.width !== this.base.width || this.pixels.height !== this.base.height) {
      this.pixels = this.contexts.base.createImageData(this.base.width, this.base.height);
    }
    this.label();
  }

  label() {
    const { closed } = this;
    this.gutter.replaceChildren(...this.layout.labels.map((label) => {
      const what = label.lane || label.group;
      const toggles = label.group || label.lane.rows.length > 1;
      const made = element(toggles ? "button" : "div", {
        className: label.group ? "group" : "lane",
        title: what.note ? `${what.name}\n${what.note}` : what.name,
      }, element("span", {}, what.name));
      if (what.derived) made.append(element("small", {}, "derived"));
      made.style.top = `${label.y}px`;
      made.style.height = `${label.height}px`;
      if (toggles) {
        made.type = "button";
        made.setAttribute("aria-expanded", label.open);
        const key = label.group ? label.index : label.lane.index;
        const set = label.group ? closed.groups : closed.lanes;
        made.addEventListener("click", () => {
          if (!set.delete(key)) set.add(key);
          this.arrange();
          this.app.draw();
          this.gutter.children[this.layout.labels.findIndex((one) => (label.group ? one.group === label.group : one.lane === label.lane))].focus();
        });
      }
      return made;
    }));
    this.chartGutter.replaceChildren(...this.chartBands.map(({ chart, y, height, label }) => {
      const made = element("div", { className: "chart", title: [chart.name, chart.meaning, chart.note].filter(Boolean).join("\n") },
        element("span", {}, chart.name), element("small", {}, chart.meaning));
      made.style.top = `${y}px`;
      made.style.height = `${label || height}px`;
      return made;
    }));
    this.chartGutter.style.height = `${this.chartBands.reduce((sum, band) => sum + band.height, 0)}px`;
  }

  draw(colours) {
    drawLanes(this.contexts.base, this, colours, this.search);
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

  rowOf(i) {
    const { rows } = this.timeline;
    let [low, high] = [0, rows.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle].to <= i) low = middle + 1;
      else high = middle;
    }
    return rows[low];
  }

  bandOf(i) { return this.bandIndex.get(this.rowOf(i)); }

  xOf(t) { return ((t - this.start) / (this.end - this.start)) * this.width; }
  timeAt(x) { return this.start + (x / this.width) * (this.end - this.start); }

  hit(x, y) {
    const at = y + this.scroll;
    const band = this.layout.bands.find((one) => at >= one.y && at < one.y + one.height);
    if (!band) return -1;
    return sliceAt(this.timeline, band.row, this.timeAt(x), (2.5 * (this.end - this.start)) / this.width);
  }

  /* t, or the edge of a slice near it. */
  snap(x, y) {
    const t = this.timeAt(x);
    const near = (SNAP / this.width) * (this.end - this.start);
    const i = this.hit(x, y);
    if (i < 0) return t;
    const { start, duration } = this.timeline;
    const edges = [start[i], start[i] + duration[i]].sort((a, b) => Math.abs(a - t) - Math.abs(b - t));
    return Math.abs(edges[0] - t) <= near ? edges[0] : t;
  }

  zoom(factor, x = this.width / 2) {
    const at = this.timeAt(x) - this.zero;
    const window = this.view.to - this.view.from;
    const wanted = Math.min(Math.max(window * factor, SHORTEST), this.app.widest(this));
    const share = (at - this.view.from) / window;
    this.show(at - share * wanted, at + (1 - share) * wanted);
  }

  pan(pixels) {
    const step = (pixels / this.width) * (this.view.to - this.view.from);
    this.show(this.view.from + step, this.view.to + step);
  }

  /* A window in time since zero, kept where at least a tenth of it shows the trace. */
  show(from, to) {
    const window = to - from;
    const [first, last] = this.app.bounds(this);
    const moved = Math.min(Math.max(from, first - 0.9 * window), last - 0.1 * window);
    this.app.setView(this, moved, moved + window);
  }

  showAll() {
    const [from, to] = this.app.bounds(this);
    const margin = (to - from) * 0.01 || SHORTEST;
    this.app.setView(this, from - margin, to + margin);
  }

  showSlice(i) {
    const { start, duration } = this.timeline;
    const middle = start[i] + duration[i] / 2 - this.zero;
    const window = Math.max(duration[i] * 6, SHORTEST * 10);
    this.show(middle - window / 2, middle + window / 2);
  }

  /* Pan, zoom and scroll only as far as it takes to see the slice. */
  reveal(i) {
    const { start, duration } = this.timeline;
    this.closed.groups.delete(this.rowOf(i).lane.group);
    if (!((this.bandOf(i) || {}).height >= 8)) {
      this.closed.lanes.delete(this.rowOf(i).lane.index);
      this.arrange();
    }
    const from = start[i] - this.zero;
    const window = this.view.to - this.view.from;
    const shown = (duration[i] / window) * this.width;
    if (shown < 3) {
      const wanted = Math.max(duration[i] * 60, SHORTEST);
      this.show(from - wanted / 2, from + wanted / 2);
    } else if (from + duration[i] < this.view.from || from > this.view.to || shown > this.width * 3) {
      const wanted = Math.max(window, duration[i] * 1.5);
      this.show(from + duration[i] / 2 - wanted / 2, from + duration[i] / 2 + wanted / 2);
    }
    const band = this.bandOf(i);
    if (band.y < this.scroll || band.y + band.height > this.scroll + this.scroller.clientHeight) {
      this.scroller.scrollTop = band.y - this.scroller.clientHeight / 3;
    }
  }

  select(i) {
    this.selected = i;
    this.partners = i < 0 ? [] : this.correlated(i);
  }

  /* Slices with the same correlation: the launch of a kernel, the kernels of a launch. */
  correlated(i) {
    const { correlation, count } = this.timeline;
    if (!correlation[i]) return [];
    const found = [];
    for (let j = 0; j < count; j++) if (correlation[j] === correlation[i] && j !== i) found.push(j);
    return found.slice(0, 20);
  }

  /* The slice that the arrow keys lead to. */
  neighbour(key) {
    const { timeline, selected } = this;
    if (selected < 0) {
      const middle = (this.start + this.end) / 2;
      const band = this.layout.bands.find((one) => one.y + one.height > this.scroll && one.row.to > one.row.from);
      if (!band) return -1;
      return Math.min(lowerBound(timeline.start, middle, band.row.from, band.row.to), band.row.to - 1);
    }
    const row = this.rowOf(selected);
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

  listen() {
    const { plot, app } = this;
    const place = (event) => {
      const box = plot.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const wheel = (event) => {
      if (app.scrollingPage() || event.altKey) return; // a page being scrolled past must not be caught here
      event.preventDefault();
      app.wheeled();
      const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
      const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
      if (event.shiftKey && !event.ctrlKey) this.pan(dx || dy);
      else if (Math.abs(dx) > Math.abs(dy)) this.pan(dx);
      else this.zoom(Math.exp(Math.max(Math.min(dy, 240), -240) * (event.ctrlKey ? 0.008 : 0.0022)), place(event)[0]);
    };
    plot.addEventListener("wheel", wheel, { passive: false });
    this.axis.addEventListener("wheel", wheel, { passive: false });
    this.chart.addEventListener("wheel", wheel, { passive: false });

    const down = new Map(); // pointers on the plot
    let origin = null; // of a drag
    let spread = 0; // distance of two fingers
    for (const surface of [plot, this.chart]) {
      surface.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        surface.setPointerCapture(event.pointerId);
        const [x, y] = place(event);
        down.set(event.pointerId, [x, y]);
        origin = { x, y, at: [x, y], moved: false, from: event.shiftKey ? this.snap(x, y) : null };
        if (down.size === 2) spread = distance(down);
        app.focus(this);
      });
      surface.addEventListener("pointermove", (event) => {
        const [x, y] = place(event);
        if (!down.has(event.pointerId)) {
          if (event.pointerType !== "touch") this.point(x, y, event);
          return;
        }
        const [px, py] = down.get(event.pointerId);
        down.set(event.pointerId, [x, y]);
        if (down.size === 2) {
          const now = distance(down);
          const middle = [...down.values()].reduce((sum, [one]) => sum + one / 2, 0);
          if (spread > 8 && now > 8) this.zoom(spread / now, middle);
          this.pan((px - x) / 2);
          spread = now;
          origin.moved = true;
          return;
        }
        if (Math.hypot(x - origin.x, y - origin.y) > CLICK) origin.moved = true;
        if (!origin.moved) return;
        app.hideDetails();
        if (origin.from !== null) {
          app.setMeasure(this, origin.from, this.snap(x, y));
          return;
        }
        plot.classList.add("dragging");
        this.pan(px - x);
        if (event.pointerType !== "touch" && surface === plot) this.scroller.scrollTop += py - y;
      });
      const up = (event) => {
        if (!down.delete(event.pointerId)) return;
        plot.classList.remove("dragging");
        if (event.type === "pointerup" && origin && !origin.moved && down.size === 0) {
          const [x, y] = place(event);
          if (app.measuring || event.shiftKey) app.measurePoint(this, this.snap(x, y));
          else if (surface === plot) app.choose(this, this.hit(x, y));
          if (event.pointerType === "touch") this.point(x, y, event);
        }
        if (down.size === 1) origin.moved = true;
      };
      surface.addEventListener("pointerup", up);
      surface.addEventListener("pointercancel", up);
      surface.addEventListener("pointerleave", () => {
        this.hover = -1;
        this.pointer = app.crossAt = null;
        app.hideDetails();
        app.drawMarks();
      });
    }
    plot.addEventListener("dblclick", (event) => {
      const i = this.hit(...place(event));
      if (i >= 0) this.showSlice(i);
      else this.showAll();
    });
    this.overviewDrag();
    this.scroller.addEventListener("scroll", () => app.draw());
    this.scroller.addEventListener("focusin", () => app.focus(this));
    new ResizeObserver(() => app.arranged(this)).observe(this.scroller);
  }

  /* On the strip of the whole trace a drag moves the window, and one beside the window brings it there. */
  overviewDrag() {
    const { axis, app } = this;
    let last = null;
    const strip = (event) => event.clientY - axis.getBoundingClientRect().top < OVERVIEW;
    axis.addEventListener("pointerdown", (event) => {
      axis.setPointerCapture(event.pointerId);
      app.focus(this);
      last = { x: event.clientX, strip: strip(event) };
      if (!last.strip) return;
      const x = event.clientX - axis.getBoundingClientRect().left;
      const t = this.overview.from + (x / this.width) * (this.overview.to - this.overview.from) - this.zero;
      const window = this.view.to - this.view.from;
      if (t < this.view.from || t > this.view.to) this.show(t - window / 2, t + window / 2);
    });
    axis.addEventListener("pointermove", (event) => {
      if (!last) return;
      const step = event.clientX - last.x;
      last.x = event.clientX;
      if (!last.strip) { this.pan(-step); return; }
      const moved = (step / this.width) * (this.overview.to - this.overview.from);
      this.show(this.view.from + moved, this.view.to + moved);
    });
    for (const name of ["pointerup", "pointercancel"]) axis.addEventListener(name, () => { last = null; });
  }

  point(x, y, event) {
    this.pointer = this.app.measuring ? this.snap(x, y) : this.timeAt(x);
    this.app.crossAt = { stage: this, since: this.pointer - this.zero };
    const inside = event.currentTarget === this.plot || event.type === "pointerup";
    this.hover = inside ? this.hit(x, y) : -1;
    if (this.hover >= 0) {
      const told = describe(this, this.hover);
      for (const chart of this.timeline.charts.slice(0, 3)) told.facts.push(...this.valuesAt(chart, chart.name));
      this.app.showDetails(told, event.clientX, event.clientY);
    }
    else if (!inside) this.app.showDetails(this.readings(event), event.clientX, event.clientY);
    else this.app.hideDetails();
    this.app.drawMarks();
  }

  /* What the charts say at the pointer. */
  readings(event) {
    const y = event.clientY - this.chart.getBoundingClientRect().top;
    const band = this.chartBands.find((one) => y >= one.y && y < one.y + one.height);
    if (!band) return null;
    return {
      title: band.chart.name,
      soft: [band.chart.meaning, band.chart.note].filter(Boolean).join("; "),
      facts: [
        ["At", moment(this.pointer - this.zero, this.end - this.start)],
        ...this.valuesAt(band.chart, ""),
      ],
    };
  }

  /* Each series of a chart at the pointer; a sampled one has no value between its samples. */
  valuesAt(chart, whose) {
    // A counter's chart has one series, of the same name.
    const named = (name) => (!whose || whose.startsWith(name) ? whose || name : `${whose}, ${name}`);
    return chart.series.map(({ name, time, value, step }) => {
      const i = lowerBound(time, this.pointer + 1e-9, 0, time.length) - 1;
      const known = i >= 0 && !Number.isNaN(value[i]);
      return [`${named(name)}${step ? "" : ", last sample"}`, known ? quantity(value[i], chart.unit) : "unknown"];
    });
  }
}

function distance(pointers) {
  const [[x0, y0], [x1, y1]] = [...pointers.values()];
  return Math.hypot(x1 - x0, y1 - y0);
}

/* All that is known of a slice. What the profiler did not tell is left out or said to be unknown, never 0. */
function describe(stage, i) {
  const { timeline } = stage;
  const kind = timeline.kinds[timeline.kind[i]];
  const row = stage.rowOf(i);
  const facts = [
    ["Duration", timeline.duration[i] ? time(timeline.duration[i], 4) : "instant"],
    ["Start", moment(timeline.start[i] - stage.zero, Math.max(timeline.duration[i], 100))],
    ["Lane", `${timeline.groups[row.lane.group].name} · ${row.lane.name}${row.lane.derived ? " (derived)" : ""}`],
  ];
  const told = { ...timeline.details[timeline.detail[i]] };
  for (const { name, at, value, names } of timeline.sparse) {
    const k = lowerBound(at, i, 0, at.length);
    if (at[k] === i) told[name] = names ? timeline.names[value[k]] : value[k];
  }
  if (kind.launched) for (const name of ["grid", "block", "registers", "shared memory"]) told[name] ??= null;
  for (const [name, value] of Object.entries(told)) {
    facts.push([name[0].toUpperCase() + name.slice(1), detailText(name, value)]);
  }
  facts.push(["Correlation", timeline.correlation[i] ? String(timeline.correlation[i] - 1) : "unknown"]);
  return { title: timeline.names[timeline.name[i]], soft: kind.label, facts };
}

function detailText(name, value) {
  if (value === null) return "unknown";
  if (Array.isArray(value)) return value.map((one) => one.toLocaleString("en-US")).join(" × ");
  if (typeof value !== "number" || /\bid\b/.test(name)) return String(value);
  if (name.startsWith("shared memory") || name.startsWith("bytes")) return memory(value);
  return Number.isInteger(value) ? value.toLocaleString("en-US") : significant(value, 4);
}
