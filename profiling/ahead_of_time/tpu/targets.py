"""The TPUs that programs are compiled for, and how their chips are arranged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """A TPU: libtpu's names of its smallest topologies of 4 and of 16 chips."""

    four: str
    sixteen: str


TARGETS: Mapping[str, Target] = {
    "tpu-v5e": Target(four="v5e:2x2", sixteen="v5e:4x4"),
    "tpu-v5p": Target(four="v5p:2x2x1", sixteen="v5p:2x2x4"),
    "tpu-v6e": Target(four="v6e:2x2", sixteen="v6e:4x4"),
}
# Chips as a mesh (x, y); `tpu.compiler_process` says how the operators' tensors are laid out on it.
MESHES: Mapping[str, tuple[int, int]] = {"1x1": (1, 1), "2x2": (2, 2), "4x4": (4, 4)}
