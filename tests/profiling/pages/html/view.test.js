import assert from "node:assert/strict";
import { test } from "node:test";
import {
  kept,
  panned,
  revealing,
  SHORTEST,
  snapped,
  viewOfSlice,
  wholeView,
  widestWindow,
  zoomed,
} from "../../../../profiling/pages/html/view.js";

const BOUNDS = [0, 1000];
const close = (actual, expected) =>
  assert.ok(Math.abs(actual - expected) < 1e-9, `${actual} is not ${expected}`);

test("what is under the pointer stays under it while zooming", () => {
  let view = { from: 100, to: 500 };
  const share = (200 - view.from) / (view.to - view.from);
  for (const factor of [0.5, 0.3, 1.9, 0.7]) {
    const before = view.to - view.from;
    view = zoomed(view, factor, 200, BOUNDS);
    close((200 - view.from) / (view.to - view.from), share);
    close((view.to - view.from) / before, factor);
  }
});

test("zoom ends at the shortest and at the widest window", () => {
  const [near, far] = [1e-9, 1e9].map((factor) => zoomed({ from: 100, to: 500 }, factor, 200, BOUNDS));
  close(near.to - near.from, SHORTEST);
  close(far.to - far.from, 1300);
  assert.equal(widestWindow([0, 0]), 2 * SHORTEST); // a trace of one instant
});

test("a window stays where a tenth of it shows the trace, as wide as it was", () => {
  assert.deepEqual(kept({ from: 300, to: 400 }, BOUNDS), { from: 300, to: 400 });
  assert.deepEqual(kept({ from: -500, to: -400 }, BOUNDS), { from: -90, to: 10 });
  assert.deepEqual(kept({ from: 5000, to: 5100 }, BOUNDS), { from: 990, to: 1090 });
});

test("panning moves both ends", () => {
  assert.deepEqual(panned({ from: 10, to: 20 }, -3), { from: 7, to: 17 });
});

test("everything has a hundredth of room on each side", () => {
  assert.deepEqual(wholeView(BOUNDS), { from: -10, to: 1010 });
  assert.deepEqual(wholeView([5, 5]), { from: 5 - SHORTEST, to: 5 + SHORTEST });
});

test("a slice shown large takes a sixth of the window, a very short one is not magnified without end", () => {
  assert.deepEqual(viewOfSlice(600, 60), { from: 450, to: 810 });
  assert.deepEqual(viewOfSlice(600, 0), { from: 500, to: 700 });
});

test("a slice that can be seen moves nothing", () => {
  const view = { from: 0, to: 1000 };
  assert.equal(revealing(view, 400, 100, 800), view);
  assert.equal(revealing(view, -50, 60, 800), view); // a part of it can
});

test("a slice too small to see is zoomed to, one out of the window is panned to", () => {
  const view = { from: 0, to: 1000 };
  assert.deepEqual(revealing(view, 400, 2, 800), { from: 340, to: 460 });
  assert.deepEqual(revealing(view, 3000, 100, 800), { from: 2550, to: 3550 });
  const longer = revealing({ from: 0, to: 10 }, 2, 100, 800); // than the window
  assert.deepEqual(longer, { from: -23, to: 127 });
});

test("a point near an edge is at the edge, the nearer of the two", () => {
  assert.deepEqual(
    [100, 103, 104, 150, 197, 205].map((t) => snapped(t, 100, 100, 3)),
    [100, 100, 104, 150, 200, 205],
  );
  assert.equal(snapped(101, 100, 2, 5), 100); // as near to both: the start
});
