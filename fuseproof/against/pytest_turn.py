"""A plugin of pytest for one turn: it runs only the tests that are asked for, says which failed, and whose
code was imported.

Copied beside the results and loaded from there, as base's Python may have no Fuseproof. A test that fails
after its benchmark has an entry in pytest-benchmark's file like any other.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

_failed: list[str] = []


def _turn() -> Path:
    """The file that says which tests are wanted (`only`, all if empty), and then what happened."""
    return Path(os.environ["FUSEPROOF_TURN"])


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    wanted = set(json.loads(_turn().read_text(encoding="utf-8"))["only"])
    if wanted:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
        items[:] = [item for item in items if item.nodeid in wanted]


def pytest_runtest_logreport(report: Any) -> None:
    if report.failed:
        _failed.append(report.nodeid)


def pytest_sessionfinish() -> None:
    files = [getattr(module, "__file__", None) for module in [*sys.modules.values()]]
    told = {
        "failed": _failed,
        "imported": sorted({str(Path(file).resolve()) for file in files if isinstance(file, str)}),
        "environments": [sys.prefix, sys.base_prefix],
    }
    _turn().write_text(json.dumps(told), encoding="utf-8")
