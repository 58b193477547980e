"""Hooks of `mkdocs build`: pages made of the project's root files and of each command's own `--help`.

Nothing that is generated is committed, so a page cannot say something else than the program does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

# Files of the project that are pages of the site, by their place there.
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "examples.md": "examples/README.md",
}
COMMANDS_PAGE = "reference/commands.md"
HELP_MARKER = "<!-- the help of every command -->"

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    from mkdocs.structure.files import File

    for place, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to the site's pages, and put the commands' help where it belongs."""
    place = page.file.src_uri
    if place == COMMANDS_PAGE:
        markdown = markdown.replace(HELP_MARKER, commands_help())
    return links_within_site(markdown, place)


def links_within_site(markdown: str, place: str) -> str:
    """`markdown` of the page `place` with the links that hold in a checkout turned into links of the site.

    A link to a file that is not a page, such as a program, becomes its text.
    """
    source = ROOT / PAGES.get(place, f"docs/{place}")
    published = {(ROOT / source).resolve(): page for page, source in PAGES.items()}

    def replace(match: re.Match[str]) -> str:
        image, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = (source.parent / target).resolve()
        if path in published:
            page = published[path]
        elif path.is_relative_to(ROOT / "docs"):
            page = path.relative_to(ROOT / "docs").as_posix()
        else:
            return text
        return f"{image}[{text}]({os.path.relpath(page, Path(place).parent)}{anchor})"

    # Code keeps what it says.
    parts = re.split(r"(^```.*?^```|`[^`\n]+`(?!\]))", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if index % 2 else _LINK.sub(replace, part) for index, part in enumerate(parts))


def commands_help() -> str:
    """A section for each command: its `--help` at 80 columns."""
    names = command_names(help_of())
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(help_of, names))
    return "\n\n".join(
        f"## fuseproof {name}\n\n```text\n{text}\n```" for name, text in zip(names, texts, strict=True)
    )


def command_names(overview: str) -> list[str]:
    """The commands that `fuseproof --help` lists, in its order."""
    _, _, listed = overview.partition("COMMAND\n")
    names = re.findall(r"^ {4}([a-z]+)(?= |$)", listed, flags=re.MULTILINE)
    if not names:
        raise RuntimeError(f"`fuseproof --help` lists no commands:\n{overview}")
    return names


def help_of(*command: str) -> str:
    """What `fuseproof COMMAND --help` prints at 80 columns."""
    done = subprocess.run(
        [sys.executable, "-m", "fuseproof", *command, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.rstrip()
