"""Functions of PyTorch with one planted fault each: it is found, said in one line, and nothing else is."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import fuseproof

torch = pytest.importorskip("torch", reason="pip install 'fuseproof[torch]'")


def inputs(seed, rows=5, columns=129):
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(rows, columns, generator=generator),
        "w": torch.randn(columns, generator=generator),
    }


def reference(x, w):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True) * w


def honest(x, w):
    return torch.softmax(x, -1) * w


def one_percent(x, w):
    return 1.01 * honest(x, w)


def one_element(x, w):
    """In bfloat16 the error of all elements together stays within its limit."""
    out = honest(x, w).clone()
    out[0, 0] += 0.002
    return out


def not_a_number(x, w):
    out = honest(x, w).clone()
    out[2, 7] = torch.nan
    return out


def unwritten_tail(x, w):
    out = torch.empty_like(x)
    out[:, :-3] = honest(x, w)[:, :-3]
    return out


def reads_outside(x, w):
    """One element past the weights, as a load without a mask; its value is as good as not used."""
    beyond = ctypes.cast(w.data_ptr(), ctypes.POINTER(ctypes.c_float))[w.numel()]
    return honest(x, w) + 1e-30 * beyond


def writes_outside(x, w):
    ctypes.cast(w.data_ptr(), ctypes.POINTER(ctypes.c_float))[-1] = 3.0
    return honest(x, w)


def changes_an_input(x, w):
    out = honest(x, w)
    w[3] += 1
    return out


def another_shape(x, w):
    return honest(x, w)[:, :-1]


def another_dtype(x, w):
    return honest(x, w).double()


def one_more(x, w):
    return honest(x, w), w


def raises(x, w):
    raise ValueError(f"no kernel\nfor {x.shape[1]} columns")


def at_block_edge(x, w):
    out = honest(x, w).clone()
    if x.shape[1] > 128:
        out[:, 128] = 0
    return out


def of_no_tensor(x, w):
    return 3.0


def make_stale_buffer():
    buffers = {}

    def stale_buffer(x, w):
        out = buffers.setdefault(x.shape, torch.empty_like(x))
        out.copy_(honest(x, w).detach())
        return out

    return stale_buffer


def make_kept():
    kept = []

    def kept_from_before(x, w):
        if not kept:
            kept.append(honest(x, w).detach())
        return kept[0].clone()

    return kept_from_before


def make_kept_by_address():
    kept = {}

    def kept_by_address(x, w):
        key = x.data_ptr(), w.data_ptr()
        if key not in kept:
            kept[key] = honest(x, w).detach().clone(), x, w  # and so the addresses stay taken
        return kept[key][0].clone()

    return kept_by_address


def make_right_once():
    calls = []

    def right_once(x, w):
        calls.append(1)
        return honest(x, w) * len(calls)

    return right_once


class Scaled(torch.autograd.Function):
    """The gradient of one of two inputs is off by 2 %."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return honest(x, w)

    @staticmethod
    def backward(ctx, cotangent):
        leaves = [each.detach().requires_grad_() for each in ctx.saved_tensors]
        with torch.enable_grad():
            of_x, of_w = torch.autograd.grad(honest(*leaves), leaves, cotangent)
        return of_x, 1.02 * of_w


class Unwritten(Scaled):
    @staticmethod
    def backward(ctx, cotangent):
        of_x, of_w = Scaled.backward(ctx, cotangent)
        buffer = torch.empty_like(of_w)
        buffer[:-1] = of_w[:-1] / 1.02
        return of_x, buffer


class OutOfOrder(Scaled):
    @staticmethod
    def backward(ctx, cotangent):
        raise RuntimeError("no backward kernel")


def wrong_gradient(x, w):
    return Scaled.apply(x, w)


def unwritten_gradient(x, w):
    return Unwritten.apply(x, w)


def broken_gradient(x, w):
    return OutOfOrder.apply(x, w)


def missing_gradient(x, w):
    return honest(x, w.detach())


