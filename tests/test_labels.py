"""Classes stand in one order: by value when all are numbers, else by code point."""

from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from frozenhead.labels import lookalikes, natural_order


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
