"""What a worker does with implementations, right and wrong: with NumPy for a framework, and a fake clock."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from fuseproof.cases import Case
from fuseproof.child_process import answer
from fuseproof.implementations import Implementation
from fuseproof.measure.tensors import WrongResultError
from fuseproof.measure.worker import Server, Worker
from fuseproof.workloads.operators import DTYPES

GROUP = "layer_norm[7x13-float32-forward]"


def asked(worker, do, **arguments):
    """What the process answers to a request."""
    server = Server(Worker, "torch")
    server.worker = worker
    return answer(server.handle, {"do": do, **arguments})


class NumpyFramework(SimpleNamespace):
    """The functions of a framework's module. Every call takes one second of its clock."""

    def __init__(self):
        super().__init__(now=0.0, synchronized=0, called=[], sets=[])

    def use_precision(self, dtype):
        self.precision = dtype

    def from_numpy(self, array, dtype):
        self.sets.append(array)
        return array.astype(DTYPES[dtype])

    def to_numpy(self, tensor):
        return np.array(tensor, dtype=np.float32)

    def dtype_name(self, tensor):
        return str(tensor.dtype)

    def differentiable(self, inputs):
        return inputs

    def copy(self, tensor):
        return tensor.copy()

    def same(self, one, other):
        return np.array_equal(one, other)

    def step(self, function, options, pass_, compiled, consumes=()):
        def forward(inputs, cotangent):
            self.called.append(inputs)
            self.now += 1.0
            return function(**inputs, **options), {}

        def forward_backward(inputs, cotangent):
            self.called.append(inputs)
            return function(**inputs, cotangent=cotangent, **options)

        return forward if pass_ == "forward" else forward_backward

    def synchronize(self, result):
        self.synchronized += 1

    def reset(self):
        pass

    def forbid_recompilation(self, step):
        return contextlib.nullcontext()

    def poisoned_memory(self, like):
        return contextlib.nullcontext()

    def peak_memory(self, call):
        call()
        return 42

    def batch(self, call, calls):
        started = self.now
        for _ in range(calls):
            call()
        return self.now - started, None


def right(x, weight, bias):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return ((x - mean) / np.sqrt(variance + np.float32(1e-5)) * weight + bias).astype(x.dtype)


class Stale:
    def __init__(self):
        self.output = None

    def __call__(self, **inputs):
        self.output = right(**inputs) if self.output is None else self.output
        return self.output


def mutates(x, weight, bias):
    output = right(x, weight, bias)
    x += 1
    return output


@pytest.fixture
def framework():
    return NumpyFramework()


@pytest.fixture
def worker(framework):
    return Worker(framework)


@pytest.fixture
def prepare(worker, monkeypatch):
    """Opens a case and prepares one function for it; returns the name to ask for."""

    def prepare(function, group=GROUP, layout="bhsd", name="mine", consumes=(), **case):
        monkeypatch.setattr("fuseproof.measure.worker.resolve_function", lambda target: function)
        worker.open_case(**({"group": group, "seed": 0, "last_level_cache": 1} | case))
        operator = group.partition("[")[0]
        implementation = Implementation(
            operator, name, framework="torch", target="m:f", layout=layout, consumes=consumes
        )
        worker.prepare(implementation=implementation.to_json())
        return name

    return prepare


def test_inputs_too_small_for_a_cold_cache_are_refused(worker):
    """Making millions of sets would take all memory there is."""
    with pytest.raises(NotImplementedError, match=r"cold cache would need .* choose a larger shape"):
        worker.open_case(group="layer_norm[1x1-float32-forward-cold]", seed=0, last_level_cache=2**25)


