"""A user's Triton kernels compiled for GPUs that are not there, by the real compiler."""

import importlib.util
import json
import textwrap

import pytest

from fuseproof.cli import main

for package in ("torch", "triton"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; pip install 'fuseproof[gpu]'", allow_module_level=True)

FILE = """
import torch, triton
import triton.language as tl
from fuseproof import Implementation, Operator

class Twice(Operator):
    rows: int
    columns: int
    named_shapes = {"small": {"rows": 3, "columns": 100}}
    def draw_inputs(self, rng):
        return {"x": rng.standard_normal((self.rows, self.columns)), "at": rng.integers(0, 3, (self.rows,))}
    def forward(self, x, at):
        return 2 * x

@triton.jit
def scale(x, at, y, by, stride, columns, BLOCK: tl.constexpr = 64):
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(at + tl.program_id(0)) * 0 + tl.program_id(0)
    tl.store(y + row * stride + i, by * tl.load(x + row * stride + i, mask=i < columns), mask=i < columns)

tuned = triton.autotune(
    [triton.Config({"BLOCK": block}, num_warps=warps) for block, warps in ((64, 1), (128, 2))],
    key=["columns"],
)(scale)
ragged = triton.heuristics({"BLOCK": lambda given: triton.next_power_of_2(given["columns"])})(scale)

class Scale(torch.autograd.Function):
    @staticmethod
    def forward(context, x, at):
        context.save_for_backward(at)
        return launch(scale, x, at, 2.0)
    @staticmethod
    def backward(context, dy):
        return launch(scale, dy.contiguous(), context.saved_tensors[0], 2), None

def launch(kernel, x, at, by, **more):
    y = torch.empty_like(x)
    blocks = lambda given: (x.shape[0], triton.cdiv(x.shape[1], given["BLOCK"]))
    kernel[blocks](x, at, y, by, x.stride(0), x.shape[1], **more)
    return y

def eager(x, at): return 2 * x
def plain(x, at): return launch(scale, x, at, 2.0, num_warps=8)
def twice(x, at): return launch(scale, launch(scale, x, at, 1.0), at, 2.0)
def both(x, at): return launch(scale, launch(scale, x, at, 2.0), at, 2.0, num_warps=2)
def autotuned(x, at): return launch(tuned, x, at, 2.0)
def with_heuristics(x, at): return launch(ragged, x, at, 2.0)
def differentiable(x, at): return Scale.apply(x, at)
def picky(x, at):
    assert x.is_cuda, "x must be on a GPU"
def wrong(x, at): return launch(scale, x, at, "two")

NORMS = [Implementation("layer_norm", "torch.mine", framework="torch", target=":eager")]
OWN = [
    Implementation("twice", f"torch.{target}", framework="torch", target=f":{target}")
    for target in (
        *("eager", "plain", "twice", "both", "autotuned", "with_heuristics", "differentiable"),
        *("picky", "wrong"),
    )
]
"""
CASE = "twice[rows3_columns100-float16-{}]"


@pytest.fixture
def compiled(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(textwrap.dedent(FILE))
    monkeypatch.chdir(tmp_path)

    def run(only, pass_="forward", *more):
        code = main(
            ["compile", "--target", "sm_90", "--workloads", "mine.py", "--case", CASE.format(pass_), "--json"]
            + (["--only", only] if only else [])
            + list(more)
        )
        return code, json.loads(capsys.readouterr().out)

    return run


def test_every_launch_of_a_call_is_compiled(compiled, tmp_path):
    code, found = compiled("torch.plain,torch.both,torch.twice", "forward", "-o", str(tmp_path / "files"))
    assert code == 0
    launches = {each["launch"]: each for each in found if each["status"] == "ok"}
    case = CASE.format("forward")
    assert launches.keys() == {
        f"scale {case} torch.plain",
        f"scale {case} torch.twice",
        f"scale-2 {case} torch.twice",
        f"scale {case} torch.both",
        f"scale-2 {case} torch.both",
    }, "launches that are compiled to the same are one"
    plain = launches[f"scale {case} torch.plain"]
    assert (plain["target"], plain["operator"], plain["dtype"], plain["num_warps"]) == (
        *("sm_90", "twice", "float16", 8),
    )
    assert plain["registers"] > 0 and plain["instructions"]["store"] > 0 and plain["kernel"] == "scale"
    assert "budget" not in plain
    assert len(list((tmp_path / "files").rglob("kernel.sass"))) == 5


def test_tuned_kernels_are_compiled_with_each_config_and_heuristics_are_asked(compiled):
    code, found = compiled("torch.autotuned,torch.with_heuristics")
    assert code == 0
    assert [(each["status"], each["num_warps"]) for each in found] == [("ok", 1), ("ok", 2), ("ok", 4)]
    assert "BLOCK: 64" in found[0]["launch"] and "BLOCK: 128" in found[1]["launch"]


def test_a_backward_pass_launches_too(compiled):
    code, found = compiled("torch.differentiable", "forward_backward")
    assert code == 0
    assert [each["launch"].partition(" ")[0] for each in found] == ["scale", "scale-2"], (
        "2.0, and the integer 2"
    )


def test_what_launches_nothing_is_skipped_unless_it_was_asked_for(compiled):
    code, found = compiled("", "forward")
    status = {each["launch"].rpartition(" ")[2]: (each["status"], each.get("reason", "")) for each in found}
    assert status["torch.eager"][0] == "skipped"
    assert status["torch.eager"][1].startswith("launches no Triton kernel in this case")
    assert status["torch.plain"][0] == "ok"
    assert status["torch.picky"][0] == status["torch.wrong"][0] == "failed"
    assert "x must be on a GPU" in status["torch.picky"][1]
    assert "by of scale is a str; tensors and numbers compile" in status["torch.wrong"][1]
    assert code == 1
    code, found = compiled("torch.eager")
    assert (code, found[0]["status"]) == (1, "failed")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--case", "layer_norm[3x5-float32-forward]"], "add --workloads or --implementations"),
        (["--workloads", "mine.py", "--update-budget"], "leave it out for yours"),
        (["--workloads", "mine.py", "--only", "torch.none"], "unknown implementation 'torch.none'"),
        (["--implementations", "mine.py:NORMS"], "name the cases to compile for with --case"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, says):
    (tmp_path / "mine.py").write_text(textwrap.dedent(FILE))
    monkeypatch.chdir(tmp_path)
    assert main(["compile", "--target", "sm_90", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
