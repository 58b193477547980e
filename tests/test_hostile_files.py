"""Whatever is in a file that we read: a result or one line that names the file, and never a traceback.

Files of every kind are mutated and given to the commands that read them. `FUSEPROOF_MUTATIONS` is how many of
all kinds together; the share that runs by default is drawn from the same seeds.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
import re
import shutil
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from support.command_line import strict
from support.hostile import damage, damage_toml, mutations
from support.runs import make_benchmark, make_run
from support.small_traces import SMALL
from support.xla_schedules import RESULT

from fuseproof import cli
from fuseproof.files import write_json
from fuseproof.fusion.account import Account, Pair, document
from fuseproof.fusion.programs.operations import Operation
from fuseproof.implementations import Implementation
from fuseproof.profiling.capture.record import CaptureRecord, ProfiledCall, Series, Trace
from fuseproof.reports.claims.load import DEFAULT_CLAIMS
from fuseproof.runs.records import Failure
from fuseproof.runs.run_file import run_to_json

ALL = int(os.environ.get("FUSEPROOF_MUTATIONS", 1000))
DUMPS = Path(__file__).parent / "profiling" / "readers" / "xla_schedule" / "dumps"
CASES = [
    f"{operator}[{n}x64-{dtype}-forward]"
    for operator, n, dtype in (
        ("layer_norm", 1, "float32"),
        ("layer_norm", 2, "bfloat16"),
        ("rms_norm", 1, "float32"),
    )
]
COLOUR = re.compile(r"\x1b\[[\d;]*m")
HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def a_run(blocks=3):
    rng = np.random.default_rng(0)
    noise = {"blocks": blocks, "legs": 2, "rounds": 1, "process_noise": 0.01, "round_noise": 0.01, "rng": rng}
    benchmarks = [
        make_benchmark(
            name,
            case=case,
            seconds=seconds,
            baseline=baseline,
            framework=name.partition(".")[0],
            device="cpu",
            compile_seconds=1.5,
            kernels=3,
            peak_memory_bytes=10**7,
            flops=10**6,
            bytes=10**6,
            error_relative_rms=1e-7,
            error_limit=1e-6,
            **noise,
        )
        for case in CASES
        for name, seconds, baseline in (
            ("torch.eager", 2e-3, "torch.eager"),
            ("torch.compile", 1e-3, "torch.eager"),
            ("torch.compile-null", 1e-3, "torch.compile"),
            ("tf.xla", 1e-3, "tf.eager"),
        )
    ]
    failures = [
        Failure(group=CASES[0], implementation="triton", kind="skipped", stage="plan", message="no GPU"),
        Failure(group=CASES[1], implementation="jax.jit", kind="error", stage="check", message="wrong"),
    ]
    return run_to_json(make_run(benchmarks, failures=failures)) | {
        "machine_info": {"node": "x", "cpu": {"brand_raw": "Abacus", "count": 2}, "python_version": "3.11"},
        "commit_info": {"id": "abc", "dirty": True},
        "datetime": "2026-11-23T08:00:00+00:00",
    }


def a_described_run():
    run = a_run()
    run["fuseproof"] |= {
        "environment": {"cpu": {"model": "Abacus"}, "threads": 2, "variables": {"OMP_NUM_THREADS": "1"}},
        "settings": {"threads": 2, "blocks": 3, "command": ["fuseproof", "run", "demo"]},
        "notes": ["profile of jax.jit: hung"],
    }
    return run


def a_stock_file():
    entry = {
        "group": None,
        "name": "f",
        "fullname": "t.py::f",
        "params": {"n": 1},
        "extra_info": {"note": "x"},
        "stats": {"median": 1.5, "min": 1, "rounds": 2, "data": [1.0, 2.0]},
    }
    info = {
        "node": "x",
        "python_version": "3.11.4",
        "cpu": {"brand_raw": "X", "count": 2},
        "machine": "x86_64",
    }
    return {
        "machine_info": info,
        "commit_info": {},
        "benchmarks": [entry, {**entry, "fullname": "t.py::g"}],
        "datetime": "2026-11-23",
        "version": "5.1.0",
    }


def estimates():
    sides = {"computing_instructions": 3, "peak_bytes": 300, "argument_bytes": 100}
    known = {
        "target": "tpu-v5e",
        "topology": "1x1",
        "chips": 1,
        "implementation": "jax.jit",
        "estimate": True,
        "status": "ok",
        **sides,
    }
    apart = {"computing_instructions": 9, "peak_bytes": 900}
    return [
        *({**known, "case": case, "without_fusion": apart} for case in CASES),
        {**known, "case": CASES[0], "status": "failed", "reason": "no", "chips": 4, "topology": "2x2"},
        {**known, "case": CASES[0], "without_fusion": {"reason": "too large"}},
    ]


def an_account():
    before = (
        Operation(name="add", kind="operation", bytes=10),
        Operation(name="mul", kind="operation", bytes=None),
    )
    after = (
        Operation(name="k", kind="fusion", bytes=8, members=("add", "mul"), loop_nests=2),
        Operation(name="gemm", kind="library", bytes=9),
    )
    known = {"framework": "torch", "compared_with": "torch.eager"}
    accounts = [
        Account(
            case=CASES[0],
            implementation="torch.compile",
            kernels=Pair(eager=2, compiled=1),
            before=before,
            after=after,
            artifacts={"code": "fusion/code.py"},
            unknown={"peak_memory_bytes": "no"},
            **known,
        ),
        Account(case=CASES[1], implementation="torch.compile", status="failed", reason="crashed", **known),
    ]
    return document(accounts, {"cpu": "Abacus", "gpu": []})


def a_capture():
    return CaptureRecord(
        group=CASES[0],
        implementation=Implementation(
            "layer_norm", "torch.eager", framework="torch", target="/home/x/m.py:f"
        ),
        device="cpu",
        device_name="cpu",
        versions={"torch": "2.13.0"},
        threads=2,
        stacks=False,
        seed=0,
        calls=(ProfiledCall(start_ns=10**18, end_ns=10**18 + 2000),),
        kernel_counts=(3,),
        kernel_rule="kernels",
        kernel_names=("k",),
        profiler_on_seconds=(3.0, 1.0),
        profiler_off_seconds=(1.0,),
        traces=(Trace(file="torch.json", kind="kineto"),),
        samples=(
            Series(
                name="power",
                unit="W",
                device="GPU 0",
                source="NVML",
                time_ns=(10**18, 10**18 + 9),
                value=(250.5, None),
            ),
        ),
        warnings=("a warning",),
        not_seen=("something",),
    ).to_json()


# Commands on the mutated file; {} is a whole run.
REPORTS = (
    "report F -o r.md",
    "report F -o r.html",
    "report F -o r.json",
    "report F --format md",
    "claims F",
    "claims F --json",
    "claims F --audit",
)
GATES = ("gate F whole.json --junit j.xml --summary s.md", "gate whole.json F", "gate F whole.json --json")
JSON_FILES = {
    "run": (a_described_run, "run.json", (*REPORTS, *GATES)),
    "stock": (a_stock_file, "stock.json", (*REPORTS[:5], *GATES, "gate 'sto*.json' F --summary s.md")),
    "estimates": (estimates, "tpu.json", ("claims --estimates F", "claims whole.json --estimates F --json")),
    "account": (
        an_account,
        "run/fusion.json",
        ("report run -o r.md", "report run -o r.html", "report run -o r.json"),
    ),
    "capture": (
        a_capture,
        "captures/torch.eager/capture.json",
        ("profile captures -o p.html", "profile captures -o p.html --json"),
    ),
    "schedule": (lambda: RESULT, "result.json", ("timeline F --json", "timeline F -o t.html")),
    "kineto": (
        lambda: json.loads(SMALL["kineto"]),
        "trace.json",
        ("timeline F --json", "timeline F", "timeline F -o t.html", "timeline F --perfetto t.pftrace"),
    ),
    "memory timeline": (
        lambda: json.loads(SMALL["timeline"]),
        "memory.json",
        ("timeline F --json", "timeline F"),
    ),
}
BYTE_FILES = {
    "claims": (lambda: DEFAULT_CLAIMS.read_bytes(), "claims.toml", ("claims whole.json --claims F",)),
    "xplane": (lambda: SMALL["xplane"], "x.xplane.pb", ("timeline F --json", "timeline F")),
    "snapshot": (lambda: SMALL["snapshot"], "s.pickle", ("timeline F --json", "timeline F")),
    "old snapshot": (lambda: SMALL["old snapshot"], "s.pickle", ("timeline F --json",)),
    "gzip": (lambda: SMALL["gzip"], "t.json.gz", ("timeline F --json",)),
}
# How many of each hundred: most of what we read are run files.
SHARES = {
    "run": 30,
    "stock": 10,
    "estimates": 7,
    "account": 10,
    "capture": 10,
    "schedule": 5,
    "kineto": 6,
    "memory timeline": 2,
    "claims": 5,
    "xplane": 5,
    "snapshot": 3,
    "old snapshot": 2,
    "gzip": 2,
    "dump": 3,
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a whole run and a capture; what is mutated takes their place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/alice")
    for folder in ("run", "captures/torch.eager"):
        (tmp_path / folder).mkdir(parents=True)
    for path in ("whole.json", "run/run.json"):
        write_json(tmp_path / path, a_described_run())
    (tmp_path / "captures" / "torch.eager" / "torch.json").write_bytes(SMALL["kineto"])
    return tmp_path


def call(command):
    """Exit code, standard output and standard error, as strict as a terminal of UTF-8 is."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(command)
        out.flush(), err.flush()
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))


