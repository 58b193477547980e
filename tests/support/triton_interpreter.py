"""Runs kernels in Triton's interpreter, in a separate process.

TRITON_INTERPRET=1 must be set before the kernels are imported, while ahead-of-time compilation needs it
unset.

Started by the fixture `interpreter` in conftest.py. A message is its length in 8 bytes and a dict written by
`torch.save`: {"target": "module:function", "tensors": {...}, "options": {...}} in, {"outputs": [...],
"unchanged": bool} or {"error": "..."} out. Outputs are tensors filled with NaN until the kernel writes them.

A dict among the options whose name ends in `config` becomes the record that the function's annotation names.

Further keys of a request, all optional:
    cotangent:     a tensor, or one per output (None for an output without): run backward, too, and append the
                   gradients of the tensors, None where there is none, to the outputs.
    requires_grad: names of the tensors whose gradients are wanted; all unless given.
    compiled:      call it through `torch.compile(fullgraph=True, backend="aot_eager")`.
    opcheck:       name of a registered operator, `layer_norm` of `fuseproof::layer_norm`: run
                   `torch.library.opcheck` on it with "arguments", once the module of `target` is imported.
"""

import importlib
import io
import os
import sys
from typing import get_args, get_type_hints

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
    if a.dtype.itemsize == 1:  # float8 is not calculated with, and so its bits are compared
        return torch.equal(a.view(torch.uint8), b.view(torch.uint8))
    return torch.equal(a.nan_to_num(nan=12345.0), b.nan_to_num(nan=12345.0))


def answer(request: dict) -> dict:
    module_name, function_name = request["target"].split(":")
    module = importlib.import_module(module_name)
    options, tensors = request["options"], request["tensors"]
    for name, value in options.items():
        if name.endswith("config") and isinstance(value, dict):
            record, _ = get_args(get_type_hints(getattr(module, function_name))[name])  # `Config | None`
            options[name] = record(**value)
    given = [*tensors.values(), *as_list(request.get("cotangent"))]
    before = [None if tensor is None else tensor.clone() for tensor in given]
    try:
        if "opcheck" in request:
            operator = getattr(torch.ops.fuseproof, request["opcheck"]).default
            torch.library.opcheck(operator, tuple(request["arguments"]))
            outputs = []
        else:
            outputs = call(getattr(module, function_name), request)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "outputs": outputs,
        "unchanged": all(
            tensor is None or same(old, tensor) for old, tensor in zip(before, given, strict=True)
        ),
    }


def call(function, request: dict) -> list:
    """The outputs of the function and, given a cotangent, the gradients of its tensors."""
    tensors, options = request["tensors"], request["options"]
    if request.get("compiled"):
        torch.compiler.reset()
        function = torch.compile(function, fullgraph=True, backend="aot_eager")
    if "cotangent" not in request:
        return as_list(function(**tensors, **options))
    wanted = request.get("requires_grad", tuple(tensors))
    leaves = {name: tensor.detach().requires_grad_(name in wanted) for name, tensor in tensors.items()}
    outputs = as_list(function(**leaves, **options))
    pairs = zip(outputs, as_list(request["cotangent"]), strict=True)
    roots, cotangents = zip(*(pair for pair in pairs if pair[1] is not None), strict=True)
    torch.autograd.backward(roots, cotangents)
    return [*(output.detach() for output in outputs), *(leaf.grad for leaf in leaves.values())]


def as_list(value) -> list:
    return [value] if value is None or isinstance(value, torch.Tensor) else list(value)


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
