"""The launches of `matmul` that are compiled ahead of time, and their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fuseproof.kernels.triton.launch import ARCHITECTURES, Architecture, Launch, name_of
from fuseproof.kernels.triton.ops.matmul.configs import CONFIGS, Config, is_legal
from fuseproof.kernels.triton.ops.matmul.launches import (
    ACTIVATIONS,
    DTYPES,
    EPILOGUE,
    cotangent_launches,
    epilogue_flags,
    epilogue_strides,
    forward_launches,
    problem_of,
    reduce_launch,
    result_of,
)

__all__ = ["DTYPES", "launches"]


def launches(dtype: torch.dtype, architecture: Architecture = ARCHITECTURES[90]) -> Iterator[Launch]:
    """Launches on meta tensors: every kernel, branch and legal config of `dtype` on the architecture."""
    if dtype == torch.float32:
        kinds = [("ieee", False), ("tf32", False)]
    elif dtype == torch.float8_e4m3fn:
        kinds = [("ieee", False), ("ieee", True)]
    else:
        kinds = [("ieee", False)]
    for precision, fast in kinds:
        seen: set[tuple[bool, ...]] = set()  # one config of each kernel and way of access has every branch
        for config in CONFIGS:
            access = config.tma, config.specialize, config.aligned
            # Code for float16 differs from that for bfloat16 in the type only.
            branches = _BRANCHES[:1] if access in seen or dtype == torch.float16 else _BRANCHES
            if config.room == 0 and len(branches) == 1:
                branches = _BRANCHES[1:2]
            for launch in _launches_of(config, dtype, precision, fast, branches, architecture):
                seen.add(access)
                yield launch
    if not seen:
        return  # the architecture has no float8
    c = torch.empty((4096, 4096), dtype=result_of(dtype), device="meta")
    if dtype != torch.float8_e4m3fn:
        for activation in ACTIVATIONS:
            pre = None if activation is None else c
            launch, _ = cotangent_launches(
                c, pre, pre, c[0], activation=activation, architecture=architecture
            )
            yield launch.labelled(f"matmul[cotangent-4096x4096-{activation}-{name_of(dtype)}]")
    # The sum of a split K with the largest epilogue, and that of dbias without one.
    part = torch.empty((8, 4096, 4096), dtype=torch.float32, device="meta")
    scale = part[0, 0, 0] if dtype == torch.float8_e4m3fn else None
    for activation, bias, beside in ((None, None, None), ("gelu", c[0], c)):
        pointers = dict(zip(EPILOGUE, (bias, beside, scale, scale, c, beside), strict=True))
        strides, flags = epilogue_strides(bias, beside), epilogue_flags(pointers, activation)
        launch = reduce_launch(part, pointers, strides, flags)
        yield launch.labelled(f"matmul[sum-8x4096x4096-{activation}-{name_of(dtype)}]")


# Layouts of a and b, activation, splits. The first takes the most registers; a config without room for its
# erf has the second in its place.
_BRANCHES = (
    ("nt", "gelu", 1),
    ("nt", "gelu_tanh", 1),
    ("tn", "silu", 1),
    ("nn", None, 1),
    ("tt", "relu", 1),
    ("nt", None, 4),
)


def _launches_of(
    config: Config,
    dtype: torch.dtype,
    precision: str,
    fast: bool,
    branches: Sequence[tuple[str, str | None, int]],
    architecture: Architecture,
) -> Iterator[Launch]:
    """The legal launches of one config, each with as much epilogue as the config has room for."""
    if fast and config.products != "float8_fast":
        return  # the same with fewer registers
    size = 4096 if config.aligned or config.tma else 4099
    m = size if config.m >= size else int(config.m)
    for layouts, activation, splits in branches:
        a, b = _operand((m, size), dtype, layouts[0]), _operand((size, size), dtype, layouts[1])
        c = torch.empty((m, size), dtype=result_of(dtype), device="meta")
        bias = None if activation is None else c[0]
        pre = c if activation is not None and config.room > (activation == "gelu") else None
        residual = c if pre is not None and config.room > 1 + (activation == "gelu") else None
        scale = None
        if dtype == torch.float8_e4m3fn:
            scale = torch.empty((), dtype=torch.float32, device="meta")
        how: dict[str, Any] = {
            "activation": activation,
            "precision": precision,
            "fast_accumulation": fast,
        }
        tried = replace(config, splits=splits)
        if not is_legal(tried, architecture, problem_of(a, b, bias, residual, c, pre, **how)):
            continue
        first, *_ = forward_launches(
            a, b, bias, residual, scale, scale, c, pre, config=tried, architecture=architecture, **how
        )
        words = (
            f"{m}x{size}x{size}",
            layouts,
            *(("bias", activation) if activation else ()),
            *(("pre",) if pre is not None else ()),
            *(("residual",) if residual is not None else ()),
            *(("tma",) if config.tma else ()),
            *(("specialized",) if config.specialize else ()),
            *(("split",) if splits > 1 else ()),
            f"{config.BLOCK_M}x{config.BLOCK_N}x{config.BLOCK_K}",
            f"stages{config.stages}",
            *(("fast",) if fast else ()),
            name_of(dtype) if precision == "ieee" else precision,
        )
        yield first.labelled(f"matmul[{'-'.join(words)}]")


def _operand(shape: tuple[int, int], dtype: torch.dtype, layout: str) -> Tensor:
    if layout == "t":
        return torch.empty(shape[::-1], dtype=dtype, device="meta").t()
    return torch.empty(shape, dtype=dtype, device="meta")
