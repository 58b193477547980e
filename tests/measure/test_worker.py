"""What a worker does with implementations, right and wrong: with NumPy for a framework, and a fake clock."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support.numpy_framework import GROUP, SEED, mutates, right, writes_over_x

from fuseproof.child_process import answer
from fuseproof.frameworks import Batch, WrongResultError
from fuseproof.implementations import Implementation
from fuseproof.measure import ceilings
from fuseproof.measure import worker as worker_module
from fuseproof.measure.worker import Server, Worker


def asked(worker, do, **arguments):
    """What the process answers to a request."""
    server = Server(Worker, "torch")
    server.serve(worker)
    return answer(server.handle, {"do": do, **arguments})


def test_inputs_too_small_for_a_cold_cache_are_refused(worker):
    """Making millions of sets would take all memory there is."""
    with pytest.raises(NotImplementedError, match=r"cold cache would need .* choose a larger shape"):
        worker.open_case(group="layer_norm[1x1-float32-forward-cold]", seed=0, last_level_cache=2**25)


def test_a_right_result_has_the_error_of_its_rounding(prepare, errors):
    for found in errors(prepare(right)):
        assert found.keys() == {"output"}
        assert 0 < found["output"] < 1e-6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x, weight, bias: None, "output is NoneType, not a tensor"),
        (lambda x, weight, bias: (x, x), "output is missing and output_0, output_1 is one too many"),
        (lambda x, weight, bias: x.view(np.matrix), "output is matrix, not a plain tensor"),
        (lambda x, weight, bias: x[:1, :1], r"output has shape \(1, 1\) instead of \(7, 13\)"),
        (lambda x, weight, bias: x[:, :-1], r"output has shape \(7, 12\) instead of \(7, 13\)"),
        (lambda x, weight, bias: x.T, r"output has shape \(13, 7\) instead of \(7, 13\)"),
        (lambda x, weight, bias: x.astype(np.float64), "output is float64 instead of float32"),
        (mutates, "the input 'x' was changed"),
    ],
    ids=[
        *("nothing", "two outputs", "a subclass", "one element", "too short", "transposed"),
        *("another dtype", "mutated input"),
    ],
)
def test_what_no_error_expresses_is_refused(prepare, errors, wrong, message):
    with pytest.raises(WrongResultError, match=message):
        errors(prepare(wrong))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda x, weight, bias: np.zeros_like(x), pytest.approx(1)),
        (lambda x, weight, bias: np.full_like(x, np.nan), None),
        (lambda x, weight, bias: np.full_like(x, np.inf), None),
        (lambda x, weight, bias: x, pytest.approx(1, rel=0.5)),
    ],
    ids=["zeros", "NaN", "infinity", "the input itself"],
)
def test_wrong_values_have_large_errors(prepare, errors, wrong, error):
    assert [found["output"] for found in errors(prepare(wrong))] == [error, error]


def test_a_stale_buffer_is_seen(prepare, errors):
    output = []

    def stale(**inputs):
        output.append(right(**inputs))
        return output[0]

    assert min(found["output"] for found in errors(prepare(stale))) > 0.5


def test_gradients_are_checked_with_the_output(prepare, errors):
    group = "matmul[5x3x7-float32-forward_backward]"

    def product(a, b, cotangent):
        return a @ b, {"a": cotangent @ b.T, "b": a.T @ cotangent}

    def forgets_b(a, b, cotangent):
        return a @ b, {"a": cotangent @ b.T, "b": None}

    def has_no_b(a, b, cotangent):
        return a @ b, {"a": cotangent @ b.T}

    for found in errors(prepare(product, group), group):
        assert found.keys() == {"output", "grad_a", "grad_b"}
        assert max(found.values()) < 1e-6
    with pytest.raises(WrongResultError, match="grad_b is NoneType"):
        errors(prepare(forgets_b, group), group)
    with pytest.raises(WrongResultError, match="of the results grad_b is missing"):
        errors(prepare(has_no_b, group), group)


def test_an_implementation_gets_the_layout_it_wants(prepare, errors):
    group = "attention[b2_h4_kv2_s5_k7_d3-float32-forward]"

    def attention(q, k, v, *, causal):
        assert q.shape == (2, 5, 4, 3)  # batch, length, heads, head dim
        assert k.shape == v.shape == (2, 7, 2, 3)
        assert not causal
        k, v = (np.repeat(tensor, 2, axis=2) for tensor in (k, v))
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(np.float32(3))
        p = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("bhqk,bkhd->bqhd", p / p.sum(-1, keepdims=True), v)

    assert max(found["output"] for found in errors(prepare(attention, group, layout="bshd"), group)) < 1e-6


def test_a_setting_that_is_changed_is_found_after_the_leg(worker, prepare, framework):
    name = prepare(right, target="/somewhere/mine.py:f")
    worker.arm(name=name, draw=1, rounds=1, calls=1, warm_up=0)
    worker.time()
    assert worker.compare_state()["compared"] > 5
    framework.settings["threads"] = 4
    with pytest.raises(WrongResultError, match=r"changed the process .*: threads: 1 → 4"):
        worker.compare_state()


def test_a_setting_that_a_single_call_changes_is_found_before_the_next(worker, prepare, framework, tmp_path):
    name = prepare(right, target="/somewhere/mine.py:f")
    worker.arm(name=name, draw=1, rounds=1, calls=1, warm_up=1)
    worker.time()
    framework.on_call = lambda number: framework.settings.update(threads=4)
    files = [str(tmp_path / name) for name in "abc"]
    with pytest.raises(WrongResultError, match="threads: 1 → 4"):
        worker.inspect(file=files[0], draws=[1, 2], files=files[1:])


def test_a_setting_is_compared_with_that_before_the_code_was_loaded(worker, prepare, framework, errors):
    def changes_threads(target):
        framework.settings["threads"] = 4
        return right

    worker.open_case(group=GROUP, seed=SEED, last_level_cache=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_module, "resolve_function", changes_threads)
        mine = Implementation("layer_norm", "mine", framework="torch", target="/somewhere/mine.py:f")
        worker.prepare(implementation=mine.to_json())
    with pytest.raises(WrongResultError, match="threads: 1 → 4"):
        errors("mine")


def test_the_precision_that_the_next_case_needs_is_no_change_of_the_implementation(prepare, errors):
    product = "matmul[5x3x4-{}-forward]"
    for dtype in ("float32", "tf32", "float32"):
        group = product.format(dtype)
        name = prepare(lambda a, b: a @ b, group, target="/somewhere/mine.py:f")
        assert max(found["output"] for found in errors(name, group)) < 1e-6


def test_our_own_implementations_may_set_what_they_like(worker, prepare, framework):
    name = prepare(right, target="fuseproof.fusion.ops.torch:layer_norm")
    framework.settings["threads"] = 4
    worker.arm(name=name, draw=1, rounds=1, calls=1, warm_up=0)
    assert worker.time()["wall"] == [1.0]
    assert worker.compare_state() == {"compared": 0}


def test_what_is_not_consumed_may_not_change(prepare, errors):
    with pytest.raises(WrongResultError, match="the input 'x' was changed"):
        errors(prepare(writes_over_x, consumes=("weight",)))


def test_an_input_that_a_case_lacks_cannot_be_consumed(prepare):
    with pytest.raises(NotImplementedError, match="consumes residual, which are not inputs of this case"):
        prepare(right, consumes=("x", "residual"))


def test_the_next_case_forgets_the_last(worker, prepare):
    name = prepare(right)
    worker.open_case(group=GROUP, seed=0, last_level_cache=1)
    assert "error" in asked(worker, "check", name=name, draws=[], files=[])


def test_the_first_call_is_timed_separately(worker, prepare, monkeypatch):
    prepare(right)
    clock = iter([10.0, 17.5, 20.0, 20.25])
    monkeypatch.setattr(worker_module, "_clock", lambda: next(clock))
    again = Implementation("layer_norm", "again", framework="torch", target="m:f")
    assert worker.prepare(implementation=again.to_json()) == {
        "first_call_seconds": 7.5,
        "call_seconds": 0.25,
    }


def test_ceilings_are_those_of_copies_and_products(worker, framework, monkeypatch):
    """Of the fastest dtype: a kernel may compute in a wider one than its tensors have."""
    monkeypatch.setattr(ceilings, "_LARGEST_COPY", 1 << 18)
    monkeypatch.setattr(ceilings, "_PRODUCT_SIDES", {"cpu": (8, 16)})
    took = {"float32": 0.5, "bfloat16": 4.0, "float16": 8.0}

    def batch(calls):
        calls = list(calls)
        operand = calls[0].args[0]
        return Batch(host=len(calls) * took[str(operand.dtype)], device=None, last=None)

    framework.batch = batch
    for dtype in ("float32", "float16", "tf32"):
        found = worker.ceilings(dtype=dtype)
        assert found == {"bytes": 2 * (1 << 16) / 0.5, "flops": 2 * 16**3 / 0.5}, dtype
    took["bfloat16"] = 0.125
    assert worker.ceilings(dtype="float8_e4m3")["flops"] == 2 * 2 * 16**3 / 0.125, "8 bits take half the time"


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (NotImplementedError("needs\nsm_90"), {"skipped": "needs sm_90"}),
        (NotImplementedError(), {"skipped": "not implemented"}),
        (WrongResultError("output has another shape"), {"error": "output has another shape"}),
        (ValueError("bad\n  shape"), {"error": "ValueError: bad shape"}),
        (RuntimeError("x" * 9999), {"error": f"RuntimeError: {'x' * 9999}"[:499] + "…"}),
    ],
    ids=["not implemented", "without a reason", "wrong", "several lines", "endless"],
)
def test_answers_are_one_line(worker, monkeypatch, error, found):
    def fails(**request):
        raise error

    monkeypatch.setattr(worker, "check", fails, raising=False)
    assert asked(worker, "check", name="x") == found


def test_a_worker_answers_by_the_methods_it_had_when_it_began(worker, monkeypatch):
    server = Server(Worker, "torch")
    server.serve(worker)
    monkeypatch.setattr(Worker, "warm_up_compiler", lambda self: {"forged": 1})
    assert answer(server.handle, {"do": "warm_up_compiler"}) == {"ok": {}}


def test_a_worker_starts_with_the_cpus_and_threads_it_is_given(monkeypatch):
    configured = {}
    loaded = SimpleNamespace(
        configure=lambda **how: configured.update(how), description=lambda: {"version": "1"}
    )
    monkeypatch.setattr(worker_module.frameworks, "load", lambda name: loaded)
    monkeypatch.setattr(
        worker_module.os, "sched_setaffinity", lambda process, cpus: configured.update(cpus=cpus)
    )
    monkeypatch.setattr(worker_module.neutrality, "call_overhead", lambda framework: 1e-8)
    server = Server(Worker, "torch")
    assert "error" in answer(server.handle, {"do": "open_case"}), "there is no worker yet"
    started = answer(server.handle, {"do": "start", "device": "cpu", "threads": 3, "cpus": [0, 5]})
    assert started == {"ok": {"version": "1", "call_overhead_seconds": 1e-8}}
    assert configured == {"device": "cpu", "threads": 3, "cpus": [0, 5]}


def test_a_case_chooses_the_precision_and_tensors_have_its_dtype(prepare, errors, framework):
    for dtype in ("tf32", "float32"):
        group = f"matmul[5x3x4-{dtype}-forward]"
        name = prepare(lambda a, b: a @ b, group)
        assert framework.settings["precision"] == dtype
        assert max(found["output"] for found in errors(name, group)) < 1e-6
        assert framework.called[-1]["a"].dtype == np.float32
