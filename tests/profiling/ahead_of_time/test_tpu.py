"""Compiling for TPUs without having one, with the real compiler: XLA, Pallas, TensorFlow, user code."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from fuseproof import implementations
from fuseproof.cases import Case
from fuseproof.cli import main
from fuseproof.errors import UserError
from fuseproof.fusion.programs import hlo
from fuseproof.profiling import readers
from fuseproof.profiling.ahead_of_time import families
from fuseproof.profiling.ahead_of_time.request import Request
from fuseproof.profiling.ahead_of_time.tpu import programs
from fuseproof.profiling.ahead_of_time.tpu.results import Result
from fuseproof.profiling.ahead_of_time.tpu.targets import TARGETS
from fuseproof.profiling.ahead_of_time.tpu.text import render_text
from fuseproof.profiling.readers import xla_schedule
from fuseproof.profiling.timeline.model import KIND
from fuseproof.reports.claims import reductions
from fuseproof.workloads.operators import OPERATORS

for package in ("jax", "libtpu"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; pip install 'fuseproof[tpu]'", allow_module_level=True)

CASES = tuple(
    Case.from_group(f"{case}-bfloat16-{pass_}]")
    for case in (
        "attention[b1_h2_kv1_s300_d64_causal",
        "matmul[200x300x400_bias_gelu_tanh",
        "layer_norm[200x300_residual",
    )
    for pass_ in ("forward", "forward_backward")
)
KERNELS = {
    ("attention", "forward"): 1,
    ("attention", "forward_backward"): 3,
    ("matmul", "forward"): 1,
    ("matmul", "forward_backward"): 3,
    ("layer_norm", "forward"): 1,
    ("layer_norm", "forward_backward"): 2,
}

USER_FILE = """
import os
from fuseproof import Implementation

def layer_norm(x, weight, bias, *, residual=None):
    import jax.numpy as jnp
    s = x.astype(jnp.float32) - x.astype(jnp.float32).mean(-1, keepdims=True)
    return (s / jnp.sqrt((s * s).mean(-1, keepdims=True) + 1e-5) * weight + bias).astype(x.dtype)

def loop(x, weight, bias, *, residual=None):
    import jax
    return jax.lax.fori_loop(0, 5, lambda _, y: layer_norm(y, weight, bias), x)

def raises(x, weight, bias, *, residual=None):
    raise ValueError("of several\\nlines")

def crashes(x, weight, bias, *, residual=None):
    os.abort()

def not_on_tpu(x, weight, bias, *, residual=None):
    raise NotImplementedError("only for other shapes")

def in_tensorflow(x, weight, bias, *, residual=None):
    import tensorflow as tf
    s = tf.cast(x, tf.float32)
    mean, variance = tf.nn.moments(s, axes=[-1], keepdims=True)
    return tf.cast((s - mean) / tf.sqrt(variance + 1e-5), x.dtype) * weight + bias

IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"mine.{name}", framework=framework, target=f"{__file__}:{name}")
    for name, framework in (
        ("layer_norm", "jax"), ("loop", "jax"), ("raises", "jax"), ("crashes", "jax"), ("not_on_tpu", "jax"),
        ("in_tensorflow", "tensorflow"),
    )
)
"""


def compiled(*arguments, **options):
    """The JSON of the results."""
    return [result.to_json() for result in programs.compile_all(*arguments, **options)]


def printed(*documents):
    return render_text([Result.from_json(document) for document in documents])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """All operators and passes, plain XLA and Pallas, on v5e; one case of each operator on the others."""
    chosen = [each for each in implementations.table() if each.name in ("jax.jit", "pallas")]
    folder = tmp_path_factory.mktemp("tpu")
    found = compiled(["tpu-v5e"], CASES, chosen, output=folder)
    found += compiled(["tpu-v5p", "tpu-v6e"], CASES[::2], chosen)
    return {(r["target"], r["case"], r["implementation"]): r for r in found}, folder


@pytest.fixture(scope="module")
def user_results(tmp_path_factory):
    file = tmp_path_factory.mktemp("user") / "mine.py"
    file.write_text(USER_FILE)
    chosen = [
        each
        for each in implementations.table([f"{file}:IMPLEMENTATIONS"])
        if each.name.startswith("mine.") or each.name in ("jax.jit", "jax.jit-donate")
    ]
    found = compiled(
        ["tpu-v5e"], [Case.from_group("layer_norm[64x256-bfloat16-forward]")], chosen, without_fusion=True
    )
    return {r["implementation"]: r for r in found}


HEAD = ("target", "topology", "chips", "case", "implementation", "estimate", "label", "status")
FIGURES = (
    "device_kind", "versions", "measured_here", "flops", "transcendentals", "bytes_accessed",
    "optimal_seconds", "argument_bytes", "output_bytes", "donated_bytes", "temporary_bytes", "peak_bytes",
    "code_bytes", "fusions", "fused_instructions", "launched_instructions", "computing_instructions",
    "custom_calls", "collectives", "kernels", "estimated_cycles", "vmem_bytes", "schedule", "memory_plan",
)  # fmt: skip


def test_every_key_of_the_json_and_back(results, user_results):
    """In order: of what compiles, without and with the comparison, with a warning, and of what does not."""
    keys = {
        "jax.jit": [*HEAD, *FIGURES, "without_fusion"],
        "mine.loop": [*HEAD, *FIGURES, "warning", "without_fusion"],
        "mine.raises": [*HEAD, "reason"],
        "mine.not_on_tpu": [*HEAD, "reason"],
    }
    assert {name: list(user_results[name]) for name in keys} == keys
    assert all(list(result) == [*HEAD, *FIGURES] for result in results[0].values())
    for document in (*user_results.values(), *results[0].values()):
        again = Result.from_json(document).to_json()
        assert json.dumps(again) == json.dumps(document)


def test_everything_compiles_and_is_labelled(results):
    found, _ = results
    assert len(found) == 2 * (6 + 3 + 3)
    for result in found.values():
        assert (result["status"], result["estimate"]) == ("ok", True), result
        assert result["label"] == "estimated by the compiler, not measured"
        assert set(result["versions"]) == {"jax", "jaxlib", "libtpu"}
        assert result["chips"] == 1
        json.dumps(result, allow_nan=False)


def test_the_schedule_s_peak_memory_is_the_compiler_s(results):
    for result in results[0].values():
        plan = result["memory_plan"]
        assert plan["peak_bytes"] == result["peak_bytes"]
        assert result.get("warning") is None
        highest = max(step["hbm_live_bytes"] for step in result["schedule"])
        assert highest == plan["resident_bytes"] + plan["hbm_temporary_peak_bytes"] <= result["peak_bytes"]


def test_the_drawn_schedule_s_peaks_are_the_compiler_s(results):
    found, folder = results
    for result in found.values():
        timeline = xla_schedule.to_timeline(result, "plan")
        total, hbm, vmem = timeline.memory
        assert total.peak_bytes == total.stated_peak_bytes == result["peak_bytes"]
        assert hbm.peak_bytes <= total.peak_bytes and vmem.peak_bytes == result["vmem_bytes"]
        cycles = sum(step["estimated_cycles"] or 0 for step in result["schedule"])
        assert sum(device.busy_ns for device in timeline.devices()) == cycles
        kernels = np.count_nonzero(timeline.slices.kind == KIND["unestimated"])
        assert kernels >= result["kernels"]
    # The folder of the compiler's files gives the same, by the result left there and without it.
    timelines = readers.load_all(folder)
    assert [timeline.memory[0].peak_bytes for timeline in timelines] == [
        json.loads(file.read_text())["peak_bytes"] for file in sorted(folder.rglob("result.json"))
    ]
    dumps = [
        xla_schedule.load_dump(file) for file in sorted(folder.rglob("*optimizations-buffer-assignment.txt"))
    ]
    assert [dump.memory[0].peak_bytes for dump in dumps] == [t.memory[0].peak_bytes for t in timelines]
    assert [dump.span_ns for dump in dumps] == [timeline.span_ns for timeline in timelines]


def test_arguments_and_results_are_those_of_the_operator(results):
    for (_, group, _), result in results[0].items():
        case = Case.from_group(group)
        least = case.workload.minimum_bytes("forward", case.dtype)
        # Tiles pad them: 300 columns take 384.
        assert result["argument_bytes"] + result["output_bytes"] >= least
        assert result["memory_plan"]["resident_bytes"] >= result["argument_bytes"]


def test_kernels_are_counted_and_cost_what_they_state(results):
    for (_, group, name), result in results[0].items():
        case = Case.from_group(group)
        assert result["kernels"] == (KERNELS[case.workload.name, case.pass_] if name == "pallas" else 0)
        assert (result["estimated_cycles"] is None) == (name == "pallas")
        if case.workload.name == "layer_norm":
            continue
        stated = case.workload.flops(case.pass_)
        if name == "pallas" and case.workload.name == "attention" and case.pass_ == "forward_backward":
            stated = stated * 9 // 7  # both backward kernels compute q kᵀ and do vᵀ: 9 products, not 7
        if name == "pallas":
            assert stated <= result["flops"] <= 1.05 * stated


def test_the_schedule_is_the_module_s(results):
    found, folder = results
    for (target, group, name), result in found.items():
        if target != "tpu-v5e":
            continue
        text = (folder / "tpu-v5e-1x1" / group / name / "optimized.hlo.txt").read_text()
        module = hlo.parse(text)
        assert module.is_scheduled
        scheduled = [step["instruction"] for step in result["schedule"]]
        assert scheduled == [i.name for i in module.entry.instructions]
        assert result["fusions"] == sum(step["opcode"] == "fusion" for step in result["schedule"])
        cycles = [step["estimated_cycles"] or 0 for step in result["schedule"]]
        assert result["estimated_cycles"] in (None, sum(cycles))


def test_flash_attention_needs_no_memory_for_scores(results):
    found, _ = results
    group = CASES[0].group
    for target in TARGETS:
        plain, flash = (found[target, group, name] for name in ("jax.jit", "pallas"))
        scores = 2 * 300 * 300 * 4
        temporaries = [
            max(s["hbm_live_bytes"] + s["vmem_live_bytes"] for s in r["schedule"])
            - r["memory_plan"]["resident_bytes"]
            for r in (plain, flash)
        ]
        assert temporaries[0] >= scores
        assert temporaries[1] < scores


def test_a_user_s_functions_compile(user_results):
    assert user_results["mine.layer_norm"]["status"] == "ok"
    assert user_results["mine.layer_norm"]["fusions"] >= 1


def test_fusion_is_what_the_fusion_passes_do(user_results):
    """With them off no instruction is fused, and more is live at once."""
    result = user_results["jax.jit"]
    apart = result["without_fusion"]
    # Two means, their broadcasts, the square, the differences, the root, weight and bias; twenty or so.
    assert apart["computing_instructions"] > 2 * result["computing_instructions"]
    assert apart["peak_bytes"] > result["peak_bytes"]
    assert apart["bytes_accessed"] > 2 * result["bytes_accessed"]
    assert result["fusions"] <= result["computing_instructions"] <= result["launched_instructions"]
    assert "computing instructions instead of" in printed(result)


def test_a_donated_input_lends_its_memory_to_the_result(user_results):
    plain, donating = user_results["jax.jit"], user_results["jax.jit-donate"]
    assert (plain["donated_bytes"], donating["donated_bytes"]) == (0, 64 * 256 * 2)
    assert donating["peak_bytes"] <= plain["peak_bytes"] - 64 * 256 * 2
    assert donating["memory_plan"]["peak_bytes"] == donating["peak_bytes"]


def test_a_loop_whose_buffers_the_compiler_counts_twice_carries_a_warning(user_results):
    """A loop writes its state in place: what is read and what is written lie at one address."""
    loop = user_results["mine.loop"]
    assert loop["status"] == "ok"
    assert loop["memory_plan"]["peak_bytes"] < loop["peak_bytes"]
    assert "counts bytes that values share more than once" in loop["warning"]
    assert loop["schedule"]


def test_what_a_loop_does_once_is_not_taken_for_all_of_it(user_results, tmp_path):
    loop = user_results["mine.loop"]
    assert "loop or branch, which is counted as if it ran once" in loop["warning"]
    counted = ("flops", "transcendentals", "bytes_accessed", "optimal_seconds", "estimated_cycles")
    assert {loop[key] for key in (*counted, "launched_instructions", "computing_instructions")} == {None}
    assert loop["without_fusion"]["computing_instructions"] is None
    assert loop["peak_bytes"] > 0
    assert "without fusion: - computing instructions instead of -" in printed(loop)
    file = tmp_path / "estimates.json"
    file.write_text(json.dumps([loop]))
    estimates = reductions.load_estimates(file)
    (kernels,) = reductions.estimated(estimates, "tpu-v5e", "mine.loop", "kernels")
    assert kernels.ratio is None and not kernels.failed and "counted as if it ran once" in kernels.problem
    (memory,) = reductions.estimated(estimates, "tpu-v5e", "mine.loop", "peak_memory")
    assert memory.ratio > 0


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="pip install 'fuseproof[tensorflow]'"
)
def test_a_user_s_tensorflow_function_compiles(user_results):
    result = user_results["mine.in_tensorflow"]
    assert result["status"] == "ok", result
    assert result["fusions"] >= 1
    assert result["memory_plan"]["peak_bytes"] == result["peak_bytes"]


def test_eager_functions_are_left_to_their_compiled_twins_and_a_user_s_all_compile(tmp_path):
    jitted = next(
        r for r in implementations.IMPLEMENTATIONS if (r.workload, r.name) == ("layer_norm", "jax.jit")
    )
    same = dataclasses.replace(jitted, name="mine.same")
    strange = dataclasses.replace(jitted, name="mine.strange", consumes=("nope",))
    eager = [each for each in implementations.table() if each.name in ("jax.eager", "tf.function")]
    case = Case.from_group("layer_norm[16x128-bfloat16-forward]")
    found = compiled(["tpu-v5e"], [case], [*eager, same, strange], output=tmp_path)
    by_name = {result["implementation"]: result for result in found}
    assert list(by_name) == ["jax.eager", "tf.function", "mine.same", "mine.strange"]
    assert by_name["mine.same"]["status"] == "ok"
    assert by_name["mine.strange"]["reason"] == "consumes nope, which are not inputs of this case"
    assert by_name["jax.eager"]["reason"] == "ahead of time this is the program of jax.jit"
    assert by_name["tf.function"]["status"] == "skipped"
    with pytest.raises(UserError, match="cannot write to /proc/nope"):
        programs.compile_all(["tpu-v5e"], [case], [same], output=Path("/proc/nope"))


def test_what_does_not_compile_says_why_in_one_line(user_results):
    assert user_results["mine.raises"]["status"] == "failed"
    assert user_results["mine.raises"]["reason"] == "ValueError: of several lines"
    assert user_results["mine.crashes"]["status"] == "failed"
    assert user_results["mine.crashes"]["reason"] == "the compiling process died of SIGABRT"
    assert user_results["mine.not_on_tpu"]["status"] == "skipped"
    assert user_results["mine.not_on_tpu"]["reason"] == "only for other shapes"


def test_sharded_over_four_chips():
    cases = [
        Case.from_group(group)
        for group in (
            "matmul[1024x768x3072-bfloat16-forward]",
            "attention[b1_h4_s256_d64-bfloat16-forward]",
            "layer_norm[255x256-bfloat16-forward]",
        )
    ]
    names = ("jax.jit", "pallas", "torch.eager")
    chosen = [each for each in implementations.table() if each.name in names]
    found = compiled(["tpu-v5e"], cases, chosen, topology="2x2")
    by_name = {(r["case"].split("[")[0], r["implementation"]): r for r in found}
    assert by_name["matmul", "jax.jit"]["collectives"] == {"reduce-scatter": 1}
    assert by_name["matmul", "jax.jit"]["chips"] == 4
    assert by_name["attention", "jax.jit"]["collectives"] == {"all-gather": 2}
    assert by_name["layer_norm", "jax.jit"]["reason"] == "x: 255 cannot be split over 2 chips"
    assert "shard_map" in by_name["matmul", "pallas"]["reason"]
    assert "torch_xla" in by_name["matmul", "torch.eager"]["reason"]


def test_every_operator_is_split_over_four_chips():
    """As its part of a tensor-parallel model: what crosses chips is what such a model sends."""
    sent = {
        "softmax[256x256-bfloat16-forward]": {"all-reduce": 2},  # maximum and sum of columns on two chips
        "cross_entropy[256x512_mean-bfloat16-forward_backward]": {"all-reduce": 4},
        "rotary[b1_h4_s256_d64-bfloat16-forward_backward]": {},
        "swiglu[256x128x256-bfloat16-forward]": {"all-reduce": 1},  # what down's halves add up to
        "embedding[256x512x128-bfloat16-forward]": {"all-reduce": 1},  # rows from half of the table
        "rms_norm[256x256-bfloat16-forward]": {"all-reduce": 1},
    }
    cases = [Case.from_group(group) for group in sent]
    chosen = [each for each in implementations.table() if each.name == "jax.jit"]
    found = compiled(["tpu-v5e"], cases, chosen, topology="2x2")
    assert {each["case"]: each["collectives"] for each in found} == sent
    covered = {case.workload.name for case in cases} | {"attention", "matmul", "layer_norm"}
    assert covered == set(OPERATORS), "the others are in the test above"


def test_the_command(capsys, tmp_path):
    case = "layer_norm[64x256-bfloat16-forward]"
    arguments = ["compile", "--target", "tpu-v5e", "--case", case, "--only", "jax.jit,pallas,triton"]
    assert main([*arguments, "--schedule", "-o", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "estimated by the compiler, not measured" in printed
    assert "torch_xla" in printed
    assert any(Path(tmp_path).rglob("*buffer-assignment.txt"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "tpu-v9"], "unknown target 'tpu-v9'; there are tpu-v5e, tpu-v5p, tpu-v6e"),
        (["--target", "tpu-v5e", "--topology", "3x3"], "unknown topology '3x3'; there are 1x1, 2x2, 4x4"),
        (["--target", "tpu-v5e", "--only", "none"], "unknown implementation 'none'"),
        (["--target", "tpu-v5e", "--case", "matmul"], "'matmul' is not a case"),
        (["--target", "tpu-v5e", "--operator", "convolution"], "unknown operator 'convolution'"),
        (["--target", "tpu-v5e", "--only", "jax.jit", "--implementations", "no.py:X"], "no such file"),
    ],
)
def test_bad_input_is_one_line(arguments, says, capsys):
    assert main(["compile", *arguments]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1


def test_without_the_compiler_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fuseproof\[tpu\]'"):
        families.run(Request(targets=["tpu-v5e"]))


def test_a_workload_of_a_user(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "from fuseproof import Implementation, Operator\n"
        "class Scaled(Operator):\n"
        "    rows: int\n"
        "    named_shapes = {'small': {'rows': 256}}\n"
        "    def draw_inputs(self, rng):\n"
        "        values = rng.standard_normal((self.rows, 128))\n"
        "        return {'x': values, 'by': {'weight': rng.standard_normal(128)}}\n"
        "    def forward(self, x, by): return np.tanh(x) * by['weight']\n"
        "def scaled(x, by):\n"
        "    import jax.numpy as jnp\n"
        "    return jnp.tanh(x) * by['weight']\n"
        "OWN = [Implementation('scaled', 'jax.jit', framework='jax', target=':scaled', compiled='jit')]\n"
    )
    assert main(["compile", "--target", "tpu-v5e", "--workloads", str(file), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [(each["case"], each["status"]) for each in results] == [
        (f"scaled[rows256-float32-{pass_}]", "ok") for pass_ in ("forward", "forward_backward")
    ]
    assert all(each["bytes_accessed"] >= 256 * 128 * 4 for each in results)
