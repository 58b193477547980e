import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseproof.cases import CACHES, Case
from fuseproof.errors import UserError
from fuseproof.workloads.operators import DTYPES, PASSES
from fuseproof.workloads.operators.layer_norm import LayerNorm


@given(st.data())
def test_a_group_names_one_case(any_operator, data):
    operator, pass_ = data.draw(any_operator), data.draw(st.sampled_from(PASSES))
    dtypes = [dtype for dtype in DTYPES if operator.reason_against(dtype, pass_) is None]
    case = Case(
        workload=operator,
        dtype=data.draw(st.sampled_from(dtypes)),
        pass_=pass_,
        cache=data.draw(st.sampled_from(CACHES)),
    )
    assert Case.from_group(case.group) == case


def test_names_are_those_of_the_run_file():
    case = Case(workload=LayerNorm(rows=4096, columns=4096), dtype="bfloat16")
    assert case.group == "layer_norm[4096x4096-bfloat16-forward]"
    assert (
        case.benchmark_name("torch.compile", "wall")
        == "layer_norm[4096x4096-bfloat16-forward-torch.compile-wall]"
    )
    cold = Case(workload=case.workload, cache="cold", pass_="forward_backward")
    assert cold.group == "layer_norm[4096x4096-float32-forward_backward-cold]"
    assert cold.benchmark_name("triton", "device").endswith("-triton-device-cold]")


def test_a_named_shape_is_the_shape():
    assert (
        Case.from_group("attention[bert-base-float32-forward]").group
        == "attention[b8_h12_s128_d64-float32-forward]"
    )


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("", "is not a case"),
        ("layer_norm", "is not a case"),
        ("layer_norm[]", "is not a case"),
        ("layer_norm[64x64-float32]", "is not a case"),
        ("layer_norm[64x64-float64-forward]", "is not a case"),
        ("layer_norm[64x64-float32-backward]", "is not a case"),
        ("layer_norm[64x64-float32-forward-hot]", "is not a case"),
        ("layer_norm[64x64-float32-forward]\n", "is not a case"),
        ("layer_norm[64-float32-forward]", "unknown layer_norm shape '64'"),
        ("layer_norm[0x64-float32-forward]", "at least 1"),
        ("convolution[64x64-float32-forward]", "unknown workload 'convolution'"),
        ("attention[b1_h8_kv3_s4_d4-float32-forward]", "not a multiple"),
        ("attention[b1_h8_kv0_s4_d4-float32-forward]", "not a multiple"),
        ("layer_norm[64x64-tf32-forward]", "is not computed in tf32; there are float32, float16, bfloat16"),
        ("attention[b1_h8_s4_d4-float8_e4m3-forward]", "is not computed in float8_e4m3"),
        ("matmul[4x4x4-float8_e4m3-forward_backward]", "plain and forward only"),
        ("matmul[4x4x4_bias_gelu_tanh-float8_e4m3-forward]", "plain and forward only"),
    ],
)
def test_anything_else_is_refused_in_one_line(group, message):
    with pytest.raises(UserError, match=message) as caught:
        Case.from_group(group)
    assert "\n" not in str(caught.value)
