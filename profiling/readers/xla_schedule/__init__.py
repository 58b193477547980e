"""What XLA's compiler fixes ahead of time: the order of a program's instructions and its memory.

`dumps` reads XLA's texts, `result` is the same as plain data and as files, `drawing` makes it a timeline.
"""

from fuseproof.profiling.readers.xla_schedule.drawing import WIDTH_WITHOUT_ESTIMATES, to_timeline
from fuseproof.profiling.readers.xla_schedule.result import (
    RESULT_FILE,
    describe,
    is_result,
    load_dump,
    load_results,
)

__all__ = [
    "RESULT_FILE",
    "WIDTH_WITHOUT_ESTIMATES",
    "describe",
    "is_result",
    "load_dump",
    "load_results",
    "to_timeline",
]
