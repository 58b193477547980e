"""Captures by real workers on this CPU, and by a scripted worker of devices that this machine lacks."""

from __future__ import annotations

import gzip
import inspect
import json
import re
import sys
import time
import warnings
from decimal import Decimal
from importlib import metadata

import pytest
from support import fake_nvml

from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.implementations import IMPLEMENTATIONS, Implementation
from fuseproof.measure.worker_process import WorkerProcess
from fuseproof.profiling import capture, kernel_count
from fuseproof.profiling.capture import CaptureError, Options, runner
from fuseproof.profiling.capture import record as capture_record

CASE = Case.from_group("layer_norm[33x65-float32-forward]")


def layer_norm(name):
    return next(each for each in IMPLEMENTATIONS if (each.workload, each.name) == ("layer_norm", name))


def need(framework):
    """The module; skips the test without it. Not for TensorFlow: with Triton in one process it crashes."""
    return pytest.importorskip(framework, reason=f"needs {framework} to record a trace")


def captured(name, folder, **options):
    record = capture.capture(
        CASE, layer_norm(name), device="cpu", directory=folder, options=Options(**{"calls": 3, **options})
    )
    assert capture_record.load(folder / name) == record
    (timeline,) = capture.timelines(folder / name, record)
    return record, timeline, folder / name / record.traces[0].file


def profiled(ask, folder, name, device):
    """The capture of an implementation that a worker, real or scripted, has prepared."""
    return capture.profile_prepared(
        ask,
        layer_norm(name),
        group=CASE.group,
        device=device,
        description={"version": "1", "device": f"a {device}"},
        folder=folder,
        options=Options(calls=2),
    )


def within(record, start_ns):
    """The number of the profiled call that was running; None between calls."""
    running = [i for i, call in enumerate(record.calls) if call.start_ns <= start_ns <= call.end_ns]
    return running[0] if running else None


def profile_data(file):
    """Every event of an XSpace as jaxlib reads it: name, Unix start, whether it has an HLO op."""
    profiler = pytest.importorskip("jax.profiler", reason="needs jaxlib to read XSpaces")
    data = profiler.ProfileData.from_serialized_xspace(gzip.decompress(file.read_bytes()))
    (began,) = [value for plane in data.planes for key, value in plane.stats if key == "profile_start_time"]
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                yield event.name, began + event.start_ns, "hlo_op" in {key for key, _ in event.stats}


def check_facts_of_every_capture(record, timeline, version):
    assert record.group == CASE.group and record.device == "cpu"
    assert record.versions[record.framework] == version
    assert len(record.calls) == len(record.profiler_on_seconds) == len(record.profiler_off_seconds) == 3
    assert record.overhead > 0
    for before, after in zip(record.calls, record.calls[1:], strict=False):
        assert after.start_ns - before.end_ns >= 2_000_000
    (resident,) = record.samples
    assert resident.name == "resident_memory" and min(resident.value) > 2**20
    assert record.warnings == () and record.not_seen
    assert [len(mine) for mine in kernel_count.by_call(timeline, record.calls)] == [*record.kernel_counts]
    (device,) = timeline.devices()
    assert device.name == "CPU" and device.busy_ns > 0


def test_torch(tmp_path):
    torch = need("torch")
    record, timeline, file = captured("torch.eager-composed", tmp_path)
    check_facts_of_every_capture(record, timeline, torch.__version__)
    document = json.loads(gzip.decompress(file.read_bytes()), parse_float=Decimal)
    events = [each for each in document["traceEvents"] if each.get("cat") == "cpu_op"]
    # The outermost operators; `to` does nothing here, because the input is float32 already.
    spans = [(each["ts"], each["ts"] + each["dur"]) for each in events]
    outer = [
        each
        for each, (start, end) in zip(events, spans, strict=True)
        if not any(a <= start and end <= b and (a, b) != (start, end) for a, b in spans)
    ]
    counts = [0, 0, 0]
    for each in outer:
        call = within(record, document["baseTimeNanoseconds"] + int(each["ts"] * 1000))
        if each["name"] != "aten::to" and call is not None:
            counts[call] += 1
    assert counts == [*record.kernel_counts] and record.kernels_per_call == 9
    (memory,) = timeline.memory
    assert memory.peak_bytes >= 33 * 65 * 4


