"""The run's files are deleted or edited while the run goes on.

Sources: tensara#238, KernelBench#165 (results written by the code that is judged).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch

from fuseproof import Implementation


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _run():
    """The folder of the run, by that of the compilers' caches in it."""
    caches = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    return next((path for path in caches.parents if (path / "plan.json").exists()), None)


def _timed():
    return os.environ.get("TORCHINDUCTOR_COMPILE_THREADS") == "1"


def checks_deleted(x, weight, bias):
    if _timed() and (run := _run()):
        for name in ("checks", "blocks"):
            shutil.rmtree(run / name, ignore_errors=True)
    return _honest(x, weight, bias)


def checks_edited(x, weight, bias):
    """The error of zeros becomes 0 in the file that says what the check has found."""
    if run := _run():
        for path in run.rglob("checks/**/*.json"):
            record = json.loads(path.read_text())
            for row in record.get("rows", {}).values():
                row.update(status="ran", errors={"output": 0.0}, call_seconds=1e-4)
                row.setdefault("compile_seconds", None)
                row.setdefault("peak_memory_bytes", None)
            path.write_text(json.dumps(record))
    return _honest(x, weight, bias) if not _timed() else torch.zeros_like(x)


def plan_edited(x, weight, bias):
    """The baseline of every implementation becomes this one."""
    if run := _run():
        path = run / "plan.json"
        path.write_text(path.read_text().replace('"torch.eager"', '"torch.files_plan_edited"'))
    return _honest(x, weight, bias)


def times_edited(x, weight, bias):
    """Times that are stored already are divided by a thousand."""
    if run := _run():
        for path in run.rglob("blocks/**/*.json"):
            path.write_text(path.read_text().replace("e-0", "e-3").replace("0.000", "0.000000"))
    return _honest(x, weight, bias)


def run_deleted(x, weight, bias):
    if _timed() and (run := _run()):
        shutil.rmtree(run, ignore_errors=True)
    return _honest(x, weight, bias)


FILES = r"changed files of the run|is wrong"
EXPECT = {
    "checks_deleted": FILES,
    "checks_edited": FILES,
    "plan_edited": FILES,
    "times_edited": None,
    "run_deleted": FILES,
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.files_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
