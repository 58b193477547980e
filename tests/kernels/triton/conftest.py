"""Fixtures for Triton kernels: an interpreter process, poisoned inputs, and the rule a result must keep."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pytest

pytest.importorskip("triton", reason="the kernels need the package triton")
torch = pytest.importorskip("torch", reason="the kernels need the package torch")

from fuseproof.measure.checks import relative_rms, rounding  # noqa: E402  (after the skips: it is useless without them)
from fuseproof.workloads.operators import Sampled  # noqa: E402


class Interpreter:
    """Calls functions of a process that runs with TRITON_INTERPRET=1; see support/triton_interpreter.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # As a module, and -P: else its own folder comes first on the path and hides packages by name.
            [sys.executable, "-P", "-m", "support.triton_interpreter"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def __call__(self, target: str, tensors: dict, **options: object) -> list:
        """The outputs of `module:function` of the package; fails if it raises or changes an input."""
        return self._ask(target, tensors, options)

    def gradients(
        self,
        target: str,
        tensors: dict,
        cotangent: object,
        *,
        requires_grad: tuple[str, ...] | None = None,
        compiled: bool = False,
        **options: object,
    ) -> list:
        """The outputs and then the gradient of each tensor, given the cotangent of the output (or a list).

        Gradients are None for tensors not among `requires_grad` (all unless given). `compiled` calls through
        `torch.compile(fullgraph=True, backend="aot_eager")`.
        """
        wanted = tuple(tensors) if requires_grad is None else requires_grad
        extra = {"cotangent": cotangent, "requires_grad": wanted, "compiled": compiled}
        return self._ask(target, tensors, options, **extra)

    def opcheck(self, module: str, operator: str, *arguments: object) -> None:
        """`torch.library.opcheck` of the operator `fuseproof::operator` that the module registers."""
        self._ask(f"{module}:{operator}", {}, {}, opcheck=operator, arguments=arguments)

    def _ask(self, target: str, tensors: dict, options: dict, **extra: object) -> list:
        request = {
            "target": f"fuseproof.kernels.triton.ops.{target}",
            "tensors": tensors,
            "options": options,
            **extra,
        }
        buffer = io.BytesIO()
        torch.save(request, buffer)
        self._process.stdin.write(len(buffer.getvalue()).to_bytes(8, "little") + buffer.getvalue())
        self._process.stdin.flush()
        header = self._process.stdout.read(8)
        assert header, f"the interpreter process died with exit status {self._process.wait()}"
        reply = torch.load(io.BytesIO(self._process.stdout.read(int.from_bytes(header, "little"))))
        assert "error" not in reply, reply["error"]
        assert reply["unchanged"], f"{target} changed an input"
        return reply["outputs"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    process = Interpreter()
    yield process
    process.close()


class Place(Protocol):
    def __call__(
        self, array: np.ndarray, dtype: str, order: tuple[int, ...] | None = None
    ) -> torch.Tensor: ...


@pytest.fixture(scope="session")
def place() -> Place:
    """Put an array into a larger tensor full of NaN, with its dimensions in the given memory order.

    A kernel that reads a masked element, or beyond an edge, and uses it then returns NaN. The last dimension
    in memory stays contiguous, and the distance between rows is odd.
    """

    def place(array: np.ndarray, dtype: str, order: tuple[int, ...] | None = None) -> torch.Tensor:
        order = order or tuple(range(array.ndim))
        source = torch.from_numpy(np.ascontiguousarray(array)).to(getattr(torch, dtype)).permute(order)
        room = torch.full([size + 3 for size in source.shape], float("nan"), dtype=source.dtype)
        room[tuple(slice(0, size) for size in source.shape)] = source
        view = room[tuple(slice(0, size) for size in source.shape)]
        return view.permute([order.index(axis) for axis in range(array.ndim)])

    return place


class Check(Protocol):
    def __call__(self, result, exact, baseline, *, dtype: str, longest: int) -> None: ...


@pytest.fixture(scope="session")
def check() -> Check:
    """Relative RMS error against float64: at most 2 × that of torch in the same dtype, plus rounding."""

    def check(result, exact, baseline, *, dtype: str, longest: int) -> None:
        if not isinstance(exact, Sampled):
            exact = Sampled(index=(), values=exact.double().numpy())
        assert result.shape == baseline.shape
        assert result.dtype == baseline.dtype
        error, allowed = (relative_rms(value.float().numpy(), exact) for value in (result, baseline))
        limit = 2 * allowed + rounding(dtype, longest)
        assert error <= limit, f"relative RMS error {error:.3g}, limit {limit:.3g} (torch: {allowed:.3g})"

    return check
