"""Fuseproof: does compiling and fusing make this faster, here, and why?

Importing this package imports no framework.
"""

from typing import Any

from fuseproof.implementations import Implementation

__all__ = ["Implementation", "__version__"]


def __getattr__(name: str) -> Any:
    if name != "__version__":
        raise AttributeError(f"module 'fuseproof' has no attribute {name!r}")
    # Looking the version up costs more than all else here, and few ask for it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fuseproof")
    except PackageNotFoundError:  # run from a checkout through PYTHONPATH, as on a borrowed GPU machine
        return "0+checkout"
