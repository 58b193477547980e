import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { isStatic, moment, ticks, time, useTimeUnit } from "../../../../profiling/pages/html/times.js";

afterEach(() => useTimeUnit("ns"));

test("a time is in the largest unit of which there is one", () => {
  const texts = [0, 1, 999, 1000, 21_730, 566_759_000, 1_078_000_000, 92.4e9].map((ns) => time(ns));
  assert.deepEqual(texts, ["0 ns", "1.00 ns", "999 ns", "1.00 µs", "21.7 µs", "567 ms", "1.08 s", "92.4 s"]);
});

test("a time just below a unit is rounded into it", () => {
  assert.equal(time(999_499), "999 µs");
  assert.equal(time(999_500), "1.00 ms");
});

test("of a static schedule cycles are counted, not nanoseconds", () => {
  assert.equal(isStatic(), false);
  useTimeUnit("cycles");
  assert.equal(isStatic(), true);
  assert.equal(time(400), "400 cycles");
  assert.equal(time(1_500_000), "1.50 Mcycles");
});

test("a moment has the digits that the window can tell apart", () => {
  assert.equal(moment(130_811_510, 1e9), "130.8 ms"); // a pixel is half a millisecond
  assert.equal(moment(130_811_510, 1e6), "130.8115 ms");
  assert.equal(moment(130_811_510, 20), "130.811510 ms"); // no finer than a nanosecond
  assert.equal(moment(-5, 100), "−5 ns");
  assert.equal(moment(0, 100), "0 ns");
});

test("ticks are round, in the window, and no more than asked for", () => {
  const { step, at, texts } = ticks(-250, 1_100, 8);
  assert.equal(step, 200);
  assert.deepEqual(
    at.map((t) => t + 0),
    [-200, 0, 200, 400, 600, 800, 1000],
  );
  assert.deepEqual(texts, ["−0.2 µs", "0", "0.2 µs", "0.4 µs", "0.6 µs", "0.8 µs", "1.0 µs"]);
});

test("the step of ticks is 1, 2 or 5 times a power of ten at every zoom", () => {
  for (let window = 20; window < 1e12; window *= 1.7) {
    const { step, at, texts } = ticks(0, window, 10);
    assert.ok([1, 2, 5].includes(Math.round(step / 10 ** Math.floor(Math.log10(step) + 1e-9))), `${step}`);
    assert.ok(at.length >= 4 && at.length <= 11, `${at.length} ticks in ${window}`);
    assert.equal(new Set(texts).size, texts.length, `texts repeat in ${window}`);
  }
});
