import assert from "node:assert/strict";
import { test } from "node:test";
import { byStart, gallop, lowerBound } from "../../../../profiling/pages/html/sorted.js";
import { random } from "./timelines.js";

test("the first of at least the limit, whatever lies around it", () => {
  const values = [1, 3, 3, 3, 7];
  assert.deepEqual(
    [0, 1, 2, 3, 4, 7, 8].map((limit) => lowerBound(values, limit)),
    [0, 0, 1, 1, 4, 4, 5],
  );
  assert.equal(lowerBound(values, 3, 2, 4), 2); // only between the two ends
  assert.equal(lowerBound(values, 9, 2, 4), 4);
  assert.equal(lowerBound([], 1), 0);
});

test("galloping finds what bisecting finds", () => {
  const draw = random(1);
  const values = Float64Array.from({ length: 500 }, () => draw(300)).sort();
  for (let k = 0; k < 400; k++) {
    const from = draw(500);
    const limit = values[from] + draw(40);
    assert.equal(gallop(values, limit, from, 500), lowerBound(values, limit, from, 500));
  }
});

test("indices come in order of start, over many digits, and equal starts keep their order", () => {
  const draw = random(2);
  const start = Float64Array.from({ length: 2000 }, (_, i) => (i % 3 ? draw(2 ** 31) * 1000 : 5));
  const order = byStart(Uint32Array.from(start.keys()), start);
  const expected = [...start.keys()].sort((a, b) => start[a] - start[b] || a - b);
  assert.deepEqual([...order], expected);
});

test("nothing to sort is sorted", () => {
  assert.deepEqual([...byStart(new Uint32Array(0), [])], []);
  assert.deepEqual([...byStart(Uint32Array.of(1, 0), [0, 0])], [1, 0]);
});
