"""XPlane protobufs, which JAX's and TensorFlow's profilers write."""

from fuseproof.profiling.readers.xplane.reader import load

__all__ = ["load"]
