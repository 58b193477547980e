"""The layers: what import-linter cannot see of their order, and what a newcomer relies on."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

grimp = pytest.importorskip(
    "grimp", reason="the layers are checked with import-linter; pip install import-linter"
)

ROOT = Path(__file__).parents[1]
ROOMS = ("kernels", "fusion", "profiling", "reports")
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
# From the top down; modules of one layer are separated by bars.
LAYERS = [layer.split(" | ") for layer in LINTER["contracts"][0]["layers"]]
DEPTH = {f"fuseproof.{name}": depth for depth, names in enumerate(LAYERS) for name in names}

FILES = sorted(
    path
    for folder in ("fuseproof", *ROOMS)
    for path in (ROOT / folder).rglob("*.py")
    if folder != "fuseproof" or path.relative_to(ROOT).parts[1] not in ROOMS
)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "fuseproof" else ("fuseproof", *parts))
    return name.removesuffix(".__init__")


def layer_of(module: str) -> int | None:
    """How deep the layer of a module lies; None for the package itself."""
    return DEPTH.get(".".join(module.split(".")[:2]))


def test_import_linter_sees_every_file():
    """import-linter silently skips a folder without __init__.py below one of the four root folders."""
    graph = grimp.build_graph(*LINTER["root_packages"])
    assert {module_of(path) for path in FILES} <= set(graph.modules)


def test_the_root_folders_have_no_init():
    """With one, `import kernels` from the root would find this folder instead of the package of that name."""
    assert [room for room in ROOMS if (ROOT / room / "__init__.py").exists()] == []
    assert all((ROOT / "fuseproof" / room).is_symlink() for room in ROOMS)


def test_modules_named_in_strings_point_down_too():
    """`python -m MODULE`, importlib and package data are dependencies that no import statement shows.

    `module:function` is a target: data, which a worker resolves for whoever wrote it.
    """
    wrong = []
    for path in FILES:
        own = layer_of(module_of(path))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            if re.fullmatch(r"fuseproof(\.\w+)+", node.value):
                named = layer_of(node.value)
                if named is not None and own is not None and named < own:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} names {node.value}")
    assert wrong == []


def test_every_file_is_short_enough_for_one_idea():
    """Kernel files hold one operator's kernels with their configs; all others keep to 450 lines."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in FILES
        if path.relative_to(ROOT).parts[0] != "kernels"
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert long == {}


def test_every_module_says_what_it_is():
    assert [
        str(path.relative_to(ROOT)) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))
    ] == []
