"""The baseline audit finds what made published tables unfair, and says what each answer rests on."""

import dataclasses

import numpy as np
import pytest

from fuseproof.reports.claims import audit

IMAGES = "resnet50[batch4-float32-inference]"
SAM = "sam[batch1-float32-training_step]"


@pytest.fixture
def a_table(a_run, a_benchmark):
    """A published table as a run of one sample each: seconds by implementation, and what its author says."""

    def make(case, seconds, baseline, environment=None, **settings):
        rows = [
            a_benchmark(name, case=case, seconds=value, blocks=1, legs=1, rounds=1, baseline=baseline)
            for name, value in seconds.items()
        ]
        run = a_run(rows, fingerprint=None)
        return dataclasses.replace(run, settings=settings, environment=environment or {})

    return make


def answers(run):
    return {check.key: (check.answer, check.basis) for check in audit.audit(run)}


def test_xla_against_unsynchronised_eager_calls_is_caught(a_table):
    """The "4452 %" of sayakpaul/keras-xla-benchmarks: its baseline is `model()`, eager and not waited for."""
    run = a_table(
        IMAGES, {"tf.eager": 45.52e-3, "tf.xla": 1e-3}, "tf.eager",
        synchronised={"tf.eager": False, "tf.xla": False}, batch=4,
    )  # fmt: skip
    found = answers(run)
    assert found["synchronised"] == ("no", "tf.eager, tf.xla: not synchronised, by the settings of the run")
    assert found["mode"][0] == "no" and found["mode"][1].startswith("tf.xla over tf.eager: ")
    assert found["inputs"] == ("yes", "batch 4 by the settings of the run")
    assert found["outputs"][0] == found["warm"][0] == "not known"


def test_float32_against_tf32_is_caught(a_table):
    """SAM, fit, in the table of Keras 3: 1233 ms in float32 against 331 ms, which was TF32."""
    seconds = {"torch.eager": 1.233, "keras.xla": 0.331}
    said = a_table(SAM, seconds, "torch.eager", precision={"torch.eager": "float32", "keras.xla": "tf32"})
    assert answers(said)["precision"] == ("no", f"{SAM}: torch.eager float32, keras.xla tf32")
    flags = {"torch": {"float32_matmul_precision": "highest"}, "tensorflow": {"tensor_float_32": True}}
    seen = a_table(SAM, seconds, "torch.eager", environment={"frameworks": flags})
    assert answers(seen)["precision"] == ("no", "TF32 is on in tensorflow and off in the others")


def test_an_error_that_float32_does_not_have_shows_another_precision(a_run, a_benchmark):
    sides = {"torch.eager": 2e-7, "torch.compile": 4e-4}
    run = a_run([a_benchmark(name, error_relative_rms=error) for name, error in sides.items()])
    answer, basis = answers(run)["precision"]
    assert answer == "no" and "torch.compile has an error of 4.0e-04" in basis


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"batch": {"torch.eager": 32, "torch.compile": 64}}, "inputs"),
        ({"loss": {"torch.eager": "mean", "torch.compile": "sum"}}, "work"),
        ({"threads": {"torch.eager": 1, "torch.compile": 8}}, "threads"),
    ],
)
def test_sides_that_differ_are_caught(a_table, settings, key):
    seconds = {"torch.eager": 2e-3, "torch.compile": 1e-3}
    answer, basis = answers(a_table(IMAGES, seconds, "torch.eager", **settings))[key]
    (values,) = settings.values()
    assert answer == "no" and all(str(value) in basis for value in values.values())


@pytest.mark.parametrize(("late", "answer"), [(0.002, "yes"), (0.5, "no")])
def test_a_second_clock_shows_work_that_nobody_waited_for(a_run, a_benchmark, late, answer):
    run = a_run([a_benchmark("torch.eager"), a_benchmark("torch.compile")])
    seen = {"gap": late, "unexplained": late, "batch": 1e-3, "probe": None}
    evidence = {"g": {"torch.eager": {"0": {**seen, "unexplained": 1e-3}}, "torch.compile": {"0": seen}}}
    found = answers(dataclasses.replace(run, evidence=evidence))["synchronised"]
    assert found[0] == answer and "torch.compile took" in found[1]


def test_compilation_in_the_first_sample_is_seen(a_run, a_benchmark):
    compiled = a_benchmark("torch.compile")
    seconds = np.concatenate([[0.5], compiled.seconds[1:]])
    run = a_run([a_benchmark("torch.eager"), dataclasses.replace(compiled, seconds=seconds)])
    answer, basis = answers(run)["warm"]
    assert answer == "no" and "500.0 times" in basis
    assert answers(a_run([a_benchmark("torch.eager")]))["warm"][0] == "yes"


def test_unchecked_outputs_are_named(a_run, a_benchmark):
    run = a_run(
        [a_benchmark("torch.eager", error_relative_rms=1e-7, error_limit=1e-6), a_benchmark("torch.compile")]
    )
    assert answers(run)["outputs"] == ("no", "not checked: torch.compile")


def test_nothing_is_known_of_a_file_that_says_nothing(a_run):
    assert {check.answer for check in audit.audit(a_run([]))} == {"not known"}


def test_evidence_and_settings_of_the_wrong_form_are_not_believed(a_run, a_benchmark):
    run = dataclasses.replace(
        a_run([a_benchmark("torch.eager")]),
        evidence={"g": 3, "h": {"torch.eager": {"0": {"gap": "x"}, "1": None}}},
        settings={"leg_seconds": "x", "precision": [1]},
        environment={"frameworks": {"torch": 3}},
    )
    assert answers(run)["synchronised"][0] == "not known"
    assert "\x1b" not in audit.render({"a\x1b[2J": audit.audit(run)})
