"""Every implementation, fused or not, computes its operator, by the project's own check.

One worker process for each framework: the check is the one a run makes, and frameworks share no process.
"""

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
    "softmax": ("7x13", "5x171"),
    "cross_entropy": ("7x13", "5x171_mean"),
    "rotary": ("b2_h6_kv2_s7_d6", "b1_h2_s5_d10"),
    "swiglu": ("7x5x13", "9x17x5"),
    "embedding": ("7x13x5", "171x5x3"),  # few repeated rows, and many
}
CONDITIONS = [(dtype, pass_) for dtype in ("float32", "bfloat16") for pass_ in PASSES]

# Every implementation is checked for each operator in both dtypes and passes, each at one of two shapes; but
# those of torch.compile, which takes seconds for a case, once for each operator, and over the operators in
# all dtypes and passes. FUSEPROOF_MATRIX=full checks every implementation in every case (minutes).
FULL = os.environ.get("FUSEPROOF_MATRIX") == "full"
COMPILED_BY_TORCH = list(
    dict.fromkeys(one.name for one in IMPLEMENTATIONS if one.framework == "torch" and one.compiled)
)


def chosen(labels, turn):
    return labels if FULL else (labels[turn in (1, 2)],)


CASES = [
    Case.from_group(f"{operator}[{label}-{dtype}-{pass_}]")
    for operator, labels in LABELS.items()
    for turn, (dtype, pass_) in enumerate(CONDITIONS)
    for label in chosen(labels, turn)
    if OPERATORS[operator].from_label(label).reason_against(dtype, pass_) is None
]

PLAIN_PRODUCT = "a plain product leaves nothing to write in place"
NO_SUCH_SHAPE = "no result has the shape of {}, so its memory cannot be used again"
# The input that is donated where a forward pass gives nothing of its shape.
DONATED_IN_VAIN = {"matmul": "a", "cross_entropy": "logits", "embedding": "table"}


def implementations_of(case, framework):
    for implementation in IMPLEMENTATIONS:
        if (implementation.workload, implementation.framework) != (case.workload.name, framework):
            continue
        if case.pass_ not in implementation.passes:
            continue
        if implementation.reason_not_on("cpu") is not None:
            continue
        if framework == "torch" and implementation.compiled and not FULL:
            turn = list(LABELS).index(implementation.workload) + COMPILED_BY_TORCH.index(implementation.name)
            if (case.dtype, case.pass_) != CONDITIONS[turn % len(CONDITIONS)]:
                continue
        yield implementation


def reason_against(implementation, case):
    """The message for an implementation that works on the CPU but cannot compute this case, else None."""
    operator = implementation.workload
    if case.pass_ == "forward":
        if implementation.name == "jax.jit-donate" and operator in DONATED_IN_VAIN:
            return NO_SUCH_SHAPE.format(DONATED_IN_VAIN[operator])
        if (operator, implementation.name) == ("matmul", "torch.eager-inplace"):
            return None if case.workload.bias_gelu_tanh else PLAIN_PRODUCT
    return None


@pytest.fixture(scope="module", params=FRAMEWORKS)
def worker(request, start_worker):
    return request.param, start_worker(request.param)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.group)
def test_it_computes_the_operator(worker, case):
    framework, process = worker
    process.open_case(case.group)
    errors = {}
    for implementation in implementations_of(case, framework):
        if (reason := reason_against(implementation, case)) is not None:
            with pytest.raises(WorkerSkip, match=reason):
                process.prepare(implementation)
            continue
        process.prepare(implementation)
        found = errors[implementation.name] = process.errors(implementation.name)
        assert found.keys() == case.workload.results(case.pass_).keys()
        baseline = errors[implementation.baseline] if implementation.baseline != implementation.name else None
        verdict = checks.judge(found, baseline, dtype=case.dtype, longest=case.workload.longest_axis)
        assert verdict.passed, f"{implementation.name}: {verdict.message}"
    assert len(errors) >= 2


def test_every_operator_is_here():
    assert LABELS.keys() == OPERATORS.keys()
