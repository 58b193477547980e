/* The page: stages, what they share (zero, view, search, measurement), toolbar and keys. */

class App {
  constructor(timelines, settings) {
    this.measuring = false;
    this.pending = null; // first point of a measurement: { stage, t }
    this.crossAt = null; // what is pointed at: { stage, since zero }
    this.measure = null; // { stage or null for all, at: [from, to] since zero }
    this.hit = -1;
    this.linked = true;
    this.dirty = { all: false, marks: false, frame: 0 };
    this.pageScroll = this.lastWheel = -1e9;
    this.stages = timelines.map((timeline, i) => new Stage(timeline, i, this));
    this.kindNames = assignFills(timelines);
    this.colours = new Colours(this.kindNames);
    this.current = this.stages[0];
    document.getElementById("stages").replaceChildren(...this.stages.map((stage) => stage.element));
    this.alignments(settings.call);
    for (const stage of this.stages) stage.arrange();
    for (const stage of this.stages) stage.showAll();
    this.showCalls();
    this.toolbar();
    this.keys();
    addEventListener("resize", () => { for (const stage of this.stages) this.arranged(stage); });
    addEventListener("scroll", () => { this.pageScroll = performance.now(); }, { passive: true });
  }

  /* Once the page can be used: what needs a pass over all slices. */
  finish() {
    for (const stage of this.stages) {
      const { timeline } = stage;
      stage.nameTotals = new Map();
      for (let i = 0; i < timeline.count; i++) {
        let entry = stage.nameTotals.get(timeline.name[i]);
        if (!entry) stage.nameTotals.set(timeline.name[i], (entry = { count: 0, total: 0, first: i }));
        entry.count++;
        entry.total += timeline.duration[i];
      }
    }
    document.getElementById("kernels").hidden = !this.stages.some(({ timeline }) => timeline.work.length);
    this.kernels = new Kernels(this);
    this.difference = new Difference(this);
    if (this.stages.every((stage) => stage.call)) {
      for (const id of ["kernel-scope", "difference-scope"]) document.getElementById(id).value = "call";
    }
    this.legend();
    this.tables();
    this.panels();
  }

  /* A wheel gesture that began on the page goes on scrolling it when it comes across a canvas. */
  scrollingPage() {
    const now = performance.now();
    return now - this.pageScroll < 250 && now - this.lastWheel > 250;
  }
  wheeled() { this.lastWheel = performance.now(); }

  draw() { this.dirty.all = true; this.schedule(); }
  drawMarks() { this.dirty.marks = true; this.schedule(); }
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

  focus(stage) { this.current = stage; }

  /* Zeros to align at: the start of the trace, the first kernel, or the first call of a marked range. */
  alignments(call) {
    const select = document.getElementById("align");
    const ranges = this.stages.map(({ timeline }) => {
      const found = new Map();
      for (const row of timeline.rows) {
        for (let i = row.from; i < row.to; i++) {
          const kind = timeline.kinds[timeline.kind[i]];
          if (!kind.range) continue;
          const name = timeline.names[timeline.name[i]];
          const before = found.get(name);
          // Host and device may both show a range: what the host marked comes first.
          if (before === undefined || timeline.start[i] < timeline.start[before]) found.set(name, i);
        }
      }
      return found;
    });
    this.ranges = ranges;
    const shared = [...ranges[0].keys()].filter((name) => ranges.every((found) => found.has(name))).slice(0, 200);
    for (const name of shared) select.append(element("option", { value: `call:${name}` }, `start of ${name}`));
    if (call && shared.includes(call)) select.value = `call:${call}`;
    select.addEventListener("change", () => this.align(select.value, true));
    this.align(select.value, false);
  }

  /* Where calls are marked, one call is what the page is about. */
  showCalls() {
    const calls = this.stages.map((stage) => stage.call);
    if (!calls.every(Boolean)) return;
    const longest = Math.max(...calls.map(([from, to]) => to - from)) || SHORTEST;
    this.setView(this.current, -0.04 * longest, 1.06 * longest);
  }

