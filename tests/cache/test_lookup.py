"""A lookup gives what a dictionary would give, whatever lies in which shard and in whatever blocks it is read."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from frozenhead.cache import Lookup, SpaceStore, VectorCache, text_keys
from frozenhead.cache.keys import Keys
from frozenhead.cache.shard import shard_name
from frozenhead.errors import CacheDamaged
from frozenhead.files import make_folder, write_file
from tests.cache.examples import (
    DIM,
    assert_absent,
    assert_held,
    make_space,
    reopened,
    shard_bytes,
    shard_path,
    write_rows,
)

TEXTS = [f"text {i}" for i in range(10)]

NUMBERS = st.integers(0, 40)


def numbered_keys(numbers: list[int]) -> Keys:
    return text_keys(str(number) for number in numbers)


def put_shard(store: SpaceStore, keys: Keys, vectors: NDArray[Any], tokens: NDArray[np.int32]) -> str:
    """Commit a shard with vectors of its own; returns its name."""
    data = shard_bytes(store.space, keys, vectors, tokens)
    make_folder(store.folder / "shards")
    write_file(shard_path(store, shard_name(data)), data)
    return shard_name(data)


def served(lookup: Lookup) -> list[tuple[bool, list[float], int]]:
    assert lookup.vectors is not None
    return list(zip(lookup.found.tolist(), lookup.vectors.tolist(), lookup.tokens.tolist(), strict=True))


@pytest.fixture(params=[False, True], ids=["large blocks", "tiny blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors copied and keys looked up as many at a time as always, or so few that every test crosses blocks."""
    if request.param:
        monkeypatch.setattr("frozenhead.cache.store._COPY_ROWS", 3)
        monkeypatch.setattr("frozenhead.cache.store._LOOKUP_ROWS", 4)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_row_of_a_repeated_key_is_filled(cache: VectorCache, dtype: str) -> None:
    store = cache.space(make_space(dtype=dtype))
    write_rows(store, TEXTS[:6])
    write_rows(store, TEXTS[6:])
    assert_held(store, [*TEXTS, *TEXTS[::-1], *TEXTS[3:5] * 4])


@pytest.mark.usefixtures("blocks")
def test_of_shards_that_hold_one_key_the_first_in_order_of_names_serves(store: SpaceStore) -> None:
    keys = text_keys(TEXTS)
    names = {}
    for value in range(5):  # another vector each, as other hardware might give
        vectors = np.full((10, DIM), value, np.float32)
        names[put_shard(store, keys, vectors, np.full(10, value, np.int32))] = value
    for _ in range(2):
        lookup = store.lookup(keys)
        first = names[min(names)]
        assert lookup.shards == (min(names),)
        assert served(lookup) == [(True, [first] * DIM, first)] * 10
    last = names[max(names)]
    assert served(store.lookup(keys, shards=[max(names)])) == [(True, [last] * DIM, last)] * 10


