"""The launches of cross entropy that are compiled ahead of time, and their labels."""

from collections.abc import Iterator

import torch

from fuseproof.kernels.triton.launch import ARCHITECTURES, FLOATS, Architecture, Launch, name_of
from fuseproof.kernels.triton.ops.cross_entropy.configs import (
    BACKWARD_CONFIGS,
    FORWARD_CONFIGS,
    Config,
    candidates,
    is_legal,
)
from fuseproof.kernels.triton.ops.cross_entropy.launches import backward_launch, forward_launch

DTYPES = FLOATS

_ROWS, _VOCABULARY = 4096, 128256

# With the best guess for the length: 1000 classes leave a block ragged, GPT-2's 50,257 leave rows unaligned.
_COLUMNS = (1000, 50257)


def launches(dtype: torch.dtype, architecture: Architecture = ARCHITECTURES[90]) -> Iterator[Launch]:
    """Launches on meta tensors: every kernel and legal config of `dtype` on the architecture."""
    losses = torch.empty(_ROWS, device="meta")
    targets = torch.empty(_ROWS, dtype=torch.int64, device="meta")
    statistics = torch.empty(2, _ROWS, device="meta")
    for name, configs in (("forward", FORWARD_CONFIGS), ("backward", BACKWARD_CONFIGS)):
        best = [
            (columns, candidates(configs, architecture, columns, dtype.itemsize)[0]) for columns in _COLUMNS
        ]
        every = [(int(min(config.columns, _VOCABULARY)), config) for config in configs]
        for columns, config in (*best, *every):
            if not is_legal(config, architecture, columns, dtype.itemsize):
                continue
            x = torch.empty(_ROWS, columns, dtype=dtype, device="meta")
            launch = (
                forward_launch(x, targets, losses, statistics, architecture=architecture, config=config)
                if name == "forward"
                else backward_launch(
                    x, targets, losses, statistics, x, architecture=architecture, config=config
                )
            )
            label = f"{_ROWS}x{columns}-{name}-{_tile(config)}-{name_of(dtype)}"
            yield launch.labelled(f"cross_entropy[{label}]")


def _tile(config: Config) -> str:
    return f"{config.BLOCK_M}x{config.BLOCK_N}w{config.warps}s{config.stages}"
