"""Decoding with a static cache in PyTorch, token by token: fuseproof.workloads.blocks.decode.

Compiled is one token's step, as users of a static cache do it: a program of all 32 tokens takes more than a
minute to compile.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fuseproof.fusion.blocks.torch.module import module_of
from fuseproof.fusion.blocks.torch.parts import Parameters, after_attention, query_key_value
from fuseproof.fusion.ops import torch as ops
from fuseproof.workloads.blocks.decode import Decode


def _decode(
    parameters: Parameters,
    x: Tensor,
    keys: Tensor,
    values: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    heads: int,
    key_value_heads: int,
    prompt: int,
    compiled: bool = False,
) -> Tensor:
    step = _compiled_step() if compiled else _step
    keys, values = keys.clone(), values.clone()  # the caller's cache stays as it is
    # The place as a tensor: a number would be another program at every step.
    places = torch.arange(prompt, keys.shape[2], device=x.device)
    found = []
    for number, place in enumerate(places.split(1)):
        here = slice(number, number + 1)
        given = (x[:, here], keys, values, cos[here], sin[here])
        found.append(step(*given, place, parameters, heads, key_value_heads))
    return torch.cat(found, dim=1)


def _step(
    x: Tensor,
    keys: Tensor,
    values: Tensor,
    cos: Tensor,
    sin: Tensor,
    place: Tensor,
    parameters: Parameters,
    heads: int,
    key_value_heads: int,
) -> Tensor:
    """One token: writes into the cache at `place`, (1,). x: (batch, 1, hidden)."""
    q, k, v = query_key_value(x, cos, sin, parameters, heads, key_value_heads)
    keys.index_copy_(2, place, k)
    values.index_copy_(2, place, v)
    visible = torch.arange(keys.shape[2], device=x.device) <= place
    attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=visible[None], enable_gqa=True)
    return ops.rms_norm(after_attention(x, attended, parameters), parameters["final_norm_scale"])


@functools.cache
def _compiled_step() -> Callable[..., Tensor]:
    # Not at import: the process of the reference has no use for a compiler.
    compiled: Callable[..., Tensor] = torch.compile(_step)
    return compiled


decode = module_of(Decode)(_decode)
decode_compiled = module_of(Decode)(functools.partial(_decode, compiled=True))
