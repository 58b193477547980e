"""Legs of a worker: new values, what is timed, and what is looked at afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from support.numpy_framework import GROUP, Cached, batches_of, mutates, right, values, writes_over_x

from fuseproof.cases import Case
from fuseproof.frameworks import Batch, WrongResultError
from fuseproof.implementations import Implementation
from fuseproof.measure import prepared


def test_a_leg_is_warm_up_calls_and_rounds_of_calls(worker, prepare, framework):
    name = prepare(right)
    framework.called.clear()
    worker.arm(name=name, draw=1, rounds=3, calls=4, warm_up=5)
    assert len(framework.called) == 5
    leg = worker.time()
    assert leg == {"wall": [1.0] * 3, "compilations": 0}, "seconds per call; no device time without a device"
    assert len(framework.called) == 5 + 3 * 4


def test_device_time_is_per_call_too(worker, prepare, framework):
    name = prepare(right)
    framework.batch = lambda calls: Batch(
        host=2.0 * len(list(calls)), device=0.5 * 2, last=np.zeros((7, 13), np.float32)
    )
    worker.arm(name=name, draw=1, rounds=1, calls=1, warm_up=0)
    assert worker.time() == {"wall": [2.0], "device": [1.0], "compilations": 0}


def test_nothing_is_timed_that_is_not_armed_nor_inspected_that_is_not_timed(worker, prepare, tmp_path):
    name = prepare(right)
    with pytest.raises(RuntimeError, match="no leg is ready"):
        worker.time()
    worker.arm(name=name, draw=1, rounds=1, calls=1, warm_up=0)
    with pytest.raises(RuntimeError, match="no leg was timed"):
        worker.inspect(file=str(tmp_path / "a"), draws=[], files=[])


def test_compilations_are_counted_while_the_clock_runs_and_only_then(worker, prepare, framework):
    def compiles(number):
        framework.compiled += 1

    framework.on_call = compiles
    name = prepare(right)
    worker.arm(name=name, draw=1, rounds=2, calls=3, warm_up=4)
    assert worker.time()["compilations"] == 2 * 3
    framework.on_call = lambda number: None
    worker.arm(name=name, draw=1, rounds=2, calls=3, warm_up=4)
    assert worker.time()["compilations"] == 0


def test_warm_is_one_set_of_inputs_with_new_values_in_every_leg(worker, prepare, framework):
    name = prepare(right)
    for draw in (1, 2):
        framework.called.clear()
        worker.arm(name=name, draw=draw, rounds=2, calls=3, warm_up=1)
        worker.time()
        assert len({id(inputs["x"]) for inputs in framework.called}) == 1
        for key, array in values(draw).items():
            assert np.array_equal(framework.called[0][key], array)


def test_tensors_that_cannot_be_written_are_replaced_for_every_implementation(worker, prepare, framework):
    framework.replaces = True
    name = prepare(right)
    other = Implementation("layer_norm", "other", framework="torch", target="m:f")
    worker.prepare(implementation=other.to_json())
    worker.arm(name=name, draw=7, rounds=1, calls=1, warm_up=1)
    framework.called.clear()
    worker.arm(name="other", draw=8, rounds=2, calls=1, warm_up=1)
    worker.arm(name=name, draw=9, rounds=2, calls=1, warm_up=1)
    assert [np.array_equal(inputs["x"], values(draw)["x"]) for inputs, draw in
            zip(framework.called, (8, 9), strict=True)] == [True, True]  # fmt: skip


def test_a_leg_of_one_call_has_values_that_no_untimed_call_saw(worker, prepare, framework):
    name = prepare(right)
    seen = []
    framework.on_call = lambda number: seen.append(framework.called[-1]["x"].copy())
    worker.arm(name=name, draw=9, rounds=1, calls=1, warm_up=2)
    worker.time()
    assert [np.array_equal(x, values(9)["x"]) for x in seen] == [False, False, True]


def cold(sets):
    """A cold case and a last-level cache, for so many sets of inputs."""
    one_set = Case.from_group(GROUP).workload.minimum_bytes("forward", "float32")
    return {"group": GROUP[:-1] + "-cold]", "last_level_cache": (sets - 1) * one_set // 2}


def test_cold_rotates_through_more_than_the_cache(worker, prepare, framework):
    name = prepare(right, **cold(5))
    framework.called.clear()
    worker.arm(name=name, draw=1, rounds=1, calls=10, warm_up=0)
    worker.time()
    used = [id(inputs["x"]) for inputs in framework.called]
    assert len(set(used)) == 5, "at least twice the cache, and the set that is read now"
    assert used[:5] == used[5:]
    other = Implementation("layer_norm", "other", framework="torch", target="m:f")
    worker.prepare(implementation=other.to_json())
    framework.called.clear()
    worker.arm(name="other", draw=1, rounds=1, calls=2, warm_up=0)
    worker.time()
    assert id(framework.called[0]["x"]) == used[0], "goes on after the set the last one used"


def test_checks_use_tensors_and_values_that_the_timing_never_sees(worker, prepare, framework, errors):
    name = prepare(right)
    framework.called.clear()
    errors(name, draws=(11, 12))
    checked = list(framework.called)
    assert [np.array_equal(inputs["x"], values(d)["x"]) for inputs, d in zip(checked, (11, 12), strict=True)]
    framework.called.clear()
    worker.arm(name=name, draw=13, rounds=1, calls=2, warm_up=1)
    assert id(framework.called[0]["x"]) not in {id(inputs["x"]) for inputs in checked}


def test_the_result_of_a_timed_call_is_handed_over_with_those_of_the_probes(prepare, inspect, framework):
    name = prepare(right)
    for _ in range(20):  # the call whose result is kept is drawn
        kept, probed, probes = inspect(name)
        assert kept == pytest.approx(right(**values(21)), abs=1e-6)
        assert np.allclose(probed, [right(**values(draw)) for draw in (31, 32)], atol=1e-6)
        assert probes == [[1.0, 1.0]] * 2


def test_an_echo_is_the_single_call_again_with_the_values_of_its_probe(prepare, inspect, worker, framework):
    name = prepare(right)
    single, found = framework.single, []

    def noted(call):
        answer = single(call)
        found.append(framework.called[-1]["x"].copy())
        return answer

    framework.single = noted
    inspect(name)
    for x, draw in zip(found, (31, 31, 32, 32), strict=True):
        assert np.array_equal(x, values(draw)["x"])


def test_where_sets_of_inputs_take_turns_there_are_no_echoes(worker, prepare, tmp_path):
    for case, echoes in (({}, 1), (cold(3), 0)):
        name = prepare(right, **case)
        worker.arm(name=name, draw=1, rounds=1, calls=2, warm_up=1)
        worker.time()
        found = worker.inspect(file=str(tmp_path / "a"), draws=[2], files=[str(tmp_path / "b")])
        assert (len(found["probes"]), len(found["echoes"])) == (1, echoes)


def test_the_kept_call_is_drawn_from_all_of_a_leg(worker, prepare):
    name = prepare(right)
    parts = set()
    for _ in range(300):
        worker.arm(name=name, draw=1, rounds=2, calls=3, warm_up=0)
        parts.add(worker._armed.part)
    assert parts == {(index, number) for index in range(2) for number in (1, 2, 3)}


def test_a_round_is_split_after_the_kept_call(worker, prepare, framework):
    name = prepare(right)
    sizes = batches_of(framework)
    worker.arm(name=name, draw=1, rounds=3, calls=4, warm_up=0)
    worker._armed.part = 1, 3
    assert worker.time()["wall"] == [1.0] * 3
    assert sizes == [4, 3, 1, 4]


def test_in_the_cold_regime_the_kept_result_is_that_of_the_set_with_new_values(prepare, inspect):
    name = prepare(right, **cold(4))
    for calls in (1, 3, 4, 9):
        kept, probed, _ = inspect(name, GROUP, rounds=3, calls=calls, warm_up=2)
        assert kept == pytest.approx(right(**values(21)), abs=1e-6)
        assert np.allclose(probed, [right(**values(draw)) for draw in (31, 32)], atol=1e-6)


def test_in_the_cold_regime_a_buffer_that_is_used_again_is_an_honest_result(prepare, inspect):
    """Its result is copied before a later call of the leg, with other inputs, writes over it."""
    buffer = np.empty((7, 13), np.float32)

    def into_one_buffer(x, weight, bias):
        buffer[:] = right(x, weight, bias)
        return buffer

    name = prepare(into_one_buffer, **cold(4))
    for _ in range(10):
        kept, _, _ = inspect(name, GROUP, rounds=2, calls=5)
        assert kept == pytest.approx(right(**values(21)), abs=1e-6)


@pytest.mark.parametrize("case", [{}, cold(3)], ids=["warm", "cold"])
def test_a_result_that_is_kept_for_an_array_is_stale_when_its_values_change(prepare, inspect, case):
    name = prepare(Cached(), **case)
    inspect(name, draw=20, rounds=2, calls=9)
    kept, probed, _ = inspect(name, rounds=2, calls=9)
    assert np.abs(kept - right(**values(21))).max() > 0.1
    assert np.abs(probed[1] - right(**values(32))).max() > 0.1


def test_consumed_inputs_of_a_kept_call_have_the_leg_s_values(prepare, inspect, framework):
    name = prepare(writes_over_x, consumes=("x",))
    for _ in range(10):
        kept, probed, _ = inspect(name)
        assert kept == pytest.approx(right(**values(21)), abs=1e-6)
        assert np.allclose(probed, [right(**values(draw)) for draw in (31, 32)], atol=1e-6)


def test_an_input_that_a_timed_call_changes_is_seen(prepare, inspect, framework):
    calls = []

    def later(x, weight, bias):
        calls.append(1)
        return mutates(x, weight, bias) if len(calls) > 9 else right(x, weight, bias)

    name = prepare(later)
    for _ in range(2):
        calls[:] = [1] * 3
        inspect(name, rounds=1, calls=2, probes=())
    with pytest.raises(WrongResultError, match="the input 'x' was changed by the call"):
        inspect(name, rounds=3, calls=4)


def test_a_timed_result_that_is_no_plain_tensor_is_refused(prepare, inspect):
    class Lazy(np.ndarray):
        pass

    calls = []

    def lazily(x, weight, bias):
        calls.append(1)
        output = right(x, weight, bias)
        return output.view(Lazy) if len(calls) > 3 else output

    with pytest.raises(WrongResultError, match="output is Lazy, not a plain tensor of the framework"):
        inspect(prepare(lazily))


def test_an_output_that_comes_after_the_clock_has_stopped_is_refused(prepare, inspect, framework):
    late = []

    def promises(x, weight, bias):
        output = np.zeros_like(x)
        late.append((output, x, weight, bias))
        return output

    def then_keeps_the_promise(tensor):
        for output, *inputs in late:
            output[:] = right(*inputs)
        return tensor

    to_numpy = framework.to_numpy
    framework.to_numpy = lambda tensor: to_numpy(then_keeps_the_promise(tensor))
    with pytest.raises(WrongResultError, match="not there yet when the clock stopped"):
        inspect(prepare(promises))


def test_rounding_between_the_clock_and_the_look_is_not_late(prepare, inspect, framework):
    outputs = []

    def remembered(x, weight, bias):
        outputs.append(right(x, weight, bias))
        return outputs[-1]

    to_numpy = framework.to_numpy

    def rounds_again(tensor):
        for output in outputs:
            output *= np.float32(1.0001)
        return to_numpy(tensor)

    framework.to_numpy = rounds_again
    inspect(prepare(remembered))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_result_that_is_not_finite_is_handed_over_for_the_referee_to_judge(prepare, inspect, value):
    kept, _, _ = inspect(prepare(lambda x, weight, bias: np.full_like(x, value)))
    assert not np.isfinite(kept).any()


def test_consumed_inputs_are_new_in_every_call(worker, prepare, framework, errors):
    name = prepare(writes_over_x, consumes=("x",))
    assert max(found["output"] for found in errors(name)) < 1e-6
    framework.called.clear()
    worker.arm(name=name, draw=1, rounds=2, calls=3, warm_up=1)
    worker.time()
    worker.peak_memory(name=name)
    given = [inputs["x"] for inputs in framework.called]
    assert len({id(x) for x in given}) == len(given) == 2 * 3 + 1 + 1
    assert len({id(inputs["weight"]) for inputs in framework.called}) == 1, "what is kept is not copied"
    expected = right(**values(1))
    assert all(np.allclose(x, expected, atol=1e-6) for x in given), "no call works on another's result"


def test_copies_take_only_so_much_memory_at_once(worker, prepare, framework, monkeypatch):
    monkeypatch.setattr(prepared, "_MAX_COPIES_BYTES", 2 * 7 * 13 * 4)
    name = prepare(right, consumes=("x",))
    sizes = batches_of(framework)
    worker.arm(name=name, draw=1, rounds=1, calls=5, warm_up=0)
    worker._armed.part = 0, 4
    assert worker.time()["wall"] == [1.0]
    assert sizes == [2, 2, 1]
    framework.batch = lambda calls: Batch(
        host=2.0 * len(calls), device=1.0 * len(calls), last=np.zeros((7, 13), np.float32)
    )
    worker.arm(name=name, draw=1, rounds=1, calls=5, warm_up=0)
    assert worker.time() == {"wall": [2.0], "device": [1.0], "compilations": 0}