def test_kernels_of_inductor(tmp_path, start_worker, monkeypatch):
    need("torch")
    # Precompiling a header takes longer than it saves for one kernel.
    monkeypatch.setenv("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "0")
    # Scalar code: probing for vector instructions would compile more than the kernel.
    monkeypatch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "0")
    worker = start_worker("torch")
    worker.open_case(CASE.group)
    found = {}
    for name in ("torch.eager", "torch.compile"):
        worker.prepare(layer_norm(name))
        folder = tmp_path / name
        folder.mkdir()
        found[name] = profiled(worker.ask, folder, name, "cpu")
    assert found["torch.eager"].kernel_counts == found["torch.compile"].kernel_counts == (1, 1)
    assert found["torch.eager"].kernel_names == ("aten::native_layer_norm",)
    events = json.loads(gzip.decompress((tmp_path / "torch.compile" / "torch.json.gz").read_bytes()))
    inductor = [each["name"] for each in events["traceEvents"] if each.get("name", "").startswith("cpp_")]
    assert len(inductor) == 3 and len(set(inductor)) == 1  # two calls, and one that warms the profiler up
    # By the dispatcher: composites, views, allocations and names that are not operators do not count.
    judged = {
        "aten::mul": True,
        "aten::native_layer_norm": True,
        "aten::copy_": True,
        "aten::softmax": False,
        "aten::layer_norm": False,
        "aten::view": False,
        "aten::empty_strided": False,
        "aten::_local_scalar_dense": False,
        "graph_0_cpp_fused_add_0": True,
        "MulBackward0": False,
        "autograd::engine::evaluate_function: MulBackward0": False,
        "aten::no_such_operator": False,
        "Torch-Compiled Region: 0/0": False,
    }
    kept = worker.ask("kernel_names", names=list(judged))["names"]
    assert kept == [name for name, counts in judged.items() if counts]
    loop = worker.ask("repeat", name="torch.eager", seconds=0.01)
    assert loop["calls"] >= 1 and loop["end_ns"] - loop["start_ns"] >= 10_000_000
    # The wrapped kernels are restored, so that timing in this process is of the same code.
    assert worker.leg("torch.compile", rounds=1, calls=1, warm_up=0)["wall"]


def test_memory_history_of_a_gpu_ends_with_the_profile(tmp_path, monkeypatch):
    """With stand-ins for PyTorch's functions, without a GPU: not verified on hardware."""
    torch = need("torch")
    from fuseproof.frameworks import torch as framework

    real = inspect.signature(torch.cuda.memory._record_memory_history_impl)
    asked = []
    monkeypatch.setattr(framework, "_device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(
        torch.cuda.memory,
        "_record_memory_history",
        lambda enabled="all", **how: asked.append(real.bind(enabled, **how).arguments["enabled"]),
    )
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", asked.append)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that CUDA is missing
        with framework.profile(tmp_path, memory=True, stacks=True) as found:
            torch.ones(3)
        with pytest.raises(ZeroDivisionError), framework.profile(tmp_path, memory=True, stacks=False):
            1 / 0  # noqa: B018
    assert [trace["kind"] for trace in found["traces"]] == ["kineto", "torch-memory"]
    snapshot = str(tmp_path / "torch-memory.pickle")
    assert asked == ["all", snapshot, None, "all", None]


def test_jax(tmp_path):
    jax = need("jax")
    record, timeline, file = captured("jax.jit", tmp_path, stacks=True)
    check_facts_of_every_capture(record, timeline, jax.__version__)
    counts = [0, 0, 0]
    for name, start_ns, is_hlo in profile_data(file):
        call = within(record, start_ns)
        if is_hlo and not name.startswith(("call", "while")) and call is not None:
            counts[call] += 1
    assert counts == [*record.kernel_counts] and min(counts) > 0
    assert any(name.startswith("$worker.py") for name in timeline.names)  # a Python frame


def test_copies_of_what_a_call_consumes_are_not_its_kernels(tmp_path, start_worker):
    need("jax")
    worker = start_worker("jax")
    worker.open_case(CASE.group)
    counts = {}
    for name in ("jax.jit", "jax.jit-donate"):
        worker.prepare(layer_norm(name))
        counts[name] = profiled(worker.ask, tmp_path, name, "cpu").kernels_per_call
    assert counts["jax.jit"] is not None
    assert counts["jax.jit-donate"] == counts["jax.jit"]


NO_WORK = ("StopGradient", "Identity", "Reshape", "_EagerConst")


