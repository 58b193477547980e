"""LiteRT, once TensorFlow Lite, on the CPU with XNNPACK, in float32.

Its interpreter computes in an arena of its own, so each call copies the inputs there and the results from
there, into tensors that were bound before. Both copies are a part of the call.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from fuseproof.frameworks import Bound, host_view
from fuseproof.frameworks.runtimes.in_tensorflow import Bind

BOUND_RESULTS = True


def export(saved: Path, folder: Path) -> Path:
    """The model, not quantised."""
    file = folder / "program.tflite"
    file.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(saved)).convert())
    return file


def load(file: Path, results: tuple[Any, ...]) -> Bind:
    """An interpreter with the threads of the run."""
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    # From memory, as the file does not stay.
    interpreter = Interpreter(model_content=file.read_bytes(), num_threads=threads)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner("serving_default")
    given, found = runner.get_input_details(), runner.get_output_details()

    def bind(tensors: tuple[Any, ...]) -> Bound:
        named = {f"output_{place}": _new(each) for place, each in enumerate(results)}
        inputs = [
            (interpreter.tensor(given[f"input_{place}"]["index"]), _memory(each))
            for place, each in enumerate(tensors)
            if f"input_{place}" in given
        ]
        outputs = [(_memory(each), interpreter.tensor(found[name]["index"])) for name, each in named.items()]
        return functools.partial(_call, interpreter, inputs, outputs, named, tensors)

    return bind


def _call(interpreter: Any, inputs: Any, outputs: Any, named: dict[str, Any], held: object) -> Any:
    """`held`: the inputs, which have to live as long as the call that reads their memory."""
    for arena, memory in inputs:
        np.copyto(arena(), memory)
    interpreter.invoke()
    for memory, arena in outputs:
        np.copyto(memory, arena())
    return named


def _new(like: Any) -> Any:
    """A tensor of that shape with memory of its own, which nothing was written to."""
    return tf.raw_ops.Empty(shape=like.shape, dtype=like.dtype, init=False)


def _memory(tensor: Any) -> Any:
    capsule = tf.experimental.dlpack.to_dlpack(tensor)
    return host_view.at_dlpack(capsule, tensor.shape, tensor.dtype.as_numpy_dtype)
