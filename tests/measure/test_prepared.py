"""Sets of inputs and the calls made with them, with NumPy for a framework."""

from __future__ import annotations

import numpy as np
import pytest
from support.numpy_framework import NumpyFramework, right

from fuseproof.cases import Case
from fuseproof.frameworks import WrongResultError
from fuseproof.frameworks.calling import Signature
from fuseproof.implementations import Implementation
from fuseproof.measure import prepared as prepared_module
from fuseproof.measure.prepared import Inputs, Prepared

WARM = Case.from_group("layer_norm[7x13-float32-forward]")
COLD = Case.from_group("layer_norm[7x13-float32-forward-cold]")
ONE_SET = WARM.workload.minimum_bytes("forward", "float32")


@pytest.fixture
def framework():
    return NumpyFramework()


def inputs_of(framework, case=WARM, sets=1):
    return Inputs(framework, case, 3, (sets - 1) * ONE_SET // 2)


def prepare(framework, inputs, function=right, **fields):
    implementation = Implementation("layer_norm", "mine", framework="torch", target="m:f", **fields)
    step = framework.step(function, Signature.of(WARM.workload), "forward", None)
    return Prepared.bind(implementation, step, inputs, lambda tensor: tensor.reshape(-1)[:2])


@pytest.mark.parametrize(("case", "sets"), [(WARM, 1), (COLD, 5), (COLD, 2)])
def test_there_is_one_set_or_more_than_the_cache_holds(framework, case, sets):
    inputs = inputs_of(framework, case, sets)
    assert inputs.count == len(inputs.of_layout("bhsd")) == sets
    assert len({id(given["x"]) for given, _ in inputs.of_layout("bhsd")}) == sets


def test_too_many_sets_are_refused(framework, monkeypatch):
    monkeypatch.setattr(prepared_module, "MAX_INPUT_SETS", 4)
    inputs_of(framework, COLD, 4)
    with pytest.raises(NotImplementedError, match=r"would need 5 sets of inputs .* choose a larger shape"):
        inputs_of(framework, COLD, 5)


def test_sets_differ_and_are_made_once_for_a_layout(framework):
    inputs = inputs_of(framework, COLD, 3)
    sets = inputs.of_layout("bhsd")
    assert inputs.of_layout("bhsd") is sets
    assert len({given["x"].tobytes() for given, _ in sets}) == 3
    assert inputs.of_layout("bshd")[0][0]["x"] is not sets[0][0]["x"]


def test_all_implementations_go_on_where_the_last_one_stopped(framework):
    inputs = inputs_of(framework, COLD, 3)
    one, other = prepare(framework, inputs), prepare(framework, inputs)
    used = [call for each, count in ((one, 2), (other, 2), (one, 3)) for call in each.next(count)]
    for call in used:
        call()
    order = [id(given["x"]) for given in framework.called]
    assert order[:3] == order[3:6] and len(set(order)) == 3


def test_upcoming_says_which_set_a_later_call_has(framework):
    inputs = inputs_of(framework, COLD, 3)
    prepared = prepare(framework, inputs)
    for steps in (1, 2, 3, 7):
        expected = inputs.of_layout("bhsd")[inputs.upcoming(steps)][0]
        for call in prepared.next(steps):
            call()
        assert framework.called[-1] is expected


@pytest.mark.parametrize("replaces", [False, True])
def test_a_refill_says_whether_it_took_new_tensors(framework, replaces):
    framework.replaces = replaces
    inputs = inputs_of(framework, COLD, 2)
    prepared = prepare(framework, inputs)
    assert inputs.refill(1, 77, "bhsd") is replaces
    if replaces:
        prepared.bind_again(1)
    prepared.calls[1]()
    prepared.calls[0]()
    wanted = inputs.values.arrays(77)[0]["x"]
    assert [np.array_equal(given["x"], wanted) for given in framework.called] == [True, False]


def test_what_a_call_changed_is_named_unless_it_consumes_it(framework):
    inputs = inputs_of(framework)
    given = inputs.new(5, "bhsd")
    plain = Implementation("layer_norm", "mine", framework="torch", target="m:f")
    inputs.refuse_changed(given, 5, plain)
    given[0]["weight"][3] += 1
    with pytest.raises(WrongResultError, match="the input 'weight' was changed by the call"):
        inputs.refuse_changed(given, 5, plain)
    consuming = Implementation("layer_norm", "mine", framework="torch", target="m:f", consumes=("weight",))
    inputs.refuse_changed(given, 5, consuming)


def test_a_changed_cotangent_is_seen(framework):
    inputs = inputs_of(framework, Case.from_group("layer_norm[7x13-float32-forward_backward]"))
    given, cotangents = inputs.new(5, "bhsd")
    cotangents["output"][0, 0] += 1
    plain = Implementation("layer_norm", "mine", framework="torch", target="m:f")
    with pytest.raises(WrongResultError, match="the input 'cotangent' was changed"):
        inputs.refuse_changed((given, cotangents), 5, plain)


@pytest.mark.parametrize(("case", "sets", "copies"), [(WARM, 1, False), (COLD, 2, True)])
def test_a_kept_result_is_copied_where_later_calls_have_other_inputs(framework, case, sets, copies):
    prepared = prepare(framework, inputs_of(framework, case, sets))
    raw = prepared.first(1)()
    output = prepared.kept(raw)["output"]
    assert (output is not raw) is copies
    assert np.array_equal(output, raw)


def test_a_kept_result_of_cuda_graphs_is_copied_too(framework):
    """Its memory is the graph's, which later calls write."""
    prepared = prepare(framework, inputs_of(framework), compiled="reduce-overhead")
    raw = prepared.first(1)()
    assert prepared.kept(raw)["output"] is not raw


def test_what_is_no_plain_tensor_is_kept_to_be_refused(framework):
    prepared = prepare(framework, inputs_of(framework, COLD, 2))
    odd = np.zeros((7, 13), np.float32).view(np.matrix)
    assert prepared.kept(odd)["output"] is odd


def test_a_batch_may_wait_for_as_many_copies_as_the_memory_allows(framework, monkeypatch):
    inputs = inputs_of(framework)
    assert prepare(framework, inputs).most_at_once is None
    consuming = prepare(framework, inputs, consumes=("x", "weight"))
    one = 4 * (7 * 13 + 13)
    for room, most in ((10 * one, 10), (one, 1), (1, 1)):
        monkeypatch.setattr(prepared_module, "_MAX_COPIES_BYTES", room)
        assert consuming.most_at_once == most