def survives(command, file, here):
    """Run the command; the exit code. Fails for a traceback, for several lines, and for unsafe output."""
    words = [word.replace("F", file) if word == "F" else word.strip("'") for word in command.split()]
    began = time.monotonic()
    code, out, err = call(words)
    assert time.monotonic() - began < 60
    assert "internal error" not in err and "Traceback" not in err, err
    assert code in ((0, 1, 2, 3) if words[0] == "gate" else (0, 2)), err
    if code == 2:
        assert err.count("\n") == 1 and len(err) < 2500, err
        assert file.split("/")[0].split("-")[0] in err, err
        assert not out or "--json" in words, out
    else:
        assert not HIDDEN.search(COLOUR.sub("", out)), out
        assert not re.search(r"^\s*::|##\[", out, re.MULTILINE), out
        if "--json" in words:
            strict(out)
        check_files(here)
    if code == 1:
        assert '"verdict": "regression"' in out or "Gate: regression" in out
    assert not HIDDEN.search(err)
    for name in WRITTEN:
        (here / name).unlink(missing_ok=True)
    return code


WRITTEN = ("r.md", "r.html", "r.json", "j.xml", "s.md", "p.html", "t.html", "t.pftrace")


def check_files(here):
    for name in WRITTEN[:7]:
        path = here / name
        if not path.exists():
            continue
        text = path.read_bytes().decode()
        assert not HIDDEN.search(text), name
        if name.endswith(".xml"):
            ElementTree.fromstring(text)
        elif name.endswith(".json"):
            strict(text)
        elif name.endswith(".md"):
            assert not re.search(r"<script|!\[|^\s*::|##\[", text, re.MULTILINE)
        else:
            assert "<script>alert(1)" not in text


