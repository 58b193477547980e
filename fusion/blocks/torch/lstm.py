"""Two layers of LSTM in PyTorch, its library call: fuseproof.workloads.blocks.lstm."""

from __future__ import annotations

import torch
from torch import Tensor

from fuseproof.fusion.blocks.torch.module import module_of
from fuseproof.fusion.blocks.torch.parts import Parameters
from fuseproof.workloads.blocks.lstm import LAYERS, LSTM

# torch.compile breaks its graph at an nn.LSTM and calls the library, unless the experimental `allow_rnn` is
# set; so here. Unrolled, gradients through 32 steps take minutes to compile.
_library_call = torch.compiler.disable(torch.lstm)


@module_of(LSTM)
def lstm(parameters: Parameters, x: Tensor) -> Tensor:
    weights = [
        parameters[f"{name}_{layer}{end}"]
        for layer in range(LAYERS)
        for end in ("", "_bias")
        for name in ("input", "hidden")
    ]
    zeros = x.new_zeros(LAYERS, x.shape[0], x.shape[2])
    output, _, _ = _library_call(
        x,
        (zeros, zeros),
        weights,
        has_biases=True,
        num_layers=LAYERS,
        dropout=0.0,
        train=False,
        bidirectional=False,
        batch_first=True,
    )
    return output
