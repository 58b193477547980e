"""Real traces that lie beside the checkout and are not part of it."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "traces"


def sample(name: str) -> Path:
    """The real trace of that name; skips the test, naming the missing file, without it."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no sample trace {path}: this test reads a real one")
    return path
