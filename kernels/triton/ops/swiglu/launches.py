"""The launches of SwiGLU's elementwise part, and the functions that allocate results and run them."""

import math

import torch

import triton
from fuseproof.kernels.triton import tuning
from fuseproof.kernels.triton.launch import Launch, name_of
from fuseproof.kernels.triton.ops.swiglu.configs import CONFIGS, Config
from fuseproof.kernels.triton.ops.swiglu.kernels import silu_product_backward_kernel, silu_product_kernel


def forward_launch(
    g: torch.Tensor, u: torch.Tensor, h: torch.Tensor, *, config: Config = CONFIGS[0]
) -> Launch:
    """The launch that writes h. All are contiguous."""
    return _launch(silu_product_kernel, {"g_ptr": g, "u_ptr": u, "h_ptr": h}, g.numel(), config)


def backward_launch(
    dh: torch.Tensor,
    g: torch.Tensor,
    u: torch.Tensor,
    dg: torch.Tensor,
    du: torch.Tensor,
    *,
    config: Config = CONFIGS[0],
) -> Launch:
    """The launch that writes dg and du. All are contiguous."""
    tensors = {"dh_ptr": dh, "g_ptr": g, "u_ptr": u, "dg_ptr": dg, "du_ptr": du}
    return _launch(silu_product_backward_kernel, tensors, g.numel(), config)


def _launch(
    kernel: triton.runtime.KernelInterface, tensors: dict[str, torch.Tensor], elements: int, config: Config
) -> Launch:
    vector = math.gcd(16 // min(tensor.element_size() for tensor in tensors.values()), elements)
    return Launch(
        kernel=kernel,
        grid=(triton.cdiv(elements, config.BLOCK),),
        arguments={**tensors, "vectors": elements // vector},
        constants={"VECTOR": vector, "BLOCK": config.BLOCK},
        num_warps=config.warps,
        num_stages=1,
    )


def silu_product_forward(g: torch.Tensor, u: torch.Tensor, *, config: Config | None = None) -> torch.Tensor:
    """h like g, contiguous. Any strides."""
    h = torch.empty(g.shape, dtype=g.dtype, device=g.device)
    if g.numel() == 0:
        return h
    g, u = g.contiguous(), u.contiguous()

    def launches_of(config: Config) -> tuple[Launch]:
        return (forward_launch(g, u, h, config=config),)

    if config is None:
        key = triton.next_power_of_2(g.numel()), name_of(g.dtype)
        config = tuning.choose("silu_product", key, CONFIGS, launches_of, g.device)
    launches_of(config)[0].run()
    return h


def silu_product_backward(
    dh: torch.Tensor, g: torch.Tensor, u: torch.Tensor, *, config: Config | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """dg and du like g, contiguous. Any strides."""
    dg, du = (torch.empty(g.shape, dtype=g.dtype, device=g.device) for _ in range(2))
    if g.numel() == 0:
        return dg, du
    dh, g, u = dh.contiguous(), g.contiguous(), u.contiguous()

    def launches_of(config: Config) -> tuple[Launch]:
        return (backward_launch(dh, g, u, dg, du, config=config),)

    if config is None:
        key = triton.next_power_of_2(g.numel()), name_of(g.dtype)
        config = tuning.choose("silu_product_backward", key, CONFIGS, launches_of, g.device)
    launches_of(config)[0].run()
    return dg, du
