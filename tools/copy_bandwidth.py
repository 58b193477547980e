"""Measure the copy bandwidth of a GPU, the reference for a kernel that only moves bytes.

    python tools/copy_bandwidth.py [--bytes N …]

It calls `copy_` of one tensor into another, at the sizes of x in the suite `kernels_norms` unless sizes are
given, and prints a JSON object. The calls take turns over pairs of buffers that are together four times the
L2 cache, so that no call finds in it what it reads. A timing is by CUDA events around many calls; the median
of several is printed. A copy of n bytes reads n and writes n: GB/s are 2 n / seconds / 10⁹.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence

from fuseproof import suites
from fuseproof.workloads.operators import DTYPES

TIMINGS = 11
SECONDS = 0.02  # of one timing, at least


def sizes() -> list[int]:
    """Bytes of x of every case of the suite, each size once, from small to large."""
    return sorted(
        {
            DTYPES[case.dtype].itemsize * math.prod(case.workload.input_shapes["x"])
            for case in suites.get("kernels_norms").cases
        }
    )


def pairs_of(size: int, cache: int) -> int:
    """How many pairs of buffers of `size` bytes are together four times the cache, and at least two."""
    return max(2, -(-4 * cache // (2 * size)))


def gigabytes_per_second(size: int, seconds_of: Callable[[int], float]) -> float:
    """The median of TIMINGS timings; `seconds_of(n)` makes n copies of `size` bytes and times them."""
    calls = 1
    while seconds_of(calls) < SECONDS:
        calls *= 2
    return 2e-9 * size * calls / statistics.median(seconds_of(calls) for _ in range(TIMINGS))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 2 for bad input or no GPU."""
    parser = argparse.ArgumentParser(
        prog="python tools/copy_bandwidth.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bytes", type=int, nargs="+", help="sizes of the tensor that is copied")
    options = parser.parse_args(arguments)
    try:
        import torch
    except ImportError:
        print("copy_bandwidth: needs PyTorch; pip install 'fuseproof[gpu]'", file=sys.stderr)
        return 2
    wanted = options.bytes or sizes()
    if min(wanted) < 1:
        print(f"copy_bandwidth: --bytes must be positive, not {min(wanted)}", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("copy_bandwidth: PyTorch sees no CUDA GPU here; run it on a machine with one", file=sys.stderr)
        return 2
    properties = torch.cuda.get_device_properties(0)

    def measure(size: int) -> float:
        pairs = [
            tuple(torch.zeros(size, dtype=torch.uint8, device="cuda") for _ in range(2))
            for _ in range(pairs_of(size, properties.L2_cache_size))
        ]
        upcoming = itertools.cycle(pairs)

        def seconds_of(calls: int) -> float:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(calls):
                source, target = next(upcoming)
                target.copy_(source)
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1000

        return gigabytes_per_second(size, seconds_of)

    measured = [{"bytes": size, "gigabytes_per_second": measure(size)} for size in wanted]
    print(json.dumps({"device": properties.name, "torch": torch.__version__, "copies": measured}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
