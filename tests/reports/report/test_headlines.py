"""The first screen: a sentence for each claim and comparison, verdicts beside it, the rest folded."""

import dataclasses
import re

from fuseproof.reports import report
from fuseproof.reports.report import headlines
from fuseproof.runs.records import FIRST_RESULT, Failure

OPERATORS = ("bert", "gpt2", "llama", "vit", "resnet", "t5")
NOISE = {"legs": 6, "rounds": 2, "operators": OPERATORS}
CLAIM = "torch.compile gives 30–60 %"


def models(comparisons, **more):
    inference = comparisons([1.45, 1.4, 1.1, 0.8, 2.0, 1.5], pass_="inference", **NOISE, **more)
    return [*inference, *comparisons([1.45] * 6, pass_="training_step", **NOISE, **more)]


def test_one_sentence_counts_all_passes_and_each_has_its_verdict(a_run, comparisons):
    measured = models(comparisons)
    lost = Failure(
        group=measured[1].group, implementation="torch.compile", kind="error", stage="check", message="zeros"
    )
    run = a_run([b for b in measured if b is not measured[1]], failures=[lost])
    (found,) = headlines.headlines(report.summarise([run]))[CLAIM]
    sentence = found.sentence.replace("\u00a0", " ")
    assert sentence == (
        "On this machine torch.compile made 8 of 12 cases faster than torch.eager by 30–60 %, 1 by more, "
        "1 by less, 1 slower (worst vit 0.800×, best resnet 2.00×); 1 failed."
    )
    assert [each.label for each in found.slices] == ["inference", "training step"]
    assert [len(each.readings) for each in found.slices] == [2, 2]
    assert "zeros" in found.verdicts[0].readings[0].sentence, "the reason is folded, not lost"


def test_counts_of_kernels_and_memory_are_one_sentence_each_without_cases(a_run, a_benchmark):
    measured = [
        a_benchmark(
            name,
            case=f"{operator}[{n}x64-float32-inference]",
            legs=2,
            rounds=1,
            kernels=9 - 6 * side,
            peak_memory_bytes=2**22 * (1 + side),
            device="cpu",
            framework="tensorflow",
            baseline="tf.eager",
        )
        for n, operator in enumerate(OPERATORS)
        for side, name in enumerate(("tf.function", "tf.xla"))
    ]
    found = headlines.headlines(report.summarise([a_run(measured)]))
    (headline,) = found["XLA fuses operations and reduces memory overhead"]
    assert headline.sentence == (
        "On this machine tf.xla launched fewer kernels than tf.function in 6 of 6 cases. "
        "It took less memory at its peak than tf.function in 0 of 6 cases, 6 more memory."
    )
    assert [each.label for each in headline.slices] == [
        "inference, kernels per call",
        "inference, peak memory",
    ]


def test_the_page_folds_what_is_long_and_the_matrix_names_the_extremes(a_run, comparisons):
    page = report.render(report.summarise([a_run(models(comparisons))]), "html").replace("\u00a0", " ")
    verdict = page[page.index('<section id="verdict"') : page.index('<section id="speedups"')]
    folded = re.sub(r"(?s)<details>.*?</details>", "", verdict)
    assert "worst vit[3x64-float32-inference]" in verdict and "[3x64" not in folded
    assert "worst vit 0.80" in folded and folded.count("refuted-low") > 0
    matrix = page[page.index('<section id="claims"') : page.index('<section id="audit"')]
    assert 'title="vit[3x64-float32-inference]"' in matrix and "of all cases like these: " in matrix
    assert "no statement about whole models" not in page and "no statement about other hardware" in page


def test_the_audit_is_a_folded_section_with_what_is_not_known(a_run, comparisons):
    summary = report.summarise([a_run(models(comparisons))])
    page = report.render(summary, "html")
    section = page[page.index('<section id="audit"') : page.index('<section id="method"')]
    assert section.count("<dt>") == 8 and "<details>" in section and "the run holds no errors" in section
    answers = [check.answer for check in summary.runs[0].audit]
    assert f"{answers.count('not known')} not known" in section
    markdown = report.render(summary, "md")
    assert "## Is the comparison fair?" in markdown
    assert markdown.count("**not known**") == answers.count("not known")
    assert '"audit"' in report.render(summary, "json")


def test_times_to_a_first_result_stand_apart_from_calls_on_the_page(a_run, comparisons):
    calls = comparisons([1.2] * 6, pair=("tf.eager", "torch.eager"), blocks=3, **NOISE)
    firsts = [
        dataclasses.replace(
            b, name=f"{b.name} first", metric=FIRST_RESULT,
            seconds=b.seconds[:5] * 0 + (9.0 if b.implementation == "tf.eager" else 4.0),
            block=b.block[:5] * 0 + range(5), leg=b.leg[:5] * 0,
        )
        for b in calls
    ]  # fmt: skip
    summary = report.summarise([a_run([*calls, *firsts])])
    assert summary.runs[0].blocks == 3, "a round of processes is no block of calls"
    text = report.render(summary, "md").replace("\u00a0", " ").replace("\\", "")
    assert "torch.eager came to its first result 2.25× as fast as tf.eager" in text
    assert "time to the first result" in text and "wall time" in text
    assert all(" first)" not in check.basis for check in summary.runs[0].audit)
