import assert from "node:assert/strict";
import { test } from "node:test";
import { assignFills, fillOf, opaquePixel, RANKS } from "../../../../profiling/pages/html/colours.js";
import { workOf } from "../../../../profiling/pages/html/work.js";
import { timelineOf } from "./timelines.js";

const withWork = (lanes) => {
  const timeline = timelineOf(lanes);
  timeline.work = workOf(timeline);
  return timeline;
};

test("the kernels with the largest totals have a colour each, the same in every timeline", () => {
  const names = Array.from({ length: RANKS + 2 }, (_, i) => `kernel ${i}`);
  const one = withWork([{ rows: [names.map((name, i) => [1000 * i, 10 + i, name])] }]);
  const other = withWork([
    {
      rows: [
        [
          [0, 500, "kernel 0"],
          [600, 1, "kernel 9"],
        ],
      ],
    },
  ]);
  assignFills([one, other]);
  const fill = (timeline, name) => timeline.nameFill[timeline.names.indexOf(name)];
  assert.equal(fill(one, "kernel 0"), 1);
  assert.equal(fill(other, "kernel 0"), 1);
  assert.equal(fill(one, "kernel 9"), 2);
  assert.equal(fill(other, "kernel 9"), 2);
  assert.deepEqual(
    [1, 2].map((i) => fill(one, `kernel ${i}`)),
    [0, 0],
  ); // of the least time: they share one
});

test("a copy has the colour of its kind, however long it takes", () => {
  const timeline = withWork([
    {
      rows: [
        [
          [0, 900, "copy", "memcpy"],
          [900, 1, "k"],
        ],
      ],
    },
  ]);
  const kinds = assignFills([timeline]);
  assert.equal(fillOf(timeline, 0), RANKS + 3 + kinds.indexOf("memcpy"));
  assert.equal(fillOf(timeline, 1), 1);
});

test("a pixel is packed as a canvas keeps it", () => {
  const bytes = new Uint8Array(Uint32Array.of(opaquePixel(1, 2, 3)).buffer);
  assert.deepEqual([...bytes], [1, 2, 3, 255]);
});
