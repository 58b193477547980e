"""What the guard finds in the frameworks, and that honest work with them is not accused."""

from __future__ import annotations

import importlib.util

import pytest
from support.guarded import in_a_process

from fuseproof.implementations import FRAMEWORKS

HONEST = {
    "torch": """
import torch
x = torch.ones(8, 16, requires_grad=True)
torch.compile(lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:]) * 2)(x).sum().backward()
look(guard)
torch.compile(lambda x: x.sin() * 3, dynamic=True)(x)
torch.vmap(lambda row: row.sum())(x)
torch.func.grad(lambda x: x.sin().sum())(x)
torch.export.export(torch.nn.Linear(3, 3), (torch.ones(2, 3),))
look(guard)
import torch.distributions, torch.nn.attention.flex_attention, torch.utils.checkpoint
torch.utils.checkpoint.checkpoint(lambda x: x * 2, x, use_reentrant=False)
with torch.no_grad(), torch.autocast("cpu"), torch.inference_mode():
    torch.manual_seed(1)
with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
    torch.nn.functional.scaled_dot_product_attention(*[torch.ones(1, 1, 16, 16)] * 3)
@torch.library.custom_op("mine::add_one", mutates_args=())
def add_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1
add_one(torch.ones(3))
torch.compiler.reset()
look(guard)
""",
    "jax": """
import jax, jax.numpy as jnp
x = jnp.ones((8, 16))
jax.jit(jax.nn.standardize)(x).block_until_ready()
jax.grad(lambda x: x.sum())(x)
jax.vmap(lambda row: row.sum())(x)
jax.lax.scan(lambda carry, row: (carry + row.sum(), row), 0.0, x)
look(guard)
from jax.experimental import pallas
import jax.scipy.special, jax.export
with jax.default_matmul_precision("bfloat16"):
    (x @ x.T).block_until_ready()
jax.checkpoint(lambda x: x * 2)(x)
jax.random.normal(jax.random.key(0), (3,))
jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((8, 16), jnp.float32), x).block_until_ready()
jax.clear_caches()
look(guard)
""",
    "tensorflow": """
import tensorflow as tf
x = tf.ones((8, 16))
tf.function(lambda x: tf.nn.moments(x, [-1]))(x)
tf.function(lambda x: x * 2, jit_compile=True)(x)
look(guard)
import keras
keras.layers.LayerNormalization()(x)
tf.keras.layers.Dense(3)(x)
tf.experimental.numpy.ones(3)
tf.custom_gradient(lambda x: (x, lambda d: d))(x)
tf.map_fn(lambda row: row * 2, x)
list(tf.data.Dataset.range(3))
keras.utils.set_random_seed(1)
with tf.GradientTape() as tape:
    tape.watch(x)
    y = x * x
tape.gradient(y, x)
look(guard)
""",
}

MID_BATCH = """
import time
import numpy as np
x = framework.from_numpy(np.ones((8, 16), np.float32), "float32")
clock = framework._clock
def call():
    framework._clock = lambda: 0.0
    time.sleep(0.05)
    return x
found = [framework.batch([call]).host]
framework._clock = clock
found += framework.single(call)[:2]
sys.__stdout__.write(f"SAID {json.dumps(found)}\\nSAID {json.dumps(framework.is_plain(x))}\\n")
try:
    x.block_until_ready = lambda: x
except AttributeError:  # it cannot have one
    sys.__stdout__.write("SAID false\\n")
else:
    sys.__stdout__.write(f"SAID {json.dumps(framework.is_plain(x))}\\n")
"""

