import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { useTimeUnit } from "../../../../profiling/pages/html/times.js";
import {
  busyWithin,
  byName,
  hasUnestimated,
  measured,
  totalsByName,
  unionOf,
  workCount,
  workOf,
} from "../../../../profiling/pages/html/work.js";
import { random, timelineOf } from "./timelines.js";

afterEach(() => useTimeUnit("ns"));

const withWork = (...made) => {
  const timeline = timelineOf(...made);
  timeline.work = workOf(timeline);
  return timeline;
};

/* Two streams of a device that overlap, a lane derived from them, and the host. */
const two = withWork([
  {
    rows: [
      [
        [0, 10, "a"],
        [20, 10, "b"],
        [50, 10, "a"],
      ],
    ],
  },
  {
    rows: [
      [
        [5, 10, "a"],
        [25, 2, "copy", "memcpy"],
      ],
    ],
  },
  { derived: true, rows: [[[0, 100, "step"]]] },
  { rows: [[[0, 100, "aten::a", "framework_op"]]] },
]);

test("work is what ran on devices, in order of start, without what a tool derived", () => {
  const [device] = two.work;
  assert.equal(two.work.length, 1);
  assert.deepEqual(
    [...device.order].map((i) => two.start[i]),
    [0, 5, 20, 25, 50],
  );
  assert.equal(two.standsIn, false);
});

test("overlapping slices are merged into one interval", () => {
  const [{ union }] = two.work;
  assert.deepEqual(
    [[...union.from], [...union.to], [...union.before]],
    [
      [0, 20, 50],
      [15, 30, 60],
      [0, 15, 25, 35],
    ],
  );
});

test("the busy part of any interval is what counting each moment finds", () => {
  const draw = random(4);
  const slices = Array.from({ length: 60 }, () => [draw(1000), draw(30), "k"]).sort((a, b) => a[0] - b[0]);
  const timeline = {
    start: slices.map(([start]) => start),
    duration: slices.map(([, duration]) => duration),
  };
  const union = unionOf(timeline, slices.keys());
  const busy = Array.from({ length: 1100 }, (_, t) =>
    slices.some(([start, d]) => start <= t && t < start + d),
  );
  for (let k = 0; k < 200; k++) {
    const [t0, t1] = [draw(1100), draw(1100)].sort((a, b) => a - b);
    assert.equal(busyWithin(union, t0, t1), busy.slice(t0, t1).filter(Boolean).length);
  }
  assert.equal(busyWithin(union, 500, 500), 0);
  assert.equal(busyWithin(unionOf(timeline, []), 0, 1000), 0);
});

test("framework operators stand in where nothing ran on a device", () => {
  const host = withWork([
    { rows: [[[0, 100, "aten::a", "framework_op"]], [[10, 20, "aten::b", "framework_op"]]] },
  ]);
  assert.equal(host.standsIn, true);
  assert.equal(busyWithin(host.work[0].union, 0, 1000), 100);
  assert.equal(workCount(host, 2), "2 operators");
});

test("per name: slices, total, and union over streams", () => {
  const { busy, rows } = byName(two, 0, Infinity);
  const found = Object.fromEntries(
    rows.map((row) => [two.names[row.name], [row.count, row.total, row.union]]),
  );
  assert.equal(busy, 35);
  assert.deepEqual(found, { a: [3, 30, 25], b: [1, 10, 10], copy: [1, 2, 2] });
});

test("per name within an interval: what is cut by its ends counts in part", () => {
  const { busy, rows } = byName(two, 8, 26);
  const found = Object.fromEntries(
    rows.map((row) => [two.names[row.name], [row.count, row.total, row.union]]),
  );
  assert.equal(busy, 13);
  assert.deepEqual(found, { a: [2, 9, 7], b: [1, 6, 6], copy: [1, 1, 1] });
});

test("a measured interval counts slices of every lane, and of each device those that work", () => {
  assert.deepEqual(measured(two, 12, 25), {
    from: 12,
    to: 25,
    slices: 4,
    devices: [{ name: "GPU 0", slices: 2, busy: 8 }],
  });
  assert.equal(measured(two, 35, 45).slices, 2);
  assert.deepEqual(measured(two, 35, 45).devices, [{ name: "GPU 0", slices: 0, busy: 0 }]);
});

test("an instant is counted where it happens", () => {
  const timeline = withWork([
    {
      rows: [
        [
          [0, 5, "a"],
          [10, 0, "copy", "memcpy"],
          [20, 5, "a"],
        ],
      ],
    },
  ]);
  assert.deepEqual(
    [
      [5, 10],
      [10, 20],
      [5, 20],
    ].map(([a, b]) => measured(timeline, a, b).slices),
    [0, 1, 1],
  );
});

test("each device has its own work", () => {
  const timeline = withWork([{ rows: [[[0, 10, "a"]]] }, { device: 1, rows: [[[5, 10, "a"]]] }]);
  assert.deepEqual(
    timeline.work.map(({ name }) => name),
    ["GPU 0", "GPU 1"],
  );
  const { busy, rows } = byName(timeline, 0, 100);
  assert.deepEqual([busy, rows[0].union, rows[0].count], [20, 20, 2]);
});

test("totals of a name are over all lanes", () => {
  const totals = totalsByName(two);
  assert.deepEqual(totals.get(two.names.indexOf("a")), { count: 3, total: 30 });
  assert.deepEqual(totals.get(two.names.indexOf("step")), { count: 1, total: 100 });
});

test("of a static schedule instructions are counted, and those without an estimate are known", () => {
  useTimeUnit("cycles");
  const schedule = withWork([
    {
      rows: [
        [
          [0, 300, "fusion"],
          [300, 200, "kernel", "unestimated"],
        ],
      ],
    },
    { device: 1, rows: [[[0, 5, "fusion"]]] },
  ]);
  assert.equal(workCount(schedule, 1), "1 instruction with an estimate");
  assert.deepEqual(
    [0, 1].map((device) => hasUnestimated(schedule, device)),
    [true, false],
  );
  assert.equal(schedule.work[0].order.length, 1);
});
