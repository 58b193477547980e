"""The Pallas kernels, interpreted on the CPU, against float64 by the project's own check.

The interpreter fills what a block reads beyond the edge of a tensor with NaN, so a mask that is missing
shows.
"""

import pytest

from fuseproof.cases import Case
from fuseproof.implementations import IMPLEMENTATIONS
from fuseproof.measure import checks

CASES = (
    # One ragged block: odd extents, grouped heads, one query.
    "attention[b2_h6_kv2_s7_k5_d3-float32-forward_backward]",
    "attention[b1_h2_s5_k9_d8_causal-bfloat16-forward_backward]",
    "attention[b1_h2_s9_k5_d8_causal-float32-forward]",
    "attention[b2_h4_kv1_s1_k300_d16-bfloat16-forward]",
    # Several blocks of queries and keys, the last ones ragged, some hidden by the mask and skipped.
    "attention[b1_h2_kv1_s1100_k600_d16_causal-float32-forward_backward]",
    "attention[b1_h1_s300_k1100_d16-bfloat16-forward_backward]",
    "matmul[7x5x3-float32-forward_backward]",
    "matmul[9x17x5_bias_gelu_tanh-bfloat16-forward_backward]",
    "matmul[600x1100x1300_bias_gelu_tanh-float32-forward_backward]",
    "matmul[600x1100x1300-bfloat16-forward]",
    "layer_norm[7x13-float32-forward_backward]",
    "layer_norm[5x17_residual-bfloat16-forward_backward]",
    "layer_norm[600x768_residual-float32-forward_backward]",
    "layer_norm[300x5000-bfloat16-forward]",
)


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker("jax")


@pytest.mark.parametrize("group", CASES)
def test_it_computes_the_operator(group, worker):
    case = Case.from_group(group)
    rows = {row.name: row for row in IMPLEMENTATIONS if row.workload == case.workload.name}
    worker.open_case(group)
    errors = {}
    for name in ("pallas", rows["pallas"].baseline):
        worker.prepare(rows[name])
        errors[name] = worker.errors(name)
    found, baseline = errors["pallas"], errors[rows["pallas"].baseline]
    tensors = {"output"}
    if case.pass_ != "forward":
        tensors |= {f"grad_{name}" for name in case.workload.input_shapes}
    assert set(found) == tensors
    assert None not in found.values(), found
    verdict = checks.judge(found, baseline, dtype=case.dtype, longest=case.workload.longest_axis)
    assert verdict.passed, verdict.message


def test_on_the_cpu_it_is_never_timed():
    rows = [row for row in IMPLEMENTATIONS if row.name == "pallas"]
    assert {row.workload for row in rows} == {"attention", "matmul", "layer_norm"}
    for row in rows:
        assert row.reason_not_on("cpu") == "interpreted on the CPU: correctness only, never timed"
        assert row.reason_not_on("cuda") == "needs tpu; this run is on cuda"
        assert row.reason_not_on("tpu") is None
