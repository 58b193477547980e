"""Modules of JAX and Keras that a script defines are what they were in another process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

EQUINOX = """
    import equinox as eqx, jax, jax.numpy as jnp
    from pathlib import Path
    from typing import Generic, TypeVar
    from fuseproof.api import functions

    class Base(eqx.Module):
        w: jax.Array
        n: int = eqx.field(static=True)
        def __init__(self, n):
            self.w, self.n = jnp.ones(n), n
        def times(self, x):
            return x * self.w * self.n

    class Child(Base):
        b: jax.Array = eqx.field(converter=jnp.asarray)
        def __init__(self, n):
            super().__init__(n)
            self.b = jnp.ones(n)
        def __call__(self, x):
            return self.times(x) + self.b

    class Outer(eqx.Module, Generic[TypeVar("T")]):
        child: Child
        scale: jax.Array = eqx.field(default_factory=lambda: jnp.array(2.0))
        k: float = 3.0
        def __call__(self, x):
            return self.child(x) * self.scale * self.k

    module = Outer(Child(4))
    assert functions.is_module(module) and functions.is_module(eqx.filter_jit(module))
    assert not any(functions.is_module(jit(lambda x: x)) for jit in (eqx.filter_jit, jax.jit))
    assert functions.is_module(({}, lambda p, x: x)) and not functions.is_module(({}, 3))
    of = lambda given, as_module: functions.implementation(
        "mine", given, workload="w", folder=Path("here"), framework="", as_module=as_module
    )
    jitted = eqx.filter_jit(module)
    assert (of(jitted, True).compiled, of(jitted, False).compiled) == ("jit", None)
    assert of(({}, lambda p, x: x), True).framework == "jax"
    given = {"module": module, "make": lambda: Outer(Child(4))}
    functions.write(Path("them.pickle"), given, of="them")
"""
READ_EQUINOX = """
    import jax, jax.numpy as jnp
    from fuseproof.implementations.loading import resolve

    for found in (resolve("them.pickle:module"), resolve("them.pickle:make")()):
        paths = [path for path, _ in jax.tree.leaves_with_path(found)]
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
        assert names == ["child.w", "child.b", "scale", "k"]
        assert found(jnp.ones(4)).tolist() == [30.0] * 4
        assert jax.tree.map(lambda leaf: 2 * leaf, found)(jnp.ones(4)).tolist() == [240.0] * 4
"""
KERAS = """
    import keras, numpy as np, tensorflow as tf
    from pathlib import Path
    from fuseproof.api import functions

    class Scale(keras.layers.Layer):
        def __init__(self, by=1.0, **named):
            super().__init__(**named)
            self.by, self.dense = by, keras.layers.Dense(2)
        def call(self, x):
            return self.by * self.dense(x)

    model = keras.Sequential([keras.layers.Dense(3), Scale(by=2.0)])
    right = model(np.ones((4, 5), np.float32))
    compiled = tf.function(model)
    assert functions.is_module(model) and functions.is_module(compiled) and functions.is_module(Scale())
    assert not functions.is_module(tf.function(lambda x: x))
    functions.write(Path("them.pickle"), {"model": model, "unbuilt": Scale(by=3.0)}, of="them")
    np.save("right.npy", right)
"""
READ_KERAS = """
    import numpy as np
    from fuseproof.implementations.loading import resolve

    x = np.ones((4, 5), np.float32)
    assert np.allclose(resolve("them.pickle:model")(x), np.load("right.npy"), atol=1e-6)
    unbuilt = resolve("them.pickle:unbuilt")
    assert unbuilt.by == 3.0 and unbuilt(x).shape == (4, 2)
"""


@pytest.mark.parametrize(
    ("package", "write", "read"),
    [("equinox", EQUINOX, READ_EQUINOX), ("keras", KERAS, READ_KERAS)],
    ids=["equinox", "keras"],
)
def test_they_travel_with_their_classes(tmp_path, package, write, read):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}; pip install {package}")
    environment = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    for code in (write, read):
        command = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **environment}
        )
        assert done.returncode == 0, done.stderr