  align(value, show) {
    for (const [k, stage] of this.stages.entries()) {
      const { timeline } = stage;
      stage.call = null;
      stage.zero = 0;
      if (value === "kernel") {
        const starts = timeline.work.map(({ order }) => timeline.start[order[0]]);
        stage.zero = starts.length ? Math.min(...starts) : 0;
      } else if (value.startsWith("call:")) {
        const i = this.ranges[k].get(value.slice(5));
        stage.zero = timeline.start[i];
        stage.call = [timeline.start[i], timeline.start[i] + timeline.duration[i]];
      }
      stage.tell();
    }
    this.measure = this.pending = null;
    for (const option of document.querySelectorAll('option[value="call"]')) option.hidden = option.disabled = !this.stages[0].call;
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

  widest(stage) {
    const [from, to] = this.bounds(stage);
    return (to - from) * 1.3 || SHORTEST * 2;
  }

  setView(stage, from, to) {
    const view = { from, to };
    for (const one of this.linked ? this.stages : [stage]) one.view = view;
    this.draw();
    if (!this.kernels) return;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.tables("window"), 160);
  }

  tables(only) {
    if (!this.kernels) return;
    for (const panel of [this.kernels, this.difference]) {
      if (panel.section && panel.section.hidden) continue;
      if (!only || panel.scope.value === only) panel.render();
    }
  }

  panels() {
    if (!this.kernels) return;
    showSelected(document.getElementById("selected"), this.stages.find((stage) => stage.selected >= 0));
    showMeasured(document.getElementById("measured"), this);
  }

  choose(stage, i, say = false) {
    for (const one of this.stages) if (one !== stage) one.select(-1);
    stage.select(i);
    this.panels();
    this.drawMarks();
    if (!say || i < 0) return;
    const { title, facts } = describe(stage, i);
    document.getElementById("live").textContent = `${short(title)}, ${facts.map(([label, value]) => `${label} ${value}`).join(", ")}`;
  }

  /* From a table to the canvas: the next slice of that name after the one chosen, of those the table is about. */
  chooseName(stage, name, scope) {
    const { timeline } = stage;
    const slices = [];
    for (const { order } of timeline.work) for (const i of order) if (timeline.name[i] === name) slices.push(i);
    // What no device is busy with, as an instruction without an estimate, is not among its work.
    for (let i = 0; !slices.length && i < timeline.count; i++) if (timeline.name[i] === name) slices.push(i);
    if (!slices.length) return;
    slices.sort((a, b) => timeline.start[a] - timeline.start[b]);
    const inside = slices.filter((i) => within(stage, i, scope));
    const chosen = inside.length ? inside : slices;
    const i = chosen[(chosen.indexOf(stage.selected) + 1) % chosen.length];
    this.choose(stage, i, true);
    stage.reveal(i);
    this.draw();
    stage.element.scrollIntoView({ block: "nearest" });
  }

  /* By the name a table has: the slices' own, or theirs without the number that XLA puts behind it. */
  chooseText(stage, text) {
    const { names } = stage.timeline;
    const exact = names.indexOf(text);
    this.chooseName(stage, exact >= 0 ? exact : names.findIndex((name) => name.startsWith(`${text}.`)), "call");
  }

  measurePoint(stage, t) {
    if (this.pending && (this.linked || this.pending.stage === stage)) {
      const first = this.pending.since + stage.zero;
      this.pending = null;
      this.setMeasure(stage, first, t);
    } else {
      this.pending = { stage, since: t - stage.zero };
      this.measure = { stage: this.linked ? null : stage, at: [t - stage.zero, t - stage.zero] };
      showMeasured(document.getElementById("measured"), { ...this, measure: null, pending: this.pending });
      this.drawMarks();
    }
  }

  setMeasure(stage, a, b) {
    const at = [Math.min(a, b) - stage.zero, Math.max(a, b) - stage.zero];
    this.measure = at[1] > at[0] ? { stage: this.linked ? null : stage, at } : null;
    this.drawMarks();
    this.panels();
    clearTimeout(this.measuringTables);
    this.measuringTables = setTimeout(() => this.tables("measured"), 160);
  }

  setMeasuring(on) {
    this.measuring = on;
    this.pending = null;
    document.getElementById("measure").setAttribute("aria-pressed", on);
    document.body.classList.toggle("measuring", on);
    this.panels();
    this.drawMarks();
  }

