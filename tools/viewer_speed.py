"""How fast the page of a timeline is, in headless Chromium: `python tools/viewer_speed.py`.

For each page: time from navigation until it can be used and until its tables stand; while zooming and
panning by wheel, one event each frame, the time between frames and the script's own time in a frame; errors
on the console; requests. Run it by hand, on a quiet machine: it prints the load beside its figures.

    python tools/viewer_speed.py [TRACE | N | PAGE.html ...]

A number is a synthetic trace of that many slices; without arguments 500000 and 1000000.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fuseproof.profiling.pages import timeline_page
from fuseproof.profiling.timeline.model import Timeline

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support import browser as browsers
from support.synthetic_trace import synthetic

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Zoom in, pan there, zoom out, and again half way: one step each animation frame, no hand is faster.
# A step is a wheel event on the plot, so what is measured is the page's own path from event to pixels.
_DRIVE: Final = """
(async () => {
  const plot = document.querySelector(".plot");
  const box = plot.getBoundingClientRect();
  const [clientX, clientY] = [box.left + box.width * 0.45, box.top + 60];
  const where = { clientX, clientY, bubbles: true, cancelable: true };
  const wheel = (deltaY, deltaX = 0) =>
    plot.dispatchEvent(new WheelEvent("wheel", { ...where, deltaX, deltaY }));
  const steps = [];
  for (let i = 0; i < 80; i++) steps.push(() => wheel(-60));
  for (let i = 0; i < 60; i++) steps.push(() => wheel(0, i < 30 ? 40 : -40));
  for (let i = 0; i < 90; i++) steps.push(() => wheel(60));
  for (let i = 0; i < 40; i++) steps.push(() => wheel(-25));
  for (let i = 0; i < 40; i++) steps.push(() => wheel(0, i % 20 < 10 ? 90 : -90));
  const frames = [];
  const work = [];
  const render = app.render.bind(app);
  app.render = () => {
    const began = performance.now();
    render();
    work.push(performance.now() - began);
  };
  let last = 0;
  await new Promise((done) => {
    const frame = (now) => {
      if (last) frames.push(now - last);
      last = now;
      const step = steps.shift();
      if (!step) return done();
      step();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  delete app.render;
  return { frames, work };
})()
"""

_MARKS: Final = (
    "Object.fromEntries(performance.getEntriesByType('mark').map((one) => [one.name, one.startTime]))"
)


def measure(browser: Browser, page_file: Path) -> dict[str, Any]:
    """Figures of one page, in milliseconds."""
    url = page_file.absolute().as_uri()
    with browsers.open_viewer(browser, url, width=1400, height=1000) as (page, log):
        marks = page.evaluate(_MARKS)
        driven = page.evaluate(_DRIVE)
        return {
            "page": page_file.name,
            "megabytes": round(page_file.stat().st_size / 1e6, 2),
            "slices": page.evaluate("app.stages.reduce((n, stage) => n + stage.timeline.count, 0)"),
            "interactive_ms": round(marks["fuseproof-interactive"]),
            "complete_ms": round(marks["fuseproof-complete"]),
            **_spread("frame", driven["frames"]),
            **_spread("script", driven["work"]),
            "console_errors": log.errors,
            "requests": [address for address in log.requests if address != url],
        }


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    return {
        f"{name}_median_ms": round(statistics.median(values), 1),
        f"{name}_p95_ms": round(float(np.quantile(values, 0.95)), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", default=["500000", "1000000"], metavar="TRACE|N|PAGE.html")
    options = parser.parse_args()
    if reason := browsers.why_not():
        print(f"measuring a page {reason}", file=sys.stderr)
        return 2
    with browsers.launched() as browser, tempfile.TemporaryDirectory() as folder:
        for i, one in enumerate(options.pages):
            page = Path(one)
            figures: dict[str, Any] = {}
            if page.suffix != ".html":
                timeline = _timeline(one)
                began = time.perf_counter()
                text = timeline_page.to_html([timeline], title=timeline.name)
                figures["pack_s"] = round(time.perf_counter() - began, 2)
                page = Path(folder) / f"{i}.html"
                page.write_text(text, encoding="utf-8")
                del timeline, text
            load = os.getloadavg()[0]
            figures = {"what": one, **measure(browser, page), **figures, "load_before": round(load, 1)}
            print(json.dumps(figures), flush=True)
    return 0


def _timeline(one: str) -> Timeline:
    if one.isdigit():
        return synthetic(int(one))
    from fuseproof.profiling import readers

    return readers.load(one)


if __name__ == "__main__":
    sys.exit(main())
