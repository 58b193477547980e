"""What a process keeps between calls is left changed: the next implementation runs with less.

Sources: KernelBench#165; found with honest libraries too, which set what they need and do not put it back.
"""

from __future__ import annotations

import os
import signal
import sys

import torch

from fuseproof import Implementation

_kept: list[object] = []


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def threads(x, weight, bias):
    torch.set_num_threads(torch.get_num_threads() + 1)
    return _honest(x, weight, bias)


def affinity(x, weight, bias):
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return _honest(x, weight, bias)


def niceness(x, weight, bias):
    if os.nice(0) < 5:
        os.nice(5)
    return _honest(x, weight, bias)


def grad_mode(x, weight, bias):
    torch.set_grad_enabled(False)
    return _honest(x, weight, bias)


def default_dtype(x, weight, bias):
    torch.set_default_dtype(torch.float64)
    return _honest(x, weight, bias)


def matmul_precision(x, weight, bias):
    torch.set_float32_matmul_precision("medium")
    return _honest(x, weight, bias)


def onednn(x, weight, bias):
    torch.backends.mkldnn.enabled = False
    return _honest(x, weight, bias)


def deterministic(x, weight, bias):
    torch.use_deterministic_algorithms(True)
    return _honest(x, weight, bias)


def denormals(x, weight, bias):
    torch.set_flush_denormal(True)
    return _honest(x, weight, bias)


def autocast(x, weight, bias):
    """Entered and never left; the products of the next implementation are in bfloat16."""
    torch.set_autocast_enabled("cpu", True)
    return _honest(x, weight, bias)


def inference_mode(x, weight, bias):
    mode = torch.inference_mode()  # which ends with the object
    mode.__enter__()
    _kept.append(mode)
    return _honest(x, weight, bias)


def timer(x, weight, bias):
    """A signal every millisecond, that everything in the process is interrupted by."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
    return _honest(x, weight, bias)


def switch_interval(x, weight, bias):
    sys.setswitchinterval(1e-6)
    return _honest(x, weight, bias)


STATE = r"changed|state|left"
EXPECT = {
    "threads": STATE,
    "affinity": STATE,
    "niceness": STATE,
    "grad_mode": STATE,
    "default_dtype": STATE,
    "matmul_precision": STATE,
    "onednn": STATE,
    "deterministic": STATE,
    "denormals": STATE,
    "autocast": STATE,
    "inference_mode": STATE,
    "timer": STATE,
    "switch_interval": STATE,
}


IMPLEMENTATIONS = tuple(
    Implementation("layer_norm", f"torch.state_{name}", framework="torch", target=f"{__file__}:{name}")
    for name in EXPECT
)
