"""The budget of the Triton kernels: what each launch may use on each target, pinned in a file.

The file is `kernels/triton/budget.toml`: a section for each minor version of Triton, target and dtype, and in
it a row for each launch. A launch may use less than its row allows, never more; `fuseproof compile --target …
--update-budget` rewrites the rows.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fuseproof.errors import UserError
from fuseproof.files import write_text

# Beside `profiling`, both in a checkout and in an installed package.
FILE = Path(__file__).resolve().parents[3] / "kernels" / "triton" / "budget.toml"

_HEADER = """\
# What each launch of the Triton kernels may use, by Triton's minor version, target and dtype: registers and
# spilled bytes per thread, bytes of shared memory per block (all at most), resident warps per multiprocessor
# (at least). Written by `fuseproof compile --target sm_80,sm_90,sm_100 --update-budget`.
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one launch may use at most, and how many warps must fit on a multiprocessor at least."""

    registers: int
    spill_bytes: int
    shared_bytes: int
    occupancy_warps: int

    def exceeded_by(self, found: Row) -> list[str]:
        """Each field in which `found` is worse, with both values."""
        worse = [
            f"{name} {value} > {limit}"
            for name, limit in asdict(self).items()
            if name != "occupancy_warps" and (value := getattr(found, name)) > limit
        ]
        if found.occupancy_warps < self.occupancy_warps:
            worse.append(f"occupancy_warps {found.occupancy_warps} < {self.occupancy_warps}")
        return worse


Rows = dict[str, Row]  # by the launch's label
Budget = dict[tuple[str, str, str], Rows]  # by minor version of Triton, target and dtype


def minor(version: str) -> str:
    """`3.7` for `3.7.1+git`: generated code changes between minor versions, hardly between patches."""
    match = re.match(r"\d+\.\d+", version)
    return version if match is None else match.group()


def load(file: Path) -> Budget:
    """The budget in `file`; empty if there is no such file. Raises UserError if it is not a budget."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not TOML: {error}") from None
    budget: Budget = {}
    for version, targets in document.items():
        for target, dtypes in _table(file, version, targets).items():
            for dtype, rows in _table(file, f"{version} {target}", dtypes).items():
                section = f"{version} {target} {dtype}"
                budget[version, target, dtype] = {
                    label: _row(file, f"{section} {label}", row)
                    for label, row in _table(file, section, rows).items()
                }
    return budget


def save(file: Path, budget: Budget) -> None:
    """Write the whole budget, sorted, one line per launch."""
    lines = [_HEADER]
    for (version, target, dtype), rows in sorted(budget.items(), key=lambda item: _order(*item[0])):
        lines.append(f'["{version}".{target}.{dtype}]\n')
        for label, row in sorted(rows.items()):
            values = ", ".join(f"{name} = {value}" for name, value in asdict(row).items())
            lines.append(f"{json.dumps(label)} = {{ {values} }}\n")
        lines.append("\n")
    write_text(file, "".join(lines).rstrip("\n") + "\n")


def _order(version: str, target: str, dtype: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", f"{version} {target}")], dtype


def _table(file: Path, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{file}: {name} is not a table; write the budget anew with --update-budget")
    return value


def _row(file: Path, name: str, value: Any) -> Row:
    names = [field.name for field in fields(Row)]
    if (
        not isinstance(value, dict)
        or sorted(value) != sorted(names)
        or not all(type(number) is int for number in value.values())
    ):
        raise UserError(
            f"{file}: the row {name} must have {', '.join(names)} as whole numbers; "
            "write the budget anew with --update-budget"
        )
    return Row(**value)
