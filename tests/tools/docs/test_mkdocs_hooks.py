"""How pages of the checkout become pages of the site. MkDocs itself is not needed."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

TOOLS = Path(__file__).parents[3] / "tools" / "docs"
hooks = SimpleNamespace(**runpy.run_path(str(TOOLS / "mkdocs_hooks.py")))


@pytest.mark.parametrize(
    ("place", "written", "on_the_site"),
    [
        ("index.md", "[a](docs/architecture.md)", "[a](architecture.md)"),
        ("index.md", "[a](docs/architecture.md#words)", "[a](architecture.md#words)"),
        ("index.md", "![a](docs/report.png)", "![a](report.png)"),
        ("index.md", "[a](CONTRIBUTING.md), [b](https://example.org/docs/x.md)", None),
        ("examples.md", "[mine.py](mine.py): `[x](mine.py)`", "mine.py: `[x](mine.py)`"),
        ("tutorial/first-run.md", "[a](../how-to/fusion.md)", "[a](../how-to/fusion.md)"),
        ("tutorial/first-run.md", "[a](../../SECURITY.md)", "[a](../security.md)"),
        ("how-to/tpu.md", "[a](#traps)", "[a](#traps)"),
    ],
)
def test_links_that_hold_in_a_checkout_hold_on_the_site(place, written, on_the_site):
    if on_the_site is None:
        on_the_site = written.replace("CONTRIBUTING.md", "contributing.md")
    assert hooks.links_within_site(written, place) == on_the_site


def test_code_keeps_what_it_says():
    text = "before [a](docs/report.png)\n```\n[a](docs/report.png)\n```\nafter"
    assert hooks.links_within_site(text, "index.md") == text.replace("docs/", "", 1)


def test_every_command_is_found_in_the_help():
    found = hooks.command_names(hooks.help_of())
    assert {"run", "report", "claims", "gate", "compile", "fusion", "profile", "timeline"} <= set(found)


def test_a_help_without_commands_stops_the_build():
    with pytest.raises(RuntimeError, match="lists no commands"):
        hooks.command_names("usage: something else")


def test_every_page_made_of_a_file_of_the_project_has_its_source():
    for source in hooks.PAGES.values():
        assert (hooks.ROOT / source).is_file()
    assert hooks.HELP_MARKER in (hooks.ROOT / "docs" / hooks.COMMANDS_PAGE).read_text(encoding="utf-8")


def test_the_fields_of_a_docstring_become_a_list():
    pytest.importorskip("griffe", reason="only `make docs` installs griffe")
    extension = SimpleNamespace(**runpy.run_path(str(TOOLS / "griffe_extension.py")))
    docstring = (
        "One line.\n\nname:  the name, which\n       goes on.\nother: `x`.\n\nNote: this is\nrunning text."
    )
    assert extension.fields_as_list(docstring) == (
        "One line.\n\n- **name**: the name, which goes on.\n- **other**: `x`.\n\nNote: this is\nrunning text."
    )
