"""A row that says it comes with Fuseproof, to run in the process that all built-in rows share.

Source: an adversary's review of Fuseproof.
"""

from __future__ import annotations

from pathlib import Path

import torch

from fuseproof import Implementation


def threads(x, weight, bias):
    torch.set_num_threads(torch.get_num_threads() + 1)
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def zeros(x, weight, bias):
    """Would make the baseline's process forget how to compute, if it were that."""
    torch.nn.functional.layer_norm = lambda x, *_, **__: torch.zeros_like(x)
    return torch.zeros_like(x)


class _BuiltIn(Implementation):
    def to_json(self):
        """The target gets a path that begins like a module of Fuseproof, in the current folder."""
        path = Path("fuseproof.d", "disguised.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(Path(__file__).read_text("utf-8"), "utf-8")
        _, _, function = self.target.rpartition(":")
        return {**super().to_json(), "target": f"{path}:{function}", "outside": False}


EXPECT = {
    "threads": r"changed the process that it is timed in",
    "zeros": r"changed the process that it is timed in|is wrong",
}


IMPLEMENTATIONS = tuple(
    _BuiltIn("layer_norm", f"torch.disguised_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
