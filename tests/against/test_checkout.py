"""Base beside head: each imports its own code, and nothing of it is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuseproof.against import checkout
from fuseproof.errors import UserError


def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A project whose package says 1 in the only commit, and 2 in the working directory."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", ".")
    Path("src/toy").mkdir(parents=True)
    Path("src/toy/__init__.py").write_text("VALUE = 1\n")
    Path("pyproject.toml").write_text('[project]\nname = "toy"\nversion = "1"\ndependencies = []\n')
    git("add", "-A")
    git("commit", "--quiet", "-m", "one")
    Path("src/toy/__init__.py").write_text("VALUE = 2\n")
    return tmp_path


def value(side):
    done = subprocess.run(
        [side.python, "-c", "import toy; print(toy.VALUE)"],
        cwd=side.folder,
        env=side.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_each_side_imports_its_own_code(repository):
    with checkout.both("HEAD") as (base, head):
        assert (value(base), value(head)) == (1, 2)
        assert base.python == head.python == Path(sys.executable)
        assert (head.commit, base.commit) == (f"{base.commit}+", head.commit.removesuffix("+"))
    assert not base.folder.exists()
    assert len(git("worktree", "list").splitlines()) == 1
    assert git("status", "--porcelain").split() == ["M", "src/toy/__init__.py"]


def test_a_worktree_that_was_left_behind_is_made_anew(repository):
    with pytest.raises(KeyboardInterrupt), checkout.both("HEAD") as (base, _):
        raise KeyboardInterrupt
    base.folder.mkdir(parents=True)
    git("worktree", "add", "--detach", "--force", str(base.folder), "HEAD")
    with checkout.both("HEAD") as (again, _):
        assert value(again) == 1


def test_a_revision_that_is_not_there_is_one_line(repository):
    with pytest.raises(UserError, match="no commit 'v9'"), checkout.both("v9"):
        pass


def test_outside_a_repository_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="not a git repository"), checkout.both("HEAD"):
        pass


def test_code_that_would_come_from_elsewhere_is_refused(repository, tmp_path_factory, monkeypatch):
    """As some editable installations do: a finder before the path, which knows one place only."""
    hook, place = tmp_path_factory.mktemp("hook"), repository / "src/toy/__init__.py"
    (hook / "sitecustomize.py").write_text(
        "import importlib.machinery, importlib.util, sys\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'toy':\n"
        f"            return importlib.util.spec_from_file_location(name, {str(place)!r})\n"
        "sys.meta_path.insert(0, Finder)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")])))
    with pytest.raises(UserError, match="toy of base would be imported from"), checkout.both("HEAD"):
        pass


def test_a_place_on_the_path_is_each_sides_own(repository, monkeypatch):
    for folder in ("code", "src"):
        (repository / "code/toy").mkdir(parents=True, exist_ok=True)
        (repository / folder / "toy/__init__.py").write_text("VALUE = 1\n")
    git("mv", "-f", "src/toy/__init__.py", "code/toy/__init__.py")
    git("add", "-A")
    git("commit", "--quiet", "-m", "in another folder")
    (repository / "code/toy/__init__.py").write_text("VALUE = 2\n")
    monkeypatch.setenv("PYTHONPATH", str(repository / "code"))
    with checkout.both("HEAD") as (base, head):
        assert (value(base), value(head)) == (1, 2)


def test_heads_folder_on_the_path_of_base_is_refused(repository, tmp_path_factory, monkeypatch):
    """As an installation that is editable has it, of a project whose packages lie elsewhere."""
    hook = tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(f"import sys\nsys.path.append({str(repository / 'code')!r})\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")])))
    with pytest.raises(UserError, match="code of head is on the path of base"), checkout.both("HEAD"):
        pass


def test_what_is_measured_is_where_the_user_stands(repository, monkeypatch):
    monkeypatch.chdir(repository / "src")
    with checkout.both("HEAD") as (base, head):
        assert head.working_folder == repository / "src"
        assert base.working_folder == base.folder / "src"
        assert (value(base), value(head)) == (1, 2)
    (repository / "new").mkdir()
    monkeypatch.chdir(repository / "new")
    with pytest.raises(UserError, match="new is not there in HEAD"), checkout.both("HEAD"):
        pass


@pytest.mark.parametrize(
    ("path", "is_code"),
    [
        ("src/toy.py", True),
        (".", True),
        (".fuseproof/against/abc/toy.py", False),
        ("sub/.fuseproof/against/now/first/pytest_turn.py", False),
        (".venv/lib/python3/site-packages/toy.py", False),
        ("conda/lib/python3/json.py", False),
        ("../elsewhere/toy.py", False),
    ],
)
def test_what_is_code_of_a_checkout(tmp_path, path, is_code):
    environments = [str(tmp_path / "conda"), "/", str(tmp_path)]  # a prefix around the checkout tells nothing
    assert checkout.is_code_of(tmp_path, tmp_path / path, environments) is is_code


def test_two_gates_at_once_are_refused(repository):
    with (
        checkout.both("HEAD") as (base, _),
        pytest.raises(UserError, match="measured by another process"),
        checkout.both("HEAD"),
    ):
        pass
    with checkout.both("HEAD"):
        assert base.folder.is_dir()


def test_the_project_is_found_from_a_folder_in_it(repository, monkeypatch):
    made = []
    monkeypatch.setattr(
        checkout, "_made_for", lambda folder, root: made.append(folder) or Path(sys.executable)
    )
    (repository / "pyproject.toml").write_text('[project]\nname = "toy"\ndependencies = ["numpy"]\n')
    monkeypatch.chdir(repository / "src/toy")
    with checkout.both("HEAD") as (base, head):
        assert made == [base.folder]
        assert head.sources == (repository / "src", repository)


@pytest.mark.parametrize("left", ["a folder", "a locked worktree"])
def test_what_a_killed_gate_left_is_no_obstacle(repository, left):
    with checkout.both("HEAD") as (base, _):
        pass
    if left == "a folder":
        base.folder.mkdir()
        (base.folder / "file").write_text("")
    else:
        git("worktree", "add", "--detach", str(base.folder), "HEAD")
        git("worktree", "lock", str(base.folder))
    with checkout.both("HEAD") as (again, _):
        assert value(again) == 1
    assert len(git("worktree", "list").splitlines()) == 1


def test_the_python_of_base_is_found_from_where_the_user_stands(repository):
    link = repository / "python"
    link.symlink_to(sys.executable)
    with checkout.both("HEAD", python=Path("./python")) as (base, _):
        assert base.python == link
        assert value(base) == 1
    with pytest.raises(UserError, match="--base-python absent: no such program"):
        checkout.both("HEAD", python=Path("absent")).__enter__()


@pytest.mark.parametrize(
    ("file", "text", "same"),
    [
        ("src/toy/more.py", "VALUE = 3\n", True),
        ("pyproject.toml", '[project]\nname = "toy"\nversion = "2"\ndependencies = []\n', True),
        ("pyproject.toml", '[project]\nname = "toy"\ndependencies = ["numpy"]\n', False),
        ("requirements-dev.txt", "numpy\n", False),
        ("uv.lock", "version = 1\n", False),
    ],
)
def test_only_what_names_packages_asks_for_another_environment(repository, file, text, same):
    before = checkout.dependencies(repository)
    (repository / file).write_text(text)
    assert (checkout.dependencies(repository) == before) is same
