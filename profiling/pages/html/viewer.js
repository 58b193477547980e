/* Opens the page: timelines are unpacked, drawn, and then described in tables. */

import { App } from "./app.js";
import { byId } from "./dom.js";
import { useTimeUnit } from "./times.js";
import { unpack } from "./unpack.js";
import { byName, measured } from "./work.js";

async function open() {
  const root = document.documentElement;
  const asked = new URLSearchParams(location.search).get("theme");
  if (asked === "light" || asked === "dark") root.dataset.theme = asked;
  const blocks = [...document.querySelectorAll("script.timeline")];
  const settings = JSON.parse(byId("settings").textContent);
  useTimeUnit(settings.unit);
  const timelines = await Promise.all(blocks.map((block) => unpack(block.textContent)));
  for (const block of blocks) block.remove(); // megabytes of text that nothing needs any more
  performance.mark("fuseproof-decoded");
  const app = new App(timelines, settings);
  app.render();
  performance.mark("fuseproof-interactive");
  root.classList.add("ready");
  // After the first frame is on the screen.
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  app.finish();
  performance.mark("fuseproof-complete");
  return app;
}

// For tests and for tools/viewer_speed.py, which drive the page from outside.
globalThis.fuseproof = { ready: open(), measured, byName };
globalThis.fuseproof.ready.catch((error) => {
  const line = byId("problem");
  const needs = "It needs a browser of 2023 or newer (DecompressionStream).";
  line.textContent = `This page could not be shown: ${error.message}. ${needs}`;
  line.hidden = false;
  console.error(error);
});
