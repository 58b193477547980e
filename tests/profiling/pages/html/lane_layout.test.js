import assert from "node:assert/strict";
import { test } from "node:test";
import { closedAtFirst, layOut, layOutCharts } from "../../../../profiling/pages/html/lane_layout.js";
import { timelineOf } from "./timelines.js";

const groups = [
  { name: "GPU 0", device: true },
  { name: "python3", device: false },
];
const rows = (count) => Array.from({ length: count }, (_, i) => [[i, 1, "x"]]);
const timeline = timelineOf([{ rows: rows(2) }, { group: 1, rows: rows(3) }, { group: 1, rows: rows(30) }], {
  groups,
});
const none = () => ({ groups: new Set(), lanes: new Set() });

test("groups have a line, lanes lie below each other, rows of a lane touch", () => {
  const { bands, labels, rules, height } = layOut(timeline, none(), false);
  assert.equal(bands.length, 35);
  assert.deepEqual(
    bands.slice(0, 5).map(({ y, height }) => [y, height]),
    [
      [24, 18],
      [42, 18],
      [91, 16],
      [107, 16],
      [123, 16],
    ],
  );
  assert.deepEqual(
    labels.map(({ y }) => y),
    [0, 24, 67, 91, 142],
  );
  assert.deepEqual(rules, [67]); // above all groups but the first
  assert.equal(height, 142 + 30 * 16 + 3 + 4);
});

test("no two rows overlap, whatever is closed, on any screen", () => {
  for (const narrow of [false, true]) {
    for (const closed of [
      none(),
      { groups: new Set([0]), lanes: new Set([1, 2]) },
      closedAtFirst(timeline),
    ]) {
      const { bands, height } = layOut(timeline, closed, narrow);
      for (let k = 1; k < bands.length; k++) assert.ok(bands[k].y >= bands[k - 1].y + bands[k - 1].height);
      assert.ok(height >= bands.at(-1).y + bands.at(-1).height);
    }
  }
});

test("a closed group keeps its line and shows no lane", () => {
  const { bands, labels } = layOut(timeline, { groups: new Set([1]), lanes: new Set() }, false);
  assert.equal(bands.length, 2);
  assert.deepEqual(
    labels.filter(({ group }) => group).map(({ open, lanes }) => [open, lanes]),
    [
      [true, 1],
      [false, 2],
    ],
  );
});

test("a closed lane is a silhouette, the deeper the thinner its rows", () => {
  const { bands } = layOut(timeline, { groups: new Set(), lanes: new Set([0, 1, 2]) }, false);
  assert.deepEqual([bands[0].height, bands[2].height, bands[5].height], [7, 7, 2]);
});

test("on a narrow screen each lane's label has a line above its rows", () => {
  const { bands, labels } = layOut(timeline, none(), true);
  assert.equal(bands[0].y, 24 + 17);
  assert.equal(labels[1].height, 17);
});

test("a deep host thread begins closed, a deep stream does not", () => {
  assert.deepEqual([...closedAtFirst(timeline).lanes], [2]);
  const deep = timelineOf([{ rows: rows(30) }], { groups });
  assert.deepEqual([...closedAtFirst(deep).lanes], []);
});

test("charts lie below each other", () => {
  const charts = [{ name: "power" }, { name: "memory" }];
  assert.deepEqual(
    layOutCharts({ charts }, false).map(({ y, height }) => [y, height]),
    [
      [0, 58],
      [58, 58],
    ],
  );
  assert.deepEqual(
    layOutCharts({ charts }, true).map(({ y, height }) => [y, height]),
    [
      [0, 92],
      [92, 92],
    ],
  );
});
