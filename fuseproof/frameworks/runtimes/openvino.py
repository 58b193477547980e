"""OpenVINO on the CPU: converted from `torch.export`, bound to the tensors' own memory.

By default OpenVINO saves weights as float16 and computes in bfloat16 where the CPU has it. Neither is done
here: precision is part of what is computed.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import openvino
import torch

from fuseproof.frameworks import Bound
from fuseproof.frameworks.runtimes.in_torch import Bind, Program, refuse_other_order

BOUND_RESULTS = True


def export(program: Program, folder: Path) -> Path:
    """The model, its weights in a file beside it, for exactly these shapes."""
    exported = torch.export.export(program, program.examples)
    model = openvino.convert_model(exported)
    for place, each in enumerate(model.inputs):
        each.get_tensor().set_names({_input(place)})
    shapes = {_input(place): list(each.shape) for place, each in enumerate(program.examples)}
    model.reshape(shapes)
    file = folder / "program.xml"
    openvino.save_model(model, file, compress_to_fp16=False)
    return file


def load(file: Path, program: Program) -> Bind:
    """A model with the threads of the run, compiled for single calls one after the other."""
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    compiled = openvino.Core().compile_model(file, "CPU", settings)

    def bind(tensors: tuple[torch.Tensor, ...]) -> Bound:
        refuse_other_order(tensors, "OpenVINO")
        results = tuple(torch.empty(each.shape, dtype=each.dtype) for each in program.results)
        request = compiled.create_infer_request()
        for place, tensor in enumerate(tensors):
            request.set_tensor(_input(place), _shared(tensor))
        for place, tensor in enumerate(results):
            request.set_output_tensor(place, _shared(tensor))
        return functools.partial(_call, request, results, tensors)

    return bind


def _call(request: Any, results: tuple[torch.Tensor, ...], held: object) -> Any:
    """`held`: the inputs, which have to live as long as the call that reads their memory."""
    request.infer()
    return results


def _shared(tensor: torch.Tensor) -> Any:
    return openvino.Tensor(tensor.detach().numpy(), shared_memory=True)


def _input(place: int) -> str:
    return f"input_{place}"
