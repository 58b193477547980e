"""What every page promises: its own scripts run, no other does, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from support.browser import open_page
from support.synthetic_trace import synthetic

from fuseproof import offline_page
from fuseproof.profiling.pages import timeline_page
from fuseproof.reports import report

INJECTED = "<script>document.title = 'injected'</script><img src='https://example.invalid/x.png'>"


def report_page(make_run, comparisons):
    return report.render(report.summarise([make_run(comparisons([1.45] * 5))]), "html")


@pytest.fixture(params=["report", "timeline"])
def text(request, a_run, comparisons):
    if request.param == "report":
        return report_page(a_run, comparisons)
    return timeline_page.to_html([synthetic(50)])


def test_the_policy_names_each_script_by_its_hash(text):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1].replace(
        "&#39;", "'"
    )
    assert policy.startswith("default-src 'none'; ")
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert scripts and policy.endswith("script-src " + " ".join(f"'sha256-{digest}'" for digest in digests))
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_its_scripts_run_and_an_injected_one_does_not(text, browser, tmp_path):
    for injected in (False, True):
        file = tmp_path / "page.html"
        file.write_text(
            text.replace("<main>", f"<main>{INJECTED}" if injected else "<main>"), encoding="utf-8"
        )
        with open_page(browser, file.as_uri()) as (page, log):
            # Both pages show this button only by their script.
            page.locator("#theme").wait_for(state="visible")
            assert page.title() != "injected"
            refused = [error for error in log.errors if "Content Security Policy" in error]
            assert refused == log.errors
            # The script and the image; without them the page gives no cause.
            assert len(refused) == (2 if injected else 0), refused


def test_a_policy_without_scripts_lets_none_run():
    assert offline_page.security_policy().endswith("script-src ")
