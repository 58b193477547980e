import assert from "node:assert/strict";
import { test } from "node:test";
import {
  count,
  fixed,
  memory,
  percent,
  quantity,
  significant,
} from "../../../../profiling/pages/html/numbers.js";

test("three significant digits, and never an exponent", () => {
  const texts = [0, 1, 12.345, 999.4, 999.6, 1234.5, 1e6, 0.1, 0.00012345, -2.5].map((value) =>
    significant(value),
  );
  assert.deepEqual(texts, [
    "0",
    "1.00",
    "12.3",
    "999",
    "1,000",
    "1,235",
    "1,000,000",
    "0.100",
    "0.000123",
    "−2.50",
  ]);
});

test("a number that rounds up to the next power of ten has no digit too many", () => {
  assert.equal(significant(9.996), "10.0");
  assert.equal(significant(99.96), "100");
});

test("a negative number has a minus sign, not a hyphen", () => {
  assert.equal(fixed(-1234.5, 1), "−1,234.5");
});

test("bytes are counted in powers of 1024", () => {
  assert.deepEqual([0, 16, 1023, 1024, 1536, 2 ** 20, 3.35 * 2 ** 30, 2 ** 40, -2048].map(memory), [
    "0 B",
    "16.0 B",
    "1,023 B",
    "1.00 KiB",
    "1.50 KiB",
    "1.00 MiB",
    "3.35 GiB",
    "1.00 TiB",
    "−2.00 KiB",
  ]);
});

test("a quantity has its unit, if it has one", () => {
  assert.equal(quantity(2048, "bytes"), "2.00 KiB");
  assert.equal(quantity(310, "W"), "310 W");
  assert.equal(quantity(0.5, ""), "0.500");
});

test("a count of one is singular", () => {
  assert.equal(count(1, "kernel"), "1 kernel");
  assert.equal(count(0, "kernel"), "0 kernels");
  assert.equal(count(5165, "kernel"), "5,165 kernels");
});

test("a share is in percent", () => {
  assert.equal(percent(0.526), "52.6 %");
});
