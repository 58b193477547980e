"""Functions that are right pass, in every framework, however they are compiled, in every dtype and layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings

import fuseproof
from fuseproof import strategies
from fuseproof.errors import UserError

torch = pytest.importorskip("torch", reason="pip install 'fuseproof[torch]'")


def arrays(seed, rows=5, columns=129):
    generator = np.random.default_rng(seed)
    return {"x": generator.standard_normal((rows, columns)), "w": generator.standard_normal(columns)}


def tensors(seed, **shape):
    return {name: torch.from_numpy(array).float() for name, array in arrays(seed, **shape).items()}


def reference(x, w):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True) * w


def softmax(x, w):
    return torch.softmax(x, -1) * w


GRID = {"rows": [1, 3], "columns": [1, 2, 129], "dtype": ["float32", "float16", "bfloat16"]}


def test_numpy():
    found = fuseproof.check(reference, inputs=arrays, reference=reference, over={"columns": [1, 7, 5000]})
    found.raise_if_wrong()
    assert found.notes == ("memory: checked at columns=1 only",)


@pytest.mark.parametrize("given", [{"reference": reference}, {"baseline": softmax}, {}])
def test_pytorch(given):
    found = fuseproof.check(softmax, inputs=tensors, over=GRID, **given)
    found.raise_if_wrong()
    assert len(found.points) == 18
    assert {*found.points[0].errors} == {"output", "grad_x", "grad_w"}


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_torch_compile_is_compared_with_what_was_compiled():
    found = fuseproof.check(torch.compile(softmax), inputs=tensors)
    found.raise_if_wrong()
    assert "what is right is the function before it was compiled, in float64" in found.notes
    assert torch.are_deterministic_algorithms_enabled() is False


def test_modules_with_nested_arguments_and_results():
    torch.manual_seed(0)
    norm = torch.nn.Sequential(torch.nn.Linear(129, 31), torch.nn.GELU(), torch.nn.LayerNorm(31))

    def block(state, indices, *, scale):
        out = norm(state["x"]) * scale
        return {"out": [out, out[indices]], "best": out.argmax(-1)}

    def inputs(seed):
        generator = torch.Generator().manual_seed(seed)
        indices = torch.randint(5, (4,), generator=generator)
        return {"state": {"x": tensors(seed)["x"]}, "indices": indices, "scale": 0.5}

    def in_float64(state, indices, *, scale):
        out = wide(state["x"]) * scale
        return {"out": [out, out[indices]], "best": out.argmax(-1)}

    wide = deepcopy(norm).double()
    with pytest.raises(UserError, match="the function itself in float64, which is the reference, raised"):
        fuseproof.check(block, inputs=inputs)  # its parameters stay float32
    found = fuseproof.check(block, inputs=inputs, reference=in_float64, baseline=block)
    found.raise_if_wrong()
    assert {*found.points[0].errors} == {"out.0", "out.1", "best", "grad_state.x"}
    assert fuseproof.check(norm, inputs=lambda seed: tensors(seed)["x"]).ok


def test_masked_rows_may_be_infinite_where_the_reference_is():
    def masked(x):
        return torch.where(x > 0, x, -torch.inf)

    def in_numpy(x):
        return np.where(x > 0, x, -np.inf)

    fuseproof.check(masked, inputs=lambda seed: tensors(seed)["x"], reference=in_numpy).raise_if_wrong()


def test_overflow_of_half_precision_is_forgiven_where_the_baseline_overflows_too():
    given = {"inputs": lambda seed: 300 * tensors(seed)["x"], "dtype": "float16"}
    found = fuseproof.check(lambda x: x * x, baseline=torch.square, gradients=False, **given)
    found.raise_if_wrong()


@settings(max_examples=25, database=None)
@given(x=strategies.tensors(strategies.shapes(8, 32, largest=70), dtype=["float32", "bfloat16"]))
def test_every_layout_of_a_tensor(x):
    def rows(x):
        return torch.softmax(x, -1)

    fuseproof.check(rows, inputs={"x": x}, baseline=rows, skip=["memory"]).raise_if_wrong()


@settings(max_examples=25, database=None)
@given(x=strategies.arrays(strategies.shapes(8, 32, largest=70)))
def test_every_layout_of_an_array(x):
    fuseproof.check(np.tanh, inputs={"x": x}, reference=np.tanh, skip=["memory"]).raise_if_wrong()


# Frameworks that are not PyTorch have a process of their own: three in one crash.
SCRIPT = """
    import json
    import numpy as np
    import fuseproof
    {imports}

    def inputs(seed, columns=129):
        generator = np.random.default_rng(seed)
        return {{"x": generator.standard_normal((5, columns)), "w": generator.standard_normal(columns)}}

    def reference(x, w):
        exponentials = np.exp(x - x.max(-1, keepdims=True))
        return exponentials / exponentials.sum(-1, keepdims=True) * w

    {functions}

    found = {{
        "in NumPy": fuseproof.check(softmax, inputs=inputs, reference=reference),
        "compiled": fuseproof.check(compiled, inputs=inputs, over={{
            "columns": [1, 129], "dtype": ["float32", "bfloat16"]}}),
        "wrong": fuseproof.check(wrong, inputs=inputs, reference=softmax),
        "gradient": fuseproof.check(gradient, inputs=inputs, reference=softmax),
    }}
    print(json.dumps({{
        name: [each.ok, str(each), [failure.message for failure in each.failures]]
        for name, each in found.items()
    }}))
