"""The page in a real browser: it asks for nothing, says nothing wrong, and what can be clicked does what it says."""

import json
import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator

from frozenhead.labels import shown
from frozenhead.report.page import content_policy, json_island
from tests.browser.conftest import CHROMIUM, Opener, Scheme, open_details
from tests.report.examples import HOSTILE
from tests.report.page_examples import hostile_page_evidence

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome in PATH"),
]


EXAMPLES = pytest.mark.parametrize("example", ["plain", "hostile", "many classes"])


@EXAMPLES
@pytest.mark.parametrize("width", [1280, 400])
def test_a_page_is_as_wide_as_its_window_and_every_figure_has_a_box_and_a_name(
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
    names = page.locator("figure").get_by_role("img").evaluate_all("all => all.map(one => one.ariaLabel)")
    assert len(names) == len(boxes)
    assert all(name.startswith("The drawing ") for name in names)


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
    for _ in range(2):
        table.get_by_role("button", name="head").click()
    other = column(table, 1)
    assert other == sorted(before, reverse=True) != before
    for direction in ("ascending", "descending"):
        table.get_by_role("button", name="McNemar").click()
        assert table.locator("[aria-sort]").evaluate_all("all => all.map(one => one.ariaSort)") == [direction]
        assert column(table, 1) == other


@EXAMPLES
def test_without_javascript_everything_but_the_row_browser_is_there(
    opened: Opener, browser: Browser, pages: dict[str, str], example: str
) -> None:
    page = opened(pages[example], scripts=False)
    with_scripts = opened(pages[example])
    open_details(with_scripts)
    assert page.locator("thead button").count() == 0
    assert not page.locator("#mistakes-browser").is_visible()
    assert page.locator("noscript").inner_text().startswith("Looking through the rows needs JavaScript.")
    for name in ("answer", "comparison", "copies", "labels", "classes", "calibration", "curves", "search", "run"):
        assert page.locator(f"#{name}").is_visible()
    page.locator("details:not([open]) > summary").first.click()  # the browser itself opens it
    open_details(page)
    for part in ("main h1", "main h2", "main > :not(#mistakes) p", "main td, main tbody th", "main figure text"):
        texts = page.locator(part).all_text_contents()
        assert len(texts) > (0 if part == "main h1" else 10)
        assert texts == with_scripts.locator(part).all_text_contents()
    sizes = "all => all.map(one => Math.min(one.getBoundingClientRect().width, one.getBoundingClientRect().height))"
    assert min(page.locator("main table, main figure svg").evaluate_all(sizes)) > 20


def test_print_leaves_out_what_cannot_be_clicked_on_paper(opened: Opener, pages: dict[str, str]) -> None:
    page = opened(pages["plain"], scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(media="print")
    for selector in ("nav", ".controls", ".pager"):
        assert page.locator(selector).count() == 1
        assert not page.locator(selector).is_visible()
    assert page.locator("#mistakes-list > li").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)" != dark
    hidden = "all => all.filter(one => getComputedStyle(one).overflow !== 'visible').length"
    assert page.locator(".scroll, .tall").evaluate_all(hidden) == 0
    assert page.locator(".tall").count() > 0


@pytest.mark.parametrize("example", ["plain", "many classes"])
def test_what_is_printed_fits_on_the_paper(opened: Opener, pages: dict[str, str], example: str) -> None:
    page = opened(pages[example], width=703)  # A4 less margins of 12 mm, at 96 dots an inch
    page.emulate_media(media="print")
    beyond = "all => all.filter(one => one.getBoundingClientRect().right > 704).map(one => one.outerHTML.slice(0, 90))"
    assert page.locator("main :is(p, li, td, th, svg, pre, dd)").evaluate_all(beyond) == []
    pdf = page.pdf(format="A4", margin={"top": "12mm", "right": "12mm", "bottom": "12mm", "left": "12mm"})
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize(
    ("example", "scheme"),
    [("plain", "light"), ("plain", "dark"), ("hostile", "dark"), ("many classes", "light"), ("many classes", "dark")],
)
def test_axe_finds_nothing_serious(
    opened: Opener, pages: dict[str, str], example: str, scheme: Scheme, width: int
) -> None:
    page = opened(pages[example], scheme=scheme, width=width)
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
