import assert from "node:assert/strict";
import { test } from "node:test";
import { firstRanges, sharedRanges, zeroOf } from "../../../../profiling/pages/html/alignment.js";
import { workOf } from "../../../../profiling/pages/html/work.js";
import { timelineOf } from "./timelines.js";

const timeline = timelineOf([
  {
    rows: [
      [
        [105, 50, "call 1", "user_range"],
        [300, 40, "call 2", "user_range"],
      ],
    ],
  },
  {
    rows: [
      [
        [100, 60, "call 1", "user_range"],
        [170, 5, "call 1", "user_range"],
      ],
    ],
  },
  {
    rows: [
      [
        [120, 9, "k"],
        [310, 9, "call 2"],
      ],
    ],
  },
]);
timeline.work = workOf(timeline);

test("of each range the first slice counts, whichever lane it is on", () => {
  const found = Object.fromEntries([...firstRanges(timeline)].map(([name, i]) => [name, timeline.start[i]]));
  assert.deepEqual(found, { "call 1": 100, "call 2": 300 });
});

test("ranges to align at are those of every timeline", () => {
  const ranges = [
    new Map([
      ["a", 0],
      ["b", 1],
      ["c", 2],
    ]),
    new Map([
      ["c", 9],
      ["b", 8],
    ]),
  ];
  assert.deepEqual(sharedRanges(ranges), ["b", "c"]);
});

test("zero is the start, the first kernel, or a call, which is then what the page is about", () => {
  const ranges = firstRanges(timeline);
  assert.deepEqual(zeroOf(timeline, ranges, "start"), { zero: 0, call: null });
  assert.deepEqual(zeroOf(timeline, ranges, "kernel"), { zero: 120, call: null });
  assert.deepEqual(zeroOf(timeline, ranges, "call:call 1"), { zero: 100, call: [100, 160] });
});

test("without a kernel zero is the start", () => {
  assert.deepEqual(zeroOf({ ...timeline, work: [] }, new Map(), "kernel"), { zero: 0, call: null });
});
