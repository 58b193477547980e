"""The layers: what import-linter cannot see of their order, and what a newcomer relies on."""

import ast
import graphlib
import re
import tomllib
from itertools import accumulate
from pathlib import Path

import pytest
from support import shared

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


def packages_of(module: str) -> list[str]:
    """The packages that a module lies in, the outermost first."""
    return list(accumulate(module.split(".")[:-1], "{}.{}".format))


def layer_of(module: str) -> int | None:
    """How deep the layer of a module lies; None for the package itself."""
    return DEPTH.get(".".join(module.split(".")[:2]))


def test_import_linter_sees_every_file():
    """import-linter silently skips a folder without __init__.py below one of the four root folders."""
    graph = grimp.build_graph(*LINTER["root_packages"], cache_dir=None)
    assert {module_of(path) for path in FILES} <= set(graph.modules)


def test_no_modules_import_each_other_in_a_circle():
    """Importing a module imports the packages it lies in, too. What only annotations need is no import."""
    graph = grimp.build_graph(*LINTER["root_packages"], exclude_type_checking_imports=True, cache_dir=None)
    needed = {}
    for module in graph.modules:
        imported = graph.find_modules_directly_imported_by(module)
        packages = {package for name in imported for package in packages_of(name)} & graph.modules
        needed[module] = imported | (packages - {module, *packages_of(module)})
    graphlib.TopologicalSorter(needed).prepare()  # raises CycleError, which names the circle


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
    others = (path for folder in ("tests", "tools", "examples") for path in (ROOT / folder).rglob("*.py"))
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (*FILES, *others)
        if path.relative_to(ROOT).parts[0] != "kernels"
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert long == {}


def test_every_module_says_what_it_is():
    assert [
        str(path.relative_to(ROOT)) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))
    ] == []


def test_tests_share_only_what_lies_in_support():
    """No test imports another, and one helper names the folder of real traces beside the checkout."""
    beside, reader = shared.FOLDER.parts[-3], Path(shared.__file__)
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{'.' * node.level}{node.module or ''}.{each.name}" for each in node.names]
            for name in names:
                if name.startswith(("tests.", ".")) or re.search(r"\b(test_\w+|conftest)\b", name):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {name}")
            if isinstance(node, ast.Constant) and node.value == beside and path != reader:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} names that folder")
    assert wrong == []
