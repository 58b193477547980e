"""A small timeline for the tests of packing and of the page."""

import numpy as np
import pytest
from support.timelines import a_timeline

from fuseproof.profiling.timeline.model import Column


@pytest.fixture(scope="module")
def small():
    """Two kernels that overlap, their launches, an instant copy; the shape of one kernel."""
    return a_timeline(
        [
            (0, 1_000, 500, "gemm", "kernel", 0, 11),
            (0, 1_400, 300, "add", "kernel", 1, 12),
            (0, 5_000_000_000, 0, "copy", "memcpy", 0, -1),
            (1, 100, 50, "launch", "host_call", 0, 11),
            (1, 200, 50, "launch", "host_call", 0, 12),
        ],
        columns={
            "grid": Column(index=np.array([0]), value=np.array([[8, 4, 1]])),
            "registers": Column(index=np.array([0, 1]), value=np.array([168, 0])),
            "flops": Column(index=np.array([0]), value=np.array([1.5e9]), origin="compile-time estimate"),
            "hlo_op": Column(index=np.array([1]), value=np.array([0]), names=True),
        },
        dropped_events=3,
        warnings=("the trace was cut short",),
        notes={"cupti": "22"},
    )