@given(
    shards=st.lists(st.lists(NUMBERS, unique=True, min_size=1), max_size=6),
    asked=st.lists(NUMBERS, max_size=60),
    copy_rows=st.sampled_from([1, 2, 3, 2048]),
    lookup_rows=st.sampled_from([1, 3, 7, 2**22]),
    pinned=st.sets(st.integers(0, 5)) | st.none(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("quick_disk")
def test_a_lookup_is_that_of_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory,
    shards: list[list[int]],
    asked: list[int],
    copy_rows: int,
    lookup_rows: int,
    pinned: set[int] | None,
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = VectorCache(folder).space(make_space())
    content = {}
    for i, numbers in enumerate(shards):
        vectors = np.array([[number, i, 0] for number in numbers], np.float32)
        tokens = np.array([100 * i + number for number in numbers], np.int32)
        name = put_shard(store, numbered_keys(numbers), vectors, tokens)
        content[name] = {number: (vectors[row].tolist(), int(tokens[row])) for row, number in enumerate(numbers)}
    names = sorted(content)
    if pinned is not None:
        names = [name for i, name in enumerate(names) if i in pinned]
    twin: dict[int, tuple[list[float], int]] = {}
    for name in names[::-1]:
        twin |= content[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frozenhead.cache.store._COPY_ROWS", copy_rows)
        patch.setattr("frozenhead.cache.store._LOOKUP_ROWS", lookup_rows)
        lookup = store.lookup(numbered_keys(asked), shards=None if pinned is None else names[::-1])
    assert lookup.vectors is not None
    for row, number in enumerate(asked):
        assert lookup.found[row] == (number in twin)
        if number in twin:
            assert (lookup.vectors[row].tolist(), lookup.tokens[row]) == twin[number]
        else:
            assert np.isnan(lookup.vectors[row]).all()
            assert lookup.tokens[row] == 0
    first = {number: next(name for name in names if number in content[name]) for number in twin}
    assert lookup.shards == tuple(sorted({first[number] for number in asked if number in twin}))


@pytest.mark.parametrize("order", [[2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2]], ids=str)
def test_keys_that_share_their_first_eight_bytes_get_their_own_vectors(store: SpaceStore, order: list[int]) -> None:
    keys = np.zeros((9, 32), np.uint8)
    keys[3:6, 8] = [1, 2, 3]
    keys[:3, 0], keys[3:6, 0], keys[6:, 0] = 1, 2, 3
    keys[:3, 31], keys[6:, 31] = [1, 2, 3], [1, 2, 3]
    vectors = np.arange(27, dtype=np.float32).reshape(9, DIM)
    put_shard(store, keys, vectors, np.arange(9, dtype=np.int32))
    asked = 3 + np.array(order)
    lookup = store.lookup(keys[asked])
    np.testing.assert_array_equal(lookup.vectors, vectors[asked])
    np.testing.assert_array_equal(lookup.tokens, asked)


def test_the_distinct_keys_of_a_space_are_each_given_once(store: SpaceStore) -> None:
    assert store.keys().shape == (0, 32)
    for texts in (TEXTS[:6], TEXTS[3:], TEXTS[:2]):
        write_rows(store, texts)
    bad = write_rows(store, ["lost"])[0]
    os.truncate(shard_path(store, bad), 100)
    assert sorted(key.tobytes() for key in list(store.keys())) == sorted(key.tobytes() for key in text_keys(TEXTS))


# What `cache compact` of another process does: rows go into a new shard, and then the old ones go.


def compact_before_opening(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch, old: list[str], texts: list[str]
) -> None:
    """The list of shards is seen; before the first of them is opened they have gone into another."""
    sound = os.open
    done: list[int] = []

    def opening(path: Any, *args: Any, **options: Any) -> int:
        if Path(path) in paths and not done:
            done.append(1)
            write_rows(reopened(store), texts)
            for gone in paths:
                gone.unlink()
        return sound(path, *args, **options)

    paths = [shard_path(store, name) for name in old]
    monkeypatch.setattr(os, "open", opening)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("known", [True, False], ids=["touched before", "untouched"])
def test_rows_that_move_into_another_shard_meanwhile_are_found(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    old = [*write_rows(store, TEXTS[:5]), *write_rows(store, TEXTS[5:])]
    if known:
        assert_held(store, TEXTS)
    compact_before_opening(store, monkeypatch, old, TEXTS)
    assert_held(store, TEXTS)
    assert not set(store.pin()) & set(old)


def test_pinned_rows_that_move_into_another_shard_meanwhile_are_an_error(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [*write_rows(store, TEXTS[:5]), *write_rows(store, TEXTS[5:])]
    compact_before_opening(store, monkeypatch, old, TEXTS)
    with pytest.raises(CacheDamaged, match="is gone"):
        store.lookup(text_keys(TEXTS), shards=old)


def test_shards_that_go_for_good_end_the_search(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write_rows(store, TEXTS)
    compact_before_opening(store, monkeypatch, old, ["other"])
    assert_absent(store, TEXTS)
    assert_held(store, ["other"])


@pytest.mark.parametrize("keys", [np.zeros((2, 31), np.uint8), np.zeros((2, 32), np.int64), np.zeros(32, np.uint8)])
def test_what_are_no_keys_is_refused_with_what_they_are(store: SpaceStore, keys: NDArray[Any]) -> None:
    write_rows(store, ["a"])
    with pytest.raises(ValueError, match=r"uint8 \(n, 32\), as text_keys gives them"):
        store.lookup(keys)
