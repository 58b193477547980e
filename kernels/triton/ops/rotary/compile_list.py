"""The launches of the rotary embedding that are compiled ahead of time, and their labels."""

from collections.abc import Iterator

import torch

from fuseproof.kernels.triton.launch import ARCHITECTURES, FLOATS, Architecture, Launch, name_of
from fuseproof.kernels.triton.ops.rotary.configs import CONFIGS, candidates
from fuseproof.kernels.triton.ops.rotary.launches import rotary_launch

DTYPES = FLOATS

_LENGTH, _HEADS, _KEY_HEADS = 4096, 32, 8


def launches(dtype: torch.dtype, architecture: Architecture = ARCHITECTURES[90]) -> Iterator[Launch]:
    """Launches on meta tensors: every config, and the backward pass and a ragged head dim with the best."""
    every = [(2 * config.half, False, config) for config in CONFIGS]
    best = [(dim, backward, candidates(dim // 2)[0]) for dim, backward in ((128, True), (80, False))]
    for head_dim, backward, config in (*every, *best):
        q, k = (
            torch.empty(1, heads, _LENGTH, head_dim, dtype=dtype, device="meta")
            for heads in (_HEADS, _KEY_HEADS)
        )
        table = torch.empty(_LENGTH, head_dim // 2, dtype=dtype, device="meta")
        launch = rotary_launch(q, k, table, table, q, k, backward=backward, config=config)
        tile = f"{config.BLOCK_S}x{config.half}h{config.heads}w{config.warps}"
        pass_ = "backward" if backward else "forward"
        label = f"s{_LENGTH}-d{head_dim}-{pass_}-{tile}-{name_of(dtype)}"
        yield launch.labelled(f"rotary[{label}]")
