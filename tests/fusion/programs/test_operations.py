"""Bytes and operations of programs small enough to count by hand."""

from pathlib import Path

import pytest

from fuseproof.errors import UserError
from fuseproof.fusion.programs import hlo, operations, xla

HLO = Path(__file__).parent / "hlo"

# y = relu(x + 1) · 2 over 1000 float32: three operations, each of which reads 4000 bytes and writes 4000.
BEFORE = """\
HloModule jit_f, entry_computation_layout={(f32[1000]{0})->f32[1000]{0}}

ENTRY main.1 {
  x.1 = f32[1000]{0} parameter(0)
  one.1 = f32[] constant(1)
  ones.1 = f32[1000]{0} broadcast(one.1), dimensions={}
  add.1 = f32[1000]{0} add(x.1, ones.1)
  zero.1 = f32[] constant(0)
  zeros.1 = f32[1000]{0} broadcast(zero.1), dimensions={}
  maximum.1 = f32[1000]{0} maximum(add.1, zeros.1)
  two.1 = f32[] constant(2)
  twos.1 = f32[10,100]{1,0} broadcast(two.1), dimensions={}
  flat.1 = f32[1000]{0} reshape(twos.1)
  ROOT multiply.1 = f32[1000]{0} multiply(maximum.1, flat.1)
}
"""
AFTER = """\
HloModule jit_f, is_scheduled=true

%fused_computation (param_0: f32[1000]) -> f32[1000] {
  %param_0 = f32[1000]{0} parameter(0)
  %c = f32[] constant(1)
  %b = f32[1000]{0} broadcast(%c), dimensions={}
  %add.2 = f32[1000]{0} add(%param_0, %b)
  %maximum.2 = f32[1000]{0} maximum(%add.2, %b)
  ROOT %multiply.2 = f32[1000]{0} multiply(%maximum.2, %b)
}

ENTRY %main.1 (x.1: f32[1000]) -> f32[1000] {
  %x.1 = f32[1000]{0} parameter(0)
  ROOT %fusion.1 = f32[1000]{0} fusion(%x.1), kind=kLoop, calls=%fused_computation
}
"""
CUBLAS = """\
HloModule jit_g, is_scheduled=true

ENTRY %main.1 (x.1: bf16[8,8]) -> bf16[8,8] {
  %x.1 = bf16[8,8]{1,0} parameter(0)
  %g = (bf16[8,8]{1,0}, s8[4194304]{0}) custom-call(%x.1, %x.1), custom_call_target="__cublas$gemm"
  %copy-start.1 = (bf16[8,8]{1,0}, bf16[8,8]{1,0}, u32[]) copy-start(%x.1)
  %copy-done.1 = bf16[8,8]{1,0} copy-done(%copy-start.1)
  ROOT %out = bf16[8,8]{1,0} get-tuple-element(%g), index=0
}
"""


def test_bytes_before_and_after_fusion_counted_by_hand(tmp_path):
    reading = xla.read({"before": BEFORE, "after": AFTER}, tmp_path)
    assert [(o.name, o.kind, o.bytes) for o in reading.before] == [
        ("add.1", "operation", 8000),
        ("maximum.1", "operation", 8000),
        ("multiply.1", "operation", 8000),
    ]
    (fusion,) = reading.after
    assert (fusion.kind, fusion.bytes, fusion.members) == ("fusion", 8000, ("add", "maximum", "multiply"))
    assert operations.total_bytes(reading.before) == 3 * operations.total_bytes(reading.after)
    kept = {label: (tmp_path / name).read_text() for label, name in reading.artifacts.items()}
    assert kept == {"HLO before optimisation": BEFORE, "HLO after optimisation": AFTER}


def test_one_input_twice_is_read_once_and_a_workspace_is_not_moved():
    gemm, copy = operations.operations_of(hlo.parse(CUBLAS))
    assert (gemm.kind, gemm.bytes) == ("library", 2 * 8 * 8 * 2)
    assert copy.name == "copy-start.1", "an asynchronous copy is one operation"


def test_bytes_of_a_loop_are_unknown(tmp_path):
    reading = xla.read({"after": (HLO / "cpu_loop.txt").read_text()}, tmp_path)
    looped = {o.name for o in reading.after if o.bytes is None}
    assert "wrapped_sine" in looped and "copy.6" not in looped
    assert operations.total_bytes(reading.after) is None
    assert "loop" in reading.unknown["bytes_after"]


@pytest.mark.parametrize("text", [AFTER[:-40], "not HLO", ""], ids=["cut off", "foreign", "empty"])
def test_text_that_cannot_be_read_is_kept_and_said(tmp_path, text):
    reading = xla.read({"before": BEFORE, "after": text}, tmp_path)
    assert len(reading.before) == 3
    assert reading.after is None
    assert "HLO after optimisation" in reading.unknown["after"]
    assert (tmp_path / reading.artifacts["HLO after optimisation"]).read_text() == text
    with pytest.raises(UserError):
        hlo.parse(text)


def test_members_are_counted_in_order():
    assert operations.counted(("multiply", "add", "multiply")) == "multiply ×2, add"


def test_aten_operators_counted_by_hand():
    torch = pytest.importorskip("torch", reason="pip install 'fuseproof[torch]'")
    from fuseproof.fusion.programs import torch as torch_program

    x = torch.ones(10, 100)
    row = torch.ones(100)

    def call():
        y = torch.relu(x + 1) * row.expand(10, 100)
        return y.t().reshape(-1), torch.empty(7), y.mul_(2), x.view(-1)

    found = [(o.name, o.bytes) for o in torch_program.dispatched(call)]
    assert found == [
        ("add", 8000),
        ("relu", 8000),
        ("mul", 8000 + 400),  # a broadcast reads its source
        ("clone", 8000),  # the copy that reshape makes of a transpose
        ("mul_", 8000),
    ]


def test_aten_operators_that_only_overwrite_read_nothing_of_what_was_there():
    torch = pytest.importorskip("torch", reason="pip install 'fuseproof[torch]'")
    from fuseproof.fusion.programs import torch as torch_program

    x, y = torch.ones(10, 100), torch.ones(100)
    found = torch_program.dispatched(lambda: (x.zero_(), x.fill_(2.0), x.copy_(y), x.add_(1)))
    assert [(o.name, o.bytes) for o in found] == [
        ("zero_", 4000),
        ("fill_", 4000),
        ("copy_", 4000 + 400),
        ("add_", 8000),
    ]
