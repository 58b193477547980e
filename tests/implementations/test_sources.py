"""The files of an implementation: found without running them, known by their content."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseproof.implementations import IMPLEMENTATIONS, Implementation, sources


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(files):
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def found(target, here, **more):
    implementation = Implementation("matmul", "mine", framework="torch", target=target, **more)
    return {str(Path(path).relative_to(here)) for path in sources.hashes(implementation)}


def test_a_file_brings_what_it_imports_from_beside_it(here):
    write(
        {
            "mine.py": "import torch, json, tiles\nfrom launches import start\nraise SystemExit('never run')",
            "tiles.py": "def later():\n    import shapes.square as square",
            "launches.py": "from importlib import import_module\nimport_module('tuned')",
            "tuned.py": "x = ",
            "shapes/__init__.py": "",
            "shapes/square.py": "from . import round\nfrom .corner import *",
            "shapes/round.py": "",
            "shapes/corner.py": "",
            "shapes/unused.py": "",
            "other.py": "",
        }
    )
    everything = {
        "mine.py", "tiles.py", "launches.py", "tuned.py", "shapes/__init__.py", "shapes/square.py",
        "shapes/round.py", "shapes/corner.py",
    }  # fmt: skip
    assert found(f"{here}/mine.py:f", here) == everything
    assert found("mine.py:f", here) == everything
    assert found("mine:f", here) == everything


def test_a_file_in_another_folder_imports_from_there_and_from_here(here):
    write({"far/mine.py": "import near, here", "far/near.py": "", "here.py": "import mine"})
    assert found("far/mine.py:f", here) == {"far/mine.py", "far/near.py", "here.py"}


def test_code_that_is_named_in_a_string_is_a_part_of_it(here):
    write(
        {
            "mine.py": "source = Path(__file__).with_name('kernel.cu').read_text(); log = open('times.txt')",
            "kernel.cu": "__global__ void f() {}",
            "times.txt": "1",
        }
    )
    assert found("mine.py:f", here) == {"mine.py", "kernel.cu"}


def test_a_package_of_another_place_is_followed_and_an_installed_one_is_not(here, monkeypatch):
    write(
        {
            "lib/pack/__init__.py": "from .deep import f",
            "lib/pack/deep.py": "import numpy",
            "work/mine.py": "import pack",
        }
    )
    monkeypatch.syspath_prepend(here / "lib")
    monkeypatch.chdir(here / "work")
    assert found("mine.py:f", here) == {"work/mine.py", "lib/pack/__init__.py", "lib/pack/deep.py"}
    assert found("pack.deep:f", here) == {"lib/pack/__init__.py", "lib/pack/deep.py"}


def test_the_package_that_an_implementation_requires_counts_where_it_is_installed(here):
    hashes = sources.hashes(
        Implementation("matmul", "mine", framework="torch", target="absent:f", requires="orjson")
    )
    assert any(path.endswith("orjson/__init__.py") for path in hashes)
    assert all("orjson" in path for path in hashes)


@pytest.mark.parametrize("target", ["absent.py:f", "absent:f", "..:f", "os:f"])
def test_a_target_that_is_not_there_has_no_files(here, target):
    found = sources.hashes(Implementation("matmul", "mine", framework="torch", target=target))
    assert all(Path(path).name == "os.py" for path in found)


def test_a_built_in_kernel_is_its_files_in_this_project():
    triton = next(each for each in IMPLEMENTATIONS if (each.workload, each.name) == ("layer_norm", "triton"))
    assert not triton.is_foreign
    paths = list(sources.hashes(triton))
    assert any(path.endswith("kernels/triton/ops/norms/forward.py") for path in paths)
    assert not any("/fuseproof/measure/" in path or "site-packages" in path for path in paths)


def test_what_runs_foreign_code_is_from_outside():
    for each in IMPLEMENTATIONS:
        assert each.is_foreign == bool(each.requires)
    for target in ("mine.py:f", "fuseproof.py:f", "fuseproof.mine/f.py:f", "fuseproofs:f"):
        assert Implementation("matmul", "mine", framework="torch", target=target).is_foreign


def test_what_is_from_outside_is_judged_by_the_library_s_call_whatever_it_is_compared_with():
    mine = Implementation("matmul", "mine", framework="jax", target="mine.py:f", baseline="theirs")
    assert (mine.baseline, mine.yardstick) == ("theirs", "jax.eager")
    ours = Implementation("matmul", "ours", framework="jax", target="fuseproof.m:f", baseline="theirs")
    assert ours.yardstick == "theirs"


def test_a_changed_or_deleted_file_is_named(here):
    write({"mine.py": "import helper", "helper.py": "x = 1"})
    recorded = sources.hashes(Implementation("matmul", "mine", framework="torch", target="mine.py:f"))
    before = sources.digest(recorded)
    assert sources.changed(recorded) is None
    Path("helper.py").write_text("x = 2")
    assert sources.changed(recorded) == str(here / "helper.py")
    edited = sources.hashes(Implementation("matmul", "mine", framework="torch", target="mine.py:f"))
    assert sources.digest(edited) != before
    Path("helper.py").write_text("x = 1")
    assert sources.changed(recorded) is None
    Path("helper.py").unlink()
    assert sources.changed(recorded) == str(here / "helper.py")
