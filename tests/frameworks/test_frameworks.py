"""What each framework's module does for a worker, through the worker."""

import ast
import dataclasses
import functools
import os
import signal
from pathlib import Path

import pytest

from fuseproof import frameworks
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.frameworks import Framework
from fuseproof.implementations import FRAMEWORKS, IMPLEMENTATIONS, Implementation
from fuseproof.measure.worker_process import WorkerDied, WorkerError, WorkerProcess

GROUP = "layer_norm[4096x1025-float32-forward]"
OUTPUT_BYTES = 4096 * 1025 * 4
SMALL = "layer_norm[16x24-float32-forward]"


def functions(path):
    """Public functions and the names of their parameters, read without importing the framework."""
    return {
        node.name: [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def protocol():
    (body,) = [
        node.body
        for node in ast.parse(Path(frameworks.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == Framework.__name__
    ]
    return {
        node.name: [argument.arg for argument in (*node.args.args[1:], *node.args.kwonlyargs)]
        for node in body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_modules_have_the_same_functions(framework):
    found = functions(Path(frameworks.__file__).with_name(f"{framework}.py"))
    wanted = protocol()
    assert wanted
    same = {name: len(parameters) for name, parameters in found.items() if name in wanted}
    assert same == {name: len(parameters) for name, parameters in wanted.items()}


@pytest.fixture(scope="module", params=FRAMEWORKS)
def worker(request, start_worker):
    """A worker with the framework's library call ready."""
    worker = start_worker(request.param)
    worker.description = worker.process.wait_ready()
    (worker.implementation,) = [
        each
        for each in IMPLEMENTATIONS
        if (each.workload, each.name) == ("layer_norm", FRAMEWORKS[request.param])
    ]
    worker.open_case(GROUP)
    worker.prepare(worker.implementation)
    return worker


def test_it_has_the_threads_it_was_given(worker):
    assert worker.description["threads"] == 1
    assert worker.description["version"]


def test_a_leg_is_seconds_per_call(worker):
    leg = worker.leg(worker.implementation.name, rounds=3, calls=2, warm_up=1)
    assert leg.keys() == {"wall", "compilations"}, "the CPU has no clock of its own"
    assert leg["compilations"] == 0
    assert len(leg["wall"]) == 3
    assert min(leg["wall"]) > 0


def test_peak_memory_holds_the_output(worker):
    memory = worker.ask("peak_memory", name=worker.implementation.name)["bytes"]
    if memory is None:
        pytest.skip("peak memory cannot be measured here: no glibc, or /proc/self/clear_refs is read-only")
    # The kernel counts resident pages in batches, so that some of the output may be missing.
    assert OUTPUT_BYTES / 2 < memory < 20 * OUTPUT_BYTES


def test_an_unknown_compile_mode_is_refused_with_the_known_ones(worker):
    with pytest.raises(UserError, match="has no compile mode 'made-up'; there are"):
        dataclasses.replace(worker.implementation, name="x", compiled="made-up")


def test_a_request_that_fails_leaves_the_worker_usable(worker):
    with pytest.raises(WorkerError, match="KeyError"):
        worker.ask("check", name="absent", draws=[1], files=["/nowhere"])
    assert worker.errors(worker.implementation.name)["output"] < 1e-6


RECOMPILING = """
import itertools
NUMBERS = itertools.count(1)

def torch_other_shape(x, weight, bias):
    import torch
    global compiled
    if "compiled" not in globals():
        compiled = torch.compile(lambda x: x + 1, dynamic=False)
    compiled(x[: next(NUMBERS)])
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)

def torch_new_function(x, weight, bias):
    import torch
    torch.compile(eval("lambda x: x + 1"))(x)  # code of its own: Dynamo keeps programs by code
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)

def jax_new_function(x, weight, bias):
    import jax
    return jax.jit(lambda x: jax.nn.standardize(x) * weight + bias)(x)

def jax_other_shape(x, weight, bias):
    import jax
    jax.numpy.sin(x[0, : next(NUMBERS)])
    return jax.nn.standardize(x) * weight + bias

def tensorflow_new_function(x, weight, bias):
    import tensorflow as tf
    return tf.function(lambda x: x * weight + bias)(x)

def tensorflow_other_shape(x, weight, bias):
    import tensorflow as tf
    global traced
    if "traced" not in globals():
        traced = tf.function(lambda x: x + 1, jit_compile=True)
    traced(x[: next(NUMBERS)])
    return x * weight + bias
"""


@pytest.fixture(scope="module")
def recompiling(tmp_path_factory):
    file = tmp_path_factory.mktemp("recompiling") / "recompiling.py"
    file.write_text(RECOMPILING)
    return file


@pytest.mark.parametrize("way", ["new_function", "other_shape"])
def test_compiling_while_it_is_timed_is_counted(worker, recompiling, way):
    """Seen inside eager targets too, where the framework's own count of the step's programs sees nothing."""
    own = worker.implementation
    implementation = dataclasses.replace(
        own,
        name=way,
        target=f"{recompiling}:{own.framework}_{way}",
        consumes=(),
    )
    worker.open_case(SMALL)
    worker.prepare(implementation)
    assert worker.leg(way, rounds=2, calls=1, warm_up=0)["compilations"] >= 2


@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
def test_a_program_for_all_shapes_is_not_compiled_again(start_worker, pass_):
    worker = start_worker("torch")
    (implementation,) = [
        each
        for each in IMPLEMENTATIONS
        if (each.workload, each.name) == ("layer_norm", "torch.compile-dynamic-composed")
    ]
    worker.open_case(SMALL.replace("forward", pass_))
    worker.prepare(implementation)
    assert worker.leg(implementation.name, rounds=3, calls=2, warm_up=1)["compilations"] == 0


def test_a_worker_that_is_killed_says_so(start_worker):
    worker = start_worker("jax")
    worker.process.wait_ready()
    os.kill(worker.process.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="SIGKILL"):
        worker.open_case(GROUP)


def test_a_framework_that_does_not_load_is_an_error(tmp_path):
    process = WorkerProcess("absent", device="cpu", threads=1, cpus=[], environment={}, log=tmp_path / "log")
    try:
        for _ in range(2):
            with pytest.raises(WorkerError, match="ModuleNotFoundError"):
                process.wait_ready()
        with pytest.raises(WorkerError, match="ModuleNotFoundError"):
            process.ask("kernel_names", timeout=1.0, names=[])
    finally:
        process.close()
    assert "Traceback" in (tmp_path / "log").read_text(), "the whole story is in the log"


@pytest.mark.parametrize("name", ["torch.eager", "jax.jit"])
def test_8_bit_products_are_right(start_worker, name):
    """On the CPU too: PyTorch's and XLA's products of float8, whose results are bfloat16."""
    [implementation] = [each for each in IMPLEMENTATIONS if (each.workload, each.name) == ("matmul", name)]
    worker = start_worker(implementation.framework)
    worker.process.wait_ready()
    worker.open_case("matmul[48x64x32-float8_e4m3-forward]")
    worker.prepare(implementation)
    error = worker.errors(name)["output"]
    assert 1e-4 < error < 2.0**-8, "one rounding to bfloat16"


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


@pytest.fixture(scope="module")
def ready(start_worker):
    """One more worker of each framework, for tests that need no fresh one."""
    return functools.cache(start_worker)


@pytest.mark.parametrize("regime", ["", "-cold"])
@pytest.mark.parametrize(
    "group",
    [
        "layer_norm[16x24-float32-forward_backward]",
        "layer_norm[16x24-bfloat16-forward]",
        "attention[b2_h2_s8_d16-float32-forward]",
    ],
)
def test_a_timed_call_has_the_new_values_of_its_leg(ready, framework, group, regime):
    """Nothing but the values is new: the tensors are the same, and no library sees that they were written."""
    row = [each for each in IMPLEMENTATIONS if each.workload == group.partition("[")[0]]
    (implementation,) = [each for each in row if each.name == FRAMEWORKS[framework]]
    worker = ready(framework)
    group = group[:-1] + regime + "]"
    case = Case.from_group(group)
    one_set = case.workload.minimum_bytes("forward", case.dtype)
    assert worker.open_case(group, last_level_cache=one_set)["input_sets"] == (3 if regime else 1)
    worker.prepare(implementation)
    for draw in (11, 12, 13):
        file, probed = (str(worker.folder / f"{kind}.bin") for kind in ("kept", "probed"))
        leg = worker.leg(implementation.name, rounds=2, calls=4, warm_up=1, draw=draw)
        assert leg["compilations"] == 0
        probe = worker.ask("inspect", file=file, draws=[draw + 100], files=[probed])["probes"]
        assert len(probe) == 1 and 0 < probe[0][0] <= probe[0][1]
        for one, of in ((file, draw), (probed, draw + 100)):
            errors = worker.referee.compare(draw=of, file=one)["errors"]
            assert max(errors.values()) < (1e-5 if case.dtype == "float32" else 2e-2)


LOOKS = {
    "torch": """
import torch
seen = []
def cached(x, weight, bias):
    key = (x.data_ptr(), x._version, weight._version)
    if not seen or seen[-1][0] != key:
        seen.append((key, torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)))
    assert len(seen) == 1, "a library sees that the inputs were written"
    return seen[-1][1]
""",
    "jax": """
import jax
seen = []
def cached(x, weight, bias):
    key = (id(x), x.unsafe_buffer_pointer())
    if not seen or seen[-1][0] != key:
        seen.append((key, jax.nn.standardize(x) * weight + bias))
    assert len(seen) == 1, "a library sees that the inputs were written"
    return seen[-1][1]
""",
    "tensorflow": """
import tensorflow as tf
seen = []
def cached(x, weight, bias):
    key = id(x)
    if not seen or seen[-1][0] != key:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        seen.append((key, (x - mean) * tf.math.rsqrt(variance + 1e-5) * weight + bias))
    assert len(seen) == 1, "a library sees that the inputs were written"
    return seen[-1][1]
""",
}


def test_whoever_looks_at_anything_but_the_values_finds_no_difference(start_worker, framework, tmp_path):
    """A result that is kept by identity, address and version of the input is wrong in the next leg."""
    file = tmp_path / "looks.py"
    file.write_text(LOOKS[framework])
    implementation = Implementation("layer_norm", "mine", framework=framework, target=f"{file}:cached")
    worker = start_worker(framework)
    worker.process.wait_ready()
    worker.open_case(SMALL)
    worker.prepare(implementation)
    for draw in (5, 6):
        worker.leg("mine", rounds=2, calls=3, warm_up=1, draw=draw)
        kept = str(tmp_path / "kept.bin")
        worker.ask("inspect", file=kept, draws=[], files=[])
        assert worker.referee.compare(draw=draw, file=kept)["errors"]["output"] > 0.5
    with pytest.raises(WorkerError, match="the inputs were written"):
        worker.ask("check", name="mine", draws=[1], files=[str(tmp_path / "result")])  # other tensors


WRONG = {
    "torch": """
import torch
norm = lambda x, weight, bias: torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)
class Lazy(torch.Tensor):
    pass
def subclass(x, weight, bias):
    return norm(x, weight, bias).as_subclass(Lazy)
def sparse(x, weight, bias):
    return norm(x, weight, bias).to_sparse()
def elsewhere(x, weight, bias):
    return norm(x, weight, bias).to("meta")
def changes(x, weight, bias):
    output = norm(x, weight, bias)
    weight.data[3] += 1
    return output
def shortens(x, weight, bias):
    output = norm(x, weight[:24], bias)
    weight.set_(torch.cat([weight[:24], weight[:1]]))
    return output
def array(x, weight, bias):
    return norm(x, weight, bias).numpy()
def too_few(x, weight, bias):
    return norm(x, weight, bias)[:2, :2]
""",
    "jax": """
import jax, numpy as np
norm = lambda x, weight, bias: jax.nn.standardize(x) * weight + bias
def deleted(x, weight, bias):
    output = norm(x, weight, bias)
    output.block_until_ready()
    output.delete()
    return output
def array(x, weight, bias):
    return np.asarray(norm(x, weight, bias))
def too_few(x, weight, bias):
    return norm(x, weight, bias)[:2, :2]
""",
    "tensorflow": """
import tensorflow as tf
def norm(x, weight, bias):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * weight + bias
def variable(x, weight, bias):
    return tf.Variable(norm(x, weight, bias))
def array(x, weight, bias):
    return norm(x, weight, bias).numpy()
def too_few(x, weight, bias):
    return norm(x, weight, bias)[:2, :2]
""",
}
REASONS = {
    "subclass": "output is Lazy, not a plain tensor",
    "sparse": "output is Tensor, not a plain tensor",
    "elsewhere": "output is Tensor, not a plain tensor",
    "changes": "the input 'weight' was changed by the call",
    "shortens": "the input 'weight' was changed by the call",
    "array": "output is ndarray, not a plain tensor",
    "too_few": r"output has shape \(2, 2\) instead of \(16, 24\)",
    "deleted": "called on deleted or donated buffer",
    "variable": "output is ResourceVariable, not a plain tensor",
}


def test_a_result_that_is_none_is_refused_by_its_kind(ready, framework, tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text(WRONG[framework])
    worker = ready(framework)
    names = [name for name in REASONS if f"def {name}(" in WRONG[framework]]
    assert len(names) >= 3
    for name in names:
        worker.open_case(SMALL)
        row = Implementation("layer_norm", name, framework=framework, target=f"{file}:{name}")
        with pytest.raises(WorkerError, match=REASONS[name]):
            worker.prepare(row)
            worker.ask("check", name=name, draws=[1], files=[str(tmp_path / "result")])


def test_ceilings_are_measured_in_every_dtype(ready, framework):
    worker = ready(framework)
    for dtype in ("float32", "tf32", "bfloat16", "float8_e4m3"):
        found = worker.ask("ceilings", dtype=dtype)
        assert found["bytes"] > 1e8 and found["flops"] > 1e8, dtype


def test_new_values_are_written_into_a_matrix_that_lies_transposed(ready):
    (implementation,) = [
        each for each in IMPLEMENTATIONS if (each.workload, each.name) == ("matmul", "torch.eager")
    ]
    worker = ready("torch")
    worker.open_case("matmul[48x64x32-float8_e4m3-forward]")
    worker.prepare(implementation)
    for draw in (1, 2):
        kept = str(worker.folder / "kept.bin")
        worker.leg(implementation.name, rounds=1, calls=2, warm_up=1, draw=draw)
        worker.ask("inspect", file=kept, draws=[], files=[])
        assert worker.referee.compare(draw=draw, file=kept)["errors"]["output"] < 2.0**-8


def test_copies_for_a_kept_result_are_compiled_before_the_clock_runs(start_worker):
    """In the cold regime a result is copied between two rounds; eager JAX compiles a copy for each shape."""
    (implementation,) = [
        each for each in IMPLEMENTATIONS if (each.workload, each.name) == ("layer_norm", "jax.jit")
    ]
    worker = start_worker("jax")
    worker.process.wait_ready()
    worker.open_case("layer_norm[19x27-float32-forward_backward-cold]", last_level_cache=2**12)
    worker.prepare(implementation)
    assert worker.leg("jax.jit", rounds=2, calls=4, warm_up=1)["compilations"] == 0
