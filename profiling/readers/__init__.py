"""Traces of profilers, read into timelines."""

from fuseproof.profiling.readers.detect import find, load, load_all

__all__ = ["find", "load", "load_all"]
