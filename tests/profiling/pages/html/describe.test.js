import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import {
  describeChart,
  describeSlice,
  detailText,
  deviceFacts,
  seriesFacts,
} from "../../../../profiling/pages/html/describe.js";
import { useTimeUnit } from "../../../../profiling/pages/html/times.js";
import { workOf } from "../../../../profiling/pages/html/work.js";
import { timelineOf } from "./timelines.js";

afterEach(() => useTimeUnit("ns"));

test("a kernel's shape that nothing recorded is unknown, not zero; a copy has none", () => {
  const timeline = timelineOf(
    [
      {
        name: "stream 7",
        rows: [
          [
            [1000, 500, "gemm", "kernel", 12],
            [2000, 0, "copy", "memcpy"],
          ],
        ],
      },
    ],
    {
      details: [{}, { grid: [8, 4, 1], registers: 0 }],
      detail: Uint32Array.of(1, 0),
      sparse: [{ name: "flops", names: false, at: Uint32Array.of(0), value: Float64Array.of(1.5e9) }],
    },
  );
  const kernel = describeSlice(timeline, 0, 400);
  assert.deepEqual([kernel.title, kernel.soft], ["gemm", "kernel"]);
  assert.deepEqual(kernel.facts, [
    ["Duration", "500.0 ns"],
    ["Start", "600 ns"],
    ["Lane", "GPU 0 · stream 7"],
    ["Grid", "8 × 4 × 1"],
    ["Registers", "0"],
    ["Flops", "1,500,000,000"],
    ["Block", "unknown"],
    ["Shared memory", "unknown"],
    ["Correlation", "11"],
  ]);
  assert.deepEqual(describeSlice(timeline, 1, 0).facts, [
    ["Duration", "instant"],
    ["Start", "2.000 µs"],
    ["Lane", "GPU 0 · stream 7"],
    ["Correlation", "unknown"],
  ]);
});

test("details are shown as what they are", () => {
  assert.equal(detailText("shared memory", 226 * 1024), "226 KiB");
  assert.equal(detailText("bytes", 16), "16.0 B");
  assert.equal(detailText("External id", 463522), "463522"); // an identifier is not a quantity
  assert.equal(detailText("registers", 1680), "1,680");
  assert.equal(detailText("occupancy", 0.123456), "0.1235");
  assert.equal(detailText("hlo op", "add.1"), "add.1");
  assert.equal(detailText("grid", null), "unknown");
});

const sampled = { name: "power", time: [0, 10, 20], value: [300, Number.NaN, 310], step: false };
const held = { name: "allocated", time: [0, 10], value: [1024, 2048], step: true };

test("a held value holds until the next event, a sampled one is the last sample, a gap is unknown", () => {
  const at = (series, unit) => (t) => seriesFacts({ name: series.name, unit, series: [series] }, t)[0];
  assert.deepEqual([-1, 0, 9, 10, 99].map(at(held, "bytes")), [
    ["allocated", "unknown"],
    ["allocated", "1.00 KiB"],
    ["allocated", "1.00 KiB"],
    ["allocated", "2.00 KiB"],
    ["allocated", "2.00 KiB"],
  ]);
  assert.deepEqual([5, 15, 25].map(at(sampled, "W")), [
    ["power, last sample", "300 W"],
    ["power, last sample", "unknown"],
    ["power, last sample", "310 W"],
  ]);
});

test("a chart's name stands before those of its series, unless it is the same", () => {
  assert.equal(
    seriesFacts({ unit: "bytes", series: [held] }, 0, "torch, GPU 0")[0][0],
    "torch, GPU 0, allocated",
  );
  assert.equal(
    seriesFacts({ unit: "bytes", series: [held] }, 0, "allocated, GPU 0")[0][0],
    "allocated, GPU 0",
  );
});

test("a chart says what it means and when", () => {
  const chart = { name: "power", unit: "W", meaning: "sampled", note: "", series: [sampled] };
  assert.deepEqual(describeChart(chart, 20, 5, 100), {
    title: "power",
    soft: "sampled",
    facts: [
      ["At", "15 ns"],
      ["power, last sample", "310 W"],
    ],
  });
});

const withWork = (lanes, more) => {
  const timeline = timelineOf(lanes, more);
  timeline.work = workOf(timeline);
  return timeline;
};

test("a device is busy for a share of the time from its first kernel to its last, or of the call", () => {
  const timeline = withWork([
    {
      rows: [
        [
          [100, 50, "a"],
          [175, 25, "b"],
          [1000, 100, "a"],
        ],
      ],
    },
  ]);
  assert.deepEqual(deviceFacts(timeline, null), ["GPU 0: 3 kernels, busy 175 ns of 1.00 µs (17.5 %)"]);
  assert.deepEqual(deviceFacts(timeline, [100, 200]), [
    "GPU 0, the call at zero: 2 kernels, busy 75.0 ns of 100 ns (75.0 %)",
  ]);
});

test("of many devices the least and the most busy are named", () => {
  const lanes = [30, 10, 20].map((duration, device) => ({
    device,
    rows: [
      [
        [0, duration, "a"],
        [99, 1, "a"],
      ],
    ],
  }));
  const facts = deviceFacts(withWork(lanes, { devices: ["GPU 0", "GPU 1", "GPU 2"] }), null);
  assert.deepEqual(
    facts.map((one) => one.split(",")[0]),
    ["3 devices", "least busy GPU 1: 2 kernels", "most busy GPU 0: 2 kernels"],
  );
});

test("a static schedule has lengths, not shares; at least that where an instruction has no estimate", () => {
  useTimeUnit("cycles");
  const schedule = withWork([
    {
      rows: [
        [
          [0, 300, "fusion"],
          [300, 200, "kernel", "unestimated"],
          [500, 100, "sum"],
        ],
      ],
    },
  ]);
  assert.deepEqual(deviceFacts(schedule, null), [
    "GPU 0: 2 instructions with an estimate, at least 400 cycles",
  ]);
});
