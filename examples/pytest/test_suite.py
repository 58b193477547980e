"""A suite through pytest-benchmark: `pytest examples/pytest/test_suite.py --fuseproof-suite smoke`."""


def test_suite(fuseproof_benchmark):
    fuseproof_benchmark()
