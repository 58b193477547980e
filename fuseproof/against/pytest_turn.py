"""A plugin of pytest for one turn: it runs only the tests that are asked for, and says which failed.

Copied beside the results and loaded from there, as base's Python may have no Fuseproof. A test that fails
after its benchmark has an entry in pytest-benchmark's file like any other.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_failed: list[str] = []


def _turn() -> Path:
    """The file that says which tests are wanted (`only`, all if empty), and then which failed."""
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
    _turn().write_text(json.dumps({"failed": _failed}), encoding="utf-8")
