"""The pytest plugin: a user's own tests measured with care, or checked; suites through pytest-benchmark.

`functions` has the fixture `fuseproof`, for a function of the user; `suite` has `fuseproof_benchmark`, a test
for each case and implementation of a suite; both report through `replay`. `checks` has `fuseproof_check`,
which times nothing. An ordinary run of pytest pays for none of it: what they need is imported when used.
"""

from __future__ import annotations

from fuseproof.pytest_plugin.checks import fuseproof_check
from fuseproof.pytest_plugin.functions import fuseproof
from fuseproof.pytest_plugin.replay import ReplayTimer, _fuseproof_replay, _fuseproof_timer
from fuseproof.pytest_plugin.settings import _fuseproof_markers, pytest_configure
from fuseproof.pytest_plugin.suite import (
    fuseproof_benchmark,
    pytest_addoption,
    pytest_benchmark_compare_machine_info,
    pytest_benchmark_update_machine_info,
    pytest_generate_tests,
    separate_storage,
)
from fuseproof.pytest_plugin.summary import pytest_terminal_summary

__all__ = [
    "ReplayTimer",
    "_fuseproof_markers",
    "_fuseproof_replay",
    "_fuseproof_timer",
    "fuseproof",
    "fuseproof_benchmark",
    "fuseproof_check",
    "pytest_addoption",
    "pytest_benchmark_compare_machine_info",
    "pytest_benchmark_update_machine_info",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_terminal_summary",
    "separate_storage",
]
