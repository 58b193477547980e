"""The launches of softmax, and the functions that allocate results, choose a config and run them."""

import torch

import triton
from fuseproof.kernels.triton import tuning
from fuseproof.kernels.triton.launch import Architecture, Launch, architecture_of, name_of
from fuseproof.kernels.triton.ops.softmax import kernels
from fuseproof.kernels.triton.ops.softmax.configs import BACKWARD_CONFIGS, FORWARD_CONFIGS, candidates
from fuseproof.kernels.triton.row_tiles import Config
from fuseproof.kernels.triton.rows import as_rows, bytes_of, vector_of


def forward_launch(
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    architecture: Architecture | None = None,
    config: Config | None = None,
) -> Launch:
    """The launch that writes y. x: (rows, columns) with contiguous rows; y: contiguous."""
    return _launch(
        {"x": x},
        {"y_ptr": y},
        (kernels.softmax_rows_kernel, kernels.softmax_loop_kernel),
        FORWARD_CONFIGS,
        architecture,
        config,
    )


def backward_launch(
    y: torch.Tensor,
    dy: torch.Tensor,
    dx: torch.Tensor,
    *,
    architecture: Architecture | None = None,
    config: Config | None = None,
) -> Launch:
    """The launch that writes dx. y, dy: (rows, columns) with contiguous rows; dx: contiguous."""
    return _launch(
        {"y": y, "dy": dy},
        {"dx_ptr": dx},
        (kernels.softmax_backward_rows_kernel, kernels.softmax_backward_loop_kernel),
        BACKWARD_CONFIGS,
        architecture,
        config,
    )


def _launch(
    read: dict[str, torch.Tensor],
    written: dict[str, torch.Tensor],
    of_rows_and_loop: tuple[triton.runtime.KernelInterface, triton.runtime.KernelInterface],
    configs: tuple[Config, ...],
    architecture: Architecture | None,
    config: Config | None,
) -> Launch:
    first, *_ = read.values()
    rows, columns = first.shape
    architecture = architecture or architecture_of(first.device)
    config = config or candidates(configs, architecture, columns, bytes_of(*read.values()))[0]
    vector = vector_of(columns, first.element_size(), *(tensor.stride(0) for tensor in read.values()))
    tiles = triton.cdiv(rows, config.BLOCK_M)
    whole = columns <= config.BLOCK_N
    constants: dict[str, object] = {"VECTOR": vector}
    if whole:
        constants |= {"EVEN_N": columns == config.BLOCK_N, "BLOCK_M": config.BLOCK_M}
    # Read element by element, a whole block has more addresses than registers.
    constants["BLOCK_N"] = config.BLOCK_N if whole or vector > 1 else max(1, config.BLOCK_N // 2)
    if not whole:
        constants["STAGES"] = config.stages
    return Launch(
        kernel=of_rows_and_loop[0 if whole else 1],
        grid=(tiles if whole else min(tiles, config.programs * architecture.processors),),
        arguments={
            **{f"{name}_ptr": tensor for name, tensor in read.items()},
            **written,
            "rows": rows,
            "column_vectors": columns // vector,
            **{f"{name}_row_vectors": tensor.stride(0) // vector for name, tensor in read.items()},
        },
        constants=constants,
        num_warps=config.warps,
        num_stages=1,  # the loops themselves have a number of stages
    )


def softmax_forward(x: torch.Tensor, *, config: Config | None = None) -> torch.Tensor:
    """y like x, contiguous. Any strides."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel() == 0:
        return y
    rows = as_rows(x)
    out = y.view(rows.shape)
    architecture = architecture_of(x.device)

    def launches_of(config: Config) -> tuple[Launch]:
        return (forward_launch(rows, out, architecture=architecture, config=config),)

    if config is None:
        config = tuning.choose(
            "softmax",
            (triton.next_power_of_2(rows.shape[0]), rows.shape[1], name_of(x.dtype)),
            candidates(FORWARD_CONFIGS, architecture, rows.shape[1], bytes_of(x)),
            launches_of,
            x.device,
        )
    launches_of(config)[0].run()
    return y


def softmax_backward(y: torch.Tensor, dy: torch.Tensor, *, config: Config | None = None) -> torch.Tensor:
    """dx like y, contiguous. Any strides."""
    dx = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    if y.numel() == 0:
        return dx
    y_rows, dy_rows = as_rows(y), as_rows(dy)
    out = dx.view(y_rows.shape)
    architecture = architecture_of(y.device)

    def launches_of(config: Config) -> tuple[Launch]:
        return (backward_launch(y_rows, dy_rows, out, architecture=architecture, config=config),)

    if config is None:
        config = tuning.choose(
            "softmax_backward",
            (triton.next_power_of_2(y_rows.shape[0]), y_rows.shape[1], name_of(y.dtype)),
            candidates(BACKWARD_CONFIGS, architecture, y_rows.shape[1], bytes_of(y, dy)),
            launches_of,
            y.device,
        )
    launches_of(config)[0].run()
    return dx