def test_tensorflow(tmp_path):
    if (found := metadata.packages_distributions().get("tensorflow")) is None:
        pytest.skip("needs tensorflow to record a trace")
    record, timeline, file = captured("tf.eager", tmp_path)
    check_facts_of_every_capture(record, timeline, metadata.version(found[0]))
    counts = [0, 0, 0]
    for name, start_ns, _ in profile_data(file):
        call = within(record, start_ns)
        operation = re.fullmatch(r"EagerLocalExecute: (\w+)", name)
        if operation and operation[1] not in NO_WORK and call is not None:
            counts[call] += 1
    assert counts == [*record.kernel_counts] and record.kernels_per_call == 10


BROKEN = """
import os, signal, time

def crashes(x, weight, bias):
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs(x, weight, bias):
    while True:
        time.sleep(0.1)

def raises(x, weight, bias):
    raise ValueError("this kernel\\nwants other shapes")

def not_here(x, weight, bias):
    raise NotImplementedError("needs a power of two")
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("crashes", r"the process died of SIGSEGV; see .*worker\.log"),
        ("hangs", "gave no answer for 1 s and was ended"),
        ("raises", "ValueError: this kernel wants other shapes"),
        ("not_here", "needs a power of two"),
    ],
)
def test_a_failure_is_one_clear_line(name, says, tmp_path, monkeypatch):
    need("jax")
    ask = WorkerProcess.ask
    monkeypatch.setattr(
        WorkerProcess,
        "ask",
        lambda self, do, *, timeout, **arguments: ask(
            self, do, timeout=1.0 if (do, name) == ("prepare", "hangs") else timeout, **arguments
        ),
    )
    (tmp_path / "broken.py").write_text(BROKEN)
    broken = Implementation(
        "layer_norm", name, framework="jax", target=f"{tmp_path / 'broken.py'}:{name}", compiled=None
    )
    with pytest.raises(CaptureError, match=says) as failed:
        capture.capture(CASE, broken, device="cpu", directory=tmp_path)
    assert str(failed.value).startswith(f"cannot profile {name} of {CASE.group}: ")
    assert "\n" not in str(failed.value)
    assert not (tmp_path / name / capture_record.FILE_NAME).exists()


def test_an_implementation_that_cannot_run_here_is_refused_before_a_process_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "WorkerProcess", None)
    for name, device, says in (
        ("torch.eager", "tpu", "needs cpu or cuda"),
        ("torch.eager", "npu", "unknown device 'npu'; there are cpu, cuda, tpu"),
        ("triton", "cpu", "needs cuda"),
        ("pallas", "cpu", "interpreted on the CPU"),
    ):
        with pytest.raises(CaptureError, match=f"cannot profile {name} of .*: .*{says}"):
            capture.capture(CASE, layer_norm(name), device=device, directory=tmp_path)
    with pytest.raises(UserError, match="cannot profile 0 calls"):
        Options(calls=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose a writable folder"):
        capture.capture(CASE, layer_norm("jax.jit"), device="cpu", directory=tmp_path / "file")


def test_only_captures_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "WorkerProcess", None)  # the folder is emptied before a process starts
    folder = tmp_path / "jax.jit"
    folder.mkdir()
    source = folder / "kernel.py"
    source.write_text("a year's work")
    with pytest.raises(UserError, match="holds something that is not a capture"):
        capture.capture(CASE, layer_norm("jax.jit"), device="cpu", directory=tmp_path)
    assert source.exists()
    source.rename(folder / "worker.log")
    with pytest.raises(TypeError):
        capture.capture(CASE, layer_norm("jax.jit"), device="cpu", directory=tmp_path)
    assert not any(folder.iterdir())


def test_a_users_name_does_not_lead_out_of_the_folder(tmp_path):
    for name in ("../../x", "..", "a/b", ".hidden"):
        folder = capture.folder_of(
            tmp_path, Implementation("layer_norm", name, framework="jax", target="a:b")
        )
        assert folder.parent == tmp_path and not folder.name.startswith(".")


UNIX = 1_790_000_000_000_000_000


class Scripted:
    """A worker whose profiler writes what a test wants, for a device that this machine lacks."""

    def __init__(self, write, calls=((0, 1_000_000), (5_000_000, 6_000_000))):
        self.write, self.calls, self.asked = write, calls, []

    def __call__(self, do, *, timeout, **arguments):
        self.asked.append(do)
        if do == "repeat":
            assert arguments["seconds"] >= 1  # the counter ticks every 10 ms or slower
            now = time.time_ns()
            return {"start_ns": now, "end_ns": now + 1, "calls": 50}
        assert do == "profile"
        return {
            "calls": [[UNIX + start, UNIX + end] for start, end in self.calls],
            "on_seconds": [0.002] * len(self.calls),
            "off_seconds": [0.001] * len(self.calls),
            "traces": [self.write(arguments["folder"])],
            "warnings": [],
            "not_seen": [],
        }


def kineto_of_a_gpu(*starts_us, base=UNIX):
    def write(folder):
        events = [
            {
                "ph": "X",
                "cat": category,
                "name": category,
                "pid": 0,
                "tid": 7,
                "ts": start,
                "dur": 1,
                "args": {"device": 0, "stream": 7},
            }
            for start in starts_us
            for category in ("kernel", "gpu_memcpy")
        ]
        with open(f"{folder}/torch.json", "w") as file:  # noqa: PTH123
            json.dump({"baseTimeNanoseconds": base, "traceEvents": events}, file)
        return {"file": "torch.json", "kind": "kineto"}

    return write


def test_kernels_of_a_gpu(tmp_path):
    record = profiled(Scripted(kineto_of_a_gpu(100, 200, 5100, 5200)), tmp_path, "torch.eager", "cuda")
    assert record.kernels_per_call == 2
    assert record.kernel_rule == kernel_count.DEVICE_RULE
    assert record.energy is None and record.samples == ()  # this machine has no board
    assert record.overhead == 2.0


def test_the_board_is_sampled_and_its_energy_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml.board())
    scripted = Scripted(kineto_of_a_gpu(100, 5100))
    record = profiled(scripted, tmp_path, "torch.eager", "cuda")
    assert scripted.asked == ["profile", "repeat"]
    assert {series.name for series in record.samples} == {
        *("power", "sm_clock", "memory_clock", "temperature", "memory_used", "clock_event_reasons", "energy")
    }
    assert record.energy.calls == 50 and 0 <= record.energy.joules <= 10
    assert capture_record.load(tmp_path) == record


def test_counts_that_differ_are_a_warning(tmp_path):
    record = profiled(Scripted(kineto_of_a_gpu(100, 200, 5100)), tmp_path, "torch.eager", "cuda")
    assert record.kernel_counts == (2, 1) and record.kernels_per_call is None
    assert record.warnings == ("kernels differ from call to call: 2, 1",)


def test_kernels_outside_every_call_are_a_warning(tmp_path):
    record = profiled(Scripted(kineto_of_a_gpu(90_000)), tmp_path, "torch.eager", "cuda")
    assert record.kernel_counts == () and record.kernels_per_call is None
    assert record.warnings == ("no kernel of any profiled call is in the trace",)


def test_a_clock_that_is_not_unix_time_counts_nothing(tmp_path):
    record = profiled(Scripted(kineto_of_a_gpu(100, 5100, base=0)), tmp_path, "torch.eager", "cuda")
    assert record.kernels_per_call is None
    assert "not Unix time" in record.warnings[0]


def test_a_tpu(tmp_path):
    """The whole path on a synthetic XSpace, to the schema: not verified on hardware."""
    profiler = need("jax").profiler

    def write(folder):
        names = ("while.1", "fusion.2", "copy.3")
        metadata = "".join(
            f"event_metadata {{ key: {n} value {{ id: {n} name: '{name}' }} }}"
            for n, name in enumerate(names, 1)
        )
        events = "".join(
            f"events {{ metadata_id: {n} offset_ps: {start * 1000} duration_ps: {length * 1000} }}"
            for call in (0, 5_000_000)
            for n, start, length in ((1, call, 900_000), (2, call + 10, 500_000), (3, call + 600_000, 10))
        )
        text = (
            f"planes {{ name: '/device:TPU:0' {metadata} "
            f"lines {{ name: 'XLA Ops' timestamp_ns: {UNIX} {events} }} }} "
            f"warnings: '12 events dropped'"
        )
        with gzip.open(f"{folder}/jax.xplane.pb.gz", "wb") as file:
            file.write(profiler.ProfileData.text_proto_to_serialized_xspace(text))
        return {"file": "jax.xplane.pb.gz", "kind": "xplane"}

    scripted = Scripted(write)
    record = profiled(scripted, tmp_path, "jax.jit", "tpu")
    assert record.kernel_counts == (1, 1) and record.dropped_events == 12
    assert scripted.asked == ["profile"]  # no sensors and no operators to judge
    (timeline,) = capture.timelines(tmp_path, record)
    assert timeline.devices()[0].name == "/device:TPU:0"
