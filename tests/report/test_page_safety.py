"""The page stands alone, lets no string out of its place, and stays small."""

import base64
import copy
import hashlib
import json
import re
from typing import Any

import pytest

from frozenhead.labels import shown
from frozenhead.report.page import content_policy, json_island
from tests.report.examples import HOSTILE
from tests.report.page_examples import hostile_page_evidence, make_evidence
from tests.report.reading import Reader, page_of

MOST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def evidence() -> dict[str, Any]:
    return make_evidence()


@pytest.fixture(scope="module")
def page(evidence: dict[str, Any]) -> str:
    return page_of(evidence)


@pytest.fixture(scope="module")
def hostile_page() -> str:
    return page_of(hostile_page_evidence())


@pytest.fixture(params=["page", "hostile_page"])
def any_page(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def test_the_page_asks_for_nothing(any_page: str) -> None:
    reader = Reader(any_page)
    assert not {"link", "iframe", "object", "embed", "img", "form", "base"} & {tag for tag, _ in reader.tags}
    for name, value in reader.attributes:
        assert not name.startswith("on")
        if name in {"src", "href", "xlink:href", "action", "poster", "srcset"}:
            assert value.startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"url\(\s*['\"]?(?!#)|@import", any_page)


def test_only_the_pages_own_script_and_style_are_allowed(any_page: str) -> None:
    reader = Reader(any_page)
    kinds = [attributes.get("type") for tag, attributes in reader.tags if tag == "script"]
    assert kinds == ["application/json", None]
    (policy,) = [value for name, value in reader.attributes if name == "content" and "default-src" in value]
    (style,), (_, script) = reader.sources["style"], reader.sources["script"]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert policy.split("; ") == [
        "default-src 'none'",
        f"script-src 'sha256-{digests[0]}'",
        f"style-src-elem 'sha256-{digests[1]}'",
        "style-src-attr 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert content_policy(style, script) == policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b|document\.write|Function\(", script)


def test_ids_are_unique_and_every_link_leads_somewhere(any_page: str) -> None:
    reader = Reader(any_page)
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) > 30
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert len(links) > 20
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_hostile_strings_are_read_as_text(hostile_page: str) -> None:
    reader = Reader(hostile_page)
    assert hostile_page.count("<script") == hostile_page.count("</script") == 2
    assert "<img" not in hostile_page
    for label in HOSTILE:
        assert " ".join(shown(label).split()) in reader.text
    assert "{{7*7}}" in reader.text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x00]", hostile_page)
    hostile_page.encode("utf-8")


@pytest.mark.parametrize(
    "text", [*HOSTILE, "</script>", "<!--<script>", "\u2028\u2029", "\ud800", "\ufeff\u200b", "]]>"]
)
def test_an_island_of_json_holds_any_string_and_lets_none_out(text: str) -> None:
    island = json_island({text: [text]})
    assert json.loads(island) == {text: [text]}
    assert not re.search("[<>&\u2028\u2029\u202e\ud800\ufeff\u200b]", island)
    island.encode("utf-8")


def test_the_page_is_written_the_same_twice(evidence: dict[str, Any], page: str) -> None:
    assert page_of(evidence) == page


def test_evidence_is_not_changed_by_drawing_a_page(evidence: dict[str, Any]) -> None:
    before = copy.deepcopy(evidence)
    page_of(evidence)
    assert evidence == before


def test_a_page_of_ten_heads_77_classes_and_2000_mistakes_stays_under_3_mb() -> None:
    classes = [f"a_class_with_a_long_name_{c}" for c in range(77)]
    heads = ("logreg", "dense", *[f"head{i}" for i in range(8)])
    evidence = make_evidence(
        classes, heads=heads, rows=77 * 40, mistakes=2000, texts=[f"{i} " + "word " * 20 for i in range(50)]
    )
    assert len(page_of(evidence).encode()) < MOST_BYTES
