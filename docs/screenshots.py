"""Pictures of a report's page, as a reader sees it: for the README, and to look at after a change.

    python docs/screenshots.py RUN/report.html FOLDER

Writes into FOLDER first-<scheme>-<width>.png (what a window 800 pixels high shows first) and page-<scheme>-<width>.png
(the whole page), both in light and dark, 1280 and 400 pixels wide, and print.pdf. Needs the extra `dev` and a Chromium
in PATH. docs/report.png is first-light-1280.png of the SMS collection.
"""

import argparse
import shutil
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (1280, 400)
HEIGHT = 800
MARGIN = dict.fromkeys(("top", "bottom", "left", "right"), "14mm")


def take(browser: Browser, address: str, folder: Path) -> None:
    """Every picture of the page at this address."""
    for scheme in SCHEMES:
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
            page.goto(address)
            page.screenshot(path=folder / f"first-{scheme}-{width}.png")
            page.screenshot(path=folder / f"page-{scheme}-{width}.png", full_page=True)
            page.close()
    page = browser.new_page()
    page.goto(address)
    page.pdf(path=folder / "print.pdf", format="A4", print_background=True, margin=MARGIN)


def main() -> None:
    """Read the command line and take the pictures."""
    parser = argparse.ArgumentParser(description="Take pictures of a report's page.")
    parser.add_argument("page", type=Path, help="report.html")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    chosen = parser.parse_args()
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        parser.error(f"found none of {', '.join(BROWSERS)} in PATH; install Chromium")
    if not chosen.page.is_file():
        parser.error(f"{chosen.page} is not a file; make it with `frozenhead report RUN`")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        take(browser, chosen.page.resolve().as_uri(), chosen.folder)
        browser.close()


if __name__ == "__main__":
    main()
