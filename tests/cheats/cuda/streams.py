"""On a GPU: work where nobody waits for it, and work of old inputs. Not run on a GPU yet.

Sources: KernelBench#82 (another stream), reference-kernels#104, pygpubench#49 (L2 persistence windows).
"""

from __future__ import annotations

import threading
import time

import torch

from fuseproof import Implementation

_side: torch.cuda.Stream | None = None
_kept: dict[str, object] = {}


def _honest(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def _stream():
    global _side
    if _side is None:
        _side = torch.cuda.Stream()
    return _side


def side_stream(x, weight, bias):
    """Events around the call see the default stream only, which is idle."""
    with torch.cuda.stream(_stream()):
        return _honest(x, weight, bias)


def side_stream_of_a_thread(x, weight, bias):
    """The launch itself comes later than the synchronisation."""
    out = torch.empty_like(x)

    def work():
        time.sleep(2e-3)
        with torch.cuda.stream(_stream()):
            out.copy_(_honest(x, weight, bias))

    threading.Thread(target=work, daemon=True).start()
    return out


def graph_of_old_inputs(x, weight, bias):
    """A CUDA graph that was captured with copies of the first inputs, which nobody fills again."""
    if "graph" not in _kept:
        copies = [each.clone() for each in (x, weight, bias)]
        with torch.cuda.stream(_stream()):
            _honest(*copies)
        torch.cuda.current_stream().wait_stream(_stream())
        _kept["graph"] = graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            _kept["out"] = _honest(*copies)
    _kept["graph"].replay()
    return _kept["out"]


def stream_left_current(x, weight, bias):
    """The current stream stays another one: whoever comes next works there."""
    torch.cuda.set_stream(_stream())
    return _honest(x, weight, bias)


def work_left_behind(x, weight, bias):
    """A kernel that spins for 50 ms on a side stream, while the neighbour is timed."""
    result = _honest(x, weight, bias)
    with torch.cuda.stream(_stream()):
        torch.cuda._sleep(100_000_000)
    return result


def inputs_kept_in_the_cache(x, weight, bias):
    """A side stream reads the inputs again and again, so that a cold cache is never cold."""
    result = _honest(x, weight, bias)
    with torch.cuda.stream(_stream()):
        for _ in range(50):
            x.sum()
    return result


EXPECT = {
    "side_stream": r"stream|wrong|left",
    "side_stream_of_a_thread": r"stream|wrong|left",
    "graph_of_old_inputs": r"wrong",
    "stream_left_current": r"stream|changed",
    "work_left_behind": r"stream|left",
    "inputs_kept_in_the_cache": r"stream|left",
}

IMPLEMENTATIONS = tuple(
    Implementation(
        "layer_norm",
        f"torch.streams_{name}",
        framework="torch",
        target=f"{__file__}:{name}",
        devices=("cuda",),
    )
    for name in EXPECT
)