  find(text) {
    const output = document.getElementById("hits");
    const input = document.getElementById("search");
    this.hit = -1;
    let matches = null;
    input.removeAttribute("aria-invalid");
    if (text) {
      try {
        matches = matcher(text);
      } catch (error) {
        input.setAttribute("aria-invalid", "true");
      }
    }
    for (const stage of this.stages) stage.search = matches && searchIn(stage.timeline, matches);
    this.hits = matches ? this.stages.reduce((sum, stage) => sum + stage.search.hits.length, 0) : 0;
    output.textContent = matches ? count(this.hits, "hit") : text ? "not a regular expression" : "";
    for (const id of ["previous", "next"]) document.getElementById(id).disabled = !this.hits;
    this.draw();
    return this.hits;
  }

  /* The number of the hit to begin with: of those the table of kernels is about the first, or going back the last. */
  firstHit(step) {
    const scope = this.kernels ? this.kernels.scope.value : "call";
    let number = 0;
    let last = -1;
    for (const stage of this.stages) {
      for (const i of stage.search.hits) {
        if (within(stage, i, scope)) {
          if (step > 0) return number;
          last = number;
        }
        number++;
      }
    }
    return last >= 0 ? last : step > 0 ? 0 : this.hits - 1;
  }

  /* Goes to a hit by its number, over all timelines in turn. */
  go(step) {
    if (!this.hits) return;
    this.hit = this.hit < 0 ? this.firstHit(step) : (this.hit + step + this.hits) % this.hits;
    let k = this.hit;
    const stage = this.stages.find((one) => {
      if (k < one.search.hits.length) return true;
      k -= one.search.hits.length;
      return false;
    });
    const i = stage.search.hits[k];
    document.getElementById("hits").textContent = `${(this.hit + 1).toLocaleString("en-US")} of ${this.hits.toLocaleString("en-US")}`;
    this.choose(stage, i, true);
    stage.reveal(i);
    this.draw();
    stage.element.scrollIntoView({ block: "nearest" });
  }

  showDetails(told, x, y) {
    const panel = document.getElementById("details");
    if (!told) { this.hideDetails(); return; }
    panel.replaceChildren(element("p", {}, told.title), element("p", { className: "soft" }, told.soft), definition(told.facts));
    panel.hidden = false;
    const { width, height } = panel.getBoundingClientRect();
    panel.style.left = `${Math.max(8, Math.min(x + 16, innerWidth - width - 8))}px`;
    panel.style.top = `${y + 20 + height > innerHeight ? Math.max(8, y - height - 14) : y + 20}px`;
  }
  hideDetails() { document.getElementById("details").hidden = true; }

  legend() {
    const list = document.getElementById("legend");
    const used = new Map();
    for (const { timeline } of this.stages) {
      const present = new Uint8Array(timeline.kinds.length);
      for (let i = 0; i < timeline.count; i++) present[timeline.kind[i]] = 1;
      timeline.kinds.forEach((kind, k) => { if (present[k]) used.set(kind.name, [kind, timeline.kindFill[k]]); });
    }
    const item = (fills, text) => element("li", {}, ...fills.map((fill) => {
      const swatch = element("i", { className: "swatch" });
      swatch.style.background = this.colours.fills[fill];
      return swatch;
    }), text);
    list.replaceChildren(...[...used.values()].flatMap(([kind, fill]) => (fill < 0
      ? [item(Array.from({ length: RANKS }, (_, i) => i + 1), "kernels with the largest totals, a colour each"), item([0], "other kernels")]
      : [item([fill], kind.label)])).filter((one, i, all) => all.findIndex((other) => other.textContent === one.textContent) === i));
  }

