"""What `fuseproof.check` takes and refuses, and what it returns."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fuseproof
from fuseproof.checking import CHECKS
from fuseproof.errors import UserError

X = np.linspace(-2, 2, 15).reshape(3, 5)


def tanh(x):
    return np.tanh(x)


def sized(seed, rows, *, scale=1.0):
    return {"x": scale * np.random.default_rng(seed).standard_normal((rows, 5))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": 3}, "check takes a function, not int"),
        ({"inputs": {"scale": 2.0}}, "the inputs hold no array; there is nothing to compute with"),
        ({"inputs": {"x": X.astype(complex)}}, "the input x is an array of complex128; real numbers and"),
        ({"dtype": "float8"}, "unknown dtype 'float8'; there are float32, float16"),
        ({"device": "cuda"}, "NumPy's arrays are on the CPU, not on cuda"),
        ({"skip": ["leaks"]}, "unknown check 'leaks'; there are values, "),
        ({"skip": ["values"]}, "the check of values cannot be left out"),
        ({"consumes": ["y"]}, "unknown input in consumes 'y'; there are x"),
        ({"consumes": "x"}, r"gradients and consumes are lists of names, such as \['x'\]"),
        ({"gradients": True}, "gradients: a function of NumPy has none"),
        ({"reference": 3}, "reference is int, not a function"),
        ({"reference": lambda x: 1 / 0}, "the reference raised ZeroDivisionError: division by zero"),
        (
            {"reference": lambda x: x.astype("float32")},
            "the reference gives float32 for output where its inputs",
        ),
        ({"reference": lambda x: "word"}, "the reference gives str, not an array for output"),
        (
            {"function": lambda x: x.astype("float32")},
            "without reference= the function itself in float64 is what",
        ),
        ({"over": {}}, "over has no names; give values by name"),
        ({"over": {"rows": []}}, "over: rows has no values"),
        ({"over": {"dtype": "float32"}}, "over: dtype needs a list of values, not 'float32'"),
        ({"over": {"rows": [1]}}, "over has rows, and inputs is no function that could take it"),
        ({"over": {"columns": [1]}, "inputs": sized}, "over has columns, and inputs takes no such keyword"),
        ({"over": {"rows": range(10_001)}, "inputs": sized}, "over has 10,001 points; check 10,000 at most"),
    ],
)
def test_what_cannot_be_checked_is_one_line(arguments, message):
    arguments = {"function": tanh, "inputs": X, **arguments}
    with pytest.raises(UserError, match=f"^{message}") as caught:
        fuseproof.check(arguments.pop("function"), **arguments)
    assert "\n" not in str(caught.value)


def test_a_function_of_another_framework_is_refused():
    torch = pytest.importorskip("torch", reason="pip install 'fuseproof[torch]'")
    jax_like = type(
        "Jax", (), {"__module__": "jax.numpy", "__call__": lambda self, x: x, "__name__": "theirs"}
    )()
    with pytest.raises(UserError, match=r"^theirs is a function of jax, and the inputs are tensors of torch"):
        fuseproof.check(torch.tanh, inputs=torch.ones(3), reference=jax_like)


@pytest.mark.parametrize("given", [X, (X,), [X], {"x": X}, lambda seed: X, lambda seed: {"x": X + seed}])
def test_arguments_are_given_as_compare_takes_them(given):
    found = fuseproof.check(tanh, inputs=given, reference=np.tanh)
    found.raise_if_wrong()
    assert found.ok and found.failures == ()
    assert found.points[0].inputs == "x float32[3, 5]"


def test_fixed_arguments_are_given_in_reverse_too_and_a_note_says_so():
    found = fuseproof.check(tanh, inputs=X, reference=np.tanh)
    assert any("other values are the given ones in reverse" in note for note in found.notes)
    found = fuseproof.check(tanh, inputs=np.ones(3), reference=np.tanh)
    assert any(note.startswith("stale: not checked: the inputs have no other values") for note in found.notes)


def test_the_result_is_an_object_and_a_text():
    found = fuseproof.check(tanh, inputs=sized, reference=np.tanh, over={"rows": [1, 3]})
    assert found.ok and len(found.points) == 2
    error, limit = found.points[1].errors["output"]
    assert 0 < error < limit
    assert str(found).splitlines()[0] == "tanh: right at 2 points"
    assert str(found).splitlines()[1].split() == ["rows", "result"]
    assert repr(found) == "<Checked tanh: right at 2 points>"
    assert found._repr_html_().startswith("<pre>tanh: right")
    with pytest.raises(AttributeError):
        found.function = "other"


def test_text_of_a_function_moves_no_cursor():
    def hostile(x):
        raise ValueError("\x1b[31m<b>red\nblue")

    found = fuseproof.check(hostile, inputs=X, reference=np.tanh)
    assert "\x1b" not in str(found) and "<b>" not in found._repr_html_()
    (failure,) = found.failures
    assert failure.what == "error" and failure.message.startswith("hostile raised ValueError: ")


def test_a_reference_that_changes_its_arguments_changes_nothing():
    def in_place(x):
        x *= 2
        return np.tanh(x / 2)

    assert fuseproof.check(tanh, inputs=X, reference=in_place).ok


def test_what_differs_from_call_to_call_by_rounding_is_a_note():
    calls = []

    def unsteady(x):
        calls.append(1)
        return np.tanh(x) * np.float32(1 + 6e-8 * (len(calls) == 1))

    found = fuseproof.check(unsteady, inputs=X, reference=np.tanh)
    assert found.ok, str(found)
    assert any(
        "output differs from call to call with the same values, by up to" in note for note in found.notes
    )


def test_a_function_that_takes_too_long_is_not_called_for_its_memory(monkeypatch):
    import fuseproof.checking.memory as memory

    monkeypatch.setattr(memory, "MOST_SECONDS", 0.0)
    found = fuseproof.check(tanh, inputs=X, reference=np.tanh)
    assert found.ok and any(note.startswith("memory: not checked: a call takes") for note in found.notes)


def test_every_check_has_its_line_in_the_how_to():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "how-to" / "check-a-kernel.md").read_text(encoding="utf-8")
    assert [name for name in CHECKS if f"| `{name}` |" not in page] == []


def test_importing_loads_no_framework_and_no_hypothesis():
    code = """
import sys, time
started = time.perf_counter()
import fuseproof
assert time.perf_counter() - started < 0.1
assert "numpy" not in sys.modules
fuseproof.check, fuseproof.Checked, fuseproof.strategies
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"torch", "jax", "tensorflow", "hypothesis"}, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
