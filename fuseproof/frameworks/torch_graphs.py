"""What torch.compile made of the code that it was given: graphs, graph breaks, recompilations."""

from __future__ import annotations

import sys


def totals() -> dict[str, int]:
    """Counted by Dynamo in this process since it was last reset; empty where it is not loaded.

    graphs: captured, those of a recompilation included.
    graph_breaks: places where a graph ended and Python went on, counted each time the place is traced.
    recompiles: compilations of code that was compiled before, for another shape or because a guard failed.
    """
    # Looked up and not imported, which takes a second: if it is not loaded, nothing was compiled.
    utilities = sys.modules.get("torch._dynamo.utils")
    frames = sys.modules.get("torch._dynamo.convert_frame")
    if utilities is None or frames is None:
        return {}
    counters = utilities.counters
    return {
        "graphs": int(counters["stats"]["unique_graphs"]),
        "graph_breaks": int(sum(counters["graph_break"].values())),
        "recompiles": sum(frames.FRAME_COMPILE_COUNTER.values()) - int(frames.FRAME_COUNTER),
    }