def test_a_right_result_has_the_error_of_its_rounding(worker, prepare):
    errors = worker.check(name=prepare(right))["errors"]
    assert errors.keys() == {"output"}
    assert 0 < errors["output"] < 1e-6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x, weight, bias: None, "output is NoneType, not a tensor"),
        (lambda x, weight, bias: (x, x), "output is tuple, not a tensor"),
        (lambda x, weight, bias: x[:, :-1], r"output has shape \(7, 12\) instead of \(7, 13\)"),
        (lambda x, weight, bias: x.T, r"output has shape \(13, 7\) instead of \(7, 13\)"),
        (lambda x, weight, bias: x.astype(np.float64), "output is float64 instead of float32"),
        (mutates, "the input 'x' was changed"),
    ],
    ids=["nothing", "two outputs", "too short", "transposed", "another dtype", "mutated input"],
)
def test_what_no_error_expresses_is_refused(worker, prepare, wrong, message):
    name = prepare(wrong)
    with pytest.raises(WrongResultError, match=message):
        worker.check(name=name)


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
def test_wrong_values_have_large_errors(worker, prepare, wrong, error):
    assert worker.check(name=prepare(wrong))["errors"]["output"] == error


def test_a_stale_buffer_is_seen(worker, prepare):
    assert worker.check(name=prepare(Stale()))["errors"]["output"] > 0.5


def test_nan_once_is_nan(worker, prepare):
    """The second set of inputs is right, and must not hide the first."""
    calls = []

    def sometimes(**inputs):
        calls.append(1)
        # prepare makes three calls
        return right(**inputs) * (np.float32("nan") if len(calls) == 4 else np.float32(1))

    assert worker.check(name=prepare(sometimes))["errors"]["output"] is None


def test_gradients_are_checked_with_the_output(worker, prepare):
    case = Case.from_group("matmul[5x3x7-float32-forward_backward]")

    def product(a, b, cotangent):
        return a @ b, {"a": cotangent @ b.T, "b": a.T @ cotangent}

    def forgets_b(a, b, cotangent):
        return a @ b, {"a": cotangent @ b.T, "b": None}

    errors = worker.check(name=prepare(product, case.group))["errors"]
    assert errors.keys() == {"output", "grad_a", "grad_b"}
    assert max(errors.values()) < 1e-6
    name = prepare(forgets_b, case.group)
    with pytest.raises(WrongResultError, match="grad_b is NoneType"):
        worker.check(name=name)


def test_an_implementation_gets_the_layout_it_wants(worker, prepare):
    def attention(q, k, v, *, causal):
        assert q.shape == (2, 5, 4, 3)  # batch, length, heads, head dim
        assert k.shape == v.shape == (2, 7, 2, 3)
        assert not causal
        k, v = (np.repeat(tensor, 2, axis=2) for tensor in (k, v))
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(np.float32(3))
        p = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("bhqk,bkhd->bqhd", p / p.sum(-1, keepdims=True), v)

    name = prepare(attention, "attention[b2_h4_kv2_s5_k7_d3-float32-forward]", layout="bshd")
    assert worker.check(name=name)["errors"]["output"] < 1e-6


def test_a_leg_is_warm_up_calls_and_rounds_of_calls(worker, prepare, framework):
    name = prepare(right)
    framework.called.clear()
    leg = worker.leg(name=name, rounds=3, calls=4, warm_up=5)
    assert leg == {"wall": [1.0, 1.0, 1.0]}, "seconds per call; no device time without a device"
    assert len(framework.called) == 5 + 3 * 4


def test_device_time_is_per_call_too(worker, prepare, framework):
    name = prepare(right)
    framework.batch = lambda call, calls: (8.0, 2.0)
    assert worker.leg(name=name, rounds=2, calls=4, warm_up=0) == {"wall": [2.0, 2.0], "device": [0.5, 0.5]}


def test_warm_is_one_set_of_inputs(worker, prepare, framework):
    name = prepare(right)
    framework.called.clear()
    worker.leg(name=name, rounds=2, calls=3, warm_up=1)
    assert len({id(inputs["x"]) for inputs in framework.called}) == 1


def test_cold_rotates_through_more_than_the_cache(worker, prepare, framework):
    one_set = Case.from_group(GROUP).operator.minimum_bytes("forward", "float32")
    name = prepare(right, GROUP[:-1] + "-cold]", last_level_cache=2 * one_set)
    framework.called.clear()
    worker.leg(name=name, rounds=1, calls=10, warm_up=0)
    used = [id(inputs["x"]) for inputs in framework.called]
    assert len(set(used)) == 5, "at least twice the cache, and the set that is read now"
    assert used[:5] == used[5:]
    other = Implementation("layer_norm", "other", framework="torch", target="m:f")
    worker.prepare(implementation=other.to_json())
    framework.called.clear()
    worker.leg(name="other", rounds=1, calls=1, warm_up=0)
    assert id(framework.called[0]["x"]) == used[0], "goes on after the set the last one used"


