"""Programs with a guard, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

BEGIN = """
import json
from fuseproof import frameworks
import fuseproof.measure.worker
from fuseproof.measure.guard import Guard
framework = frameworks.load({name!r})
framework.configure(device="cpu", threads=1)
guard = Guard(framework)
"""

LOOK = """
import json, sys
def look(guard):
    write = sys.__stdout__.write
    try:
        guard.compare()
    except Exception as error:
        write("SAID " + json.dumps(str(error)) + "\\n")
    else:
        write("SAID null\\n")
"""


def in_a_process(program: str, *, name: str = "") -> list[Any]:
    """What each `look(guard)` of a program said: None, or the message of the error."""
    begin = BEGIN.format(name=name) if name else ""
    lines = [line[8:] if line.startswith(" " * 8) else line for line in program.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([LOOK, begin, *lines])],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
             "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("SAID ")]
