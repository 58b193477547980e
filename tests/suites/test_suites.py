"""The suites for a GPU: what they hold, and how long they should take on one, by assumptions stated here."""

import dataclasses
import math

import pytest

from fuseproof import suites
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS
from fuseproof.measure import planning
from fuseproof.measure.planning import Selection
from fuseproof.reports.claims.judge import MIN_CASES
from fuseproof.reports.claims.population import batch_of
from fuseproof.runs.plan import Settings
from fuseproof.workloads.blocks import BLOCKS
from fuseproof.workloads.operators import result_dtype

# Assumptions about a machine with one H100 and 16 cores, none of them a measurement of Fuseproof there. Rates
# of the GPU: half of the datasheet's (989 TFLOP/s in bfloat16, 3.35 TB/s).
FLOPS, BANDWIDTH = 0.5 * 989e12, 0.5 * 3.35e12
START = 8.0  # a worker: Python, PyTorch, the CUDA context
COLD = {"torch.compile": 5.0, "triton": 3.0}  # first call with empty caches: compile, tune
WARM = {"torch.compile": 1.5}  # in a block, from the caches
OTHER = 0.2
DRAW = 3e-9  # per element: 16 cores draw and round it, and it is sent to the GPU
FETCH = 3e-9  # per element of a result: sent to the host, looked through
SCORE = 30e-9  # per score of the attention reference with gradients, on two threads


def implementations_of(suite):
    chosen = planning.wanted(IMPLEMENTATIONS, (), usual=suite.only)
    # Installed, they take about as long as Fuseproof's kernels.
    packages = {"flash-attn", "xformers", "liger", "quack", "helion"}
    return [
        each for each in IMPLEMENTATIONS if (each.workload, each.name) in chosen and each.name not in packages
    ]


def estimate(suite):
    """Seconds of starting, checking and measuring a suite with its first number of blocks."""
    seconds = START * (1 + suite.blocks)
    for case in suite.cases:
        chosen = [
            each
            for each in implementations_of(suite)
            if each.workload == case.workload.name and case.dtype in each.dtypes
        ]
        backward = case.pass_ != "forward"
        inputs = sum(math.prod(shape) for shape in case.workload.input_shapes.values())
        output = sum(tensor.size for tensor in case.workload.outputs_by_name.values())
        draw = DRAW * (inputs + backward * output)
        fetch = FETCH * (output + backward * inputs)
        call = max(
            20e-6,
            case.workload.flops(case.pass_) / FLOPS,
            case.workload.minimum_bytes(case.pass_, case.dtype) / BANDWIDTH,
        )
        reference = 0.5
        if backward and case.workload.name == "attention":
            scores = case.workload.query_length * case.workload.key_length
            share = case.workload.query_heads // case.workload.key_value_heads
            reference += SCORE * max(2 * share * scores, min(4 * share * scores, 1 << 28))
        seconds += 3 * draw + 2 * reference
        seconds += sum(COLD.get(each.name, OTHER) + 2 * fetch + 20 * call for each in chosen)
        legs = 2 * suite.palindromes * len(chosen) * 1.3 * max(suite.leg_seconds, 2 * call)
        seconds += suite.blocks * (draw + legs + sum(WARM.get(each.name, OTHER) for each in chosen))
    return seconds


KERNELS = ("kernels", "kernels_attention", "kernels_matmul", "kernels_norms", "kernels_operators")


@pytest.mark.parametrize("name", KERNELS)
def test_a_suite_for_a_gpu_should_end_in_time(name, record_property):
    seconds = estimate(suites.get(name))
    record_property("estimated_seconds", round(seconds))
    assert seconds < (540 if name == "kernels" else 1500)


def test_the_kernels_are_planned_with_their_baselines_and_no_other_framework():
    planned_of = {}
    for name in KERNELS:
        suite = suites.get(name)
        planned = planning.make(suite, IMPLEMENTATIONS, Selection(), Settings(device="cuda"))
        planned_of[name] = planned
        assert planned.frameworks == ("torch",)
        for case in planned.cases:
            assert "torch.eager" in {
                each.name for each in planned.implementations if each.workload == case.workload.name
            }
    for name, operator in (("kernels_norms", "layer_norm"), ("kernels_operators", "cross_entropy")):
        chosen = {(each.workload, each.name) for each in planned_of[name].implementations}
        assert {(operator, "torch.compile"), (operator, "triton")} <= chosen
    matmul = planning.make(suites.get("kernels"), IMPLEMENTATIONS, Selection(), Settings(device="cuda"))
    assert ("matmul", "torch.compile") not in {(each.workload, each.name) for each in matmul.implementations}
    assert planning.settings_for(suites.get("kernels"), device="cuda", threads=1).profile is False


