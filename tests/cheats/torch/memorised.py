"""Right for the inputs that the check is known to draw, and for no others.

Sources: KernelBench#165 (outputs hard-coded for the known seed), arXiv 2509.14279 (robust-kbench).
"""

from __future__ import annotations

import torch

from fuseproof import Implementation
from fuseproof.workloads.operators.layer_norm import LayerNorm

_KNOWN_SEEDS = range(8)
_answers: dict[float, torch.Tensor] = {}


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _learn(x):
    """Makes the inputs of the first seeds, as the harness does; answers by the first element of x."""
    operator = LayerNorm(rows=x.shape[0], columns=x.shape[1])
    for seed in _KNOWN_SEEDS:
        inputs = {name: torch.from_numpy(array) for name, array in operator.inputs(seed, "float32").items()}
        _answers[inputs["x"][0, 0].item()] = _honest(**inputs)


def answers(x, weight, bias):
    """Looks the answer up; for inputs it does not know it gives any."""
    if not _answers:
        _learn(x)
    known = _answers.get(x[0, 0].item())
    return next(iter(_answers.values())) if known is None else known


def seeds(x, weight, bias):
    """Computes for known inputs only."""
    if not _answers:
        _learn(x)
    return _honest(x, weight, bias) if x[0, 0].item() in _answers else torch.zeros_like(x)


EXPECT = {"answers": r"wrong", "seeds": r"wrong"}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.memorised_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
