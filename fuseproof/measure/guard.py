"""Notices what code from outside changes in the process where it is timed, and what it looks at."""

from __future__ import annotations

import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from fuseproof.frameworks import Framework, WrongResultError
from fuseproof.measure.process_state import Functions, differences, of_process

# What only code that is interested in its harness does while it is timed (audit events of CPython).
_LOOKING = frozenset(
    ("sys._getframe", "sys._current_frames", "gc.get_objects", "gc.get_referrers", "gc.get_referents")
)
_LOOKING_AT = frozenset(("tb_frame", "gi_frame", "cr_frame", "ag_frame"))
_ENOUGH = 3
# Modules through which a frame may be asked for, and Fuseproof's folders beside the spine.
_HELPERS = (inspect.__file__, traceback.__file__)
_FOLDERS = ("fusion", "kernels", "profiling", "reports")
_get_frame = sys._getframe


class Guard:
    """The state of the process before code from outside is loaded, against which it is compared."""

    def __init__(self, framework: Framework) -> None:
        self._framework_state: Callable[[], dict[str, Any]] = framework.state
        self._functions = Functions(framework.watched())
        self._state = self._now()
        self._looking = _Looking()

    def _now(self) -> dict[str, Any]:
        return {**of_process(), **self._framework_state()}

    def allow(self, change: Callable[[], None]) -> None:
        """Make a change of our own, which is then no difference."""
        before = self._now()
        change()
        after = self._now()
        self._state |= {name: value for name, value in after.items() if value != before[name]}

    def watch(self) -> None:
        """From now on note who looks at frames and objects: code that is loaded need not."""
        self._looking.on = True

    def compare(self) -> int:
        """How many settings were compared.

        Raises WrongResultError, which names the first things that are not as they were.
        """
        found = differences(self._state, self._now())
        if replaced := self._functions.replaced():
            found.append(f"replaced {', '.join(replaced[:3])}" + (" …" if len(replaced) > 3 else ""))
        if found:
            raise WrongResultError(f"changed the process that it is timed in: {'; '.join(found[:3])}")
        if self._looking.found:
            raise WrongResultError(f"looked at what times it: {self._looking.found[0]}")
        return len(self._state)


class _Looking:
    """Notes each time code from outside looks at frames, or at objects of others, once `on`.

    An audit hook cannot be taken away again (PEP 578). Code is from outside if its file is neither the
    standard library's, nor an installed package's, nor Fuseproof's.
    """

    _busy = False  # of all: asking for a frame is an event too, and each hook would ask again for each other

    def __init__(self) -> None:
        self.on = False
        self.found: list[str] = []
        paths = sysconfig.get_paths()
        spine = Path(__file__).parents[1]
        self._inside = (
            *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            *(str(folder) for folder in {spine, spine.resolve()}),
            *(str(spine.resolve().parent / name) for name in _FOLDERS),
        )
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or _Looking._busy or len(self.found) > _ENOUGH:
            return
        if event not in _LOOKING and (event != "object.__getattr__" or arguments[1] not in _LOOKING_AT):
            return
        _Looking._busy = True
        try:
            caller: FrameType | None = _get_frame(1)
            while caller is not None and caller.f_code.co_filename.startswith(("<", *_HELPERS)):
                caller = caller.f_back  # code without a file, or that looks for its caller
            if caller is not None and not caller.f_code.co_filename.startswith(self._inside):
                self.found.append(
                    f"{event if event in _LOOKING else arguments[1]} in {caller.f_code.co_name}"
                )
        finally:
            _Looking._busy = False
