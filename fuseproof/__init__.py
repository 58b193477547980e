"""Fuseproof: does compiling and fusing make this faster, here, and why?

Importing this package imports no framework.
"""

from importlib.metadata import PackageNotFoundError, version

from fuseproof.implementations import Implementation

try:
    __version__ = version("fuseproof")
except PackageNotFoundError:  # run from a checkout through PYTHONPATH, as on a borrowed GPU machine
    __version__ = "0+checkout"

__all__ = ["Implementation", "__version__"]
