"""Is head slower than base? A regression gate for CI that passes, fails, or says that it cannot tell.

A benchmark's value in a block is the median over legs of ln(leg time). A stock pytest-benchmark file is one
block. Where base and head are separate runs nothing is paired between them: the slowdown is exp(mean of
head - mean of base), with Welch's t interval over blocks. Where they were measured in turn, base twice, the
blocks are rounds: it is exp(mean of head - base of the same round), with Student's t interval over rounds.

Where both runs hold its anchor, the baseline of its case with code that has the same hash in both, a value is
the paired ln(leg time / the anchor's leg time) of the same palindromes instead: the machine, which is another
in each run, cancels. What slows both alike is then not seen; an anchor's own change is shown in its row.

Verdicts of a benchmark, the same words in the terminal, JSON, Markdown and JUnit:
regression     the slowdown's lower limit is above the margin, by Holm's correction over benchmarks at a
               one-sided 2.5 %, so that its 95 % interval always clears the margin
missing        in base but not in head: removed, renamed or skipped there; or in a smaller share of head's
               files than of base's, as a failed test has no entry in pytest-benchmark's files
failed         wrong, crashed or hung in head, and not so in base
inconclusive   too noisy, fewer than 2 blocks, measured differently, or not measured as base was stopped.
               Blocks with the same samples are one, and a head with samples of base was not measured. Of
               rounds also where the null control fired or is missing, or where the canary was missed
pass           none of these; a large slowdown (over 10 %, or twice the given margin if that is more) is
               excluded, as the interval's upper limit is below it
accepted       would be regression, missing or failed, and a file of known changes accepts that until a date
anchor         code that did not change, beside which others were measured; reported, never failing
new            in head only; reported, never failing
failed-before  failed in both; reported, never failing

Margin: the given one (2 %), raised per benchmark to its A/A noise. Of separate runs that is the standard
deviation between base's blocks, at most 10 %, or the slowdown on which the benchmark's null control raised an
alarm; in turn, how far base's second mean is from its first, at most 10 %. Head has no part in it, and a
raised margin hides no large slowdown: a large one that is not confirmed leaves the benchmark inconclusive.

Null control: base against base through the same comparison. Of separate runs base's even blocks against its
odd ones; in turn, its second measurement in each round against its first, and then an alarm in either
direction makes the benchmark inconclusive. In turn there is a canary too, 10 % or twice the margin added to
base's second measurement: where it is missed, or where there is no null control, a pass is inconclusive.

The gate says regression if any benchmark is regression, missing or failed; else inconclusive if any is, or
nothing was compared; else pass. Where the fingerprints of a benchmark differ its timing is not believed, in
either direction, and the gate does not pass; missing and failed benchmarks need no clock and fail even then.
What a side does not know of its machine is not equal. Of packages those count that the benchmark's framework
uses.

A confirmed slowdown deserves a second measurement with fresh blocks before anyone acts on it: `suspects`
names the benchmarks and `remeasure_command` is the command; `confirmed` joins both measurements, of which the
second alone counts for a suspect, which is inconclusive if it is not there. Nothing is measured here:
`fuseproof.against` does that.

`judge` compares: `anchors` says what with what, `contrasts` how far they are apart, `controls` whether to
believe that, `fingerprints` what was measured differently, `accepted` what is known. `result` holds what was
found, `text` and `junit` write that for people and CI systems.
"""

from fuseproof.reports.gate.judge import compare, confirmed
from fuseproof.reports.gate.result import EXIT_CODES, SEVERITY, GateResult, GateRow
from fuseproof.reports.gate.text import render_markdown, render_text

__all__ = [
    "EXIT_CODES",
    "SEVERITY",
    "GateResult",
    "GateRow",
    "compare",
    "confirmed",
    "render_markdown",
    "render_text",
]