CHANGES = {
    "torch": {
        "torch.set_num_threads(2)": "torch threads: 1 → 2",
        "torch.set_grad_enabled(False)": "grad mode: True → False",
        "kept = torch.inference_mode(); kept.__enter__()": "inference mode: False → True",
        "torch.set_anomaly_enabled(True)": "anomaly mode: False → True",
        "torch.set_default_dtype(torch.float64)": "default dtype: torch.float32 → torch.float64",
        "torch.set_default_device('meta')": "default device: cpu → meta",
        "torch.set_float32_matmul_precision('medium')": "float32 matmul precision: highest → medium",
        "torch.backends.cudnn.allow_tf32 = True": "TF32 in convolutions: False → True",
        "torch.backends.cudnn.benchmark = True": "cuDNN benchmark: False → True",
        "torch.backends.cudnn.enabled = False": "cuDNN: True → False",
        "torch.backends.cudnn.deterministic = True": "cuDNN deterministic: False → True",
        "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False": "bfloat16 sums",
        "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False": "float16 sums",
        "torch.backends.mkldnn.set_flags(False)": "oneDNN: True → False",
        "torch.use_deterministic_algorithms(True)": "deterministic algorithms: False → True",
        "torch.utils.deterministic.fill_uninitialized_memory = False": "fill uninitialised memory",
        "torch.backends.cuda.enable_flash_sdp(False)": "flash attention: True → False",
        "torch.backends.cuda.enable_mem_efficient_sdp(False)": "efficient attention: True → False",
        "torch.backends.cuda.enable_math_sdp(False)": "plain attention: True → False",
        "torch.autocast('cpu').__enter__()": "autocast: False → True",
        "torch.overrides.BaseTorchFunctionMode().__enter__()": "function modes: 0 → 1",
        "import torch.utils._python_dispatch as d; d.TorchDispatchMode().__enter__()": "dispatch modes: 0",
        "torch.autograd.grad = lambda *given: ()": "replaced torch.autograd.grad",
        "torch.Tensor.backward = None": "replaced Tensor.backward",
        "torch.nn.functional.layer_norm = torch.relu": "replaced torch.nn.functional.layer_norm",
        "torch.cuda.Event.elapsed_time = lambda *given: 1.0": "replaced Event.elapsed_time",
        "torch.nn.functional.layer_norm.__code__ = (lambda *given, **more: None).__code__": "what is in",
    },
    "jax": {
        "jax.config.update('jax_default_matmul_precision', 'bfloat16')": "jax jax_default_matmul_precision",
        "jax.config.update('jax_enable_x64', True)": "jax jax_enable_x64: False → True",
        "jax.config.update('jax_disable_jit', True)": "jax jax_disable_jit: False → True",
        "jax.block_until_ready = lambda x: x": "replaced jax.block_until_ready",
        "jax.numpy.mean = jax.numpy.sum": "replaced jax.numpy.mean",
        "jax.monitoring.record_event_duration_secs = print": "replaced jax.monitoring.record_event_duration",
    },
    "tensorflow": {
        "tf.config.run_functions_eagerly(True)": "functions run eagerly: False → True",
        "tf.config.optimizer.set_jit('autoclustering')": "XLA for all functions",
        "tf.config.optimizer.set_experimental_options({'constant_folding': False})": "graph optimizer",
        "tf.config.set_soft_device_placement(False)": "soft placement: True → False",
        "tf.config.experimental.enable_tensor_float_32_execution(True)": "TF32: False → True",
        "tf.config.experimental.enable_op_determinism()": "deterministic: False → True",
        "tf.matmul = tf.add": "replaced tensorflow.matmul",
        "tf.GradientTape.gradient = None": "replaced GradientTape.gradient",
    },
}  # fmt: skip


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_honest_work_with_a_framework_is_not_accused(framework):
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed; pip install 'fuseproof[{framework}]'")
    watched = f"""
guard.watch()
exec(compile({HONEST[framework]!r}, "/somewhere/mine.py", "exec"))
"""
    said = in_a_process(watched, name=framework)
    assert len(said) >= 2 and set(said) == {None}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_clock_replaced_in_mid_batch_changes_nothing_and_a_tensor_with_its_own_method_is_not_plain(
    framework,
):
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed; pip install 'fuseproof[{framework}]'")
    times, plain, with_method = in_a_process(MID_BATCH, name=framework)
    assert all(0.05 <= seconds < 60 for seconds in times)
    assert (plain, with_method) == (True, False)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_code_can_change_in_a_framework_is_found(framework):
    """In children of one process, as loading a framework takes seconds; nothing has run in it yet."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed; pip install 'fuseproof[{framework}]'")
    load = {"torch": "import torch", "jax": "import jax", "tensorflow": "import tensorflow as tf"}[framework]
    program = [load, "import os", "sys.__stdout__.flush()"]
    for change in CHANGES[framework]:
        program += [
            "if not (child := os.fork()):",
            f"    exec({change!r})",
            "    look(guard)",
            "    sys.__stdout__.flush()",
            "    os._exit(0)",
            "os.waitpid(child, 0)",
        ]
    found = in_a_process("\n".join(program), name=framework)
    assert len(found) == len(CHANGES[framework])
    missed = {
        change: said
        for (change, wanted), said in zip(CHANGES[framework].items(), found, strict=True)
        if said is None or wanted not in said
    }
    assert missed == {}
