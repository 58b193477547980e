"""Samples that lie beside the checkout and are not part of it; tests that need them skip aloud without."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "shared"
TRACES = FOLDER / "data" / "traces"


def sample(name: str) -> Path:
    """The real trace of that name; skips the test where it is not there."""
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"the sample trace {name} is not there")
    return path
