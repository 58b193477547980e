import assert from "node:assert/strict";
import { test } from "node:test";
import { assignFills, DIMMED, FOUND, LEVELS } from "../../../../profiling/pages/html/colours.js";
import { paintRow } from "../../../../profiling/pages/html/draw_lanes.js";
import { matcher, searchIn } from "../../../../profiling/pages/html/search.js";
import { longestOfBlocks } from "../../../../profiling/pages/html/slices.js";
import { workOf } from "../../../../profiling/pages/html/work.js";
import { random, timelineOf } from "./timelines.js";

const PAPER = 0;
/* A pixel says its fill and its coverage: 1000 times the fill, and the level above 0. */
const colours = {
  paperPixel: PAPER,
  packed: Uint32Array.from(
    { length: 40 * (LEVELS + 1) },
    (_, k) => 1000 * Math.floor(k / (LEVELS + 1)) + (k % (LEVELS + 1)) + 1,
  ),
};
const fillIn = (pixel) => Math.floor((pixel - 1) / 1000);
const coverageIn = (pixel) => ((pixel - 1) % 1000) / LEVELS;

function rowOf(slices) {
  const timeline = timelineOf([{ rows: [slices] }]);
  timeline.work = workOf(timeline);
  timeline.longest = longestOfBlocks(timeline);
  assignFills([timeline]);
  return timeline;
}

function paint(timeline, width, window, more = {}) {
  const line = new Uint32Array(width);
  const scale = width / (window[1] - window[0]);
  const wide = paintRow(line, timeline, timeline.rows[0], { t0: window[0], scale, colours, ...more });
  return { line, wide };
}

test("a wide slice is a bar, with a gap of paper before its neighbour", () => {
  const { line } = paint(
    rowOf([
      [10, 10, "a"],
      [20, 10, "b"],
    ]),
    40,
    [0, 40],
  );
  const painted = [...line].map((pixel) => (pixel === PAPER ? " " : "ab"[fillIn(pixel) - 1])).join("");
  assert.equal(painted, `${" ".repeat(10)}${"a".repeat(9)} ${"b".repeat(9)} ${" ".repeat(10)}`);
});

test("slices wide enough for a label are named, cut where the window ends", () => {
  const { wide } = paint(
    rowOf([
      [-5, 15, "a"],
      [12, 2, "b"],
      [30, 50, "c"],
    ]),
    40,
    [0, 40],
    { labelled: 8 },
  );
  assert.deepEqual(
    wide.map(([i, left, right]) => [i, left, right]),
    [
      [0, 0, 10],
      [2, 30, 40],
    ],
  );
  assert.deepEqual(paint(rowOf([[0, 40, "a"]]), 40, [0, 40]).wide, []);
});

test("slices that share a pixel are one, as dark as they fill it, in the colour of the longest", () => {
  const timeline = rowOf([
    [0, 100, "far", "memcpy"],
    [1000, 10, "short"],
    [1020, 30, "long"],
    [1060, 10, "short"],
  ]);
  const { line } = paint(timeline, 10, [1000, 2000]);
  const long = timeline.nameFill[timeline.names.indexOf("long")];
  assert.equal(fillIn(line[0]), long);
  assert.equal(coverageIn(line[0]), Math.round(0.5 * LEVELS) / LEVELS);
  assert.deepEqual([...line.subarray(1)], Array(9).fill(PAPER));
});

test("no slice is lost and no pixel is painted that none touches, at any zoom", () => {
  const draw = random(5);
  const slices = [];
  for (let t = 0; slices.length < 3000; ) {
    t += draw(40);
    const duration = draw(10) ? draw(60) : draw(2000);
    slices.push([t, duration, `k${draw(12)}`]);
    t += duration;
  }
  const timeline = rowOf(slices);
  const span = slices.at(-1)[0] + slices.at(-1)[1];
  for (const [from, to] of [
    [0, span],
    [span / 3, span / 2],
    [1000, 3000],
    [5000, 5200],
  ]) {
    const { line } = paint(timeline, 300, [from, to]);
    const scale = 300 / (to - from);
    const touched = new Uint8Array(302);
    for (const [start, duration] of slices) {
      const [left, right] = [(start - from) * scale, (start + duration - from) * scale];
      if (left >= 0 && left < 300) assert.notEqual(line[Math.floor(left)], PAPER, `${start} is lost`);
      for (let x = Math.max(Math.floor(left), 0); x <= Math.min(Math.ceil(right), 301); x++) touched[x] = 1;
    }
    for (let x = 0; x < 300; x++) if (!touched[x]) assert.equal(line[x], PAPER, `pixel ${x} is painted`);
  }
});

test("a hit that shares a pixel with thousands is seen, all else is dimmed", () => {
  const timeline = rowOf(Array.from({ length: 5000 }, (_, i) => [10 * i, 8, i === 2500 ? "needle" : "hay"]));
  const search = searchIn(timeline, matcher("needle"));
  const { line } = paint(timeline, 50, [0, 50_000], { search });
  const fills = [...line].map(fillIn);
  assert.deepEqual(
    fills.flatMap((fill, x) => (fill === FOUND ? [x] : [])),
    [25],
  );
  assert.ok(fills.every((fill) => fill === FOUND || fill === DIMMED));
});