def test_checks_use_inputs_that_the_timing_never_sees(worker, prepare, framework):
    name = prepare(right)
    timed = [array.tobytes() for array in framework.sets]
    worker.check(name=name)
    checked = [array.tobytes() for array in framework.sets[len(timed) :]]
    assert len(set(checked)) == 2 * len(timed)
    assert not set(timed) & set(checked)


def writes_over_x(x, weight, bias):
    x[:] = right(x, weight, bias)
    return x


def test_consumed_inputs_are_new_in_every_call(worker, prepare, framework):
    name = prepare(writes_over_x, consumes=("x",))
    assert worker.check(name=name)["errors"]["output"] < 1e-6
    original = framework.sets[0].copy()
    framework.called.clear()
    worker.leg(name=name, rounds=2, calls=3, warm_up=1)
    worker.peak_memory(name=name)
    given = [inputs["x"] for inputs in framework.called]
    assert len({id(x) for x in given}) == len(given) == 2 * 3 + 1 + 1
    assert len({id(inputs["weight"]) for inputs in framework.called}) == 1, "what is kept is not copied"
    assert np.array_equal(framework.sets[0], original)
    expected = right(framework.sets[0], framework.called[0]["weight"], framework.called[0]["bias"])
    assert all(np.array_equal(x, expected) for x in given), "no call works on another's result"


def test_what_is_not_consumed_may_not_change(worker, prepare):
    name = prepare(writes_over_x, consumes=("weight",))
    with pytest.raises(WrongResultError, match="the input 'x' was changed"):
        worker.check(name=name)


def test_copies_take_only_so_much_memory_at_once(worker, prepare, framework, monkeypatch):
    name = prepare(right, consumes=("x",))
    monkeypatch.setattr("fuseproof.measure.worker._MAX_COPIES_BYTES", 2 * 7 * 13 * 4)
    batches = []
    batch = framework.batch
    framework.batch = lambda call, calls: (batches.append(calls), batch(call, calls))[1]
    assert worker.leg(name=name, rounds=1, calls=5, warm_up=0) == {"wall": [1.0]}
    assert batches == [2, 2, 1]
    framework.batch = lambda call, calls: (2.0 * calls, 1.0 * calls)
    assert worker.leg(name=name, rounds=1, calls=5, warm_up=0) == {"wall": [2.0], "device": [1.0]}


def test_an_input_that_a_case_lacks_cannot_be_consumed(worker, prepare):
    with pytest.raises(NotImplementedError, match="consumes residual, which are not inputs of this case"):
        prepare(right, consumes=("x", "residual"))


def test_the_next_case_forgets_the_last(worker, prepare):
    name = prepare(right)
    worker.open_case(group=GROUP, seed=0, last_level_cache=1)
    assert "error" in asked(worker, "check", name=name)


def test_the_first_call_is_timed_separately(worker, prepare, monkeypatch):
    clock = iter([10.0, 17.5, 20.0, 20.25])
    monkeypatch.setattr("fuseproof.measure.worker.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    prepare(right)
    again = Implementation("layer_norm", "again", framework="torch", target="m:f")
    clock = iter([10.0, 17.5, 20.0, 20.25])
    assert worker.prepare(implementation=again.to_json()) == {
        "first_call_seconds": 7.5,
        "call_seconds": 0.25,
    }


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


def test_a_case_chooses_the_precision_and_tensors_have_its_dtype(worker, framework, monkeypatch):
    monkeypatch.setattr("fuseproof.measure.worker.resolve_function", lambda target: lambda a, b: a @ b)
    product = Implementation("matmul", "numpy", framework="torch", target="m:f")
    for dtype in ("tf32", "float32"):
        worker.open_case(group=f"matmul[5x3x4-{dtype}-forward]", seed=0, last_level_cache=0)
        assert framework.precision == dtype
        worker.prepare(implementation=product.to_json())
        assert worker.check(name="numpy")["errors"]["output"] < 1e-6
        assert framework.called[-1]["a"].dtype == np.float32
