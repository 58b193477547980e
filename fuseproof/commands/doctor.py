"""Look for what would make measurements on this machine wrong or noisy, and for what is missing.

With --self-test, implementations that cheat on purpose are measured instead: is each of them caught here?
Exit code 0; with --self-test 1 if one is not.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from fuseproof.commands import arguments
from fuseproof.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuseproof.measure.self_test import Outcome

HELP = "is this machine fit to measure? Is cheating caught on it?"
_MARKS = {"ok": "ok  ", "note": "note", "warning": "WARN"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_json(parser)
    parser.add_argument(
        "--self-test",
        action="store_true",
        help="measure implementations that cheat on purpose, in about a minute; exit 1 if one is not caught",
    )
    arguments.add_device(parser)


def run(options: argparse.Namespace) -> int:
    if options.self_test:
        return _self_test(options)
    if options.device != "cpu":
        raise UserError("--device goes with --self-test; plain `doctor` looks at all there is")
    from fuseproof.commands.terminal import hanging
    from fuseproof.measure import machine

    findings = machine.examine()
    if options.json:
        print(json.dumps([finding.to_json() for finding in findings], indent=1))
        return 0
    for finding in findings:
        print(hanging(f"{_MARKS[finding.status]}  ", f"{finding.name}: {finding.found}"))
        if finding.remedy:
            print(hanging("      ", finding.remedy))
    return 0


def _self_test(options: argparse.Namespace) -> int:
    """0 if every canary was caught and the honest ones were measured, else 1."""
    from fuseproof.measure import self_test

    framework = self_test.framework_here()
    found = self_test.measure(framework, device=options.device, threads=1)
    passed = all(outcome.expected for outcome in found)
    if options.json:
        document = {
            "framework": framework,
            "device": options.device,
            "passed": passed,
            "canaries": [outcome.to_json() for outcome in found],
        }
        print(json.dumps(document, indent=1))
    else:
        _print(found, f"{framework} on {options.device}")
    return 0 if passed else 1


def _print(found: Sequence[Outcome], where: str) -> None:
    from fuseproof.commands.terminal import hanging

    for outcome in found:
        if outcome.honest:
            mark = "honest  " if outcome.expected else "ACCUSED "
        else:
            mark = "caught  " if outcome.expected else "MISSED  "
        text = f"{outcome.name}: {outcome.does}"
        print(hanging(mark, text + (f". {outcome.reason}" if outcome.reason else "")))
    wrong = [outcome.name for outcome in found if not outcome.expected]
    dishonest = sum(not outcome.honest for outcome in found)
    honest = len(found) - dishonest
    if wrong:
        print(f"{where}: not as it has to be: {', '.join(wrong)}")
    else:
        print(f"{where}: all {dishonest} that cheat were caught, all {honest} honest ones measured")
