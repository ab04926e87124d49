"""Keys are sha256, and are compared by all 32 bytes, checked against dictionaries."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.cache import distinct_keys, text_keys
from frozenhead.cache.keys import Keys, find_keys, sorting_order

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=20)

# Keys that differ in few places: a shared first byte, the 8th or 9th byte (either side of the number that is
# searched), or the last. Few values, so that copies and ties are common.
KEYS = st.builds(
    lambda a, b, c, d: bytes([a, *[7] * 6, b, c, *[7] * 22, d]),
    *[st.sampled_from([0, 1, 255])] * 4,
)
KEY_LISTS = st.lists(KEYS, max_size=40)


def as_keys(rows: list[bytes]) -> Keys:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)


def as_rows(keys: Keys) -> list[bytes]:
    return [key.tobytes() for key in keys]


@given(texts=TEXTS, prefix=st.sampled_from(["", "query: ", "ü"]))
def test_a_key_is_the_sha256_of_prefix_and_text_in_utf8(texts: list[str], prefix: str) -> None:
    keys = text_keys(iter(texts), prefix=prefix)
    assert keys.dtype == np.uint8
    assert keys.shape == (len(texts), 32)
    assert as_rows(keys) == [hashlib.sha256((prefix + text).encode("utf-8")).digest() for text in texts]


def test_texts_that_only_look_alike_have_different_keys() -> None:
    alike = ["é", "e\u0301", "e", "é ", " é", "É"]
    assert len(set(as_rows(text_keys(alike)))) == len(alike)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        text_keys(["fine", "\ud800"])


@given(rows=KEY_LISTS)
def test_distinct_keys_are_the_first_of_each_in_row_order(rows: list[bytes]) -> None:
    first, inverse = distinct_keys(as_keys(rows))
    twin: dict[bytes, int] = {}
    for i, row in enumerate(rows):
        twin.setdefault(row, i)
    assert first.tolist() == list(twin.values())
    assert inverse.tolist() == [list(twin).index(row) for row in rows]


@given(rows=KEY_LISTS)
def test_distinct_keys_taken_by_inverse_are_the_keys(rows: list[bytes]) -> None:
    keys = as_keys(rows)
    first, inverse = distinct_keys(keys)
    np.testing.assert_array_equal(keys[first][inverse], keys)


@given(rows=KEY_LISTS)
def test_keys_sort_as_bytes_do(rows: list[bytes]) -> None:
    keys = as_keys(rows)
    assert as_rows(keys[sorting_order(keys)]) == sorted(rows)


@given(held=KEY_LISTS, wanted=KEY_LISTS)
def test_a_key_is_found_where_it_stands_or_not_at_all(held: list[bytes], wanted: list[bytes]) -> None:
    ordered = sorted(set(held))
    twin = {row: i for i, row in enumerate(ordered)}
    positions = find_keys(as_keys(ordered), as_keys(wanted))
    assert positions.tolist() == [twin.get(row, -1) for row in wanted]


def test_keys_that_share_their_first_eight_bytes_are_told_apart() -> None:
    tied = [b"\x05" * 8 + bytes([i]) + bytes(23) for i in range(1, 8)]
    ordered = as_keys([bytes(32), *tied, b"\xff" * 32])
    assert find_keys(ordered, as_keys(tied[::-1])).tolist() == [7, 6, 5, 4, 3, 2, 1]
    absent = [b"\x05" * 8 + bytes(24), b"\x05" * 8 + b"\x09" + bytes(23), b"\x05" * 8 + b"\x01" + bytes(22) + b"\x01"]
    assert find_keys(ordered, as_keys(absent)).tolist() == [-1, -1, -1]


def test_a_tie_at_the_very_end_is_searched_to_the_end_and_no_further() -> None:
    tied = [b"\xff" * 8 + bytes([i]) + bytes(23) for i in range(3)]
    assert find_keys(as_keys(tied), as_keys([tied[2], b"\xff" * 32])).tolist() == [2, -1]


@pytest.mark.parametrize(("held", "wanted"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_is_found_among_nothing(held: int, wanted: int) -> None:
    positions = find_keys(text_keys(["a", "b", "c"][:held]), text_keys(["d", "e", "f"][:wanted]))
    assert positions.tolist() == [-1] * wanted
