"""What each framework's module does for a worker, through the worker."""

import ast
import dataclasses
import os
import signal
from pathlib import Path

import pytest

from fuseproof import frameworks
from fuseproof.errors import UserError
from fuseproof.frameworks import Framework
from fuseproof.implementations import FRAMEWORKS, IMPLEMENTATIONS
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
        if (each.operator, each.name) == ("layer_norm", FRAMEWORKS[request.param])
    ]
    worker.open_case(GROUP)
    worker.prepare(worker.implementation)
    return worker


def test_it_has_the_threads_it_was_given(worker):
    assert worker.description["threads"] == 1
    assert worker.description["version"]


def test_a_leg_is_seconds_per_call(worker):
    leg = worker.ask("leg", name=worker.implementation.name, rounds=3, calls=2, warm_up=1)
    assert leg.keys() == {"wall"}, "the CPU has no clock of its own"
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
        worker.ask("check", name="absent")
    assert worker.ask("check", name=worker.implementation.name)["errors"]["output"] < 1e-6


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
def test_compiling_while_it_is_timed_is_an_error(worker, recompiling, way):
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
    with pytest.raises(WorkerError, match=r"compiled? again|traced again|recompile"):
        worker.ask("leg", name=way, rounds=2, calls=1, warm_up=0)


@pytest.mark.parametrize("pass_", ["forward", "forward_backward"])
def test_a_program_for_all_shapes_is_not_compiled_again(start_worker, pass_):
    worker = start_worker("torch")
    (implementation,) = [
        each
        for each in IMPLEMENTATIONS
        if (each.operator, each.name) == ("layer_norm", "torch.compile-dynamic-composed")
    ]
    worker.open_case(SMALL.replace("forward", pass_))
    worker.prepare(implementation)
    assert len(worker.ask("leg", name=implementation.name, rounds=3, calls=2, warm_up=1)["wall"]) == 3


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
    [implementation] = [each for each in IMPLEMENTATIONS if (each.operator, each.name) == ("matmul", name)]
    worker = start_worker(implementation.framework)
    worker.process.wait_ready()
    worker.open_case("matmul[48x64x32-float8_e4m3-forward]")
    worker.prepare(implementation)
    error = worker.ask("check", name=name)["errors"]["output"]
    assert 1e-4 < error < 2.0**-8, "one rounding to bfloat16"
