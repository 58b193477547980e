"""Every implementation that is fused or not computes its operator, by the project's own check.

One worker process for each framework: the check is the one a run makes, and frameworks share no process.
"""

import math

import pytest

from fuseproof import checks
from fuseproof.cases import Case
from fuseproof.implementations import FRAMEWORKS, IMPLEMENTATIONS
from fuseproof.operators import OPERATORS, PASSES

# Odd shapes, grouped heads, masks over unequal lengths, and both forms of what follows the operator.
LABELS = {
    "attention": ("b2_h6_kv2_s7_k5_d3", "b1_h2_s5_k9_d8_causal"),
    "matmul": ("7x5x3", "9x17x5_bias_gelu_tanh"),
    "layer_norm": ("7x13", "5x17_residual"),
    "rms_norm": ("7x13", "5x17_residual"),
}
CASES = [
    Case.from_group(f"{operator}[{label}-{dtype}-{pass_}]")
    for operator, labels in LABELS.items()
    for label in labels
    for dtype in ("float32", "bfloat16")
    for pass_ in PASSES
]

# torch.compile takes seconds for each of these, so one case of each operator stands for the others; composed
# from primitives, because that is where it has something to fuse.
COMPILED_BY_TORCH = {
    ("attention[b1_h2_s5_k9_d8_causal-float32-forward_backward]", "torch.compile-composed"),
    ("matmul[9x17x5_bias_gelu_tanh-bfloat16-forward]", "torch.compile"),
    ("layer_norm[5x17_residual-float32-forward_backward]", "torch.compile-composed"),
    ("rms_norm[5x17_residual-bfloat16-forward]", "torch.compile-composed"),
}


def rows_of(case, framework):
    for row in IMPLEMENTATIONS:
        if (row.operator, row.framework) != (case.operator.name, framework) or "cpu" not in row.devices:
            continue
        if framework == "torch" and row.compiled and (case.group, row.name) not in COMPILED_BY_TORCH:
            continue
        yield row


@pytest.fixture(scope="module", params=FRAMEWORKS)
def worker(request, start_worker):
    return request.param, start_worker(request.param)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.group)
def test_it_computes_the_operator(worker, case):
    framework, process = worker
    process.open_case(case.group)
    errors = {}
    for row in rows_of(case, framework):
        process.prepare(row)
        errors[row.name] = process.ask("check", name=row.name)["errors"]
        tensors = {"output"}
        if case.pass_ == "forward_backward":
            tensors |= {f"grad_{name}" for name in case.operator.input_shapes}
        assert errors[row.name].keys() == tensors
        baseline = errors[row.baseline] if row.baseline != row.name else None
        found = {key: math.nan if error is None else error for key, error in errors[row.name].items()}
        verdict = checks.judge(found, baseline, dtype=case.dtype, longest=case.operator.longest_axis)
        assert verdict.passed, f"{row.name}: {verdict.message}"
    assert len(errors) >= 2


def test_every_operator_is_here():
    assert LABELS.keys() == OPERATORS.keys()
