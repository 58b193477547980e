"""pytest in a user's folder, as a process of its own, and what became of its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a test; `message` is why it failed or was skipped."""

    kind: str  # "passed", "failed", "error" or "skipped"
    message: str
    properties: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Session:
    returncode: int
    output: str
    tests: dict[str, Outcome]


def run(folder: Path, *arguments: str | Path) -> Session:
    """Run pytest in `folder`. Its conftest may import what the tests of this project share."""
    junit = folder / "junit.xml"
    junit.unlink(missing_ok=True)
    # These tests may run in a worker of xdist; pytest-benchmark disables itself if it sees that.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    path = [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), str(TESTS)]
    command: Sequence[str | Path] = [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={junit}"),
        *arguments,
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": os.pathsep.join(path)},
    )
    return Session(
        returncode=done.returncode,
        output=done.stdout + done.stderr,
        tests=dict(map(_outcome, ElementTree.parse(junit).iter("testcase"))) if junit.exists() else {},
    )


def _outcome(case: ElementTree.Element) -> tuple[str, Outcome]:
    kinds = {"failure": "failed", "error": "error", "skipped": "skipped"}
    found = [child for child in case if child.tag in kinds]
    return case.attrib["name"], Outcome(
        kind="+".join(kinds[child.tag] for child in found) or "passed",
        message="\n".join(f"{child.attrib.get('message')}\n{child.text}" for child in found),
        properties={each.attrib["name"]: each.attrib["value"] for each in case.iter("property")},
    )