def test_a_suite_for_a_gpu_does_not_start_hours_on_a_cpu():
    suite = suites.get("kernels")
    with pytest.raises(UserError, match="'kernels' is made for cuda; add --device cuda"):
        planning.make(suite, IMPLEMENTATIONS, Selection(), Settings())
    group = "layer_norm[64x128-float32-forward]"
    assert planning.make(suite, IMPLEMENTATIONS, Selection(cases=(group,)), Settings()).cases


def test_the_shapes_are_those_the_kernels_are_judged_by():
    attention = {case.workload.label for case in suites.get("kernels_attention").cases}
    assert {"b32_h32_s512_d64", "b1_h16_s16384_d128_causal", "b4_h8_s4096_d256"} <= attention
    assert len(attention) == 6 * 3 * 2 + 3
    matmul = {case.workload.label for case in suites.get("kernels_matmul").cases}
    assert {"98x4096x128256", "1x14336x4096", "8192x8192x8192"} <= matmul
    assert len(matmul) == 4 + 4 * 6
    norms = {case.group for case in suites.get("kernels_norms").cases}
    assert "rms_norm[8192x262144-bfloat16-forward]" in norms
    core = suites.get("kernels").cases
    for operator in ("attention", "matmul", "layer_norm", "rms_norm"):
        sizes = sorted(
            case.workload.minimum_bytes("forward", case.dtype)
            for case in core
            if case.workload.name == operator
        )
        assert sizes[0] < 4 << 20, "a shape bound by the launch"
        assert any(4 << 20 <= size < 50 << 20 for size in sizes), "one within the 50 MB of an H100's L2"
        assert sizes[-1] > 100 << 20, "one that HBM must feed"


def test_every_case_has_a_name_that_names_it():
    for name in suites.names():
        suite = suites.get(name)
        for group in suite.groups:
            assert Case.from_group(group).group == group
        for case in suite.cases:
            assert Case.from_group(case.group) == case
            assert result_dtype(case.dtype)


def test_a_population_has_the_same_blocks_dtypes_and_passes_at_both_scales():
    small, large = (suites.get("claims-blocks", scale) for scale in ("cpu", "gpu"))
    found = [[Case.from_group(group) for group in suite.modules] for suite in (small, large)]
    kinds = [[(each.workload.name, each.dtype, each.pass_) for each in cases] for cases in found]
    assert kinds[0] == kinds[1]
    assert {name for name, _, _ in kinds[0]} == set(BLOCKS)
    assert (small.scale, small.device) == ("cpu", "")
    assert (large.scale, large.device) == ("gpu", "cuda")
    assert suites.get("claims-blocks") == small
    for one, other in zip(*found, strict=True):
        assert one.group != other.group, "a name says how large its case is"
        assert one.workload.flops(one.pass_) < other.workload.flops(other.pass_)


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_claims_of_either_batch_find_enough_inference(scale):
    groups = [group for group in suites.get("claims-blocks", scale).modules if "-float32-inference" in group]
    assert len([group for group in groups if batch_of(group) == 1]) == len(BLOCKS)
    assert len([group for group in groups if batch_of(group) >= 32]) >= MIN_CASES


def test_inference_takes_the_statistics_that_it_is_given():
    cases = [Case.from_group(group) for group in suites.get("claims-blocks").modules]
    labels = {(each.pass_, each.workload.frozen) for each in cases if each.workload.name == "conv_residual"}
    assert labels == {("inference", True), ("training_step", False)}


def test_a_suite_of_one_size_has_no_scale():
    with pytest.raises(UserError, match="the suite 'demo' has one size; leave out --scale gpu"):
        suites.get("demo", "gpu")
    assert suites.get("demo").scale == ""


def test_the_scale_is_in_the_settings():
    for scale in ("cpu", "gpu"):
        suite = suites.get("claims-blocks", scale)
        settings = planning.settings_for(suite, device="cpu", threads=1)
        assert settings.scale == scale
        assert Settings.from_json(dataclasses.asdict(settings)) == settings
