import assert from "node:assert/strict";
import { test } from "node:test";
import {
  firstVisible,
  longestIn,
  longestOfBlocks,
  partnersOf,
  rowOf,
  sliceAt,
  slicesOfName,
  touches,
} from "../../../../profiling/pages/html/slices.js";
import { workOf } from "../../../../profiling/pages/html/work.js";
import { random, timelineOf } from "./timelines.js";

const small = timelineOf([
  {
    rows: [
      [
        [10, 10, "a"],
        [30, 0, "b"],
        [40, 20, "a"],
      ],
      [[45, 5, "c"]],
    ],
  },
  { rows: [[[0, 100, "d"]]] },
]);

test("the first slice that ends after a moment", () => {
  const [row] = small.rows;
  assert.deepEqual(
    [0, 10, 19, 20, 30, 31, 59, 60].map((t) => firstVisible(small, row, t)),
    [0, 0, 0, 1, 1, 2, 2, 3],
  );
});

test("a pointer hits a slice, or one as near as the slack, the nearer of two", () => {
  const [row] = small.rows;
  assert.equal(sliceAt(small, row, 15, 0), 0);
  assert.equal(sliceAt(small, row, 30, 0), 1); // of no length, but it is there
  assert.equal(sliceAt(small, row, 25, 0), -1);
  assert.equal(sliceAt(small, row, 22, 3), 0);
  assert.equal(sliceAt(small, row, 28, 3), 1);
  assert.equal(sliceAt(small, row, 36, 7), 2);
});

test("an interval is half open, but an instant at its beginning is inside", () => {
  assert.equal(touches(10, 10, 20, 30), false);
  assert.equal(touches(10, 10, 0, 10), false);
  assert.equal(touches(10, 10, 19, 30), true);
  assert.equal(touches(20, 0, 20, 30), true);
  assert.equal(touches(30, 0, 20, 30), false);
});

test("the longest of any range is what a search from end to end finds", () => {
  const draw = random(3);
  const duration = Float64Array.from({ length: 1000 }, () => draw(5000));
  const timeline = { duration, longest: longestOfBlocks({ duration }) };
  for (let k = 0; k < 300; k++) {
    const [from, to] = [draw(1000), draw(1000)].sort((a, b) => a - b);
    if (from === to) continue;
    const longest = Math.max(...duration.subarray(from, to));
    assert.equal(longestIn(timeline, from, to), duration.indexOf(longest, from));
  }
});

test("each slice is found in its row", () => {
  const rows = [0, 1, 2, 3, 4].map((i) => small.rows.indexOf(rowOf(small, i)));
  assert.deepEqual(rows, [0, 0, 0, 1, 2]);
});

test("a row without slices holds no slice", () => {
  const timeline = timelineOf([{ rows: [[], [[0, 1, "a"]], [], [[2, 1, "b"]]] }]);
  assert.deepEqual(
    [0, 1].map((i) => rowOf(timeline, i).depth),
    [1, 3],
  );
});

test("partners share a correlation; 0 is none", () => {
  const timeline = timelineOf([
    {
      rows: [
        [
          [0, 1, "launch", "framework_op", 7],
          [2, 1, "launch", "framework_op", 0],
        ],
      ],
    },
    {
      rows: [
        [
          [5, 1, "k", "kernel", 7],
          [6, 1, "k", "kernel", 0],
          [7, 1, "k", "kernel", 7],
        ],
      ],
    },
  ]);
  assert.deepEqual(partnersOf(timeline, 0), [2, 4]);
  assert.deepEqual(partnersOf(timeline, 4), [0, 2]);
  assert.deepEqual(partnersOf(timeline, 1), []);
});

test("slices of a name come in order of start over all streams", () => {
  const timeline = timelineOf([
    {
      rows: [
        [
          [20, 1, "a"],
          [40, 1, "b"],
        ],
      ],
    },
    {
      rows: [
        [
          [10, 1, "a"],
          [30, 1, "a"],
        ],
      ],
    },
  ]);
  timeline.work = workOf(timeline);
  assert.deepEqual(
    slicesOfName(timeline, timeline.names.indexOf("a")).map((i) => timeline.start[i]),
    [10, 20, 30],
  );
});

test("what no device is busy with is found too", () => {
  const timeline = timelineOf([
    {
      rows: [
        [
          [0, 5, "a"],
          [5, 5, "wait", "unestimated"],
          [10, 5, "wait", "unestimated"],
        ],
      ],
    },
  ]);
  timeline.work = workOf(timeline);
  assert.deepEqual(slicesOfName(timeline, timeline.names.indexOf("wait")), [1]);
  assert.deepEqual(slicesOfName(timeline, 99), []);
});
