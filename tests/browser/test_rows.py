"""The browser of mistakes finds, filters, orders and pages as the evidence has them."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page

from frozenhead.report import render
from tests.browser.conftest import CHROMIUM, Opener
from tests.report.drawing_examples import make_figures
from tests.report.page_examples import make_evidence
from tests.report.row_examples import mistake_rows

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome in PATH"),
]


PAGE_ROWS = 20  # rows that the browser shows at once


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


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("cafe\u0301", [0]),
        ("ＣＡＦÉ", [0]),
        ("noir  (", [0]),
        ("<b>", [1]),
        (".*", [2]),
        ("[a", [2]),
        ("\\", [2]),
        ("😀", [1]),
    ],
)
def test_words_are_found_as_they_are_however_they_are_written(opened: Opener, words: str, found: list[int]) -> None:
    evidence = make_evidence(mistakes=3, texts=["café noir (now)"])
    for number, text in enumerate(("un café noir (now)", "<b>bold</b> 😀", "a.*c [a-z] \\d")):
        evidence["mistakes"]["rows"][number].update(text=text, row=number)
    page = opened(render(evidence, make_figures(evidence)))
    search(page, words)
    assert shown_rows(page) == found


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
