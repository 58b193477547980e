"""PyTorch's profiler traces (Kineto): Chrome trace events in JSON."""

from fuseproof.profiling.readers.kineto.reader import load

__all__ = ["load"]
