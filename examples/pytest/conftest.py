"""Keeps what pytest-benchmark saves apart by machine and versions, so that only like is compared."""

import pytest

from fuseproof import pytest_plugin


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    pytest_plugin.separate_storage(config)
