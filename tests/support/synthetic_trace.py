"""A trace of any size that nobody recorded, for tests and for measurements of the page that shows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fuseproof.profiling.timeline.model import KIND, Column, Counter, Lane, Slices, Timeline


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
