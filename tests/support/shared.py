"""Real traces, and small inputs that once failed, that lie beside the checkout and are not part of it."""

from pathlib import Path

import pytest

_SHARED = Path(__file__).parents[3] / "shared"
FOLDER = _SHARED / "data" / "traces"


def sample(name: str) -> Path:
    """The real trace of that name; skips the test, naming the missing file, without it."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no sample trace {path}: this test reads a real one")
    return path


def case(name: str) -> Path:
    """The folder of files that once failed; skips the test, naming it, without it."""
    path = _SHARED / "cases" / name
    if not path.is_dir():
        pytest.skip(f"no case {path}: this test reads a real one")
    return path
