"""Where users' modules are found, and what they cannot do when they are imported."""

import importlib
import importlib.util
import os
import subprocess
import sys

import pytest

from fuseproof import implementations
from fuseproof.errors import UserError
from fuseproof.implementations import declared, loading

# An implementation needs no framework to be loaded.
ROWS = """
from fuseproof import Implementation
ROWS = [Implementation("layer_norm", "mine", framework="torch", target=f"{__name__}:f")]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder; modules that a test loads are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize("name", ["json", "numpy", "wave", "fuseproof", "torch"])
def test_a_file_here_that_is_called_like_a_library_is_no_library(name, folder):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    folder.joinpath(f"{name}.py").write_text("raise SystemExit('not a library')")
    folder.joinpath("mine.py").write_text(
        f"import importlib.util\nfound = importlib.util.find_spec({name!r})\n"
    )
    for reference in ("mine:found", "mine.py:found"):
        assert not loading.resolve(reference).origin.startswith(str(folder))
    assert sys.path[-1] == str(folder), "for what lies beside the module"


@pytest.mark.parametrize("name", ["json", "wave", "kernels"])
def test_a_module_called_like_a_library_is_found_by_its_name_and_hides_nothing(name, folder):
    folder.joinpath(f"{name}.py").write_text("import helper\ndef f(): return helper.number\n")
    folder.joinpath("helper.py").write_text("number = 7\n")
    assert implementations.resolve_function(f"{name}:f")() == 7
    if name != "kernels":
        assert not str(importlib.import_module(name).__file__).startswith(str(folder))


def test_a_package_called_like_a_library_finds_itself(folder):
    package = folder / "wave"
    package.mkdir()
    package.joinpath("__init__.py").write_text("")
    package.joinpath("ops.py").write_text("from wave.constants import number\ndef f(): return number\n")
    package.joinpath("constants.py").write_text("number = 7\n")
    sys.modules.pop("wave", None)
    assert implementations.resolve_function("wave.ops:f")() == 7


def test_a_file_finds_its_siblings_from_any_folder(folder, monkeypatch):
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    elsewhere.joinpath("ops.py").write_text("from a_sibling import number\ndef f(): return number\n")
    elsewhere.joinpath("a_sibling.py").write_text("number = 7\n")
    assert implementations.resolve_function("elsewhere/ops.py:f")() == 7


def test_a_folder_without_init_is_a_package(folder):
    folder.joinpath("things").mkdir()
    folder.joinpath("things", "ops.py").write_text("def f(): return 7\n")
    assert implementations.resolve_function("things.ops:f")() == 7


def test_a_file_is_executed_once_whatever_names_it(folder):
    folder.joinpath("mine.py").write_text("times = []\n")
    first = loading.resolve("mine.py:times")
    assert loading.resolve(f"{folder}/mine.py:times") is first
    assert loading.resolve("mine:times") is loading.resolve("mine:times")


def test_what_a_user_declares_is_from_outside_wherever_its_target_lies(folder):
    """Also in a subclass that says otherwise: only its fields come back, as plain data."""
    folder.joinpath("mine.py").write_text("""
from fuseproof import Implementation
class Ours(Implementation):
    is_foreign = False
    def to_json(self):
        return {**super().to_json(), "target": "fuseproof.fusion.ops.torch:layer_norm", "outside": False}
ROWS = [
    Ours("layer_norm", "mine", framework="torch", target="mine.py:f"),
    Implementation("layer_norm", "other", framework="torch", target="fuseproof.fusion.ops.torch:layer_norm"),
]
def f(): pass
""")
    found, _ = declared.read(["mine.py:ROWS"])
    assert [type(each) for each in found] == [implementations.Implementation] * 2
    assert all(each.outside and each.is_foreign for each in found)
    assert [each.yardstick for each in found] == ["torch.eager"] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; sys.exit()", "failed on import: SystemExit"),
        ("import sys; sys.exit('no\\nway')", "failed on import: SystemExit: no way"),
        ("raise BaseException('x')", "failed on import: BaseException: x"),
        ("raise ValueError('\\udc80 \\x1b[31m')", r"ValueError: \\udc80 \\x1b\[31m$"),
        ("class E(Exception):\n  def __str__(self): raise SystemExit\nraise E", "message raises SystemExit"),
        ("def f(): f()\nf()", "RecursionError"),
        ("def __getattr__(name): raise SystemExit", "SystemExit"),
        (
            "import absent_module",
            "cannot import 'mine.py' of 'mine.py:ROWS': No module named 'absent_module'",
        ),
        ("x = 1", "'mine.py' has no attribute 'ROWS'"),
        ("None.ROWS", "failed on import: AttributeError"),
    ],
)
def test_a_module_that_does_not_want_to_be_imported_is_one_line(text, message, folder):
    folder.joinpath("mine.py").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        loading.resolve("mine.py:ROWS")
    assert str(caught.value).isprintable()


def test_what_a_module_prints_is_not_what_the_command_prints(folder, capsys):
    folder.joinpath("mine.py").write_text("print('hello')\nROWS = ()\n")
    loading.resolve("mine.py:ROWS")
    assert capsys.readouterr() == ("", "hello\n")


def test_a_module_that_forks_does_not_double_the_run(folder):
    folder.joinpath("mine.py").write_text(ROWS + "import os\nos.fork()\n")
    program = "from fuseproof import implementations as i; print(i.table(['mine.py:ROWS'])[-1].name)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "mine\n"


def test_the_private_name_of_a_file_is_the_same_in_every_process(folder):
    program = "from fuseproof.implementations import loading; print(loading._private_name('mine.py'))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    names = {
        subprocess.run(
            [sys.executable, "-P", "-c", program],
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(names) == 1
