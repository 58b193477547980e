import pytest

from fuseproof import pytest_plugin


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    pytest_plugin.separate_storage(config)
