"""A suite through pytest-benchmark: `pytest tests/bench --benchmark-json out.json`.

Its options: --fuseproof-suite, --fuseproof-only, --fuseproof-blocks (see `pytest --help`).
"""

from collections.abc import Callable


def test_suite(fuseproof_benchmark: Callable[[], None]) -> None:
    fuseproof_benchmark()
