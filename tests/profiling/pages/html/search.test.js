import assert from "node:assert/strict";
import { test } from "node:test";
import { firstHit, hitAt, matcher, searchIn } from "../../../../profiling/pages/html/search.js";
import { timelineOf } from "./timelines.js";

test("part of a name in any case", () => {
  const matches = matcher("GeMM");
  assert.deepEqual(["sm90_gemm_bf16", "GEMM", "gem m"].map(matches), [true, true, false]);
  assert.equal(matcher("a.b")("axb"), false); // a dot is a dot
});

test("a regular expression between slashes", () => {
  const matches = matcher("/_(1|2)_fused$/");
  assert.deepEqual(["k_1_FUSED", "k_2_fused", "k_3_fused", "k_1_fused_2"].map(matches), [
    true,
    true,
    false,
    false,
  ]);
  assert.equal(matcher("/")("a/b"), true); // one slash is a slash
  assert.throws(() => matcher("/(/"), SyntaxError);
});

const timeline = timelineOf([
  {
    rows: [
      [
        [30, 1, "gemm_1"],
        [40, 1, "add"],
        [50, 1, "gemm_2"],
      ],
    ],
  },
  {
    rows: [
      [
        [10, 1, "add"],
        [35, 1, "gemm_1"],
      ],
    ],
  },
]);

test("hits come in order of start, and each slice knows how many lie before it", () => {
  const { hits, before } = searchIn(timeline, matcher("gemm"));
  assert.deepEqual([...hits], [0, 4, 2]);
  assert.deepEqual([...before], [0, 1, 1, 2, 2, 3]);
  assert.equal(searchIn(timeline, matcher("no such name")).hits.length, 0);
});

test("a hit's number counts through the timelines in turn", () => {
  const hits = [[5, 6], [], [7]];
  assert.deepEqual(
    [0, 1, 2].map((number) => hitAt(hits, number)),
    [
      [0, 5],
      [0, 6],
      [2, 7],
    ],
  );
  assert.throws(() => hitAt(hits, 3), RangeError);
});

test("search begins with the first hit that is preferred, going back with the last", () => {
  const hits = [[5, 6], [], [7, 8]];
  const even = (_, i) => i % 2 === 0;
  assert.equal(firstHit(hits, 1, even), 1);
  assert.equal(firstHit(hits, -1, even), 3);
  assert.equal(
    firstHit(hits, 1, (k) => k === 2),
    2,
  );
  const none = () => false;
  assert.deepEqual(
    [1, -1].map((step) => firstHit(hits, step, none)),
    [0, 3],
  );
});