  toolbar() {
    const by = (id) => document.getElementById(id);
    const input = by("search");
    let typing = 0;
    input.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => this.find(input.value.trim()), 80); });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        clearTimeout(typing);
        if (this.hit < 0) this.find(input.value.trim());
        this.go(event.shiftKey ? -1 : 1);
      } else if (event.key === "Escape") {
        input.value = "";
        this.find("");
        this.current.scroller.focus();
      }
    });
    by("previous").addEventListener("click", () => this.go(-1));
    by("next").addEventListener("click", () => this.go(1));
    by("in").addEventListener("click", () => this.current.zoom(1 / 1.6));
    by("out").addEventListener("click", () => this.current.zoom(1.6));
    by("all").addEventListener("click", () => this.current.showAll());
    by("measure").addEventListener("click", () => this.setMeasuring(!this.measuring));
    const link = by("link");
    for (const one of document.querySelectorAll(".several")) one.hidden = this.stages.length < 2;
    link.addEventListener("change", () => {
      this.linked = link.checked;
      this.measure = this.pending = null;
      if (this.linked) this.setView(this.current, this.current.view.from, this.current.view.to);
      this.panels();
      this.draw();
    });
    this.theme(by("theme"));
    by("toolbar").addEventListener("submit", (event) => event.preventDefault());
    by("toolbar").hidden = false;
  }

  theme(button) {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const changed = () => {
      button.textContent = dark() ? "Light" : "Dark";
      this.colours = new Colours(this.kindNames);
      if (this.kernels) { this.legend(); this.tables(); }
      this.draw();
    };
    button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; changed(); });
    system.addEventListener("change", changed);
    button.textContent = dark() ? "Light" : "Dark";
    button.hidden = false;
  }

  keys() {
    const held = new Set();
    let last = 0;
    // A held key moves steadily, frame by frame, not in the jumps of the keyboard's own repetition.
    const move = (now) => {
      if (!held.size) return;
      const passed = Math.min(now - last, 50) / 1000;
      last = now;
      const stage = this.current;
      if (held.has("w")) stage.zoom(Math.exp(-2.4 * passed));
      if (held.has("s")) stage.zoom(Math.exp(2.4 * passed));
      if (held.has("a")) stage.pan(-1.1 * stage.width * passed);
      if (held.has("d")) stage.pan(1.1 * stage.width * passed);
      requestAnimationFrame(move);
    };
    addEventListener("keydown", (event) => {
      if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const stage = this.current;
      if ("wasd".includes(key)) {
        if (!held.size) {
          last = performance.now() - 16; // a tap moves by a frame at least
          requestAnimationFrame(move);
        }
        held.add(key);
      } else if (key === "/") {
        document.getElementById("search").focus();
      } else if (key === "m") {
        this.setMeasuring(!this.measuring);
      } else if (key === "f") {
        if (stage.selected >= 0) stage.showSlice(stage.selected);
      } else if (key === "0" || key === "Home") {
        if (key === "Home" && !event.target.closest(".scroller")) return;
        stage.showAll();
      } else if (key === "+" || key === "-") {
        stage.zoom(key === "+" ? 1 / 1.6 : 1.6);
      } else if (key === "n" || key === "N") {
        this.go(event.shiftKey ? -1 : 1);
      } else if (key === "Escape") {
        this.hideDetails();
        if (this.measure || this.pending || this.measuring) {
          this.measure = null;
          this.setMeasuring(false);
        } else {
          this.choose(stage, -1);
        }
        this.tables("measured");
      } else if (key.startsWith("Arrow") && event.target.closest(".scroller") && !event.target.closest("button")) {
        const i = stage.neighbour(key);
        if (i >= 0) {
          this.choose(stage, i, true);
          stage.reveal(i);
          this.draw();
        }
      } else {
        return;
      }
      event.preventDefault();
    });
    addEventListener("keyup", (event) => held.delete(event.key.toLowerCase()));
    addEventListener("blur", () => held.clear());
  }
}

async function open() {
  const root = document.documentElement;
  const asked = new URLSearchParams(location.search).get("theme");
  if (asked === "light" || asked === "dark") root.dataset.theme = asked;
  const blocks = [...document.querySelectorAll("script.timeline")];
  const settings = JSON.parse(document.getElementById("settings").textContent);
  TIME_UNITS = UNITS[settings.unit];
  const timelines = await Promise.all(blocks.map((block) => decode(block.textContent)));
  for (const block of blocks) block.remove(); // megabytes of text that nobody needs any more
  performance.mark("fuseproof-decoded");
  const app = new App(timelines, settings);
  app.render();
  performance.mark("fuseproof-interactive");
  root.classList.add("ready");
  // After the first frame is on the screen.
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  app.finish();
  performance.mark("fuseproof-complete");
  return app;
}

// What tests and tools/viewer_speed.py drive the page by.
globalThis.fuseproof = { ready: open(), measured, byName };
globalThis.fuseproof.ready.catch((error) => {
  const line = document.getElementById("problem");
  line.textContent = `This page could not be shown: ${error.message}. It needs a browser of 2023 or newer (DecompressionStream).`;
  line.hidden = false;
  console.error(error);
});
