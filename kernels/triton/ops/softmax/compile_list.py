"""The launches of softmax that are compiled ahead of time, and their labels."""

from collections.abc import Iterator

import torch

from fuseproof.kernels.triton.launch import ARCHITECTURES, FLOATS, Architecture, Launch, name_of
from fuseproof.kernels.triton.ops.softmax.configs import BACKWARD_CONFIGS, FORWARD_CONFIGS, candidates
from fuseproof.kernels.triton.ops.softmax.launches import backward_launch, forward_launch
from fuseproof.kernels.triton.row_tiles import Config, is_legal

DTYPES = FLOATS

_ROWS, _LONGEST = 4096, 262144

# With the best guess for the length: 1000 columns leave a block ragged, 50257 also leave the rows unaligned.
_COLUMNS = (1000, 50257)


def launches(dtype: torch.dtype, architecture: Architecture = ARCHITECTURES[90]) -> Iterator[Launch]:
    """Launches on meta tensors: every kernel and legal config of `dtype` on the architecture."""
    for name, configs, tensors in (("forward", FORWARD_CONFIGS, 1), ("backward", BACKWARD_CONFIGS, 2)):
        problem = architecture, tensors * dtype.itemsize
        best = [(columns, candidates(configs, problem[0], columns, problem[1])[0]) for columns in _COLUMNS]
        every = [(int(min(config.columns, _LONGEST)), config) for config in configs]
        for columns, config in (*best, *every):
            if not is_legal(config, problem[0], columns, problem[1]):
                continue
            x = torch.empty(_ROWS, columns, dtype=dtype, device="meta")
            launch = (
                forward_launch(x, x, architecture=architecture, config=config)
                if name == "forward"
                else backward_launch(x, x, x, architecture=architecture, config=config)
            )
            label = f"{_ROWS}x{columns}-{name}-{_tile(config)}-{name_of(dtype)}"
            yield launch.labelled(f"softmax[{label}]")


def _tile(config: Config) -> str:
    return f"{config.BLOCK_M}x{config.BLOCK_N}w{config.warps}p{config.programs}s{config.stages}"
