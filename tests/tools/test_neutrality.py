"""The neutrality benchmark without a measurement: its pairing, verdicts, calibration and tables."""

import itertools
import json
import types

import neutrality
import numpy as np
import pytest
import user_loops

from fuseproof.implementations import FRAMEWORKS, IMPLEMENTATIONS, Implementation
from fuseproof.measure.neutrality import Difference, alternate, call_overhead, difference


def a_difference(value=0.0, low=0.0, high=0.0, seconds=1e-3):
    return Difference(value=value, low=low, high=high, seconds=seconds)


def a_row(**changes):
    fields = {
        "framework": "torch",
        "operator": "layer_norm",
        "implementation": "torch.eager",
        "pass_": "forward",
        "target": "20 µs",
        "rows": 32,
        "calls": 125,
        "worker": a_difference(0.03, 0.02, 0.04, 20e-6).to_json(),
        "control": a_difference(0.001).to_json(),
    }
    return {**fields, **changes}


def test_every_loop_has_one_leg_in_each_alternation_in_drawn_order():
    order = []

    def loop(name):
        def of(calls):
            order.append((name, calls))
            return 3.0 * calls

        return of

    seconds = alternate({name: loop(name) for name in "abc"}, calls=7, alternations=40, seed=0)
    timed = [name for name, calls in order if calls == 7]
    turns = [tuple(timed[index : index + 3]) for index in range(0, len(timed), 3)]
    assert {tuple(sorted(turn)) for turn in turns} == {("a", "b", "c")}
    assert set(turns) == set(itertools.permutations("abc"))
    assert {name: values.tolist() for name, values in seconds.items()} == dict.fromkeys("abc", [3.0] * 40)
    untimed = order[::2]
    assert all(calls < 7 for _, calls in untimed) and [name for name, _ in untimed] == timed


def test_drift_that_both_loops_share_leaves_their_difference():
    generator = np.random.default_rng(1)
    drift = np.exp(generator.normal(0, 0.5, 301))
    found = difference(1.02 * drift * np.exp(generator.normal(0, 0.002, 301)), drift)
    assert found.low < 0.02 < found.high
    assert found.high - found.low < 0.001


def test_nineteen_of_twenty_intervals_contain_the_true_difference():
    generator = np.random.default_rng(2)
    pairs = np.exp(generator.standard_t(2, (1000, 2, 100)) / 50)  # heavy tails, as on a busy machine
    found = [difference(one, other) for one, other in pairs]
    assert 0.93 < np.mean([each.low <= 0.0 <= each.high for each in found]) < 0.99


@pytest.mark.parametrize(
    ("low", "high", "seconds", "verdict"),
    [
        (-0.004, 0.004, 1e-3, "neutral"),
        (0.001, 0.004, 1e-3, "neutral"),  # shown to differ, by less than matters
        (0.004, 0.006, 1e-3, "unclear"),
        (0.006, 0.008, 1e-3, "slower"),
        (-0.008, -0.006, 1e-3, "faster"),
        (-0.02, 0.02, 1e-3, "unclear"),
        (0.006, 0.008, 20e-6, "neutral"),  # 0.2 µs of 20 are 1 %
        (0.011, 0.012, 20e-6, "slower"),
    ],
)
def test_neutral_is_an_interval_within_half_a_percent_or_a_fifth_of_a_microsecond(
    low, high, seconds, verdict
):
    assert a_difference((low + high) / 2, low, high, seconds).verdict == verdict


