import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { lowerBound } from "../../../../profiling/pages/html/sorted.js";
import { column, unpack } from "../../../../profiling/pages/html/unpack.js";

test("planes: all lowest bytes first", () => {
  const bytes = Uint8Array.of(9, 1, 2, 3, 1, 0, 0);
  const found = column(bytes, { at: 1, planes: 2, count: 3, code: "plain" });
  assert.ok(found instanceof Uint32Array);
  assert.deepEqual([...found], [257, 2, 3]);
});

test("four full bytes are not negative, six are exact", () => {
  const column4 = column(Uint8Array.of(255, 255, 255, 255), { at: 0, planes: 4, count: 1, code: "plain" });
  assert.deepEqual([...column4], [2 ** 32 - 1]);
  const column6 = column(Uint8Array.of(255, 255, 255, 255, 255, 31), {
    at: 0,
    planes: 6,
    count: 1,
    code: "plain",
  });
  assert.deepEqual([...column6], [2 ** 45 - 1]);
});

test("signed numbers are in zigzag, steps are added up", () => {
  const bytes = Uint8Array.of(0, 1, 2, 3, 4);
  const how = { at: 0, planes: 1, count: 5 };
  assert.deepEqual(
    [...column(bytes, { ...how, code: "zigzag" })].map((value) => value + 0),
    [0, -1, 1, -2, 2],
  );
  assert.deepEqual(
    [...column(bytes, { ...how, code: "delta" })].map((value) => value + 0),
    [0, -1, 0, -2, 0],
  );
});

test("a column of nothing is empty", () => {
  assert.equal(column(new Uint8Array(0), { at: 0, planes: 1, count: 0, code: "plain" }).length, 0);
});

/* What Python packed, and what is in it: test_javascript.py beside this folder names the file. */
const SAMPLE = process.env.FUSEPROOF_PACKED_SAMPLE;
const skip = SAMPLE
  ? false
  : "pytest packs the sample: python -m pytest tests/profiling/pages/test_javascript.py";

test("what Python packs is what comes out, slice by slice", { skip }, async () => {
  const { packed, expected } = JSON.parse(readFileSync(SAMPLE, "utf-8"));
  const found = await unpack(packed);
  assert.equal(found.count, expected.start.length);
  assert.deepEqual([...found.start], expected.start);
  assert.deepEqual([...found.duration], expected.duration);
  assert.deepEqual(
    [...found.correlation].map((one) => one - 1),
    expected.correlation,
  );
  assert.deepEqual(
    [...found.name].map((i) => found.names[i]),
    expected.name,
  );
  assert.deepEqual(
    [...found.kind].map((i) => found.kinds[i].name),
    expected.kind,
  );
  const places = found.rows.flatMap(({ lane, depth, from, to }) =>
    Array(to - from).fill([lane.index, depth]),
  );
  assert.deepEqual(places, expected.place);
  for (let i = 0; i <= found.count; i += 97) {
    assert.equal(
      found.busy[i],
      expected.duration.slice(0, i).reduce((sum, one) => sum + one, 0),
    );
  }
});

test("what Python packs is what comes out, properties and charts", { skip }, async () => {
  const { packed, expected } = JSON.parse(readFileSync(SAMPLE, "utf-8"));
  const found = await unpack(packed);
  const details = Array.from({ length: found.count }, (_, i) => {
    const all = { ...found.details[found.detail[i]] };
    for (const { name, names, at, value } of found.sparse) {
      const k = lowerBound(at, i);
      if (at[k] === i) all[name] = names ? found.names[value[k]] : value[k];
    }
    return all;
  });
  assert.deepEqual(details, expected.details);
  const known = (value) => (Number.isNaN(value) ? null : value);
  const charts = found.charts.map(({ name, series }) => [
    name,
    ...series.map(({ time, value }) => [[...time], [...value].map(known)]),
  ]);
  assert.deepEqual(charts, expected.charts);
});
