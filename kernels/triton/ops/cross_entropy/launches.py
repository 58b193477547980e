"""The launches of cross entropy, and the functions that allocate results, choose a config and run them."""

import torch

import triton
from fuseproof.kernels.triton import tuning
from fuseproof.kernels.triton.launch import Architecture, Launch, architecture_of, name_of
from fuseproof.kernels.triton.ops.cross_entropy.configs import (
    BACKWARD_CONFIGS,
    FORWARD_CONFIGS,
    Config,
    candidates,
)
from fuseproof.kernels.triton.ops.cross_entropy.kernels import (
    cross_entropy_backward_kernel,
    cross_entropy_kernel,
)
from fuseproof.kernels.triton.rows import as_rows, vector_of


def forward_launch(
    logits: torch.Tensor,
    targets: torch.Tensor,
    losses: torch.Tensor,
    statistics: torch.Tensor,
    *,
    architecture: Architecture | None = None,
    config: Config | None = None,
) -> Launch:
    """The launch that writes losses, (rows,), and statistics, (2, rows). Logits have contiguous rows."""
    rows, columns = logits.shape
    architecture = architecture or architecture_of(logits.device)
    config = config or candidates(FORWARD_CONFIGS, architecture, columns, logits.element_size())[0]
    vector = vector_of(columns, logits.element_size(), logits.stride(0))
    # Read element by element, a whole block has more addresses than registers.
    block = config.BLOCK_N if vector > 1 or columns <= config.BLOCK_N else max(1, config.BLOCK_N // 2)
    return Launch(
        kernel=cross_entropy_kernel,
        grid=(triton.cdiv(rows, config.BLOCK_M),),
        arguments={
            "logits_ptr": logits,
            "targets_ptr": targets,
            "losses_ptr": losses,
            "statistics_ptr": statistics,
            "rows": rows,
            "column_vectors": columns // vector,
            "row_vectors": logits.stride(0) // vector,
        },
        constants={
            "VECTOR": vector,
            "BLOCK_M": config.BLOCK_M,
            "BLOCK_N": block,
            "STAGES": config.stages,
        },
        num_warps=config.warps,
        num_stages=1,  # the loop itself has a number of stages
    )


def backward_launch(
    logits: torch.Tensor,
    targets: torch.Tensor,
    dlosses: torch.Tensor,
    statistics: torch.Tensor,
    dlogits: torch.Tensor,
    *,
    architecture: Architecture | None = None,
    config: Config | None = None,
) -> Launch:
    """The launch that writes dlogits, contiguous. Logits have contiguous rows; dlosses have any stride."""
    rows, columns = logits.shape
    architecture = architecture or architecture_of(logits.device)
    config = config or candidates(BACKWARD_CONFIGS, architecture, columns, logits.element_size())[0]
    vector = vector_of(columns, logits.element_size(), logits.stride(0))
    return Launch(
        kernel=cross_entropy_backward_kernel,
        grid=(triton.cdiv(rows, config.BLOCK_M) * triton.cdiv(columns, config.BLOCK_N),),
        arguments={
            "logits_ptr": logits,
            "targets_ptr": targets,
            "dlosses_ptr": dlosses,
            "statistics_ptr": statistics,
            "dlogits_ptr": dlogits,
            "rows": rows,
            "column_vectors": columns // vector,
            "row_vectors": logits.stride(0) // vector,
            "dlosses_stride": dlosses.stride(0),
        },
        constants={"VECTOR": vector, "BLOCK_M": config.BLOCK_M, "BLOCK_N": config.BLOCK_N},
        num_warps=config.warps,
        num_stages=config.stages,
    )


def cross_entropy_forward(
    logits: torch.Tensor, targets: torch.Tensor, *, config: Config | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses of the rows, and the statistics as `forward_launch` writes them. Any strides."""
    rows, columns = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    statistics = torch.empty((2, rows), dtype=torch.float32, device=logits.device)
    if rows == 0:
        return losses, statistics
    logits, targets = as_rows(logits), targets.contiguous()
    architecture = architecture_of(logits.device)

    def launches_of(config: Config) -> tuple[Launch]:
        launch = forward_launch(logits, targets, losses, statistics, architecture=architecture, config=config)
        return (launch,)

    if config is None:
        config = tuning.choose(
            "cross_entropy",
            (triton.next_power_of_2(rows), columns, name_of(logits.dtype), name_of(targets.dtype)),
            candidates(FORWARD_CONFIGS, architecture, columns, logits.element_size()),
            launches_of,
            logits.device,
        )
    launches_of(config)[0].run()
    return losses, statistics


def cross_entropy_backward(
    dlosses: torch.Tensor,
    logits: torch.Tensor,
    targets: torch.Tensor,
    statistics: torch.Tensor,
    *,
    config: Config | None = None,
) -> torch.Tensor:
    """dlogits like the logits, contiguous. Any strides; statistics as `cross_entropy_forward` has them."""
    rows, columns = logits.shape
    dlogits = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    if rows == 0:
        return dlogits
    logits, targets = as_rows(logits), targets.contiguous()
    architecture = architecture_of(logits.device)

    def launches_of(config: Config) -> tuple[Launch]:
        launch = backward_launch(
            logits, targets, dlosses, statistics, dlogits, architecture=architecture, config=config
        )
        return (launch,)

    if config is None:
        config = tuning.choose(
            "cross_entropy_backward",
            (triton.next_power_of_2(rows), columns, name_of(logits.dtype), name_of(targets.dtype)),
            candidates(BACKWARD_CONFIGS, architecture, columns, logits.element_size()),
            launches_of,
            logits.device,
        )
    launches_of(config)[0].run()
    return dlogits
