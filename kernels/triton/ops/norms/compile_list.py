"""The launches of layer norm and RMS norm that are compiled ahead of time, and their labels."""

from collections.abc import Iterator

import torch

from fuseproof.kernels.triton.launch import ARCHITECTURES, FLOATS, Architecture, Launch, name_of
from fuseproof.kernels.triton.ops.norms import backward, forward
from fuseproof.kernels.triton.ops.norms.configs import (
    BACKWARD_CONFIGS,
    FORWARD_CONFIGS,
    backward_candidates,
    forward_candidates,
    is_legal_backward,
)
from fuseproof.kernels.triton.row_tiles import Config, is_legal

DTYPES = FLOATS

_ROWS, _LONGEST = 4096, 262144

# Columns, and the tensors beside x, weight and y, or beside dy, x and weight; each with the best guess for
# the length. 768 columns leave a block ragged, 50257 also leave the rows unaligned.
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


def layer_norm_launches(
    dtype: torch.dtype, architecture: Architecture = ARCHITECTURES[90]
) -> Iterator[Launch]:
    """Launches on meta tensors: every kernel, branch and legal config of `dtype` on the architecture."""
    return _launches("layer_norm", dtype, architecture, centred=True)


def rms_norm_launches(dtype: torch.dtype, architecture: Architecture = ARCHITECTURES[90]) -> Iterator[Launch]:
    """Launches on meta tensors: every kernel, branch and legal config of `dtype` on the architecture."""
    return _launches("rms_norm", dtype, architecture, centred=False)


def _launches(
    name: str, dtype: torch.dtype, architecture: Architecture, *, centred: bool
) -> Iterator[Launch]:
    """The launches of both passes, each label once."""
    statistics = torch.empty(1 + centred, _ROWS, device="meta")
    seen = set()
    for part, columns, tensors, launch in (
        *_forward(dtype, architecture, statistics),
        *_backward(dtype, architecture, statistics),
    ):
        label = "-".join((f"{_ROWS}x{columns}", *tensors, part, name_of(dtype)))
        if label not in seen:
            seen.add(label)
            yield launch.labelled(f"{name}[{label}]")


def _forward(
    dtype: torch.dtype, architecture: Architecture, statistics: torch.Tensor
) -> Iterator[tuple[str, int, list[str], Launch]]:
    best = [(*branch, None) for branch in _FORWARD]
    every = [(min(config.columns, _LONGEST), _EVERY_FORWARD, config) for config in FORWARD_CONFIGS]
    for columns, tensors, given in (*best, *every):
        there = [tensor for tensor in tensors if tensor != "bias" or statistics.shape[0] == 2]
        problem = (
            architecture,
            int(columns),
            dtype.itemsize * (1 + ("residual" in there)),
            dtype.itemsize * (1 + ("bias" in there)),
        )
        if given is not None and not is_legal(given, *problem):
            continue
        config = given or forward_candidates(*problem)[0]
        x = torch.empty(_ROWS, int(columns), dtype=dtype, device="meta")
        launch = forward.forward_launch(
            x,
            x if "residual" in there else None,
            x[0],
            x[0] if "bias" in there else None,
            x,
            x if "sum" in there else None,
            statistics,
            eps=1e-5,
            architecture=architecture,
            config=config,
        )
        yield f"forward-{_tile(config)}", int(columns), there, launch


def _backward(
    dtype: torch.dtype, architecture: Architecture, statistics: torch.Tensor
) -> Iterator[tuple[str, int, list[str], Launch]]:
    best = [(*branch, None) for branch in _BACKWARD]
    every = [(min(config.columns, _LONGEST), _EVERY_BACKWARD, config) for config in BACKWARD_CONFIGS]
    for columns, tensors, given in (*best, *every):
        there = [tensor for tensor in tensors if tensor != "dbias" or statistics.shape[0] == 2]
        read = 2 + ("residual" in there) + ("ds" in there)
        problem = (architecture, int(columns), dtype.itemsize * read, dtype.itemsize)
        if given is not None and not is_legal_backward(given, *problem):
            continue
        config = given or backward_candidates(*problem)[0]
        x = torch.empty(_ROWS, int(columns), dtype=dtype, device="meta")
        launches = backward.backward_launches(
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
            architecture=architecture,
            config=config,
        )
        for launch in launches:
            if launch.kernel is backward.norm_backward_kernel:
                yield f"backward-{_tile(config)}", int(columns), there, launch
            elif launch.kernel is backward.norm_row_sums_kernel:
                yield "row_sums", int(columns), there, launch
            else:
                yield "column_sums", int(columns), [name for name in there if name.startswith("d")], launch


def _tile(config: Config) -> str:
    return f"{config.BLOCK_M}x{config.BLOCK_N}w{config.warps}p{config.programs}s{config.stages}"
