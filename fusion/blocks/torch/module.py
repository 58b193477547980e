"""A network block as a torch.nn.Module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fuseproof.fusion.blocks import made_by
from fuseproof.workloads.blocks.base import NetworkBlock

Function = Callable[..., Tensor]


class BlockModule(nn.Module):  # type: ignore[misc]
    """A function of parameters and inputs, whose parameters are those of the block, named as there."""

    def __init__(self, function: Function, block: NetworkBlock) -> None:
        super().__init__()
        self._function, self._options = function, block.taken_by(function)
        for name, values in block.initial_parameters().items():
            self.register_parameter(name, nn.Parameter(torch.from_numpy(values)))

    def forward(self, *inputs: Tensor) -> Tensor:
        # nn.Module's own dictionary: named_parameters() would walk through the module at every call.
        parameters: Mapping[str, Any] = self._parameters
        return self._function(parameters, *inputs, **self._options)


module_of = made_by(BlockModule)
