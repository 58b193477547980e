"""Every implementation that is fused or not computes its operator, by the project's own check.

One worker process for each framework: the check is the one a run makes, and frameworks share no process.
"""

import math
import os

import pytest

from fuseproof.cases import Case
from fuseproof.implementations import FRAMEWORKS, IMPLEMENTATIONS
from fuseproof.measure import checks
from fuseproof.measure.worker_process import WorkerSkip
from fuseproof.workloads.operators import OPERATORS, PASSES

# Odd shapes, grouped heads, masks over unequal lengths, and both forms of what follows the operator.
LABELS = {
    "attention": ("b2_h6_kv2_s7_k5_d3", "b1_h2_s5_k9_d8_causal"),
    "matmul": ("7x5x3", "9x17x5_bias_gelu_tanh"),
    "layer_norm": ("7x13", "5x17_residual"),
    "rms_norm": ("7x13", "5x17_residual"),
}
CONDITIONS = [(dtype, pass_) for dtype in ("float32", "bfloat16") for pass_ in PASSES]

# Every row is checked for each operator in both dtypes and passes, each at one of two shapes; but those of
# torch.compile, which takes seconds for a case, once for each operator, and over the operators in all
# dtypes and passes. FUSEPROOF_MATRIX=full checks every row in every case (minutes).
FULL = os.environ.get("FUSEPROOF_MATRIX") == "full"
COMPILED_BY_TORCH = list(
    dict.fromkeys(row.name for row in IMPLEMENTATIONS if row.framework == "torch" and row.compiled)
)


def chosen(labels, turn):
    return labels if FULL else (labels[turn in (1, 2)],)


CASES = [
    Case.from_group(f"{operator}[{label}-{dtype}-{pass_}]")
    for operator, labels in LABELS.items()
    for turn, (dtype, pass_) in enumerate(CONDITIONS)
    for label in chosen(labels, turn)
]

PLAIN_PRODUCT = "a plain product leaves nothing to write in place"
NO_SUCH_SHAPE = "no result has the shape of a, so its memory cannot be used again"


def implementations_of(case, framework):
    for row in IMPLEMENTATIONS:
        if (row.operator, row.framework) != (case.operator.name, framework) or case.pass_ not in row.passes:
            continue
        if row.reason_not_on("cpu") is not None:
            continue
        if framework == "torch" and row.compiled and not FULL:
            turn = list(LABELS).index(row.operator) + COMPILED_BY_TORCH.index(row.name)
            if (case.dtype, case.pass_) != CONDITIONS[turn % len(CONDITIONS)]:
                continue
        yield row


def reason_it_has_none(row, case):
    """Why a row that works on the CPU cannot compute one case, as the user is told."""
    if row.operator == "matmul" and case.pass_ == "forward":
        if row.name == "jax.jit-donate":
            return NO_SUCH_SHAPE
        if row.name == "torch.eager-inplace" and not case.operator.bias_gelu_tanh:
            return PLAIN_PRODUCT
    return None


@pytest.fixture(scope="module", params=FRAMEWORKS)
def worker(request, start_worker):
    return request.param, start_worker(request.param)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.group)
def test_it_computes_the_operator(worker, case):
    framework, process = worker
    process.open_case(case.group)
    errors = {}
    for row in implementations_of(case, framework):
        if (reason := reason_it_has_none(row, case)) is not None:
            with pytest.raises(WorkerSkip, match=reason):
                process.prepare(row)
            continue
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
