"""Runs made of numbers whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fuseproof.runs.records import Benchmark, Failure, Run

# For runs in which each case is of another operator: cases of one operator count as less than one each.
OPERATORS = ("attention", "matmul", "layer_norm", "rms_norm", "softmax", "rotary", "swiglu", "embedding")


def make_benchmark(
    implementation: str = "torch.eager",
    *,
    seconds: float = 1e-3,
    case: str = "layer_norm[64x64-float32-forward]",
    metric: str = "wall",
    blocks: int = 5,
    legs: int = 20,
    rounds: int = 3,
    process_noise: float = 0.0,
    round_noise: float = 0.0,
    rng: np.random.Generator | None = None,
    **more: Any,
) -> Benchmark:
    """`seconds` per call, times a log-normal factor per block and one per round."""
    rng = rng or np.random.default_rng(0)
    block = np.repeat(np.arange(blocks), legs * rounds)
    leg = np.tile(np.repeat(np.arange(legs), rounds), blocks)
    noise = process_noise * rng.standard_normal(blocks)[block] + round_noise * rng.standard_normal(len(block))
    operator, _, inside = case.partition("[")
    shape, dtype, pass_ = inside.rstrip("]").split("-")[:3]
    fields: dict[str, Any] = {
        "name": f"{operator}[{shape}-{dtype}-{pass_}-{implementation}-{metric}]",
        "group": case,
        "seconds": seconds * np.exp(noise),
        "block": block,
        "leg": leg,
        "operator": operator,
        "shape": shape,
        "dtype": dtype,
        "pass_": pass_,
        "implementation": implementation,
        "metric": metric,
        "framework": "torch",
        "baseline": "torch.eager",
    }
    return Benchmark(**(fields | more))


def make_run(
    benchmarks: Sequence[Benchmark],
    *,
    source: str = "run",
    failures: Sequence[Failure] = (),
    fingerprint: str | None = "aaaa",
    fingerprint_fields: Mapping[str, Any] | None = None,
    complete: bool = True,
) -> Run:
    return Run(
        source=source,
        suite="demo",
        fingerprint=fingerprint,
        fingerprint_fields={"torch": "2.13.0"} if fingerprint_fields is None else fingerprint_fields,
        environment={},
        machine_info={},
        commit_info={},
        datetime=None,
        complete=complete,
        benchmarks=tuple(benchmarks),
        failures=tuple(failures),
    )


def make_comparisons(
    speedups: Sequence[float],
    *,
    pair: tuple[str, str] = ("torch.eager", "torch.compile"),
    dtype: str = "float32",
    pass_: str = "forward",
    operators: Sequence[str] = ("attention", "matmul", "layer_norm"),
    rng: np.random.Generator | None = None,
    **more: Any,
) -> list[Benchmark]:
    """For each speedup a case with both implementations of `pair`; the operators take turns."""
    rng = rng or np.random.default_rng(1)
    benchmarks = []
    for index, speedup in enumerate(speedups):
        case = f"{operators[index % len(operators)]}[{index}x64-{dtype}-{pass_}]"
        for implementation, seconds in zip(pair, (speedup * 1e-3, 1e-3), strict=True):
            benchmarks.append(make_benchmark(implementation, seconds=seconds, case=case, rng=rng, **more))
    return benchmarks
