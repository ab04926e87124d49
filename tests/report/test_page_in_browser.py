"""The page in a real browser: it asks for nothing, says nothing wrong, and what can be clicked does what it says."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Dialog, Locator, Page, sync_playwright

from frozenhead.labels import shown
from frozenhead.report import render
from frozenhead.report.page import content_policy, json_island
from tests.report.examples import HOSTILE
from tests.report.page_examples import hostile_page_evidence, make_evidence, make_figures, mistake_rows

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGE_ROWS = 20  # rows that the browser shows at once

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome in PATH"),
]

Scheme = Literal["light", "dark"]
Opener = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


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


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens a page from disk; at the end it may have asked for nothing but its file, and have said nothing."""
    contexts: list[BrowserContext] = []
    noises: list[tuple[Noise, Path]] = []

    def open_page(
        html: str, *, width: int = 1280, scheme: Scheme = "light", scripts: bool = True, may_complain: bool = False
    ) -> Page:
        path = tmp_path / f"report{len(contexts)}.html"
        path.write_text(html, encoding="utf-8")
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


@pytest.fixture(scope="module")
def evidence() -> dict[str, Any]:
    return make_evidence()


@pytest.fixture(scope="module")
def mixed() -> dict[str, Any]:
    """Three classes, so that the true one does not tell the predicted one."""
    return make_evidence(["ham", "news", "spam"])


@pytest.fixture(scope="module")
def mixed_page(mixed: dict[str, Any]) -> str:
    return render(mixed, make_figures(mixed))


@pytest.fixture(scope="module")
def pages(evidence: dict[str, Any]) -> dict[str, str]:
    many = make_evidence([f"class_{c}" for c in range(30)], rows=30 * 8)
    examples = {"plain": evidence, "hostile": hostile_page_evidence(), "many classes": many}
    return {name: render(example, make_figures(example)) for name, example in examples.items()}


EXAMPLES = pytest.mark.parametrize("example", ["plain", "hostile", "many classes"])


def open_details(page: Page) -> None:
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")


def shown_rows(page: Page) -> list[int]:
    """Row numbers that the row browser shows, in order."""
    return [
        int(row) for row in page.locator("#mistakes-list > li").evaluate_all("all => all.map(one => one.dataset.row)")
    ]


def status(page: Page) -> str:
    return page.locator("#mistakes-status").inner_text()


def search(page: Page, text: str) -> None:
    """Type into the search box and wait for what it finds."""
    page.evaluate("document.getElementById('mistakes-list').replaceChildren()")
    before = page.evaluate("document.getElementById('mistakes-status').textContent = 'waiting'")
    page.locator("#mistakes-search").fill(text)
    page.wait_for_function("words => document.getElementById('mistakes-status').textContent !== words", arg=before)


