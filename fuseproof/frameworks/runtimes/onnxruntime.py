"""ONNX Runtime on the CPU: `torch.onnx.export(dynamo=True)`, a session bound to the tensors' own memory."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from fuseproof.frameworks import Bound
from fuseproof.frameworks.runtimes.in_torch import Bind, Program, refuse_other_order

BOUND_RESULTS = True


def export(program: Program, folder: Path) -> Path:
    """The model, its weights in a file beside it where they are large."""
    file = folder / "program.onnx"
    exported: Any = torch.onnx.export(
        program,
        program.examples,
        input_names=[_input(place) for place in range(len(program.examples))],
        output_names=[_output(place) for place in range(len(program.results))],
        dynamo=True,
        verbose=False,
    )
    exported.save(str(file))
    return file


def load(file: Path, program: Program) -> Bind:
    """A session with the threads of the run, on the CPU, everything else as it is by default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    taken = {each.name for each in session.get_inputs()}  # the exporter drops what has no effect

    def bind(tensors: tuple[torch.Tensor, ...]) -> Bound:
        refuse_other_order(tensors, "ONNX Runtime")
        results = tuple(torch.empty(each.shape, dtype=each.dtype) for each in program.results)
        binding = session.io_binding()
        for place, tensor in enumerate(tensors):
            if _input(place) in taken:
                binding.bind_input(_input(place), *_memory(tensor))
        for place, tensor in enumerate(results):
            binding.bind_output(_output(place), *_memory(tensor))
        return functools.partial(_call, session, binding, results, tensors)

    return bind


def _call(session: Any, binding: Any, results: tuple[torch.Tensor, ...], held: object) -> Any:
    """`held`: the inputs, which have to live as long as the call that reads their memory."""
    session.run_with_iobinding(binding)
    return results


def _memory(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Device, its number, dtype, shape and address, as a binding takes them."""
    dtype = tensor.detach().numpy().dtype
    return "cpu", 0, dtype.type, tuple(tensor.shape), tensor.data_ptr()


def _input(place: int) -> str:
    return f"input_{place}"


def _output(place: int) -> str:
    return f"output_{place}"
