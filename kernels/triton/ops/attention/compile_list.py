"""The launches of attention that are compiled ahead of time, and their labels."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from fuseproof.kernels.triton.launch import ARCHITECTURES, FLOATS, Architecture, Launch, name_of
from fuseproof.kernels.triton.ops.attention import backward, forward
from fuseproof.kernels.triton.ops.attention.configs import (
    HEAD_DIMS,
    Config,
    forward_candidates,
    key_candidates,
    query_candidates,
)

DTYPES = FLOATS


def launches(dtype: torch.dtype, architecture: Architecture = ARCHITECTURES[90]) -> Iterator[Launch]:
    """Launches on meta tensors: every kernel, branch and legal config of `dtype` on the architecture."""
    # head_dim, queries, keys, causal, whether with every config or only the first: code that does not depend
    # on the config is compiled with one. Head dim 96 has the configs of 128.
    cases = (
        (128, 4096, 4096, False, False),
        (128, 4096, 4096, True, False),
        (64, 4099, 4099, True, True),
        (96, 4099, 4099, True, False),
        (128, 4099, 4099, True, True),
        (256, 4099, 4099, True, True),
        *((head_dim, 1, 4099, False, False) for head_dim in HEAD_DIMS),
        *((head_dim, 13, 4099, False, False) for head_dim in HEAD_DIMS),
    )
    for head_dim, query_length, key_length, causal, every in cases:
        yield from _launches_of(
            head_dim, query_length, key_length, causal, dtype=dtype, architecture=architecture, every=every
        )


def _launches_of(
    head_dim: int,
    query_length: int,
    key_length: int,
    causal: bool,
    *,
    dtype: torch.dtype,
    architecture: Architecture,
    every: bool,
) -> Iterator[Launch]:
    q = torch.empty(2, query_length, 16, head_dim, dtype=dtype, device="meta").transpose(1, 2)
    k = torch.empty(2, key_length, 4, head_dim, dtype=dtype, device="meta").transpose(1, 2)
    lse = torch.empty(q.shape[:3], device="meta")
    options: dict[str, Any] = {"causal": causal, "scale": head_dim**-0.5, "architecture": architecture}
    case = f"s{query_length}-d{head_dim}{'-causal' * causal}"
    size = dtype.itemsize
    count = None if every else 1

    def named(part: str, found: Iterable[Launch], config: Config | None) -> Iterator[Launch]:
        tile = (
            "" if config is None else (f"-{config.BLOCK_M}x{config.BLOCK_N}-w{config.warps}-s{config.stages}")
        )
        for launch in found:
            yield launch.labelled(f"attention[{part}-{case}{tile}-{name_of(dtype)}]")

    rows = query_length * forward.heads_of_a_tile(4, query_length)
    for config in forward_candidates(architecture, size, head_dim, rows)[:count]:
        attend, *combine = forward.forward_launches(q, k, k, q, lse, **options, config=config)
        yield from named("forward", [attend], config)
        yield from named("combine", combine, config)
    if query_length <= forward.PACKED_ROWS:
        return  # the backward kernels have one way for all lengths
    if count is None:
        yield from named("delta", [backward.delta_launch(q, q, lse)], None)
    for config in query_candidates(architecture, size, head_dim)[:count]:
        launch = backward.query_gradient_launch(q, k, k, q, lse, lse, q, **options, config=config)
        yield from named("dq", [launch], config)
    for config in key_candidates(architecture, size, head_dim)[:count]:
        found = backward.key_gradient_launches(q, k, k, q, lse, lse, k, k, **options, config=config)
        for part, launch in zip(("dk-dv",) if len(found) == 1 else ("dk", "dv"), found, strict=True):
            yield from named(part, [launch], config)
