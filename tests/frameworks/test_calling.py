"""How a target is called: by position wherever that means the same."""

import functools

import pytest

from fuseproof.frameworks import calling

NAMES = ("x", "weight", "bias")


def ours(x, weight, bias): ...


def own_names(a, b, c): ...


def swapped(x, bias, weight): ...


def by_name(x, *, weight, bias): ...


def only_by_name(**inputs): ...


def any_number(*tensors): ...


def with_more(x, weight, bias, eps=1e-5): ...


def with_a_default_between(x, weight, eps=1e-5, bias=None): ...


def with_another_default(x, weight, eps=1e-5, **more): ...


@pytest.mark.parametrize(
    ("function", "taken"),
    [
        (ours, 3),
        (own_names, 3),
        (functools.partial(lambda a, b, c, scale: None, scale=2), 3),
        (swapped, 1),
        (by_name, 1),
        (only_by_name, 0),
        (any_number, 3),
        (with_more, 3),
        (with_a_default_between, 2),
        (with_another_default, 2),
        (max, 3),  # it has no signature
    ],
)
def test_inputs_go_by_position_up_to_one_that_would_take_anothers_place(function, taken):
    assert calling.by_position(function, NAMES) == taken


def test_a_call_gives_every_input_its_own_value():
    def swapped(x, bias, weight, *, causal):
        return x, weight, bias, causal

    inputs = {"x": 1, "weight": 2, "bias": 3}
    taken = calling.by_position(swapped, list(inputs))
    assert calling.bound(swapped, taken, inputs, {"causal": True})() == (1, 2, 3, True)
    signature = calling.Signature(arguments={name: name for name in inputs}, options={"causal": True})
    assert calling.positional(swapped, signature)(1, 2, 3) == (1, 2, 3, True)


def test_nested_arguments_are_made_of_flat_tensors():
    def nested(block, x, *, scale):
        return block["weight"], block["parts"], x, scale

    block = {"dict": {"weight": "block.weight", "parts": {"tuple": ["block.parts.0", {"value": "gelu"}]}}}
    signature = calling.Signature(
        arguments={"block": block, "x": "x", "scale": {"value": 2.0}}, options={}, differentiable=("x",)
    )
    assert signature.tensors == ("block.weight", "block.parts.0", "x")
    assert calling.positional(nested, signature)(1, 2, 3) == (1, (2, "gelu"), 3, 2.0)
    assert not signature.is_plain


def test_results_have_the_names_of_what_a_call_returns():
    signature = calling.Signature(arguments={"x": "x"}, differentiable=("x",), cotangents=("loss",))
    assert signature.named({"loss": 1, "state": {"mean": 2, "none": None}}, [3]) == {
        "loss": 1,
        "state.mean": 2,
        "grad_x": 3,
    }
    assert signature.started({"other": 1, "loss": 2}) == [2]
    with pytest.raises(KeyError, match="loss"):
        signature.started((1, 2))
