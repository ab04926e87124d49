"""A browser, pages to open in it, and the promise that they keep still."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

from frozenhead.report import render
from tests.report.drawing_examples import make_figures
from tests.report.page_examples import hostile_page_evidence, make_evidence

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
Scheme = Literal["light", "dark"]
Opener = Callable[..., Page]


class Noise:
    """What a page did beside standing there: requests, words on the console, dialogs, errors."""

    def __init__(self, page: Page) -> None:
        self.heard: list[str] = []
        page.on("request", lambda request: self.heard.append(f"request {request.url}"))
        page.on("console", lambda message: self.heard.append(f"console {message.text}"))
        page.on("pageerror", lambda error: self.heard.append(f"error {error}"))
        page.on("dialog", self.close)

    def close(self, dialog: Dialog) -> None:
        self.heard.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def beside(self, path: Path) -> list[str]:
        return [sound for sound in self.heard if sound != f"request {path.as_uri()}"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens a page from disk, given as HTML or where it lies; it may ask for nothing but its file, and say nothing."""
    contexts: list[BrowserContext] = []
    noises: list[tuple[Noise, Path]] = []

    def open_page(
        source: str | Path,
        *,
        width: int = 1280,
        scheme: Scheme = "light",
        scripts: bool = True,
        may_complain: bool = False,
    ) -> Page:
        path = source if isinstance(source, Path) else tmp_path / f"report{len(contexts)}.html"
        if isinstance(source, str):
            path.write_text(source, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=scripts, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        noise = Noise(page)
        if not may_complain:
            noises.append((noise, path))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    for noise, path in noises:
        assert noise.beside(path) == []


def open_details(page: Page) -> None:
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")


@pytest.fixture(scope="session")
def evidence() -> dict[str, Any]:
    return make_evidence()


@pytest.fixture(scope="session")
def mixed() -> dict[str, Any]:
    """Three classes, so that the true one does not tell the predicted one."""
    return make_evidence(["ham", "news", "spam"])


@pytest.fixture(scope="session")
def mixed_page(mixed: dict[str, Any]) -> str:
    return render(mixed, make_figures(mixed))


@pytest.fixture(scope="session")
def pages(evidence: dict[str, Any]) -> dict[str, str]:
    many = make_evidence([f"class_{c}" for c in range(30)], rows=30 * 8)
    examples = {"plain": evidence, "hostile": hostile_page_evidence(), "many classes": many}
    return {name: render(example, make_figures(example)) for name, example in examples.items()}
