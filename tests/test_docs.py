"""What the documents say of the project's files is true: links, paths, examples, the order of imports."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
        ROOT / "examples" / "README.md",
        *DOCS.rglob("*.md"),
    ]
)
SOURCES = ("fuseproof", "kernels", "fusion", "profiling", "reports")

# A reader's own file, a page that the changelog says is gone, a folder that the first runs on a GPU make.
NOT_OURS = {"file.py", "user.py", "docs/variants.md", "reports/recorded"}


def code_of(page: Path) -> str:
    """Everything on a page that is set as code."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), flags=re.DOTALL))


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-") for heading in found}


def alternatives(path: str) -> list[str]:
    """`a/{b,c}.py` is a/b.py and a/c.py."""
    match = re.search(r"\{([^{}]*)\}", path)
    if match is None:
        return [path]
    return [
        each
        for word in match[1].split(",")
        for each in alternatives(path[: match.start()] + word.strip() + path[match.end() :])
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)", text):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in headings(file), f"{target} has no heading #{anchor}"


def files_mentioned(page: Path) -> set[str]:
    """What the code on a page names of this project: paths that begin in it, and single Python files."""
    folders = {path.name for root in (ROOT, ROOT / "fuseproof") for path in root.iterdir() if path.is_dir()}
    # What runs and builds leave here is not of the project.
    folders -= {line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()}
    words = re.findall(r"(?<![\w./<$~{}-])[\w.*{},-]+(?:/[\w.*{},-]+)*", code_of(page))
    paths = {path for word in words for path in alternatives(word.rstrip(".,"))} - NOT_OURS
    return {
        path
        for path in paths
        if (path.endswith(".py") if "/" not in path else path.partition("/")[0] in folders)
    }


def exists(path: str) -> bool:
    if "/" in path:
        return any(any(root.glob(path)) for root in (ROOT, ROOT / "fuseproof"))
    return any(any((ROOT / root).rglob(path)) for root in (*SOURCES, "tests", "tools", "examples"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_of_the_project_that_a_page_names_exists(page):
    assert not [path for path in sorted(files_mentioned(page)) if not exists(path)]


def test_the_tree_of_the_folders_is_there():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    tree = re.search(r"## Layout.*?```\n(.*?)```", page, flags=re.DOTALL)[1]
    above = Path()
    for line in tree.splitlines():
        entries = re.split(r" {2,}", line.strip())[0].split()
        if not line.startswith(" "):
            above = ROOT / entries[0]
        for entry in entries:
            assert (above / (entry if line.startswith(" ") else "")).exists(), f"{above.name}/{entry}"


def test_the_picture_of_the_layers_is_what_is_enforced():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (
        contract["layers"]
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("## Order of imports")[2]
    picture = re.search(r"```text\n(.*?)```", section, flags=re.DOTALL)[1]
    assert [re.split(r" {2,}", line)[0] for line in picture.splitlines()] == layers


def test_every_question_of_a_newcomer_has_a_path_that_exists():
    page = (DOCS / "explanation" / "where-things-are.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", page, flags=re.MULTILINE)
    rows = [row for row in rows if row not in [("question", "path"), ("to add", "put it into")]]
    assert len(rows) >= 10
    for question, answer in rows:
        paths = [path for path in re.findall(r"`([^`\[(]+)`", answer) if "/" in path or "." in path]
        assert paths, f"{question}: no path in {answer!r}"
        for path in paths:
            assert (ROOT / path).exists(), f"{question} {path} does not exist"


def variables_of(*folders: str) -> set[str]:
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return {name for path in paths for name in re.findall(r"\bFUSEPROOF_[A-Z_]+\b", path.read_text("utf-8"))}


def test_every_environment_variable_is_on_its_page():
    page = (DOCS / "reference" / "environment-variables.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\bFUSEPROOF_[A-Z_]+\b", page))
    assert variables_of(*SOURCES) <= listed
    assert listed <= variables_of(*SOURCES, "tests", "tools")


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/your-own-kernel.md"])
def test_a_page_shows_the_example_as_it_is(page):
    example = (ROOT / "examples" / "mine.py").read_text(encoding="utf-8")
    assert f"```python\n{example}```" in (ROOT / page).read_text(encoding="utf-8")


def test_the_how_to_for_pytest_shows_the_examples_code():
    page = (DOCS / "how-to" / "pytest.md").read_text(encoding="utf-8")
    for name in ("conftest.py", "test_suite.py"):
        text = (ROOT / "examples" / "pytest" / name).read_text(encoding="utf-8")
        code = re.sub(r'^""".*?"""\n+', "", text, flags=re.DOTALL)
        assert f"```python\n{code}```" in page, name


def test_every_page_has_its_place_in_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    for page in DOCS.rglob("*.md"):
        assert f" {page.relative_to(DOCS)}\n" in navigation, f"{page.name} is missing from nav in mkdocs.yml"


def test_the_site_asks_no_server():
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in settings
    assert "://" not in settings


def test_citation_and_package_name_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    assert f"\nlicense: {project['license']}\n" in citation


def test_a_commit_is_checked_by_what_make_lint_runs():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.partition("\nlint:")[2].partition("\n\n")[0]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    tools = set(re.findall(r"\$\(BIN\)/([\w-]+)", recipe))
    assert {"ruff", "mypy", "lint-imports"} <= tools
    for tool in tools:
        assert f"entry: .venv/bin/{tool} " in hooks, (
            f"{tool} is in `make lint`, not in .pre-commit-config.yaml"
        )


def test_every_file_that_is_not_a_module_is_in_the_package_data():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["*"]
    assert (ROOT / "fuseproof" / "py.typed").is_file()
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*"):
            if {"__pycache__", "recorded"} & {*path.parts}:  # recorded runs stay in the repository
                continue
            if path.is_file() and path.suffix != ".py":
                assert any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns), path