def number_of(kind):
    return max(1, ALL * SHARES[kind] // 100)


def test_the_shares_are_of_a_hundred():
    assert sum(SHARES.values()) == 100
    assert set(SHARES) == {*JSON_FILES, *BYTE_FILES, "dump"}


@pytest.mark.parametrize("kind", JSON_FILES)
def test_unmutated_json_is_read(here, kind):
    make, file, commands = JSON_FILES[kind]
    write_json(here / file, make())
    for command in commands:
        assert survives(command, file, here) != 2


@pytest.mark.parametrize("kind", BYTE_FILES)
def test_unmutated_files_are_read(here, kind):
    make, file, commands = BYTE_FILES[kind]
    (here / file).write_bytes(make())
    for command in commands:
        assert survives(command, file, here) == 0


def survive_all(here, kind, file, commands, files):
    """The exit codes, how often each."""
    codes = {}
    rng = random.Random(kind)
    for data in itertools.islice(files, number_of(kind)):
        (here / file).write_bytes(data)
        command = rng.choice(commands)
        try:
            code = survives(command, file, here)
        except BaseException:
            shutil.copy(here / file, here / f"hostile-{kind}")  # pytest keeps the folder
            print(f"{command}: {here}/hostile-{kind}")
            raise
        codes[code] = codes.get(code, 0) + 1
    return codes


@pytest.mark.parametrize("kind", JSON_FILES)
def test_mutated_json(here, kind):
    make, file, commands = JSON_FILES[kind]
    print(kind, survive_all(here, kind, file, commands, mutations(make(), seed=1)))


@pytest.mark.parametrize("kind", BYTE_FILES)
def test_mutated_files(here, kind):
    make, file, commands = BYTE_FILES[kind]
    rng, data = random.Random(kind), make()
    change = damage_toml if file.endswith(".toml") else damage
    print(kind, survive_all(here, kind, file, commands, (change(data, rng) for _ in itertools.count())))


HLO = """HloModule m, is_scheduled=true

%body (p: f32[16]) -> f32[16] {
  %p = f32[16]{0} parameter(0)
  ROOT %n = f32[16]{0} negate(%p)
}

ENTRY %main (q: f32[16]) -> f32[16] {
  %q = f32[16]{0} parameter(0)
  ROOT %fusion.10 = f32[16]{0} fusion(%q), kind=kLoop, calls=%body, backend_config={"estimated_cycles": "10"}
}
"""


def test_mutated_dumps(here):
    """XLA writes three files for a program; one of them is damaged."""
    texts = {
        "m-buffer-assignment.txt": (DUMPS / "buffer-assignment.txt").read_bytes(),
        "m-live-range.txt": (DUMPS / "live-range.txt").read_bytes(),
        "m.txt": HLO.encode(),
    }
    for name, text in texts.items():
        (here / name).write_bytes(text)
    assert survives("timeline F --json", "m-buffer-assignment.txt", here) == 0
    rng, codes = random.Random("dump"), {}
    for _ in range(number_of("dump")):
        chosen = rng.choice(sorted(texts))
        for name, text in texts.items():
            (here / name).write_bytes(damage(text, rng) if name == chosen else text)
        code = survives("timeline F --json", "m-buffer-assignment.txt", here)
        codes[code] = codes.get(code, 0) + 1
    print("dump", codes)