"""
IN_JAX = """
    def softmax(x, w):
        return jax.nn.softmax(x, -1) * w

    compiled = jax.jit(softmax)

    def wrong(x, w):
        return jax.nn.softmax(x, -1) * w * jnp.where(jnp.arange(x.shape[1]) == 128, 0, 1)

    @jax.custom_vjp
    def gradient(x, w):
        return softmax(x, w)

    def backward(kept, cotangent):
        of_x, of_w = jax.vjp(softmax, *kept)[1](cotangent)
        return of_x, 1.01 * of_w

    gradient.defvjp(lambda x, w: (softmax(x, w), (x, w)), backward)
"""
IN_TENSORFLOW = """
    def softmax(x, w):
        return tf.nn.softmax(x, -1) * w

    compiled = tf.function(softmax, jit_compile=True)

    def wrong(x, w):
        at_edge = tf.cast(tf.range(tf.shape(x)[1]) == 128, x.dtype)
        return tf.nn.softmax(x, -1) * w * (1 - at_edge)

    @tf.custom_gradient
    def gradient(x, w):
        def backward(cotangent):
            with tf.GradientTape() as tape:
                tape.watch([x, w])
                output = softmax(x, w)
            of_x, of_w = tape.gradient(output, [x, w], cotangent)
            return of_x, 1.01 * of_w
        return softmax(x, w), backward
"""


@pytest.mark.parametrize(
    ("framework", "imports", "functions"),
    [
        ("jax", "import jax, jax.numpy as jnp", IN_JAX),
        ("tensorflow", "import tensorflow as tf", IN_TENSORFLOW),
    ],
)
def test_other_frameworks(framework, imports, functions):
    pytest.importorskip(f"{framework}.version", reason=f"pip install 'fuseproof[{framework}]'")
    code = textwrap.dedent(SCRIPT).format(imports=imports, functions=textwrap.dedent(functions))
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name in ("in NumPy", "compiled"):
        assert found[name][0], found[name][1]
    assert "outside: not checked: " in found["in NumPy"][1]
    (message,) = found["wrong"][2]
    assert message.startswith("output is wrong") and ", 128] it is 0 instead of " in message.replace(
        "-0 ", "0 "
    )
    (message,) = found["gradient"][2]
    assert message.startswith("with gradients, grad_w is wrong: relative RMS error 0.01")
