/* Colour has a meaning: the kernels with the largest totals have one each, the same in every timeline and in the
   table; all other kernels share one; host slices are coloured by kind. The values stand in viewer.css. */

const RANKS = 8;
const LEVELS = 16; // steps of coverage: how much of a pixel's time a merged slice fills

/* Colours of the theme in force, as the canvas needs them. */
class Colours {
  constructor(kinds) {
    const probe = element("span");
    document.body.append(probe);
    const context = element("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
    this.css = (variable) => {
      probe.style.color = `var(--${variable})`;
      return getComputedStyle(probe).color;
    };
    const rgb = (colour) => {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
      return context.getImageData(0, 0, 1, 1).data;
    };
    for (const name of ["paper", "raised", "ink", "soft", "rule", "grid", "mark", "hit", "on-fill", "on-hit"]) {
      this[name] = this.css(name);
    }
    const paper = rgb(this.paper);
    const fills = [
      "kernel-other",
      ...Array.from({ length: RANKS }, (_, i) => `kernel-${i + 1}`),
      "dimmed",
      "hit",
      ...kinds.map((kind) => `kind-${kind}`),
    ];
    this.charts = [this.css("chart-1"), this.css("chart-2")];
    this.dimmed = RANKS + 1;
    this.hitFill = RANKS + 2;
    this.kinds = RANKS + 3;
    this.fills = fills.map((name) => this.css(name));
    // Each fill at each coverage over paper, packed as a canvas keeps its pixels.
    this.packed = new Uint32Array(fills.length * (LEVELS + 1));
    this.fills.forEach((fill, f) => {
      const full = rgb(fill);
      for (let level = 0; level <= LEVELS; level++) {
        // A slice too short to see would be lost: coverage begins at a third.
        const share = 0.35 + (0.65 * level) / LEVELS;
        const mixed = [0, 1, 2].map((c) => Math.round(paper[c] + (full[c] - paper[c]) * share));
        this.packed[f * (LEVELS + 1) + level] = pack(...mixed);
      }
    });
    this.paperPixel = pack(...paper);
    probe.remove();
  }
}

const LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
function pack(red, green, blue) {
  return (LITTLE ? 0xff000000 | (blue << 16) | (green << 8) | red : (red << 24) | (green << 16) | (blue << 8) | 0xff) >>> 0;
}

/* The kinds that occur on the page, and for each name of each timeline its fill. */
function assignFills(timelines) {
  const totals = new Map();
  for (const timeline of timelines) {
    for (const { order } of timeline.work) {
      for (const i of order) {
        if (!timeline.kinds[timeline.kind[i]].ranked) continue;
        const name = timeline.names[timeline.name[i]];
        totals.set(name, (totals.get(name) || 0) + timeline.duration[i]);
      }
    }
  }
  const ranks = new Map(
    [...totals].sort((a, b) => b[1] - a[1]).slice(0, RANKS).map(([name], rank) => [name, rank + 1]),
  );
  const kinds = [...new Set(timelines.flatMap((timeline) => timeline.kinds.map((kind) => kind.name)))];
  for (const timeline of timelines) {
    timeline.nameFill = Uint8Array.from(timeline.names, (name) => ranks.get(name) || 0);
    timeline.kindFill = timeline.kinds.map((kind) => (kind.ranked ? -1 : RANKS + 3 + kinds.indexOf(kind.name)));
  }
  return kinds;
}

function fillOf(timeline, i) {
  const fill = timeline.kindFill[timeline.kind[i]];
  return fill < 0 ? timeline.nameFill[timeline.name[i]] : fill;
}
