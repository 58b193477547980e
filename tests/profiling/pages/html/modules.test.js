import assert from "node:assert/strict";
import { test } from "node:test";

test("every import names something that is exported", async () => {
  // The page's entry, viewer.js, begins at once and needs a page; all else hangs on app.js.
  const { App } = await import("../../../../profiling/pages/html/app.js");
  assert.equal(typeof App, "function");
});
