"""The end of a session: the speedup of every test that measured, and how many did not."""

from __future__ import annotations

from collections import Counter

import pytest

from fuseproof.pytest_plugin.functions import MEASURED
from fuseproof.pytest_plugin.replay import NOT_MEASURED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    measured: list[str] = []
    reasons: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                properties = dict(report.user_properties)
                if MEASURED in properties:
                    measured.append(f"{report.nodeid}: {properties[MEASURED]}")
                if NOT_MEASURED in properties:
                    reasons[properties[NOT_MEASURED]] += 1
    if measured or reasons:
        terminalreporter.section("fuseproof")
        for line in measured:
            terminalreporter.write_line(line)
        for reason, count in reasons.items():
            terminalreporter.write_line(f"{count} {'test' if count == 1 else 'tests'} {reason}", yellow=True)
