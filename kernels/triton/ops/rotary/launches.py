"""The launch of the rotary embedding, and the function that allocates results and runs it."""

import torch

import triton
from fuseproof.kernels.triton import tuning
from fuseproof.kernels.triton.launch import Launch, name_of
from fuseproof.kernels.triton.ops.rotary.configs import Config, candidates
from fuseproof.kernels.triton.ops.rotary.kernels import rotary_kernel


def rotary_launch(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    q_out: torch.Tensor,
    k_out: torch.Tensor,
    *,
    backward: bool,
    config: Config | None = None,
) -> Launch:
    """The launch that writes q_out and k_out. q, k and results: any strides with contiguous head dims."""
    batch, query_heads, length, head_dim = q.shape
    key_heads = k.shape[1]
    config = config or candidates(head_dim // 2)[0]
    groups = sum(triton.cdiv(heads, config.heads) for heads in (query_heads, key_heads))
    return Launch(
        kernel=rotary_kernel,
        grid=(triton.cdiv(length, config.BLOCK_S), groups, batch),
        arguments={
            "q_ptr": q,
            "k_ptr": k,
            "cos_ptr": cos,
            "sin_ptr": sin,
            "q_out_ptr": q_out,
            "k_out_ptr": k_out,
            "length": length,
            "query_heads": query_heads,
            "key_heads": key_heads,
            **{
                f"{name}_{axis}_stride": stride
                for name, tensor in (("q", q), ("k", k), ("q_out", q_out), ("k_out", k_out))
                for axis, stride in zip(("batch", "head", "row"), tensor.stride(), strict=False)
            },
        },
        constants={
            "BACKWARD": backward,
            "HALF": head_dim // 2,
            "HEADS": config.heads,
            "BLOCK_S": config.BLOCK_S,
            "BLOCK_D": config.half,
        },
        num_warps=config.warps,
        num_stages=1,
    )


def rotate(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    backward: bool = False,
    config: Config | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """q and k rotated, or with `backward` rotated back: the gradients, of theirs; contiguous. Any strides."""
    q_out, k_out = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
    if q.numel() + k.numel() == 0:
        return q_out, k_out
    q, k = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k))
    cos, sin = cos.contiguous(), sin.contiguous()

    def launches_of(config: Config) -> tuple[Launch]:
        return (rotary_launch(q, k, cos, sin, q_out, k_out, backward=backward, config=config),)

    if config is None:
        batch, heads, length, head_dim = q.shape
        config = tuning.choose(
            "rotary",
            (triton.next_power_of_2(batch * length), heads, k.shape[1], head_dim, name_of(q.dtype)),
            candidates(head_dim // 2),
            launches_of,
            q.device,
        )
    launches_of(config)[0].run()
    return q_out, k_out
