"""Functions that travel to a fresh process find there what their own session found, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

MODULES = {
    "src/mine/__init__.py": "",
    "src/mine/helpers.py": "def twice(x): return 2 * x\n",
    "src/mine/ops.py": "from . import helpers\nfrom mine.helpers import twice\n"
    "def function(x): return twice(x) + helpers.twice(x)\n",
    "src/fractions.py": "raise RuntimeError('it hides the standard library')\n",
    "lib/mine.py": "raise RuntimeError('another package of that name')\n",
}
WRITE = """
import fractions, sys
from pathlib import Path
from fuseproof.api import functions
sys.path.insert(0, sys.argv[1])
from mine.ops import function
functions.write(Path(sys.argv[2]), {"function": function, "built": lambda: function(1)}, of="it")
"""
READ = """
import json, sys
sys.path[:0] = sys.argv[2:]
from fuseproof.implementations import loading
function, built = (loading.resolve(f"{sys.argv[1]}:{name}") for name in ("function", "built"))
import fractions
print(json.dumps([function(7), built(), sys.modules["mine.helpers"].__file__, fractions.__file__]))
"""


@pytest.fixture
def folder(tmp_path):
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def python(code, *arguments):
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", [[], ["lib"]], ids=["nowhere to be found", "another is found first"])
def test_what_a_function_imports_is_what_its_session_imported(folder, path):
    python(WRITE, folder / "src", folder / "functions.pickle")
    found = python(READ, folder / "functions.pickle", *(folder / each for each in path))
    value, built, helpers, fractions = json.loads(found)
    assert (value, built) == (28, 4)
    assert helpers == str(folder / "src/mine/helpers.py")
    assert not fractions.startswith(str(folder)), "a file beside it hides no library"


def test_a_reference_of_a_module_that_is_not_imported_elsewhere_travels_by_value(folder):
    code = WRITE.replace('"built": lambda: function(1)', '"built": (lambda part: lambda: part(1))(function)')
    code = code.replace('of="it"', 'of="it", with_=[function]')
    python(code, folder / "src", folder / "functions.pickle")
    (folder / "src/mine/ops.py").unlink()
    assert json.loads(python(READ, folder / "functions.pickle"))[:2] == [28, 4]
