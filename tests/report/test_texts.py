"""How texts are compared, cut and weighed."""

import json

import pytest
from jinja2.utils import htmlsafe_json_dumps

from frozenhead.report.texts import clipped, folded, room, within
from tests.report.examples import HOSTILE


@pytest.mark.parametrize(
    "ways",
    [
        ["Free", "FREE", "free"],
        ["a b", " a\t\nb ", "a\u00a0b"],
        ["caf\u00e9", "cafe\u0301"],
        ["ﬁne", "fine"],
        ["Straße", "STRASSE"],
        ["ＷＩＮ", "win"],
    ],
)
def test_folding_makes_these_ways_to_write_a_text_one(ways: list[str]) -> None:
    assert len(set(folded(ways))) == 1


def test_folding_twice_is_folding_once() -> None:
    texts = [chr(code) * 2 for code in range(0x3000) if not 0xD800 <= code < 0xE000]
    once = folded(texts)
    assert folded(once) == once


def test_a_clipped_text_shows_that_it_goes_on() -> None:
    assert clipped("x" * 300) == "x" * 300
    assert clipped("x" * 301) == "x" * 299 + "…"


@pytest.mark.parametrize("text", HOSTILE)
def test_room_is_what_a_template_writes(text: str) -> None:
    row = {"text": text, "label": 3, "nothing": None}
    assert room(row) == len(htmlsafe_json_dumps(row))


def test_rows_are_taken_while_they_fit() -> None:
    rows = [{"text": text} for text in HOSTILE]
    for limit in (0, 50, 200, 10_000):
        kept = within(iter(rows), room_for=limit)
        assert kept == rows[: len(kept)]
        assert len(htmlsafe_json_dumps(kept)) <= limit + 2  # the brackets
        if len(kept) < len(rows):
            assert len(htmlsafe_json_dumps(rows[: len(kept) + 1])) > limit
    assert json.dumps(kept) == json.dumps(rows)
