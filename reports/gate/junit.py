"""A gate's result as JUnit XML, which every CI system shows: one test case per benchmark."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from fuseproof.escaping import visible
from fuseproof.files import replacing
from fuseproof.reports.gate import fingerprints
from fuseproof.reports.gate.result import FAILING, GateResult


def write_junit(result: GateResult, path: str | Path) -> None:
    """Write `result` to `path`: regression, missing and failed are failures.

    Inconclusive is an error, a comparison that could not be made, as the exit code is not 0. Differing
    fingerprints add one of their own. Raises UserError if `path` cannot be written.
    """
    suite = ElementTree.Element("testsuite", name="fuseproof gate")
    counts = {"failure": 0, "error": 0}

    def add(name: str, tag: str | None, kind: str, message: str, output: str = "") -> None:
        case = ElementTree.SubElement(
            suite, "testcase", classname="fuseproof.gate", name=visible(name), time="0"
        )
        if tag is not None:
            counts[tag] += 1
            ElementTree.SubElement(case, tag, type=kind, message=visible(message)).text = visible(message)
        if output:
            ElementTree.SubElement(case, "system-out").text = visible(output)

    if result.fingerprint_differences:
        differing = [fingerprints.in_words(each) for each in result.fingerprint_differences]
        message = f"base and head were measured differently; {'; '.join(differing)}"
        add("fingerprint", "error", "fingerprint", message)
    for row in result.rows:
        numbers = (
            "" if row.ci is None else f"slowdown {row.slowdown}, 95 % interval {row.ci[0]} to {row.ci[1]}"
        )
        tag = "failure" if row.verdict in FAILING else "error" if row.verdict == "inconclusive" else None
        add(row.name, tag, row.verdict, row.reason or row.verdict, numbers)
    suite.set("tests", str(len(suite)))
    for attribute, tag in (("failures", "failure"), ("errors", "error")):
        suite.set(attribute, str(counts[tag]))
    suite.set("time", "0")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    with replacing(path) as file:
        ElementTree.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
