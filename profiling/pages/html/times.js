/* Times as a reader sees them, and the round ones that stand on the axis. One unit serves the whole page:
   nanoseconds of a trace, or cycles of a static schedule. */

import { fixed, significant } from "./numbers.js";

const UNITS = {
  ns: [
    [1e9, "s"],
    [1e6, "ms"],
    [1e3, "µs"],
    [1, "ns"],
  ],
  cycles: [
    [1e9, "Gcycles"],
    [1e6, "Mcycles"],
    [1e3, "kcycles"],
    [1, "cycles"],
  ],
};
let units = UNITS.ns;

/* `name`: ns or cycles. */
export function useTimeUnit(name) {
  units = UNITS[name];
}

/* Whether the page shows a static schedule: its work is instructions, and those without an estimate have no
   length. */
export const isStatic = () => units === UNITS.cycles;

/* The largest unit of which there is one at least; the smallest for anything shorter. */
const unitOf = (ns, one = 1) => units.find(([size]) => Math.abs(ns) >= size * one) || units[3];

export function time(ns, digits = 3) {
  const [size, unit] = unitOf(ns, 0.9995); // 999.6 ns is 1.00 µs, not 1,000 ns
  return `${significant(ns / size, digits)} ${unit}`;
}

/* A point in time, with as many digits as the window shown can tell apart. */
export function moment(ns, window) {
  const [size, unit] = unitOf(Math.max(Math.abs(ns), 1));
  const step = Math.max(window / 2000, 1) / size;
  const places = Math.min(Math.max(Math.ceil(-Math.log10(step)), 0), 9);
  return `${fixed(ns / size, places)} ${unit}`;
}

/* Points in [from, to], a round step apart (1, 2 or 5 times a power of ten), about `most`, with texts. */
export function ticks(from, to, most) {
  const raw = (to - from) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const at = [];
  for (let k = Math.ceil(from / step); k * step <= to; k++) at.push(k * step);
  const [size, unit] = unitOf(Math.max(...at.map(Math.abs), 1));
  const places = Math.min(Math.max(Math.ceil(-Math.log10(step / size) - 1e-9), 0), 9);
  return { step, at, texts: at.map((t) => (t === 0 ? "0" : `${fixed(t / size, places)} ${unit}`)) };
}
