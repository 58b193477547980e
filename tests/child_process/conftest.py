"""Children that are ended when the test is."""

import pytest
from support import children

from fuseproof.child_process import Process


@pytest.fixture
def environment(tmp_path):
    return children.environment(tmp_path / "modules")


@pytest.fixture
def process(environment, tmp_path):
    """A detached process."""
    process = Process("a_child", "argument", environment=environment, log=tmp_path / "log", detached=True)
    yield process
    process.close()
