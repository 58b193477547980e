"""Pages in a real browser: the machine's own Chromium, headless, driven by Playwright; no download."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

# --disable-gpu: canvases are drawn by the CPU, the same on every machine.
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


@dataclass(frozen=True, kw_only=True)
class Log:
    """What a page wrote to the console as an error or a warning, and the addresses that it asked for."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def why_not() -> str | None:
    """Why no page can be opened here, else None."""
    if _executable() is None:
        return "needs Chromium on the PATH"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "needs Playwright; pip install 'fuseproof[dev]'"
    return None


def _executable() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser that ends with the block; ask `why_not` first."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_executable(), args=_FLAGS)
        yield browser
        browser.close()


@contextmanager
def open_page(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    height: int = 900,
    ratio: float = 1.0,
    dark: bool = False,
    phone: bool = False,
) -> Iterator[tuple[Page, Log]]:
    """`url` in a window that shares nothing with others; it closes with the block."""
    with browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=ratio,
        color_scheme="dark" if dark else "light",
        is_mobile=phone,
        has_touch=phone,
    ) as context:
        page = context.new_page()
        log = Log()

        def note(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning", "assert"):
                log.errors.append(message.text)

        page.on("console", note)
        page.on("pageerror", lambda error: log.errors.append(str(error)))
        page.on("request", lambda request: log.requests.append(request.url))
        page.goto(url)
        yield page, log


def wait_until(page: Page, expression: str, seconds: float = 30.0) -> None:
    """Until an expression is true on the page.

    Playwright's own waiting evaluates text within the page, which the page's policy forbids.
    """
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {expression}"
        page.wait_for_timeout(20)


@contextmanager
def open_viewer(browser: Browser, url: str, **window: Any) -> Iterator[tuple[Page, Log]]:
    """As `open_page`, once a page of timelines is complete; there `app` and its first `stage` are global."""
    with open_page(browser, url, **window) as (page, log):
        wait_until(page, "performance.getEntriesByName('fuseproof-complete').length")
        page.evaluate(
            "fuseproof.ready.then((app) => Object.assign(globalThis, { app, stage: app.stages[0] }))"
        )
        yield page, log
