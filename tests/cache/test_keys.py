"""Keys are sha256, and are compared by all 32 bytes, checked against dictionaries."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frozenhead.cache import distinct_keys, text_keys
from frozenhead.cache.keys import Keys, WantedKeys, are_sorted, sorting_order
from frozenhead.texts import Texts

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


@given(texts=TEXTS, prefix=st.sampled_from(["", "query: ", "ü"]))
def test_texts_in_arrows_memory_have_the_keys_of_their_strings(texts: list[str], prefix: str) -> None:
    held = Texts.of(["before", *texts]).column.slice(1)
    np.testing.assert_array_equal(text_keys(Texts(held), prefix=prefix), text_keys(texts, prefix=prefix))


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


@given(rows=KEY_LISTS)
def test_keys_are_sorted_when_no_key_stands_before_a_smaller_or_equal_one(rows: list[bytes]) -> None:
    assert are_sorted(as_keys(rows)) == (rows == sorted(set(rows)))
    assert are_sorted(as_keys(sorted(set(rows))))


def pairs(held: list[bytes], wanted: list[bytes]) -> list[tuple[int, int]]:
    """What `WantedKeys.match` gives."""
    positions, rows = WantedKeys(as_keys(wanted)).match(as_keys(held))
    return sorted(zip(positions.tolist(), rows.tolist(), strict=True))


TIED = [b"\x05" * 8 + bytes([i]) + bytes(23) for i in range(1, 8)]  # they share their first 8 bytes


@given(held=st.sets(KEYS, max_size=40), wanted=KEY_LISTS)
@example(held={bytes([i]) * 32 for i in range(9)}, wanted=[bytes([3]) * 32] * 2)  # fewer wanted than held
@example(held={bytes([3]) * 32}, wanted=[bytes([3]) * 32, bytes(32)] * 2)  # more wanted than held
def test_all_pairs_of_equal_keys_are_found_and_no_other(held: set[bytes], wanted: list[bytes]) -> None:
    ordered = sorted(held)
    twin = [(i, row) for i, key in enumerate(ordered) for row, other in enumerate(wanted) if key == other]
    assert pairs(ordered, wanted) == twin


@given(held=st.sets(KEYS, max_size=40), wanted=KEY_LISTS)
@example(held={*TIED, bytes(32)}, wanted=TIED[::-1])
def test_positions_never_fall(held: set[bytes], wanted: list[bytes]) -> None:
    positions, _ = WantedKeys(as_keys(wanted)).match(as_keys(sorted(held)))
    assert (np.diff(positions) >= 0).all()


def test_the_same_wanted_keys_are_matched_against_one_shard_after_the_other() -> None:
    wanted = as_keys([bytes([i % 5]) * 32 for i in range(10)])
    asked = WantedKeys(wanted)
    wanted = wanted[:0]  # whatever becomes of the caller's name
    for _ in range(2):
        for held in ([1], [0, 1, 2], list(range(20))):
            positions, rows = asked.match(as_keys([bytes([i]) * 32 for i in held]))
            assert sorted((held[p], r) for p, r in zip(positions, rows, strict=True)) == sorted(
                (r % 5, r) for r in range(10) if r % 5 in held
            )


@pytest.mark.parametrize("more", [0, 20], ids=["few wanted", "many wanted"])
def test_keys_that_share_their_first_eight_bytes_are_told_apart(more: int) -> None:
    ordered = [bytes(32), *TIED, b"\xff" * 32]
    others = [b"\x06" * 31 + bytes([i]) for i in range(more)]
    assert pairs(ordered, [*TIED[::-1], *others]) == [(i + 1, 6 - i) for i in range(7)]
    absent = [b"\x05" * 8 + bytes(24), b"\x05" * 8 + b"\x09" + bytes(23), b"\x05" * 8 + b"\x01" + bytes(22) + b"\x01"]
    assert pairs(ordered, [*absent, *others]) == []


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda keys: np.repeat(keys, 2, axis=1)[:, ::2]])
def test_how_keys_lie_in_memory_does_not_matter(layout: Callable[[Keys], Keys]) -> None:
    keys = text_keys(str(i) for i in range(9))
    ordered = keys[sorting_order(keys)]
    positions, rows = WantedKeys(layout(keys)).match(ordered)
    np.testing.assert_array_equal(ordered[positions], keys[rows])
    assert len(rows) == 9
    assert are_sorted(layout(ordered))
    np.testing.assert_array_equal(sorting_order(layout(keys)), sorting_order(keys))


@pytest.mark.parametrize(("held", "wanted"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_is_found_among_nothing(held: int, wanted: int) -> None:
    ordered = sorted(as_rows(text_keys(["a", "b", "c"][:held])))
    assert pairs(ordered, as_rows(text_keys(["d", "e", "f"][:wanted]))) == []
