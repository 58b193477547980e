"""Look for what would make measurements on this machine wrong or noisy, and for what is missing."""

from __future__ import annotations

import argparse
import json

from fuseproof.commands import arguments

HELP = "is this machine fit to measure?"
_MARKS = {"ok": "ok  ", "note": "note", "warning": "WARN"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_json(parser)


def run(options: argparse.Namespace) -> int:
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