@EXAMPLES
@pytest.mark.parametrize("width", [1280, 400])
def test_a_page_is_as_wide_as_its_window_and_every_figure_has_a_box(
    opened: Opener, pages: dict[str, str], example: str, width: int
) -> None:
    page = opened(pages[example], width=width)
    open_details(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.locator("figure svg").evaluate_all(
        "all => all.map(one => [one.getBoundingClientRect().width, one.getBoundingClientRect().height])"
    )
    assert len(boxes) >= 10
    assert all(min(box) > 50 for box in boxes)


def test_hostile_strings_are_seen_and_do_nothing(opened: Opener, pages: dict[str, str]) -> None:
    page = opened(pages["hostile"])
    open_details(page)
    assert page.locator("main img, main script, main iframe").count() == 0
    text = page.locator("main").inner_text()
    for word in ("<script>alert(1)</script>", "{{7*7}}", "$\\frac{1}{0}$", "\\u202egnp.exe\\u202c", "שלום"):
        assert word in text
    assert "49" not in page.locator("h1").inner_text()
    options = page.locator("#mistakes-truth option").all_inner_texts()
    mistakes = hostile_page_evidence()["mistakes"]["rows"]
    true = [row["truth"] for row in mistakes]
    assert options[1:] == [f"{shown(HOSTILE[c])} ({true.count(c)})" for c in range(len(HOSTILE)) if c in true]
    page.locator("#mistakes-truth").select_option("0")
    assert page.locator("#mistakes-list bdi", has_text="<script>alert(1)</script>").count() > 0


def test_the_policy_stops_what_escaping_would_have_let_through(opened: Opener, pages: dict[str, str]) -> None:
    page = opened(pages["plain"], may_complain=True)
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.broken = true";
        const sheet = document.createElement("style");
        sheet.textContent = "h1 { display: none }";
        document.head.append(script, sheet);
    }""")
    assert page.evaluate("window.broken") is None
    assert page.locator("h1").is_visible()
    asked = "url => fetch(url).then(() => 'answered', error => 'refused')"
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    assert page.evaluate(asked, "https://example.org/") == "refused"
    assert any("Content Security Policy" in text for text in refused)


CHOICES: list[tuple[str, str, str, str]] = [
    ("", "", "", "sure"),
    ("", "", "", "unsure"),
    ("", "", "", "row"),
    ("", "", "", "heads"),
    ("PRIZE", "", "", "sure"),
    ("", "1", "", "sure"),
    ("", "0", "2", "sure"),
    ("ten", "0", "1", "row"),
    ("call", "1", "0", "unsure"),
]
ORDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "sure": lambda row: -row["probability"],
    "unsure": lambda row: row["probability"],
    "row": lambda row: row["row"],
    "heads": lambda row: (-row["wrong_heads"], -row["probability"]),
}


@pytest.mark.parametrize(("text", "truth", "predicted", "order"), CHOICES)
def test_the_row_browser_finds_and_orders_as_the_evidence_does(
    opened: Opener, mixed: dict[str, Any], mixed_page: str, text: str, truth: str, predicted: str, order: str
) -> None:
    page = opened(mixed_page)
    page.locator("#mistakes-truth").select_option(truth)
    page.locator("#mistakes-predicted").select_option(predicted)
    page.locator("#mistakes-order").select_option(order)
    if text:
        search(page, text)
    rows = mixed["mistakes"]["rows"]
    fitting = [row for row in rows if text.lower() in row["text"].lower()]
    fitting = [row for row in fitting if truth in {"", str(row["truth"])} and predicted in {"", str(row["predicted"])}]
    expected = [row["row"] for row in sorted(fitting, key=ORDERS[order])]
    assert 2 <= len(expected) <= len(rows)
    assert status(page).startswith(f"{len(expected)} of {len(rows)} mistakes.")
    found = shown_rows(page)
    while page.locator("#mistakes-later").get_attribute("aria-disabled") == "false":
        page.locator("#mistakes-later").press("Enter")
        found += shown_rows(page)
    assert found == expected


def test_a_mistake_shows_its_classes_its_certainty_and_its_neighbours(
    opened: Opener, pages: dict[str, str], evidence: dict[str, Any]
) -> None:
    page = opened(pages["plain"])
    rows, classes = evidence["mistakes"]["rows"], evidence["dataset"]["classes"]
    row = max(rows, key=lambda row: row["probability"])
    first = page.locator("#mistakes-list > li").first
    assert first.locator(".text").inner_text() == row["text"]
    assert first.locator(".meta bdi").all_inner_texts() == [classes[row["truth"]], classes[row["predicted"]]]
    meta = first.locator(".meta").inner_text()
    assert f"{100 * row['probability']:.1f}\xa0% sure" in meta
    assert f"wrong in {row['wrong_heads']} of {evidence['mistakes']['heads']} heads" in meta
    first.locator("summary").press("Enter")
    items = first.locator("details li").all_inner_texts()
    texts = evidence["mistakes"]["texts"]
    for item, neighbour in zip(items, row["neighbours"], strict=True):
        known = texts[str(neighbour["row"])]
        told = f"{classes[known['label']]} {known['text']} cosine {neighbour['cosine']:.3f}, row {neighbour['row']:,}"
        assert " ".join(item.split()) == told


def test_nothing_found_is_said_and_clear_brings_all_rows_back(opened: Opener, pages: dict[str, str]) -> None:
    page = opened(pages["plain"])
    search(page, "no text has this")
    assert status(page) == "None of 60 mistakes fits. Search for other words or clear the filters."
    assert shown_rows(page) == []
    page.locator("#mistakes-clear").press("Enter")
    assert status(page) == "60 of 60 mistakes. Showing 1 to 20."
    assert page.evaluate("document.activeElement.id") == "mistakes-search"


def test_counts_are_announced_and_every_control_is_named_and_in_reach_of_the_tab_key(
    opened: Opener, pages: dict[str, str]
) -> None:
    page = opened(pages["plain"])
    assert page.get_by_role("status").get_attribute("aria-live") == "polite"
    names = ["Search in the text", "True class", "Predicted class", "Order"]
    page.get_by_label(names[0]).focus()
    reached = []
    for _ in range(6):
        reached.append(page.evaluate("document.activeElement.id"))
        page.keyboard.press("Tab")
    assert reached[:5] == [f"mistakes-{name}" for name in ("search", "truth", "predicted", "order", "clear")]
    for name in names[1:]:
        assert page.get_by_label(name, exact=True).count() == 1


def test_a_confusion_leads_to_its_rows(opened: Opener, mixed: dict[str, Any], mixed_page: str) -> None:
    page = opened(mixed_page)
    search(page, "no text has this")
    page.locator("[data-truth='1'][data-predicted='2'] button").press("Enter")
    expected = {row["row"] for row in mixed["mistakes"]["rows"] if (row["truth"], row["predicted"]) == (1, 2)}
    assert 1 < len(expected) <= PAGE_ROWS
    assert status(page).startswith(f"{len(expected)} of 60 mistakes.")
    assert set(shown_rows(page)) == expected


def test_a_hundred_thousand_mistakes_are_searched_and_shown_a_few_at_a_time(opened: Opener) -> None:
    evidence = make_evidence(heads=("logreg", "tfidf"))
    rows = mistake_rows(100_000)
    texts = {str(10**6 + i): {"text": f"training text {i}", "label": i % 2} for i in range(5)}
    evidence["mistakes"].update(rows=rows, total=len(rows), shown=len(rows), texts=texts)
    page = opened(render(evidence, make_figures(evidence)))
    assert status(page) == "100,000 of 100,000 mistakes. Showing 1 to 20."
    search(page, "NUMBER 9999")
    expected = [row for row in rows if "number 9999" in row["text"]]
    assert len(expected) == 11
    assert shown_rows(page) == [row["row"] for row in sorted(expected, key=ORDERS["sure"])]
    page.locator("#mistakes-clear").click()
    page.locator("#mistakes-order").select_option("unsure")
    page.locator("#mistakes-later").click()
    second = sorted(rows, key=ORDERS["unsure"])[PAGE_ROWS : 2 * PAGE_ROWS]
    assert shown_rows(page) == [row["row"] for row in second]
    assert page.locator("#mistakes-list *").count() < 50 * PAGE_ROWS


def column(table: Locator, number: int) -> list[str]:
    return [text.split("\n")[0] for text in table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()]


def test_tables_sort_by_value_with_what_is_missing_last(
    opened: Opener, evidence: dict[str, Any], pages: dict[str, str]
) -> None:
    page = opened(pages["plain"])
    table = page.locator("#comparison table").first
    heads = evidence["heads"]
    assert column(table, 1) == [entry["head"] for entry in heads]
    sort = table.get_by_role("button", name="log loss")
    sort.press("Enter")
    losses = sorted(heads, key=lambda entry: entry["test"]["log_loss"])
    assert column(table, 1) == [entry["head"] for entry in losses]  # a loss is best when low
    assert table.locator("[aria-sort]").evaluate_all("all => all.map(one => one.ariaSort)") == ["ascending"]
    sort.press("Enter")
    assert column(table, 1) == [entry["head"] for entry in losses[::-1]]
    table.get_by_role("button", name="head").click()
    assert column(table, 1) == sorted(entry["head"] for entry in heads)
    assert table.locator("[aria-sort]").count() == 1
    calibration = page.locator("#calibration table")  # only one head has a number before
    for _ in range(2):
        calibration.get_by_role("button", name="error before").click()
        assert column(calibration, 4) == ["0.0520", "–", "–", "–"]
    tried = page.locator("#search table")
    for first in ("0.9500", "0.9100"):
        tried.get_by_role("button", name="macro F1").click()
        assert [column(tried, 3)[place] for place in (0, 1, 3)] == [first, "0.9300", "–"]


def test_equal_values_keep_their_order(opened: Opener, evidence: dict[str, Any], pages: dict[str, str]) -> None:
    page = opened(pages["plain"])
    table = page.locator("#pairs table").first
    before = column(table, 1)
    table.get_by_role("button", name="McNemar").click()
    assert column(table, 1) == before


@EXAMPLES
def test_without_javascript_everything_but_the_row_browser_is_there(
    opened: Opener, browser: Browser, pages: dict[str, str], example: str
) -> None:
    page = opened(pages[example], scripts=False)
    assert page.locator("thead button").count() == 0
    assert not page.locator("#mistakes-browser").is_visible()
    assert page.locator("noscript").inner_text().startswith("Looking through the rows needs JavaScript.")
    for name in ("answer", "comparison", "copies", "labels", "classes", "calibration", "curves", "search", "run"):
        assert page.locator(f"#{name}").is_visible()


def test_print_leaves_out_what_cannot_be_clicked_on_paper(opened: Opener, pages: dict[str, str]) -> None:
    page = opened(pages["plain"], scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(media="print")
    for selector in ("nav", ".controls", ".pager"):
        assert page.locator(selector).count() == 1
        assert not page.locator(selector).is_visible()
    assert page.locator("#mistakes-list > li").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)" != dark
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"


@pytest.mark.parametrize(("example", "scheme"), [("plain", "light"), ("plain", "dark"), ("hostile", "dark")])
def test_axe_finds_nothing_serious(opened: Opener, pages: dict[str, str], example: str, scheme: Scheme) -> None:
    page = opened(pages[example], scheme=scheme)
    open_details(page)
    result = Axe().run(page).response
    assert {"color-contrast", "label"} <= {rule["id"] for rule in result["passes"]}
    serious = [
        (found["id"], [node["target"] for node in found["nodes"]][:5])
        for found in result["violations"]
        if found["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")


def test_narrow_or_wide_the_contents_lead_to_the_sections(opened: Opener, pages: dict[str, str]) -> None:
    for width in (1280, 400):
        page = opened(pages["plain"], width=width)
        link = page.get_by_role("navigation").get_by_role("link", name="Calibration")
        link.click()
        top = page.locator("#calibration").evaluate("one => one.getBoundingClientRect().top")
        bar = page.locator("nav").evaluate("one => one.getBoundingClientRect().bottom") if width < 800 else 0
        assert bar <= top < 200  # on a narrow screen below the bar of contents


def test_the_island_is_read_back_as_it_was_by_a_browser(opened: Opener) -> None:
    values = [
        *(text for text in HOSTILE if "\udcff" not in text),
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "\u2028",
    ]
    policy = content_policy("", "")
    island = f'<script type="application/json" id="data">{json_island(values)}</script>'
    html = (
        f'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">{island}'
    )
    page = opened(html)
    assert page.evaluate("JSON.parse(document.getElementById('data').textContent)") == json.loads(json.dumps(values))
