"""The meaning of XPlane's planes, lines and events on any accelerator, by parts of words in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fuseproof.profiling.readers.xplane import memory
from fuseproof.profiling.readers.xplane.stats import Collected
from fuseproof.profiling.readers.xplane.xspace import Plane
from fuseproof.profiling.timeline.model import KIND, kind_codes

_STREAM = re.compile(r"\bstream\b|\bqueue\b", re.I)
# Lines that profilers compute from other lines.
_DERIVED = re.compile(
    r"steps?$|name scope|source|framework|launch stats|traceme|tensorflow ops|offload|^step|llo|bubble", re.I
)
_MODULES = re.compile(r"modules?$", re.I)
_OPERATIONS = re.compile(r"\bops?$", re.I)

_COLLECTIVE = re.compile(
    r"nccl|rccl|(?:all|cross)[-_]?(?:replica|reduce|gather|to[-_]?all)|reduce[-_]?scatter|collective|\bsend\b|\brecv\b",
    re.I,
)
_COPY = re.compile(
    r"memcpy|^%?(?:async[-_])?copy(?:[-_.]|$)|copy[-_](?:start|done)|^hip_?copy|slice-start|slice-done", re.I
)
_SET = re.compile(r"memset", re.I)
_API = re.compile(r"^(?:cu|cuda|hip|cudnn|cublas|ze|nccl|rccl)[A-Z_]")
_COMPILE = re.compile(r"compil|HloPass|hlo_pass|[Cc]ode_?[Gg]en|LLVM")
_FRAMEWORK_OP = re.compile(r"^[\w./-]+:[A-Za-z_]\w*$")


def is_device(plane: Plane) -> bool:
    """Whether a plane is an accelerator's."""
    return "/device:" in plane.name


def works(plane: Plane) -> bool:
    """Whether a device plane has a line of work."""
    return "CUSTOM" not in plane.name and any("work" in role for role in line_roles(plane))


def line_roles(plane: Plane) -> list[str]:
    """The role of each line of a device plane: "work", "derived", "module" or "other"."""
    names = [line.name for line in plane.lines]
    if "CUSTOM" in plane.name:
        return ["other"] * len(names)
    if any(_STREAM.search(name) for name in names):
        return ["work" if _STREAM.search(name) else "derived" for name in names]
    roles = []
    for name in names:
        if _DERIVED.search(name):
            roles.append("derived")
        elif _MODULES.search(name):
            roles.append("module")
        elif _OPERATIONS.search(name):
            roles.append("work")
        else:
            roles.append("unknown")
    # On an unknown accelerator a line with an unknown name is work, unless another line is known to be work.
    known = "work" in roles
    return [("other" if known else "work") if role == "unknown" else role for role in roles]


def kinds(
    plane: Plane,
    roles: Sequence[str],
    titles: Sequence[str],
    long_names: Sequence[str],
    row: NDArray[np.int64],
    collected: Collected,
    *,
    count_host_kernels: bool,
) -> NDArray[np.uint8]:
    """[events] uint8: the kind of every event of a plane.

    roles: of the plane's lines. titles, long_names: of its kinds of events; `row` [events] indexes them.
    """
    if not is_device(plane):
        by_name = [_host_kind(long or short) for long, short in zip(long_names, titles, strict=True)]
        codes = kind_codes(by_name)[row]
        allocator = np.array([title in memory.EVENTS for title in titles], np.bool_)[row]
        codes[collected.framework & (codes == KIND["other"]) & ~allocator] = KIND["framework_op"]
        codes[(collected.correlation >= 0) & (codes == KIND["other"])] = KIND["host_call"]
        codes[collected.marked] = KIND["user_range"]
        # XLA's thunks on the CPU have an HLO op; with a device in the trace, launches have one too.
        if count_host_kernels:
            codes[collected.hlo & (collected.correlation < 0)] = KIND["kernel"]
        return codes
    codes = kind_codes(map(_device_kind, titles))[row]
    codes[collected.copies] = KIND["memcpy"]
    codes[collected.sets] = KIND["memset"]
    codes[collected.idle] = KIND["other"]
    role = np.array(roles)[plane.line]
    codes[role == "derived"] = KIND["user_range"]
    codes[(role == "module") | (role == "other")] = KIND["other"]
    return codes


def _device_kind(title: str) -> str:
    # A TPU event may be named with the whole HLO line; the name before " = " is enough.
    short = title.split(" = ", 1)[0][:500]
    if _SET.search(short):
        return "memset"
    if _COLLECTIVE.search(short):
        return "collective"
    return "memcpy" if _COPY.search(short) else "kernel"


def _host_kind(title: str) -> str:
    title = title[:1000]
    if _COMPILE.search(title):
        return "compile"
    if title.startswith("$") or _API.search(title):
        return "host_call"
    if _FRAMEWORK_OP.search(title):
        return "framework_op"
    return "other"
