"""What only a GPU makes possible, each row in a run of its own. Not run on a GPU yet: docs/gpu-queue.md."""

from __future__ import annotations

import re

import pytest
from support import cheats
from support.gpu_only import needs_cuda

pytestmark = needs_cuda
ROWS = {cheat.name: cheat for cheat in cheats.cheats_in(cheats.FOLDER / "cuda")}


@pytest.mark.parametrize("name", ROWS)
def test_dishonest_rows_on_a_gpu_fail(name, tmp_path):
    cheat = ROWS[name]
    run = cheats.measure(
        tmp_path,
        cases=[cheat.case, cheat.case.replace("]", "-cold]")],
        files=[cheat.file],
        only=[name],
        more=["--device", "cuda"],
    )
    assert name not in {each["params"]["implementation"] for each in run["benchmarks"]}
    assert re.search(cheat.reason, cheats.reasons(run)[name])
