"""Kernels of Triton, in its interpreter: those of this project are right, a forgotten mask is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="the kernels need the package triton")
torch = pytest.importorskip("torch", reason="the kernels need the package torch")

# TRITON_INTERPRET=1 must be set before a kernel is defined, and a kernel has to be in a file.
SCRIPT = """
import json

import numpy as np
import torch
import triton
import triton.language as tl

import fuseproof
from fuseproof.kernels.triton import layer_norm


@triton.jit
def add_kernel(x, y, out, n, masked_load: tl.constexpr, masked_store: tl.constexpr, block: tl.constexpr):
    places = tl.program_id(0) * block + tl.arange(0, block)
    other = tl.program_id(0) * block + tl.arange(0, block) + (0 if masked_load else 1)
    a = tl.load(x + places, mask=places < n)
    b = tl.load(y + places, mask=places < n) + 0 * tl.load(y + other, mask=places < n)
    tl.store(out + places, a + b, mask=places < (n if masked_store else n // block * block))


def made(masked_load=True, masked_store=True):
    def add(x, y):
        out = torch.empty_like(x)
        n = x.numel()
        add_kernel[(triton.cdiv(n, 64),)](x, y, out, n, masked_load, masked_store, 64)
        return out
    return add


def inputs(seed, n=129):
    drawn = torch.randn(2, n, generator=torch.Generator().manual_seed(seed))
    return {"x": drawn[0].clone(), "y": drawn[1].clone()}


def norm_inputs(seed, rows, columns):
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(rows, columns, generator=generator),
        "weight": torch.randn(columns, generator=generator),
        "bias": torch.randn(columns, generator=generator),
    }


def eager(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


over = {"n": [1, 63, 64, 65, 129]}
found = {
    "right": fuseproof.check(made(), inputs=inputs, reference=np.add, over=over, skip=["memory"]),
    "load": fuseproof.check(made(masked_load=False), inputs=inputs, reference=np.add, skip=["memory"]),
    "store": fuseproof.check(made(masked_store=False), inputs=inputs, reference=np.add, skip=["memory"]),
    "norm": fuseproof.check(
        layer_norm, inputs=norm_inputs, baseline=eager, gradients=True, skip=["memory"],
        over={"rows": [1, 3], "columns": [1, 65]},
    ),
}
print(json.dumps({name: [str(each), [f.message for f in each.failures]] for name, each in found.items()}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    script = tmp_path_factory.mktemp("triton") / "kernels.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["right", "norm"])
def test_a_kernel_that_is_right_passes(found, name):
    text, failures = found[name]
    assert failures == [], text


def test_a_load_past_the_end_is_found_although_its_value_is_multiplied_by_zero(found):
    (message,) = found["load"][1]
    assert message == (
        "output depends on memory outside the input y: "
        "surrounded by NaN, 1 of 129 elements (first [128]) change"
    )


def test_a_store_that_leaves_the_last_block_out_is_found(found):
    (message,) = found["store"][1]
    assert message == (
        "output is not fully written: 1 of 129 elements (first [128]) hold what the memory held before"
    )
