"""`fuseproof doctor`: what it looks at, and a remedy for each warning."""

from __future__ import annotations

from support.command_line import longest, strict

from fuseproof.implementations import FRAMEWORKS


def test_doctor_names_a_remedy_for_each_warning(fuseproof, monkeypatch):
    monkeypatch.setattr("fuseproof.measure.machine._LOAD_SECONDS", 0.01)
    code, out, err = fuseproof("doctor", "--json")
    assert (code, err) == (0, "")
    findings = strict(out)
    assert {"C++ compiler", "CPU", "load", "memory", "GPU", *FRAMEWORKS} <= {f["name"] for f in findings}
    for finding in findings:
        assert finding["status"] in ("ok", "note", "warning")
        assert finding["found"]
        assert finding["remedy"] or finding["status"] != "warning"
    code, out, err = fuseproof("doctor")
    assert (code, err) == (0, "")
    assert longest(out) <= 80
    assert all(finding["name"] in out for finding in findings)
