"""A gate's result for people: a table for the terminal, Markdown for a GitHub step summary."""

from __future__ import annotations

from fuseproof import escaping
from fuseproof.escaping import markdown, markdown_code
from fuseproof.reports.gate import fingerprints
from fuseproof.reports.gate.result import FAILING, SEVERITY, GateResult, GateRow

PASSES_SHOWN = 10
_WIDEST = max(map(len, SEVERITY))


def render_text(result: GateResult) -> str:
    """Each benchmark with its verdict, what fails first; then what the gate rests on, its verdict last.

    As wide as the terminal: COLUMNS, the terminal's width, or 80. A name is never cut.
    """
    from rich.console import Console  # not needed by --json
    from rich.padding import Padding
    from rich.text import Text

    colours = {"pass": "green", "inconclusive": "yellow"} | dict.fromkeys(FAILING, "red")
    shown, hidden = _shown(result)
    console = Console(highlight=False)
    with console.capture() as capture:
        if shown:
            console.print(_columns("verdict", "slowdown (95 %)", "margin"), style="dim")
        for row in shown:
            console.print(row.name, markup=False, soft_wrap=True)
            columns = _columns(f"{row.verdict:{_WIDEST}}", *_numbers(row))
            coloured = f"[{colours.get(row.verdict, 'default')}]{row.verdict}[/]"
            console.print(columns.replace(row.verdict, coloured, 1).rstrip())
            if row.reason:
                console.print(Padding.indent(Text(row.reason), 4))
        if hidden:
            console.print(f"… and {hidden} more that pass")
        for line in _notes(result):
            console.print(line, markup=False)
        if result.remeasure_command:  # on a separate line, unwrapped, for copying
            console.print("Measure the suspects again with fresh blocks before acting on them:", style="dim")
            console.print(f"  {result.remeasure_command}", markup=False, soft_wrap=True)
        console.print(_headline(result), style=f"bold {colours[result.verdict]}", markup=False)
    return escaping.terminal(capture.get(), colours=True)


def _columns(verdict: str, slowdown: str, margin: str) -> str:
    return f"  {verdict:{_WIDEST}}  {slowdown:26}  {margin:6}"


def render_markdown(result: GateResult) -> str:
    """For a GitHub step summary."""
    shown, hidden = _shown(result)
    lines = [f"### {markdown(_headline(result))}", ""]
    lines += ["| verdict | benchmark | slowdown (95 %) | margin | reason |", "|---|---|---:|---:|---|"]
    for row in shown:
        cells = (row.verdict, markdown_code(row.name), *_numbers(row), markdown(row.reason))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *([f"… and {hidden} more that pass.", ""] if hidden else [])]
    lines += [f"- {markdown(line)}" for line in _notes(result)]
    if result.remeasure_command:
        lines += ["", "Measure the suspects again with fresh blocks before acting on them:", ""]
        lines += [
            f"    {escaping.terminal(escaping.line(result.remeasure_command))}"
        ]  # indented: no text in it can end a block of code
    return "\n".join(lines) + "\n"


def _shown(result: GateResult) -> tuple[list[GateRow], int]:
    """All rows but passes beyond the slowest few, and how many those are."""
    passes = [row for row in result.rows if row.verdict == "pass"]
    others = [row for row in result.rows if row.verdict != "pass"]
    return others + passes[:PASSES_SHOWN], len(passes[PASSES_SHOWN:])


def _numbers(row: GateRow) -> tuple[str, str]:
    if row.slowdown is None or row.ci is None or row.margin is None:
        return "", ""
    low, high = row.ci
    return f"{row.slowdown - 1:+.1%} ({low - 1:+.1%} to {high - 1:+.1%})", f"{row.margin:.1%}"


def _headline(result: GateResult) -> str:
    counts = [(verdict, sum(row.verdict == verdict for row in result.rows)) for verdict in SEVERITY]
    tally = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
    return f"Gate: {result.verdict} ({tally}; {result.head} against {result.base})"


def _notes(result: GateResult) -> list[str]:
    notes = [f"Fingerprint: {fingerprints.in_words(each)}" for each in result.fingerprint_differences]
    notes += result.notes
    if result.null.rows:
        alarms = f": {', '.join(result.null.alarms)}" if result.null.alarms else ""
        count = len(result.null.alarms)
        notes.append(f"Null control, base against base: {count} false alarms in {result.null.rows}{alarms}")
    elif result.canary is None:
        notes.append("Null control: base has too few blocks to be halved (4 are needed)")
    else:
        notes.append("Null control: no benchmark was measured in two rounds by base and by base again")
    if (canary := result.canary) is not None:
        found = f"found of {canary.rows - len(canary.missed)} of {canary.rows} benchmarks"
        missed = f"; not of {', '.join(canary.missed)}" if canary.missed else ""
        notes.append(f"Canary: {canary.injected:.0%} added to base, {found}{missed}")
    return notes
