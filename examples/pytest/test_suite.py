"""A suite through pytest-benchmark: `pytest examples/pytest --fuseproof-suite smoke`."""


def test_suite(fuseproof_benchmark):
    fuseproof_benchmark()
