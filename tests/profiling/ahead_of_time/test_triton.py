"""Triton kernels ahead of time: the budget, the table and the command, mostly on a fake compiler."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from fuseproof.cli import main
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS
from fuseproof.profiling.ahead_of_time.families import run
from fuseproof.profiling.ahead_of_time.request import Request
from fuseproof.profiling.ahead_of_time.triton import budget as triton_budget
from fuseproof.profiling.ahead_of_time.triton import compile_kernels
from fuseproof.profiling.ahead_of_time.triton.occupancy import occupancy

LABELS = ("matmul[a-bfloat16]", "matmul[b-bfloat16]")


class FakeChild:
    """Answers as the compiling process does; what it answers for a label may be replaced."""

    answers: dict = {}  # noqa: RUF012  (each test has its own, by monkeypatch)

    def __init__(self, module, environment):
        assert environment["TRITON_INTERPRET"] == "0"

    def __exit__(self, *exception):
        pass

    def ask(self, request, *, timeout):
        if request["do"] == "list":
            labels = list(LABELS) if request["operator"] == "matmul" else []
            labels = self.answers.get(f"list {request['operator']}", labels)
            if isinstance(labels, str):
                return {"error": labels}
            return {"ok": {"labels": {"bfloat16": labels} if labels else {}, "triton": "3.7.1"}}
        used = {
            "label": request["label"],
            "capability": request["capability"],
            "registers": 128,
            "spill_bytes": 0,
            "static_shared_bytes": 0,
            "dynamic_shared_bytes": 65536,
            "num_warps": 8,
            "num_stages": 3,
            "tensor_memory": 0,
            "instructions": dict.fromkeys(
                ("mma", "wgmma", "tcgen05", "tma", "cp_async", "load", "load_128", "store", "store_128"), 4
            ),
            "instruction_source": "SASS",
            "kernel": "matmul_kernel",
        }
        answer = self.answers.get(request["label"], {})
        return {"error": answer} if isinstance(answer, str) else {"ok": used | answer}


@pytest.fixture
def answers(monkeypatch, tmp_path):
    """A fake compiler, and a budget that fits it."""
    pytest.importorskip("triton", reason="the command asks for the package")
    monkeypatch.setattr(compile_kernels, "Child", FakeChild)
    monkeypatch.setattr(FakeChild, "answers", {})
    monkeypatch.setattr(triton_budget, "FILE", tmp_path / "budget.toml")
    assert main(["compile", "--target", "sm_90,sm_80", "--update-budget", "--quiet"]) == 0
    return FakeChild.answers


def test_within_the_budget(answers, capsys):
    capsys.readouterr()
    assert main(["compile", "--target", "sm_90", "--quiet"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line == (
        "2 launches compiled with triton 3.7.1 for sm_90; 0 spill registers, 0 failed; 0 over budget"
    )
    answers[LABELS[0]] = {"registers": 100, "dynamic_shared_bytes": 32768}  # using less is allowed
    assert main(["compile", "--target", "sm_90"]) == 0
    table = capsys.readouterr().out
    assert "100     0     8      0   32768   25%  registers" in table
    assert "4 wgmma 4 tcgen05 4 mma" in table


def test_the_shape_of_the_json(answers):
    text, code = run(Request(targets=["sm_90"]), as_json=True)
    first, second = json.loads(text)
    assert (code, first["launch"], second["launch"]) == (0, *LABELS)
    assert {key: first[key] for key in ("target", "operator", "dtype", "status", "kernel", "triton")} == {
        "target": "sm_90",
        "operator": "matmul",
        "dtype": "bfloat16",
        "status": "ok",
        "kernel": "matmul_kernel",
        "triton": "3.7.1",
    }
    # 128 registers: 16 warps in all, 2 blocks of 8.
    assert first["occupancy"] == {"blocks": 2, "warps": 16, "share": 0.25, "limiters": ["registers"]}
    assert first["budget"] == {
        "registers": 128,
        "spill_bytes": 0,
        "shared_bytes": 65536,
        "occupancy_warps": 16,
    }


def test_every_key_of_the_json(answers):
    """In order: the JSON of a launch that fits, one over budget, one that failed, and an unused row."""
    answers[LABELS[1]] = {"spill_bytes": 8}
    answers["list attention"] = "ValueError: no such tile"
    answers["list layer_norm"] = ["layer_norm[a-bfloat16]"]
    head = ["target", "operator", "dtype", "launch", "status"]
    used = [
        "registers", "spill_bytes", "static_shared_bytes", "dynamic_shared_bytes", "num_warps", "num_stages",
        "tensor_memory", "instructions", "instruction_source", "kernel", "shared_bytes", "occupancy",
    ]  # fmt: skip
    keys = {
        ("attention", "failed"): [*head, "reason", "triton"],
        ("matmul", "ok"): [*head, *used, "triton", "budget"],
        ("matmul", "over budget"): [*head, *used, "triton", "budget", "reason"],
        ("layer_norm", "over budget"): [*head, *used, "triton", "budget", "reason"],
        ("", "over budget"): [*head, "reason"],
    }
    documents = json.loads(run(Request(targets=["sm_90"]), as_json=True)[0])
    answers |= {"list attention": [], "list matmul": LABELS[:1], "list layer_norm": []}
    documents += json.loads(run(Request(targets=["sm_90"]), as_json=True)[0])
    found = {(document["operator"], document["status"]): document for document in documents}
    assert {which: list(document) for which, document in found.items()} == keys
    assert found["layer_norm", "over budget"]["budget"] is None

    [updated] = json.loads(run(Request(targets=["sm_80"], update_budget=True), as_json=True)[0])
    assert list(updated) == [*head, *used, "triton"]


def test_every_list_of_launches_exists_and_imports_pytorch_in_the_child_only():
    pytest.importorskip("triton", reason="the lists import it")
    torch = importlib.import_module("torch")
    kernels = {one.workload for one in IMPLEMENTATIONS if one.name == "triton"}
    assert set(compile_kernels.COMPILE_LISTS) == kernels
    for operator, name in compile_kernels.COMPILE_LISTS.items():
        module, function = name.split(":")
        assert callable(getattr(importlib.import_module(module), function)), operator
        assert torch.bfloat16 in importlib.import_module(module).DTYPES
    program = f"import sys, {compile_kernels.__name__}; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"registers": 168}, "registers 168 > 128, occupancy_warps 8 < 16"),
        ({"spill_bytes": 8}, "spill_bytes 8 > 0"),
        ({"static_shared_bytes": 1}, "shared_bytes 65537 > 65536"),
        ({"num_warps": 4}, f"{LABELS[1]}: occupancy_warps 12 < 16"),  # three blocks' shared memory
    ],
)
def test_over_budget_is_exit_1_and_names_launch_and_field(answers, capsys, answer, says):
    answers[LABELS[1]] = answer
    assert main(["compile", "--target", "sm_90", "--quiet"]) == 1
    printed = capsys.readouterr().out
    assert f"OVER BUDGET: sm_90 {LABELS[1]}: " in printed
    assert says in printed


def test_rows_that_are_missing_or_unknown(answers, capsys):
    answers["list matmul"] = [LABELS[0], "matmul[c-bfloat16]"]
    assert main(["compile", "--target", "sm_90", "--quiet"]) == 1
    printed = capsys.readouterr().out
    remedy = "with `fuseproof compile --target sm_90 --update-budget`"
    assert f"sm_90 matmul[c-bfloat16]: not in the budget; pin it {remedy}" in printed
    assert f"sm_90 {LABELS[1]}: in the budget, but no launch has this label; remove it {remedy}" in printed

    # With a choice, what was not chosen is not missed.
    assert main(["compile", "--target", "sm_90", "--quiet", "--launch", "[a-"]) == 0
    assert main(["compile", "--target", "sm_90", "--quiet", "--operator", "matmul", "--launch", "[c-"]) == 1
    answers["list attention"] = ["attention[d-bfloat16]"]
    update = ["--operator", "attention", "--update-budget"]
    assert main(["compile", "--target", "sm_90", "--quiet", *update]) == 0
    assert main(["compile", "--target", "sm_90", "--quiet", "--operator", "attention"]) == 0
    capsys.readouterr()
    assert main(["compile", "--target", "sm_90", "--quiet", "--operator", "matmul"]) == 1
    assert f"{LABELS[1]}: in the budget, but" in capsys.readouterr().out, "an operator's rows are whole"
    answers["list attention"] = []

    assert main(["compile", "--target", "sm_90", "--quiet", "--update-budget"]) == 0
    budget = triton_budget.load(triton_budget.FILE)
    assert list(budget["3.7", "sm_90", "bfloat16"]) == [LABELS[0], "matmul[c-bfloat16]"]
    assert list(budget["3.7", "sm_80", "bfloat16"]) == list(LABELS)  # was not compiled, is left alone


def test_another_version_of_triton_has_no_budget(answers, capsys):
    text = triton_budget.FILE.read_text().replace('"3.7"', '"3.6"')
    triton_budget.FILE.write_text(text)
    assert main(["compile", "--target", "sm_90", "--quiet"]) == 1
    printed = capsys.readouterr().out
    assert "2 launches: there is no budget for bfloat16 on sm_90 with triton 3.7; pin it with" in printed
    assert main(["compile", "--target", "sm_90", "--quiet", "--update-budget"]) == 0
    assert {version for version, *_ in triton_budget.load(triton_budget.FILE)} == {"3.6", "3.7"}


def test_a_launch_that_does_not_compile_fails_alone_and_leaves_the_budget(answers, capsys):
    answers[LABELS[0]] = "the compiling process was ended by SIGABRT"
    answers["list attention"] = "ValueError: no such tile"
    before = triton_budget.FILE.read_text()
    assert main(["compile", "--target", "sm_90", "--quiet", "--update-budget"]) == 1
    printed = capsys.readouterr().out
    assert f"FAILED: sm_90 {LABELS[0]}: the compiling process was ended by SIGABRT" in printed
    assert "FAILED: sm_90 the launches of attention: ValueError: no such tile" in printed
    assert "the budget is unchanged" in printed
    assert triton_budget.FILE.read_text() == before
    assert main(["compile", "--target", "sm_90", "--quiet"]) == 1
    assert "in the budget, but" not in capsys.readouterr().out


def test_a_launch_that_fits_no_multiprocessor_failed(answers, capsys):
    answers[LABELS[0]] = {"dynamic_shared_bytes": 228 * 1024}
    answers[LABELS[1]] = {"registers": 255, "num_warps": 16}
    assert main(["compile", "--target", "sm_90", "--quiet"]) == 1
    printed = capsys.readouterr().out
    assert "no block fits a multiprocessor: shared memory" in printed
    assert "16 warps of 255 registers do not fit" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "sm_75"], "unknown target 'sm_75'; there are tpu-v5e, tpu-v5p, tpu-v6e, sm_80, sm_90"),
        (
            ["--target", "sm_90", "--operator", "convolution"],
            "unknown operator 'convolution'; there are attention",
        ),
        (["--target", "sm_90", "--launch", "nothing"], "no launch matches"),
        (
            ["--target", "sm_90", "--case", "x"],
            "--case and --only choose among your own kernels: add --workloads or --implementations",
        ),
        (["--target", "sm_90", "--schedule"], "--schedule means nothing for sm_90"),
        (["--target", "sm_90,tpu-v5e", "--update-budget"], "--update-budget means nothing for tpu-v5e"),
    ],
)
def test_bad_input_is_one_line(answers, capsys, arguments, says):
    capsys.readouterr()
    assert main(["compile", *arguments]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    ["[", "x = 1", '["3.7"]\nsm_90 = 1', '["3.7".sm_90.bfloat16]\n"a" = { registers = 1 }', "[a.b.c.d]"],
)
def test_a_damaged_budget_is_one_line(answers, capsys, text):
    triton_budget.FILE.write_text(text)
    assert main(["compile", "--target", "sm_90"]) == 2
    assert "budget.toml" in capsys.readouterr().err


def test_without_triton_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(compile_kernels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fuseproof\[gpu\]'"):
        run(Request(targets=["sm_90"]))


# Worked by hand from the limits in the docstring of the module; no_fit: 228 KiB less the reserved KiB.
@pytest.mark.parametrize(
    ("capability", "uses", "blocks", "limiters"),
    [
        (90, {"warps": 4, "registers": 32, "shared_bytes": 0}, 16, ("registers", "warps")),
        (90, {"warps": 1, "registers": 32, "shared_bytes": 0}, 32, ("blocks",)),
        (90, {"warps": 8, "registers": 168, "shared_bytes": 98304}, 1, ("registers",)),
        (90, {"warps": 4, "registers": 168, "shared_bytes": 98304}, 2, ("shared memory",)),
        (80, {"warps": 4, "registers": 33, "shared_bytes": 0}, 12, ("registers",)),  # 40 as allocated
        (80, {"warps": 4, "registers": 32, "shared_bytes": 80 * 1024}, 2, ("shared memory",)),
        (80, {"warps": 4, "registers": 32, "shared_bytes": 81 * 1024}, 2, ("shared memory",)),
        (80, {"warps": 4, "registers": 32, "shared_bytes": 81 * 1024 + 1}, 1, ("shared memory",)),
        (100, {"warps": 4, "registers": 32, "shared_bytes": 0, "tensor_memory": 256}, 2, ("tensor memory",)),
        (90, {"warps": 4, "registers": 32, "shared_bytes": 227 * 1024}, 1, ("shared memory",)),
        (90, {"warps": 4, "registers": 32, "shared_bytes": 227 * 1024 + 1}, 0, ("shared memory",)),
    ],
)
def test_occupancy(capability, uses, blocks, limiters):
    found = occupancy(capability, **uses)
    assert (found.blocks, found.limiters) == (blocks, limiters)
    assert (found.warps, found.share) == (blocks * uses["warps"], blocks * uses["warps"] / 64)


def test_a_real_kernel_for_three_targets(monkeypatch, tmp_path, capsys):
    """The whole way once: a child process, Triton, the assembler, the disassembler."""
    pytest.importorskip("triton", reason="compiles a kernel")
    monkeypatch.setattr(triton_budget, "FILE", tmp_path / "budget.toml")
    choice = ["--operator", "layer_norm", "--dtype", "bfloat16", "--launch", "x512-bias"]
    arguments = ["compile", "--target", "sm_80,sm_90,sm_100", *choice]
    assert main([*arguments, "--json", "--update-budget", "-o", str(tmp_path)]) == 0
    results = json.loads(capsys.readouterr().out)
    assert {result["target"] for result in results} == {"sm_80", "sm_90", "sm_100"}
    for result in results:
        assert result["instruction_source"] == "SASS"
        # Loads ahead of their use are `cp.async`; all others load 16 bytes at a time.
        instructions = result["instructions"]
        assert instructions["load_128"] > 0 or instructions["cp_async"] > 0, result["launch"]
        assert result["spill_bytes"] == result["static_shared_bytes"] == 0
        assert 0 < result["occupancy"]["share"] <= 1
    kept = {path.name for path in (tmp_path / "sm_90").rglob("*.*")}
    assert {"kernel.ttir", "kernel.ttgir", "kernel.ptx", "kernel.cubin", "kernel.sass"} <= kept
