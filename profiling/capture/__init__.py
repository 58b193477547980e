"""Captures: one implementation of a case under its framework's profiler, and what the profiler recorded."""

from fuseproof.profiling.capture.runner import (
    CaptureError,
    Options,
    capture,
    folder_of,
    kernels_per_call,
    profile_prepared,
    timelines,
)

__all__ = [
    "CaptureError",
    "Options",
    "capture",
    "folder_of",
    "kernels_per_call",
    "profile_prepared",
    "timelines",
]
