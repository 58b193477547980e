/* Colour has a meaning: each of the kernels with the largest totals has one, the same in every timeline and
   in the table; all other kernels share one; host slices are coloured by kind. viewer.css has the values. */

import { element } from "./dom.js";

export const RANKS = 8;
export const LEVELS = 16; // steps of coverage: how much of a pixel's time a merged slice fills

/* Fills are numbers: 0 for kernels of less time, then those of rank 1, 2, …, then these. */
export const DIMMED = RANKS + 1; // what a search does not find
export const FOUND = RANKS + 2;
const FIRST_KIND = RANKS + 3;

const INKS = ["paper", "raised", "ink", "soft", "rule", "grid", "mark", "hit", "on-fill", "on-hit"];

/* Colours of the theme in force, as the canvas needs them. */
export class Colours {
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
    for (const name of INKS) this[name] = this.css(name);
    const paper = rgb(this.paper);
    const fills = [
      "kernel-other",
      ...Array.from({ length: RANKS }, (_, i) => `kernel-${i + 1}`),
      "dimmed",
      "hit",
      ...kinds.map((kind) => `kind-${kind}`),
    ];
    this.charts = [this.css("chart-1"), this.css("chart-2")];
    this.fills = fills.map((name) => this.css(name));
    // Each fill at each coverage over paper, packed as a canvas keeps its pixels.
    this.packed = new Uint32Array(fills.length * (LEVELS + 1));
    this.fills.forEach((fill, f) => {
      const full = rgb(fill);
      for (let level = 0; level <= LEVELS; level++) {
        // A slice too short to see would be lost: coverage begins at a third.
        const share = 0.35 + (0.65 * level) / LEVELS;
        const mixed = [0, 1, 2].map((c) => Math.round(paper[c] + (full[c] - paper[c]) * share));
        this.packed[f * (LEVELS + 1) + level] = opaquePixel(...mixed);
      }
    });
    this.paperPixel = opaquePixel(...paper);
    probe.remove();
  }
}

const LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/* A pixel as a canvas keeps it, read as one integer on this machine. */
export function opaquePixel(red, green, blue) {
  return (
    (LITTLE
      ? 0xff000000 | (blue << 16) | (green << 8) | red
      : (red << 24) | (green << 16) | (blue << 8) | 0xff) >>> 0
  );
}

/* Gives each name and kind of each timeline its fill. Returns the kinds on the page, in order of fills. */
export function assignFills(timelines) {
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
    [...totals]
      .sort((a, b) => b[1] - a[1])
      .slice(0, RANKS)
      .map(([name], rank) => [name, rank + 1]),
  );
  const kinds = [...new Set(timelines.flatMap((timeline) => timeline.kinds.map((kind) => kind.name)))];
  for (const timeline of timelines) {
    timeline.nameFill = Uint8Array.from(timeline.names, (name) => ranks.get(name) || 0);
    timeline.kindFill = timeline.kinds.map((kind) =>
      kind.ranked ? -1 : FIRST_KIND + kinds.indexOf(kind.name),
    );
  }
  return kinds;
}

export function fillOf(timeline, i) {
  const fill = timeline.kindFill[timeline.kind[i]];
  return fill < 0 ? timeline.nameFill[timeline.name[i]] : fill;
}
