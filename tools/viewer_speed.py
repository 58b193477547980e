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
from typing import Any, Final

import chromium
import numpy as np

from fuseproof.profiling.pages import timeline_page
from fuseproof.profiling.timeline.model import KIND, Column, Counter, Lane, Slices, Timeline

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
  const app = await fuseproof.ready;
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


def synthetic(count: int, *, streams: int = 8, seed: int = 0) -> Timeline:
    """A trace of `count` slices that deflate no better than real ones: host operators, kernels on streams."""
    rng = np.random.default_rng(seed)
    lanes = [
        *(Lane(name=f"stream {7 + i}", kind="device", device="GPU 0") for i in range(streams)),
        *(Lane(name=f"thread {i}", kind="host", device="CPU", process="python3", depth=4) for i in range(2)),
    ]
    kernels = count // 2
    columns: dict[str, list[Any]] = {
        key: [] for key in ("lane", "start", "duration", "name", "kind", "depth")
    }

    def add(lane: int, depth: int, kind: str, start: Any, duration: Any, names: Any) -> None:
        size = len(start)
        values = (
            np.full(size, lane),
            start,
            duration,
            names,
            np.full(size, KIND[kind]),
            np.full(size, depth),
        )
        for key, value in zip(columns, values, strict=True):
            columns[key].append(value)

    for lane in range(streams):
        size = kernels // streams + (lane < kernels % streams)
        duration = rng.lognormal(9.0, 1.2, size).astype(np.int64)
        gap = rng.lognormal(6.5, 1.5, size).astype(np.int64)
        # A model repeats its layers: most names follow a period, as in real traces.
        names = np.where(rng.random(size) < 0.9, np.arange(size) % 37, rng.integers(0, 400, size))
        add(lane, 0, "kernel", np.cumsum(gap + duration) - duration, duration, names)
    rest = count - kernels
    for thread in range(2):
        size = rest // 2 + (thread < rest % 2)
        outer = size // 4
        top = size - 3 * outer
        width = rng.lognormal(10.0, 0.8, top).astype(np.int64) + 100
        start = np.cumsum(width + rng.lognormal(6.0, 1.0, top).astype(np.int64)) - width
        for depth in range(4):
            # Each level lies within the one above.
            some = slice(0, outer if depth else top)
            add(
                streams + thread,
                depth,
                "host_call" if depth == 3 else "framework_op",
                (start + depth * 3)[some],
                np.maximum(width - depth * 6, 1)[some],
                400 + np.arange(top)[some] % 211,
            )
    joined = {key: np.concatenate(values).astype(np.int64) for key, values in columns.items()}
    order = np.lexsort((-joined["duration"], joined["start"], joined["lane"]))
    joined = {key: values[order] for key, values in joined.items()}
    total = len(order)
    on_device = np.flatnonzero(joined["lane"] < streams)
    correlation = np.full(total, -1, np.int64)
    correlation[on_device] = 1000 + rng.permutation(len(on_device)) // 3 * 3
    moments = np.linspace(0, int(joined["start"].max()), 20_000).astype(np.int64)
    return Timeline(
        source="kineto",
        name=f"{count:,} synthetic slices",
        origin_ns=0,
        lanes=tuple(lanes),
        slices=Slices(
            lane=joined["lane"].astype(np.int32),
            start_ns=joined["start"],
            duration_ns=joined["duration"],
            name=joined["name"].astype(np.int32),
            kind=joined["kind"].astype(np.uint8),
            depth=joined["depth"].astype(np.uint16),
            correlation=correlation,
            columns={
                "grid": Column(
                    index=on_device,
                    value=np.stack(
                        [joined["name"][on_device] * 8 + 1, np.ones_like(on_device), np.ones_like(on_device)],
                        1,
                    ),
                ),
                "registers": Column(index=on_device, value=32 + joined["name"][on_device] % 24 * 8),
            },
        ),
        names=tuple(
            f"kernel_{i}_fused_layer_norm_gelu" if i < 400 else f"aten::operator_{i}" for i in range(800)
        ),
        counters=(
            Counter(
                name="allocated",
                unit="bytes",
                device="GPU 0",
                semantics="allocator-at-event",
                time_ns=moments,
                value=np.floor(
                    1e9 * (2 + np.sin(np.arange(20_000) / 300)) + rng.integers(0, 1 << 20, 20_000)
                ),
            ),
        ),
    )


def measure(page_file: Path, *, width: int = 1400, height: int = 1000) -> dict[str, Any]:
    """Figures of one page, in milliseconds."""
    with chromium.open_page(page_file.absolute().as_uri(), width=width, height=height) as page:
        page.wait_for("performance.getEntriesByName('fuseproof-complete').length")
        marks = page.evaluate(_MARKS)
        driven = page.evaluate(_DRIVE)
        return {
            "page": page_file.name,
            "megabytes": round(page_file.stat().st_size / 1e6, 2),
            "slices": page.evaluate(
                "fuseproof.ready.then((app) => app.stages.reduce((n, s) => n + s.timeline.count, 0))"
            ),
            "interactive_ms": round(marks["fuseproof-interactive"]),
            "complete_ms": round(marks["fuseproof-complete"]),
            **_spread("frame", driven["frames"]),
            **_spread("script", driven["work"]),
            "console_errors": page.errors,
            "requests": [url for url in page.requests if url != page_file.absolute().as_uri()],
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
    if chromium.executable() is None:
        print("Chromium not found; install it or put it on the PATH", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
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
            figures = {"what": one, **measure(page), **figures, "load_before": round(load, 1)}
            print(json.dumps(figures), flush=True)
    return 0


def _timeline(one: str) -> Timeline:
    if one.isdigit():
        return synthetic(int(one))
    from fuseproof.profiling import readers

    return readers.load(one)


if __name__ == "__main__":
    sys.exit(main())
