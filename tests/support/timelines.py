"""Small timelines written out by hand, and what of them a page keeps."""

import numpy as np

from fuseproof.profiling.timeline.model import KIND, Lane, Slices, Timeline


def a_timeline(rows, *, name="small", lanes=None, names=None, columns=None, **more):
    """`rows`: (lane, start, duration, name, kind, depth, correlation)."""
    rows = sorted(rows, key=lambda row: (row[0], row[1], -row[2]))
    lane, start, duration, label, kind, depth, correlation = zip(*rows, strict=True)
    names = names or tuple(dict.fromkeys(label))
    return Timeline(
        source="kineto",
        name=name,
        origin_ns=1_700_000_000_000_000_000,
        origin_is_unix=True,
        lanes=lanes
        or (
            Lane(name="stream 7", kind="device", device="GPU 0", depth=2),
            Lane(name="thread 1", kind="host", device="CPU", process="python3 (1)"),
        ),
        slices=Slices(
            lane=np.array(lane, np.int32),
            start_ns=np.array(start, np.int64),
            duration_ns=np.array(duration, np.int64),
            name=np.array([names.index(one) for one in label], np.int32),
            kind=np.array([KIND[one] for one in kind], np.uint8),
            depth=np.array(depth, np.uint16),
            correlation=np.array(correlation, np.int64),
            columns=columns or {},
        ),
        names=tuple(names),
        **more,
    )


def first_event(timeline):
    """Time zero of a page: the first event of any kind."""
    others = [int(one.time_ns[0]) for one in (*timeline.counters, *timeline.memory)]
    return min(*timeline.slices.start_ns.tolist(), *others) if others else timeline.slices.start_ns.min()
