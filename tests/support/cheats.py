"""Dishonest implementations as tests and the documentation read them: rows, reasons, batches, and their run.

A file of tests/cheats is a kind. It imports its framework, so its table is read here without importing it.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

FOLDER = Path(__file__).parents[1] / "cheats"
# Folder by framework: what its rows are called, and the baseline they are compared with.
FRAMEWORKS = {"torch": "torch", "jax": "jax", "tensorflow": "tf"}
# Of each kind so many rows are always run: two processes for each take seconds.
USUAL = 2
USUAL_HONEST = 5
EVERYTHING = "FUSEPROOF_ALL_CHEATS"
_ROWS_OF_A_RUN = 12

FORWARD = "layer_norm[512x768-float32-forward]"
GRADIENTS = "layer_norm[512x768-float32-forward_backward]"
PRODUCT = "matmul[192x256x128-float32-forward]"
ATTENTION = "attention[b1_h4_s128_d64-float32-forward]"
# Kinds that reach beyond their own process run apart: a failure of the defence is not blamed on others.
_APART = ("at_import", "files", "neighbours", "shared_memory")


@dataclass(frozen=True, kw_only=True)
class Cheat:
    """One dishonest row.

    reason: a regular expression that its failure's message must match; None if it may be measured, because
        it gains nothing: then its neighbours must not lose.
    usual: whether it is run without being asked for.
    """

    file: Path
    function: str
    reason: str | None
    usual: bool

    @property
    def framework(self) -> str:
        return "torch" if self.file.parent.name == "cuda" else self.file.parent.name

    @property
    def kind(self) -> str:
        return self.file.stem

    @property
    def name(self) -> str:
        return f"{FRAMEWORKS[self.framework]}.{self.kind}_{self.function}"

    @property
    def case(self) -> str:
        if self.kind == "products":
            return PRODUCT if self.function.startswith("matmul") else ATTENTION
        return GRADIENTS if "gradients" in f"{self.kind}_{self.function}" else FORWARD


def cheats_in(folder: Path) -> Iterator[Cheat]:
    """The rows of the kinds in a folder, in their order."""
    for file in sorted(folder.glob("*.py")):
        for index, (function, reason) in enumerate(_constants(file)["EXPECT"].items()):
            yield Cheat(file=file, function=function, reason=reason, usual=index < USUAL)


def all_cheats() -> list[Cheat]:
    """Every row for the CPU."""
    return [cheat for framework in FRAMEWORKS for cheat in cheats_in(FOLDER / framework)]


def honest_rows(framework: str, *, everything: bool) -> list[str]:
    """The names of the honest rows of a framework: the first of them, or all."""
    names = [f"{FRAMEWORKS[framework]}.{name}" for name in _constants(honest_file(framework))["ROWS"]]
    return names if everything else names[:USUAL_HONEST]


def honest_file(framework: str) -> Path:
    return FOLDER / "honest" / f"in_{framework}.py"


def batches() -> dict[str, list[Cheat]]:
    """The rows that one run measures together, under the name of the batch."""
    everything = bool(os.environ.get(EVERYTHING))
    groups: dict[str, list[Cheat]] = {}
    for cheat in all_cheats():
        if cheat.usual or everything:
            what = "gradients" if cheat.case == GRADIENTS else cheat.case.partition("[")[0]
            words = [cheat.framework, what, *([cheat.kind] if cheat.kind in _APART else [])]
            groups.setdefault("-".join(words), []).append(cheat)
    return {
        f"{name}-{number}": batch
        for name, cheats in groups.items()
        for number, batch in enumerate(in_runs(cheats), 1)
    }


def in_runs(rows: Sequence[T]) -> list[Sequence[T]]:
    """The rows in the order given, a few for each run: each row keeps a process."""
    return [rows[first : first + _ROWS_OF_A_RUN] for first in range(0, len(rows), _ROWS_OF_A_RUN)]


def measure(
    folder: Path,
    *,
    cases: Iterable[str],
    files: Iterable[Path] = (),
    only: Sequence[str],
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """The run file of `fuseproof run` as a user calls it, in a folder of its own."""
    command = [sys.executable, "-m", "fuseproof", "run", "smoke", "--output", str(folder / "run")]
    command += ["--blocks", "1", "--max-blocks", "1", "--palindromes", "12", "--threads", "1"]
    command += ["--no-profile", "--quiet", "--only", ",".join(only), *more]
    for case in dict.fromkeys(cases):
        command += ["--case", case]
    for file in dict.fromkeys(files):
        command += ["--implementations", f"{file}:IMPLEMENTATIONS"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    file = folder / "run" / "run.json"
    assert file.exists(), f"exit {ended.returncode}: {ended.stderr}"
    run: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return run


def reasons(run: dict[str, Any]) -> dict[str, str]:
    """The message of every implementation that failed."""
    return {
        failure["implementation"]: f"{failure['kind']}: {failure['message']}"
        for failure in run["fuseproof"]["failures"]
    }


def seconds(run: dict[str, Any], implementation: str) -> np.ndarray | None:
    """The samples of an implementation, None if it has no benchmark."""
    for benchmark in run["benchmarks"]:
        if benchmark["params"]["implementation"] == implementation:
            return np.asarray(benchmark["stats"]["data"])
    return None


def _constants(file: Path) -> dict[str, Any]:
    """What the file assigns to names in capitals: plain data, which needs no import."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    tree.body = [
        each
        for each in tree.body
        if isinstance(each, ast.Assign)
        and isinstance(target := each.targets[0], ast.Name)
        and target.id.isupper()
        and target.id != "IMPLEMENTATIONS"
        and not target.id.startswith("_")
    ]
    found: dict[str, Any] = {}
    exec(compile(tree, str(file), "exec"), found)
    return found
