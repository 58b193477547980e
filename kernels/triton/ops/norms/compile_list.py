"""The launches of layer norm and RMS norm that are compiled ahead of time."""

from collections.abc import Iterator

import torch

from fuseproof.kernels.triton.launch import Launch, Target, name_of
from fuseproof.kernels.triton.ops.norms import backward, forward

_ROWS, _LONGEST = 4096, 262144

# Columns, and the tensors there are beside x, weight and y, or dy, x and weight; in the best guess of the
# length. 768 columns leave a block ragged, 50257 also leave the rows unaligned.
_FORWARD = (
    (4096, ()),
    (4096, ("bias", "residual", "sum")),
    (768, ("bias", "residual")),
    (50257, ("bias", "residual", "sum")),
)
_BACKWARD = (
    (4096, ("residual", "dx", "dweight", "dbias")),
    (4096, ("ds", "dx", "dweight", "dbias")),
    (4096, ("dx",)),
    (4096, ("dweight",)),
    (768, ("residual", "dx", "dweight", "dbias")),
    (50257, ("residual", "ds", "dx", "dweight", "dbias")),
)
# Every config is compiled with these.
_EVERY_FORWARD, _EVERY_BACKWARD = ("bias", "residual"), ("dx", "dweight", "dbias")


def variants(name: str, dtype: torch.dtype, target: Target, *, centred: bool) -> Iterator[Launch]:
    """Launches on meta tensors that use every kernel and config of both passes, and every branch."""
    statistics = torch.empty(1 + centred, _ROWS, device="meta")
    seen = set()
    for part, columns, tensors, launch in (
        *_forward(dtype, target, statistics),
        *_backward(dtype, target, statistics),
    ):
        label = "-".join((f"{_ROWS}x{columns}", *tensors, part, name_of(dtype)))
        if label not in seen:
            seen.add(label)
            yield launch.labelled(f"{name}[{label}]")


def _forward(
    dtype: torch.dtype, target: Target, statistics: torch.Tensor
) -> Iterator[tuple[str, int, list[str], Launch]]:
    rows = [(min(row.columns, _LONGEST), _EVERY_FORWARD, row) for row in forward.CONFIGS]
    for columns, tensors, row in (*((*branch, None) for branch in _FORWARD), *rows):
        there = [tensor for tensor in tensors if tensor != "bias" or statistics.shape[0] == 2]
        problem = (
            target,
            int(columns),
            dtype.itemsize * (1 + ("residual" in there)),
            dtype.itemsize * (1 + ("bias" in there)),
        )
        if row is not None and not forward.is_legal(row, *problem):
            continue
        config = row or forward.candidates(*problem)[0]
        x = torch.empty(_ROWS, int(columns), dtype=dtype, device="meta")
        launch = forward.plan_forward(
            x,
            x if "residual" in there else None,
            x[0],
            x[0] if "bias" in there else None,
            x,
            x if "sum" in there else None,
            statistics,
            eps=1e-5,
            target=target,
            config=config,
        )
        yield f"forward-{_tile(config)}", int(columns), there, launch


def _backward(
    dtype: torch.dtype, target: Target, statistics: torch.Tensor
) -> Iterator[tuple[str, int, list[str], Launch]]:
    rows = [(min(row.columns, _LONGEST), _EVERY_BACKWARD, row) for row in backward.CONFIGS]
    for columns, tensors, row in (*((*branch, None) for branch in _BACKWARD), *rows):
        there = [tensor for tensor in tensors if tensor != "dbias" or statistics.shape[0] == 2]
        read = 2 + ("residual" in there) + ("ds" in there)
        problem = (target, int(columns), dtype.itemsize * read, dtype.itemsize)
        if row is not None and not backward.is_legal(row, *problem):
            continue
        config = row or backward.candidates(*problem)[0]
        x = torch.empty(_ROWS, int(columns), dtype=dtype, device="meta")
        launches = backward.plan_backward(
            x,
            x if "ds" in there else None,
            x,
            x if "residual" in there else None,
            x[0],
            statistics,
            backward.Gradients(
                dx=x if "dx" in there else None,
                dweight=x[0] if "dweight" in there else None,
                dbias=x[0] if "dbias" in there else None,
            ),
            target=target,
            config=config,
        )
        for launch in launches:
            if launch.kernel is backward.norm_backward_kernel:
                yield f"backward-{_tile(config)}", int(columns), there, launch
            elif launch.kernel is backward.norm_row_sums_kernel:
                yield "row_sums", int(columns), there, launch
            else:
                yield "column_sums", int(columns), [name for name in there if name.startswith("d")], launch


def _tile(config: forward.Config | backward.Config) -> str:
    return f"{config.BLOCK_M}x{config.BLOCK_N}w{config.warps}p{config.programs}s{config.stages}"