@pytest.mark.parametrize(
    ("function", "what", "message"),
    [
        (
            one_percent,
            "values",
            r"output is wrong: relative RMS error 0\.01, limit \S+; at \[\d, \d+\] it is",
        ),
        (one_element, "values", r"output is wrong: relative RMS error \S+, limit \S+; at \[0, 0\] it is"),
        (not_a_number, "values", r"output is not finite in 1 of 645 elements; at \[2, 7\] it is nan instead"),
        (
            unwritten_tail,
            "unwritten",
            r"output is not fully written: 15 of 645 elements \(first \[0, 126\]\)",
        ),
        (
            reads_outside,
            "outside",
            r"output depends on memory outside the input w: surrounded by NaN, 645 of",
        ),
        (writes_outside, "inputs", r"the call wrote into memory outside its input w$"),
        (changes_an_input, "inputs", r"the call changed its input w: \[3\] was (\S+) and is"),
        (another_shape, "values", r"output has shape \(5, 128\) instead of \(5, 129\)$"),
        (one_more, "error", r"of the results output is missing and output_0, output_1 is one too many$"),
        (
            raises,
            "error",
            r"raises raised ValueError: no kernel for 129 columns \(test_planted_faults\.py:\d+",
        ),
        (at_block_edge, "values", r"output is wrong: .* at \[\d, 128\] it is 0 instead of"),
        (of_no_tensor, "error", r"of_no_tensor gives float, not a tensor, as output$"),
        (
            make_stale_buffer(),
            "stale",
            r"output of an earlier call changed when the function was called again",
        ),
        (make_kept(), "stale", r"output is that of an earlier call, with other values$"),
        (make_kept_by_address(), "stale", r"with other values in the same memory as before, output is wrong"),
        (make_right_once(), "repeat", r"called again with the same values, output is"),
        (
            wrong_gradient,
            "gradients",
            r"with gradients, grad_w is wrong: relative RMS error 0\.02, limit \S+ \(no baseline\);",
        ),
        (unwritten_gradient, "unwritten", r"with gradients, grad_w is not fully written: 1 of 129 elements"),
        (
            broken_gradient,
            "gradients",
            r"with gradients it raised RuntimeError: no backward kernel \(test_pl",
        ),
        (
            missing_gradient,
            "gradients",
            r"grad_w is missing: no output depends on w, and by the reference one",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_is_one_failure_of_one_line(function, what, message):
    found = fuseproof.check(function, inputs=inputs, reference=reference, skip=["memory"])
    (failure,) = found.failures
    assert failure.what == what
    assert "\n" not in failure.message
    with pytest.raises(AssertionError, match=f"(?m)^  {message}"):
        found.raise_if_wrong()


def test_a_failure_says_where_and_by_how_much():
    (failure,) = fuseproof.check(one_element, inputs=inputs, reference=reference).failures
    exact = reference(*(each.double().numpy() for each in inputs(0).values()))[0, 0]
    assert (failure.where, failure.index) == ("output", (0, 0))
    assert failure.expected == pytest.approx(exact)
    assert failure.got == pytest.approx(exact + 0.002, rel=1e-4)


@pytest.mark.parametrize(
    "kept", [lambda out: out[0, :3].clone(), lambda out: object(), lambda out: bytearray(100)]
)
def test_memory_that_each_call_keeps_is_found(kept):
    held = []

    def leaks(x, w):
        out = honest(x, w)
        held.append(kept(out))
        return out

    (failure,) = fuseproof.check(leaks, inputs=inputs, reference=reference).failures
    assert failure.what == "memory"
    assert failure.message.startswith("each call keeps ") and " seen over " in failure.message


def test_one_wrong_element_of_thousands_is_found_in_half_precision():
    """The project's rule alone passes it: its part of the RMS is below the limit."""
    wide = {"rows": 32, "columns": 512}
    found = fuseproof.check(
        one_element, inputs=lambda seed: inputs(seed, **wide), reference=reference, dtype="bfloat16"
    )
    (failure,) = found.failures
    error, limit = found.points[0].errors["output"]
    assert error < limit
    assert failure.message.startswith("output is wrong in 1 of 16,384 elements; at [0, 0] it is ")


def test_a_dtype_that_is_not_the_baselines_is_found():
    (failure,) = fuseproof.check(another_dtype, inputs=inputs, baseline=honest).failures
    assert failure.message == "output is float64, and the baseline's is float32"


def test_the_grid_shows_where_a_block_edge_is_wrong():
    over = {"columns": [1, 127, 128, 129, 257], "dtype": ["float32", "bfloat16"]}
    found = fuseproof.check(at_block_edge, inputs=inputs, reference=reference, over=over)
    assert [point.at["columns"] for point in found.points if not point.ok] == [129, 129, 257, 257]
    assert {failure.at["dtype"] for failure in found.failures} == {"float32", "bfloat16"}
    lines = str(found).splitlines()
    assert lines[0] == "at_block_edge is wrong at 4 of 10 points:"
    assert "  129      bfloat16  WRONG (values)" in lines
    assert sum(line.startswith("  columns=") for line in lines) == 4, "only what is wrong is shown in full"


def test_what_may_be_consumed_may_be_changed():
    def consumes(x, w):
        return torch.softmax(x, -1).mul_(w.mul_(2)).div_(2)

    given = {"inputs": inputs, "reference": reference}
    assert [each.what for each in fuseproof.check(consumes, **given).failures] == ["inputs"]
    assert fuseproof.check(consumes, consumes=["w"], gradients=False, **given).ok


def test_a_check_that_is_left_out_is_said_to_be():
    given = {"inputs": inputs, "reference": reference, "skip": ["inputs", "gradients"]}
    found = fuseproof.check(changes_an_input, **given)
    assert found.ok
    assert "inputs: not checked, as asked" in found.notes


def test_a_function_without_gradients_is_wrong_only_if_it_must_have_them():
    def detached(x, w):
        return honest(x, w).detach()

    found = fuseproof.check(detached, inputs=inputs, reference=reference)
    assert found.ok
    assert any(note.startswith("gradients: not checked: no output depends") for note in found.notes)
    for asked in (True, ["w"]):
        found = fuseproof.check(detached, inputs=inputs, reference=reference, gradients=asked)
        assert [each.what for each in found.failures] == ["gradients"]
