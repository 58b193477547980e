"""The launches of SwiGLU's elementwise part that are compiled ahead of time, and their labels."""

from collections.abc import Iterator

import torch

from fuseproof.kernels.triton.launch import ARCHITECTURES, FLOATS, Architecture, Launch, name_of
from fuseproof.kernels.triton.ops.swiglu.configs import CONFIGS
from fuseproof.kernels.triton.ops.swiglu.launches import backward_launch, forward_launch

DTYPES = FLOATS

# Llama-3-8B's inner matrix of 2048 tokens, and one without a common divisor with a vector.
_ELEMENTS = (2048 * 14336, 2047 * 14335)


def launches(dtype: torch.dtype, architecture: Architecture = ARCHITECTURES[90]) -> Iterator[Launch]:
    """Launches on meta tensors: every config of both passes, and odd sizes with the best."""
    for elements in _ELEMENTS:
        t = torch.empty(elements, dtype=dtype, device="meta")
        for config in CONFIGS if elements == _ELEMENTS[0] else CONFIGS[:1]:
            tile = f"{config.BLOCK}w{config.warps}-{name_of(dtype)}"
            forward = forward_launch(t, t, t, config=config)
            backward = backward_launch(t, t, t, t, t, config=config)
            yield forward.labelled(f"swiglu[{elements}-forward-{tile}]")
            yield backward.labelled(f"swiglu[{elements}-backward-{tile}]")
