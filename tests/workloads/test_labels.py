"""The shape of an operator in one word."""

from typing import ClassVar

import pytest

from fuseproof.errors import UserError
from fuseproof.workloads.operators import Operator


class Conv(Operator):
    """No computation, only a shape."""

    bias: bool = False
    rows: int
    rate: float = 0.5
    kind: str = "same"
    named_shapes: ClassVar = {"usual": {"rows": 7, "bias": True}, "other": "rows3_rate=0.25_kind=valid"}


class Plain(Operator):
    """Without fields."""


@pytest.mark.parametrize(
    ("operator", "label"),
    [
        (Conv(rows=7), "rows7_rate=0.5_kind=same"),
        (Conv(bias=True, rows=12, rate=1e-5, kind="full"), "bias_rows12_rate=1e-05_kind=full"),
        (Plain(), "fixed"),
    ],
)
def test_a_label_is_made_of_the_fields_and_read_again(operator, label):
    assert operator.label == label
    assert type(operator).from_label(label) == operator


def test_a_named_shape_is_a_label_or_the_fields():
    assert Conv.from_label("usual") == Conv(bias=True, rows=7)
    assert Conv.from_label("other") == Conv(rows=3, rate=0.25, kind="valid")
    assert Conv.label_example == "[bias]_rows128_rate=0.5_kind=word"
    assert (Conv.name, Plain.name) == ("conv", "plain")


@pytest.mark.parametrize(
    "label", ["rows7", "rows7_rate=x_kind=same", "rows-1_rate=1_kind=a", "rows7_rate=1_kind=a/b", "", "x"]
)
def test_other_text_is_no_shape(label):
    with pytest.raises(
        UserError, match=r"unknown conv shape .* write it like \[bias\]_rows128.* usual, other"
    ):
        Conv.from_label(label)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"rows": 0}, "rows is 0; every extent must be at least 1"),
        ({"rows": "7"}, "rows is '7', not of type int"),
        ({"rows": True}, "rows is True, not of type int"),
        ({"rows": 1, "columns": 2}, "no field 'columns'; there are bias, rows, rate, kind"),
        ({"bias": True}, "lacks rows"),
        ({"rows": 1, "rate": float("inf")}, "rate is inf; it must be finite"),
    ],
)
def test_a_named_shape_that_cannot_be_is_refused(shape, message, monkeypatch):
    monkeypatch.setattr(Conv, "named_shapes", {"mine": shape})
    with pytest.raises(UserError, match=f"conv shape 'mine'.*{message}"):
        Conv.from_label("mine")


def test_a_field_that_no_name_can_hold_is_refused_where_the_class_is_written():
    with pytest.raises(
        UserError, match=r"Listed: the field axes is of tuple; .* must be int, bool, float, str"
    ):

        class Listed(Operator):
            axes: tuple = ()
