"""Fuseproof: does compiling and fusing make this faster, here, and why?

Importing this package imports no framework.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuseproof.api.compare import compare
    from fuseproof.api.comparison import Comparison, load
    from fuseproof.api.functions import Variant
    from fuseproof.checking.check import check
    from fuseproof.checking.result import Checked
    from fuseproof.implementations import Implementation, runtime_rows
    from fuseproof.workloads.modules import Module
    from fuseproof.workloads.operators import Operator

__all__ = [
    "Checked",
    "Comparison",
    "Implementation",
    "Module",
    "Operator",
    "Variant",
    "__version__",
    "check",
    "compare",
    "load",
    "runtime_rows",
]

# What is imported when it is first asked for, by its module.
_LAZY = {
    "Checked": "fuseproof.checking.result",
    "Comparison": "fuseproof.api.comparison",
    "Implementation": "fuseproof.implementations",
    "Module": "fuseproof.workloads.modules",
    "Operator": "fuseproof.workloads.operators",
    "Variant": "fuseproof.api.functions",
    "check": "fuseproof.checking.check",
    "compare": "fuseproof.api.compare",
    "load": "fuseproof.api.comparison",
    "runtime_rows": "fuseproof.implementations",
}


# Modules that are imported when they are first asked for.
_LAZY_MODULES = {"strategies"}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LAZY_MODULES})


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _LAZY_MODULES:
        return importlib.import_module(f"fuseproof.{name}")
    if name != "__version__":
        raise AttributeError(f"module 'fuseproof' has no attribute {name!r}")
    # Looking the version up costs more than all else here, and few ask for it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fuseproof")
    except PackageNotFoundError:  # run from a checkout through PYTHONPATH, as on a borrowed GPU machine
        return "0+checkout"
