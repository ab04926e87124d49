"""Classes stand in one order, and labels are harmless wherever they are shown."""

import unicodedata
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.labels import lookalikes, natural_order, shown


def test_numbers_stand_by_value_and_ties_by_code_point() -> None:
    assert natural_order(["10", "9", "-1", "+0.5", "9"]) == ["-1", "+0.5", "9", "10"]
    assert natural_order(["1.0", "1", "01", "0"]) == ["0", "01", "1", "1.0"]
    assert natural_order(["+9007199254740993", "9007199254740992"]) == ["9007199254740992", "+9007199254740993"]


def test_one_word_makes_all_of_them_words() -> None:
    assert natural_order(["10", "9", "ham"]) == ["10", "9", "ham"]
    assert natural_order(["10", "9", "1e3"]) == ["10", "1e3", "9"]
    assert natural_order(["10", "9", "nan"]) == ["10", "9", "nan"]
    assert natural_order(["b", "B", "é", "a"]) == ["B", "a", "b", "é"]


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False).map(lambda value: f"{value:f}")))
def test_the_order_has_each_label_once_and_never_falls(labels: list[str]) -> None:
    ordered = natural_order(labels)
    assert sorted(ordered) == sorted(set(labels))
    assert all(Decimal(a) <= Decimal(b) for a, b in pairwise(ordered))


def test_lookalikes_differ_in_case_or_white_space_only() -> None:
    assert lookalikes(["spam", "Spam ", "ham", "h am"]) == [["spam", "Spam "]]


@given(st.text(alphabet=st.characters(), max_size=90), st.integers(2, 60))
def test_a_label_is_one_line_without_hidden_characters(text: str, width: int) -> None:
    line = shown(text, width=width)
    assert 0 < len(line) <= max(width, 1)
    assert len(line.splitlines()) == 1
    assert {unicodedata.category(c) for c in line} & {"Cc", "Cs", "Zl", "Zp"} == set()
    assert {c for c in line if unicodedata.category(c) == "Cf"} <= {"\u200c", "\u200d"}
    line.encode("utf-8")


@pytest.mark.parametrize("text", ["ham", "a b", "😀 family 👨\u200d👩\u200d👧", "می\u200cخواهم", "中文", "x" * 60])
def test_a_plain_label_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "(empty)"), ("a\nb", "a\\nb"), ("\x1b[1m", "\\x1b[1m"), ("\u202ex", "\\u202ex"), ("y" * 61, "y" * 59 + "…")],
)
def test_what_is_hidden_or_too_long_is_seen(text: str, line: str) -> None:
    assert shown(text) == line
