"""A child process that answers requests, one line of JSON each way, and may crash without harm.

Frameworks and compilers abort the process on an internal error and print to standard output; in a child both
cost one answer. The child's side is `serve`. The parent's is `Process`, one process until it ends, or
`Child`, which starts another when one has died.
"""

from fuseproof.child_process.process import Child, Process, ProcessCheated, ProcessDied
from fuseproof.child_process.serving import PlainError, answer, described, one_line, serve

__all__ = [
    "Child",
    "PlainError",
    "Process",
    "ProcessCheated",
    "ProcessDied",
    "answer",
    "described",
    "one_line",
    "serve",
]
