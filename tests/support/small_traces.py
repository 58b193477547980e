"""A small trace of every kind, with something of everything that its reader looks at."""

from __future__ import annotations

import gzip
import json
import pickle

from support.memory_snapshots import snapshot
from support.xla_schedules import RESULT


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes((value,))


def nested(tag, body):
    return varint(tag << 3 | 2) + varint(len(body)) + body


def number(tag, value):
    return varint(tag << 3) + varint(value % (1 << 64))


def small_xspace():
    """Every kind of plane, with metadata, stats, memory events and both kinds of strings."""
    stats = [
        "hlo_op",
        "correlation_id",
        "kernel_details",
        "flops",
        "allocator_name",
        "bytes_allocated",
        "allocation_bytes",
    ]
    meta = b"".join(
        nested(5, number(1, i) + nested(2, number(1, i) + nested(2, name.encode())))
        for i, name in enumerate(stats, 1)
    )
    for i, name in enumerate(["fusion", "MemcpyH2D", "MemoryAllocation", "MemoryDeallocation", "while"], 1):
        own = nested(5, number(1, 4) + number(4, 10 * i))
        meta += nested(4, number(1, i) + nested(2, number(1, i) + nested(2, name.encode()) + own))

    def event(which, offset, duration, *own):
        return nested(
            4,
            number(1, which) + number(2, offset) + number(3, duration) + b"".join(nested(4, s) for s in own),
        )

    text = number(1, 3) + nested(5, b"regs:8 grid:1,2,3 block:4,5,6 occ_pct:10")
    stream = (
        nested(2, b"Stream #7(Kernel)")
        + number(3, 10**6)
        + b"".join(event(1 + i % 2, i * 5000, 7000, number(1, 2) + number(3, i), text) for i in range(6))
    )
    memory = (
        number(1, 5) + nested(5, b"GPU_0_bfc"),
        number(1, 6) + number(4, 512),
        number(1, 7) + number(4, 256),
    )
    host = (
        nested(2, b"main")
        + event(3, 100, 0, *memory)
        + event(4, 300, 0, *memory)
        + event(5, -5, 9, number(1, 1) + number(7, 1))
    )
    operations = nested(2, b"XLA Ops") + b"".join(event(1, i * 1500, 1700) for i in range(5))
    return (
        nested(
            1,
            nested(2, b"/device:GPU:0")
            + nested(3, stream)
            + meta
            + nested(6, number(1, 4) + b"\x11" + b"\0" * 8),
        )
        + nested(1, nested(2, b"/device:TPU:0") + nested(3, operations) + meta)
        + nested(1, nested(2, b"/host:CPU") + nested(3, host) + meta)
        + nested(2, b"12 events dropped")
        + nested(4, b"worker")
    )


def small_kineto():
    place = {"pid": 0, "tid": 7}
    grid = {
        "grid": [1, 2, 3],
        "block": [32, 1, 1],
        "registers per thread": 8,
        "est. achieved occupancy %": 12,
    }
    memory = {
        "Device Type": 1,
        "Device Id": 0,
        "Addr": 1 << 40,
        "Bytes": 512,
        "Total Allocated": 512,
        "Total Reserved": 2048,
    }
    events = [
        {
            "ph": "X",
            "cat": "kernel",
            "name": "k",
            "ts": 1.25 * i,
            "dur": 2,
            "args": {"device": 0, "correlation": i, **grid},
            **place,
        }
        for i in range(5)
    ]
    events += [
        {
            "ph": "X",
            "cat": "cpu_op",
            "name": "aten::mm",
            "ts": "3.001",
            "dur": 4,
            "args": {"External id": 3},
            **place,
        },
        {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "ts": 5, "args": memory, **place},
        {"ph": "C", "name": "power", "ts": 2, "args": {"W": 300}, **place},
        {"ph": "B", "name": "b", "ts": 2, **place},
        {"ph": "E", "ts": 3, **place},
        {"ph": "M", "name": "thread_name", "args": {"name": "stream 7"}, **place},
    ]
    properties = [{"id": 0, "name": "A GPU"}]
    return json.dumps(
        {"deviceProperties": properties, "traceEvents": events, "baseTimeNanoseconds": 10**18}
    ).encode()


SMALL = {
    "plan": json.dumps(RESULT).encode(),
    "kineto": small_kineto(),
    "gzip": gzip.compress(small_kineto(), mtime=0),
    "xplane": small_xspace(),
    "snapshot": pickle.dumps(snapshot()),
    "old snapshot": pickle.dumps(snapshot(), 2),
    "timeline": json.dumps([[-1, 1, 10, 0], [10**18, 2, 5, 1], [10**18 + 5, 4, -5, 1]]).encode(),
}
