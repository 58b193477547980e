"""Runs kernels in Triton's interpreter, in a process of its own.

TRITON_INTERPRET=1 must be set before the kernels are imported, while ahead-of-time compilation needs it
unset.

Started by the fixture `interpreter` in conftest.py. A message is its length in 8 bytes and a dict written by
`torch.save`: {"target": "module:function", "tensors": {...}, "options": {...}} in, {"outputs": [...],
"unchanged": bool} or {"error": "..."} out. Outputs are tensors filled with NaN until the kernel writes them.
"""

import importlib
import io
import os
import sys

import ml_dtypes
import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle


def repair_bfloat16() -> None:
    """Make the interpreter do for bfloat16 what a GPU does.

    In triton 3.6.0 and 3.7.1 it truncates float32 to bfloat16 where a GPU rounds to nearest, and `tl.dot`
    multiplies the bit patterns of bfloat16 operands as if they were integers.
    """
    cast, dot = InterpreterBuilder.cast_impl, InterpreterBuilder.create_dot

    def cast_rounding(self, source, to):
        if source.dtype.scalar == tl.float32 and to.scalar == tl.bfloat16:
            return TensorHandle(source.data.astype(ml_dtypes.bfloat16).view(np.uint16), tl.bfloat16)
        return cast(self, source, to)

    def values(operand):
        if operand.dtype.scalar != tl.bfloat16:
            return operand
        return TensorHandle(operand.data.view(ml_dtypes.bfloat16).astype(np.float32), tl.float32)

    def dot_of_values(self, a, b, *rest):
        return dot(self, values(a), values(b), *rest)

    InterpreterBuilder.cast_impl, InterpreterBuilder.create_dot = cast_rounding, dot_of_values


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.nan_to_num(nan=12345.0), b.nan_to_num(nan=12345.0))


def answer(request: dict) -> dict:
    module_name, function_name = request["target"].split(":")
    module = importlib.import_module(module_name)
    options = request["options"]
    if "config" in options:
        options["config"] = module.Config(**options["config"])
    before = {name: tensor.clone() for name, tensor in request["tensors"].items()}
    try:
        outputs = getattr(module, function_name)(**request["tensors"], **options)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "outputs": [outputs] if isinstance(outputs, torch.Tensor) else list(outputs),
        "unchanged": all(same(before[name], tensor) for name, tensor in request["tensors"].items()),
    }


def main() -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get into the replies
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # fills new tensors with NaN
    np.seterr(all="ignore")  # exp2 of -inf and of large numbers is meant to vanish or overflow, as on a GPU
    repair_bfloat16()
    while header := sys.stdin.buffer.read(8):
        request = torch.load(io.BytesIO(sys.stdin.buffer.read(int.from_bytes(header, "little"))))
        buffer = io.BytesIO()
        torch.save(answer(request), buffer)
        replies.write(len(buffer.getvalue()).to_bytes(8, "little") + buffer.getvalue())
        replies.flush()


if __name__ == "__main__":
    main()