def test_a_worker_records_what_its_batch_adds_to_a_call(monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 1.0  # the bare loop reads it at its start and its end
        return now[0]

    monkeypatch.setattr("time.perf_counter", clock)

    def batch(calls):
        count = sum(1 for call in calls if call() is not None)
        return types.SimpleNamespace(host=1.0 + 2e-6 * count)

    framework = types.SimpleNamespace(
        batch=batch, from_numpy=lambda array, dtype: array, synchronize=lambda result: None
    )
    assert call_overhead(framework) == pytest.approx(2e-6)


def test_modes_are_of_the_table_and_cover_every_framework():
    table = {(each.workload, each.name): each for each in IMPLEMENTATIONS}
    assert set(neutrality.MODES) == set(FRAMEWORKS) == set(user_loops.LOOPS)
    for framework, modes in neutrality.MODES.items():
        assert {table[mode].framework for mode in modes} == {framework}
        assert all(table[mode].reason_not_on("cpu") is None for mode in modes)


@pytest.mark.parametrize("operator", sorted(neutrality.SHAPES))
def test_a_user_passes_three_tensors_the_last_as_long_as_a_row_of_the_output(operator):
    shapes = list(neutrality.SHAPES[operator](5).values())
    assert len(shapes) == 3
    assert shapes[0][0] == 5 and len(shapes[2]) == 1


def test_rows_are_found_for_each_target():
    asked = []

    def seconds_of(rows):
        asked.append(rows)
        return 5e-6 + 0.2e-6 * rows + 1e-10 * rows**2

    found = neutrality.rows_for(seconds_of)
    assert list(found) == list(neutrality.TARGETS)
    for target, rows in found.items():
        assert seconds_of(rows) == pytest.approx(neutrality.TARGETS[target], rel=0.25)
    assert len(asked) < 15


def test_targets_below_the_time_of_one_row_share_it():
    assert neutrality.rows_for(lambda rows: 150e-6 + 1e-6 * rows) == {
        "20 µs": 1,
        "1 ms": pytest.approx(850, rel=0.25),
    }
    assert neutrality.rows_for(lambda rows: 5e-3) == {"20 µs": 1}


def counting(kind):
    """A step whose calls say what they got, as the frameworks' own do, and a batch that makes them."""
    made = []

    class Step:
        def bind(self, inputs, cotangent):
            return lambda: made.append((dict(inputs), cotangent))

    def step(function, signature, pass_, compiled, consumes=()):
        assert (signature.tensors, signature.options) == (("x", "weight"), {})
        assert (pass_, compiled) == ("forward", kind)
        return Step()

    def batch(calls):
        for call in calls:
            call()
        return types.SimpleNamespace(host=7.0)

    return made, types.SimpleNamespace(
        step=step, batch=batch, copy=lambda tensor: [*tensor], synchronize=lambda result: None
    )


def an_implementation(**changes):
    return Implementation("layer_norm", "jax.mine", framework="jax", target="math:sqrt", **changes)


def test_a_worker_binds_its_calls_once():
    made, framework = counting(None)
    inputs = {"x": [1], "weight": [2]}
    loop = neutrality.worker_loop(framework, an_implementation(), "forward", inputs, None)
    assert loop(5) == 7.0
    assert made == [(inputs, {})] * 5


def test_each_call_gets_a_new_copy_of_what_it_consumes():
    made, framework = counting("jit")
    inputs = {"x": [1], "weight": [2]}
    implementation = an_implementation(compiled="jit", consumes=("x",))
    neutrality.worker_loop(framework, implementation, "forward", inputs, None)(3)
    assert made == [(inputs, {})] * 3
    assert len({id(got["x"]) for got, _ in made} | {id(inputs["x"])}) == 4
    assert {id(got["weight"]) for got, _ in made} == {id(inputs["weight"])}


def test_a_copy_of_a_function_has_its_own_code_and_the_same_defaults():
    outer = 10

    def function(x, y=2, *, z=3):
        return x + y + z + outer

    copy = user_loops.own_copy(function)
    assert copy(1) == function(1) == 16
    assert copy.__code__ is not function.__code__


def test_markdown_has_the_earlier_figures_beside_the_last_ones(tmp_path, capsys):
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps({"rows": [a_row(worker=a_difference(0.13, 0.12, 0.14).to_json())]}))
    after.write_text(json.dumps({"rows": [a_row(rows=40), a_row(target="1 ms", rows=2000)]}))
    assert neutrality.main(["--show", str(before), str(after)]) == 0
    header, _, first, second = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")][3:6] == [
        "user's call",
        "before",
        "worker's call more by",
    ]
    assert [cell.strip() for cell in first.strip("|").split("|")] == [
        *("torch.eager", "forward", "layer_norm 40x768", "20.0 µs", "+13.00 %", "+0.60 µs"),
        *("+3.00 % [+2.00 %, +4.00 %]", "+0.10 %", "slower"),
    ]
    assert [cell.strip() for cell in second.strip("|").split("|")][4] == ""


@pytest.mark.parametrize(
    ("worker", "code"),
    [
        ((0.0, -0.001, 0.001), 0),
        ((0.02, 0.0, 0.04), 0),
        ((0.02, 0.015, 0.03), 1),
        ((-0.02, -0.03, -0.015), 1),
    ],
)
def test_the_exit_code_is_1_only_for_a_difference_that_is_shown(worker, code, capsys):
    result = {"rows": [a_row(worker=a_difference(*worker).to_json())]}
    assert neutrality.report(result) == code
    assert "1 rows: 1 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--alternations", "3"], "--alternations must be 20 or more, not 3"),
        (["--threads", "100000"], "the usable cores, not 100000"),
        (["--show", "absent.json"], "--show: not results of this program"),
    ],
)
def test_bad_input_is_one_line(arguments, says, capsys):
    assert neutrality.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("neutrality: ") and says in error and error.count("\n") == 1
