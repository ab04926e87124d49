"""Texts are a sequence of the strings they were made of, however Arrow keeps them."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.texts import Chosen, Texts, joined

STRINGS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=20)


def chunked(strings: list[str], kind: Any) -> Texts:
    """The strings in chunks that begin in the middle of a buffer."""
    array = pa.array(["before", *strings, "after"], kind)
    half = len(strings) // 2
    return Texts(pa.chunked_array([array.slice(1, half), array.slice(1 + half, len(strings) - half)], kind))


MAKERS: list[Callable[[list[str]], Texts]] = [
    Texts.of,
    lambda strings: chunked(strings, pa.string()),
    lambda strings: chunked(strings, pa.large_string()),
    lambda strings: joined([chunked(strings[:3], pa.large_string()), chunked(strings[3:], pa.string())]),
    lambda strings: joined([chunked(strings[:3], pa.string()), chunked(strings[3:], pa.string())]),
]


@given(strings=STRINGS)
@pytest.mark.parametrize("make", MAKERS)
def test_texts_are_the_strings_in_their_order(make: Callable[[list[str]], Texts], strings: list[str]) -> None:
    texts = make(strings)
    assert len(texts) == len(strings)
    assert list(texts) == strings
    assert [texts[i] for i in range(len(strings))] == strings
    assert texts[1:-1] == strings[1:-1]
    assert [text for part in texts.utf8() for text in part] == [text.encode() for text in strings]


@given(strings=STRINGS.filter(bool), data=st.data())
def test_chosen_strings_are_those_of_the_rows(strings: list[str], data: Any) -> None:
    rows = data.draw(st.lists(st.integers(0, len(strings) - 1)))
    chosen = Chosen(Texts.of(strings), np.array(rows, np.intp))
    assert list(chosen) == [strings[row] for row in rows]
    assert chosen[1:] == [strings[row] for row in rows][1:]


def test_more_strings_than_are_made_at_a_time() -> None:
    strings = [str(number) for number in range(40_000)]
    assert list(Texts.of(strings)) == strings


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        Texts.of(["\ud800"])


def test_texts_are_made_without_pandas() -> None:
    code = "import sys; from frozenhead.texts import Texts; list(Texts.of('ab')); sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
