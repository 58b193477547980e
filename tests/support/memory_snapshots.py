"""A snapshot as PyTorch's memory history records it."""

FRAME = {"name": "forward", "filename": "/home/me/model.py", "line": 12}
CPP = {"name": "c10::Alloc", "filename": "??", "line": 0}


def entry(action, address, size, moment, frames=(CPP, FRAME)):
    return {
        "action": action,
        "addr": address,
        "size": size,
        "stream": 0,
        "time_us": moment,
        "frames": list(frames),
    }


def snapshot():
    """300 bytes were allocated before the history; at the end 400 are, in 2048 reserved."""
    start = 1_700_000_000_000_000
    return {
        "segments": [
            {
                "device": 0,
                "address": 4096,
                "total_size": 2048,
                "stream": 0,
                "blocks": [
                    {"size": 300, "state": "active_allocated", "frames": []},
                    {"size": 100, "state": "active_allocated", "frames": [FRAME]},
                    {"size": 1648, "state": "inactive", "frames": []},
                ],
            },
            {
                "device": 1,
                "address": 1 << 47,
                "total_size": 512,
                "blocks": [{"size": 512, "state": "active_allocated"}],
            },
        ],
        "device_traces": [
            [
                entry("segment_alloc", 4096, 2048, start),
                entry("alloc", 4396, 100, start + 1),
                entry("alloc", 4496, 1000, start + 2),
                entry("free_requested", 4496, 1000, start + 3),
                entry("free_completed", 4496, 1000, start + 3),
                entry("oom", 0, 1 << 40, start + 4),
                entry("snapshot", 0, 0, start + 5),
            ],
            [],
        ],
    }
