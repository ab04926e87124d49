"""Any text has its own vector; any file under the name of a shard is served right, passed over or refused."""

import hashlib
import os
from itertools import chain, permutations
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from frozenhead.cache.keys import sorting_order
from frozenhead.cache.shard import SHARD_FORMAT
from frozenhead.errors import FrozenheadError
from tests.cache.examples import (
    assert_held,
    make_space,
    reopened,
    shard_bytes,
    shard_path,
    tokens_of,
    vectors_of,
    write_rows,
)

SPACE = make_space()
ROWS = [f"row {i}" for i in range(6)]
OTHERS = ["other 1", "other 2"]
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Texts that are close to each other, and any others. A lone surrogate has no UTF-8 form, and no key.
LETTERS = st.characters(exclude_categories=["Cs"])
ANY_TEXTS = st.lists(st.text(LETTERS) | st.text("aá\u0301 \0\n", max_size=3), min_size=1, max_size=8, unique=True)


@given(batches=st.lists(ANY_TEXTS, min_size=1, max_size=3))
@example(batches=[["", "\0", "\0\0", " ", "\n"], ["a" * 10**6, "a" * (10**6 - 1) + "b"]])
@example(batches=[["é", "e\u0301", "\ufeffe", "e", "E", "\U0010ffff", "🧊"], ["\u202ea", "a", "a\u200b"]])
@MANY
@pytest.mark.usefixtures("quick_disk")
def test_any_text_gets_its_own_vector_back(tmp_path: Path, batches: list[list[str]]) -> None:
    """The vectors hold a number of their own for each text: no two are alike, as keys might be."""
    with TemporaryDirectory(dir=tmp_path) as folder:
        store = VectorCache(folder).space(make_space(dim=1))
        numbers = {text: i for i, text in enumerate(dict.fromkeys(chain(*batches)))}
        for batch in batches:
            with store.writer() as writer:
                vectors = np.array([[numbers[text]] for text in batch], np.float32)
                writer.add(text_keys(batch), vectors, np.array([len(text) for text in batch], np.int32))
        lookup = reopened(store).lookup(text_keys(numbers))
    assert lookup.found.all()
    assert lookup.vectors is not None
    assert lookup.vectors[:, 0].tolist() == list(numbers.values())
    assert lookup.tokens.tolist() == [len(text) for text in numbers]


def sound_shard() -> bytes:
    keys = text_keys(ROWS)
    return shard_bytes(SPACE, keys, vectors_of(keys), tokens_of(keys))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sound shard with bits flipped, and pieces taken out, doubled or put in."""
    data = bytearray(sound_shard())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1)) if data else 0
        kind = draw(st.sampled_from(["flip", "cut", "double", "insert", "number"]))
        piece = slice(at, at + draw(st.integers(1, 40)))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[piece]
        elif kind == "double":
            data[at:at] = data[piece]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        else:  # another digit in the header: shapes, offsets and types
            data[at : at + 1] = draw(st.sampled_from([b"0", b"1", b"9", b"-", b"e", b"."]))
    return bytes(data)


ANY_BYTES = st.binary(max_size=300) | mutated()


@pytest.fixture
def others(store: SpaceStore, quick_disk: None) -> SpaceStore:
    """A store with two sound shards."""
    write_rows(store, OTHERS[:1])
    write_rows(store, OTHERS[1:])
    return store


def rows_served(others: SpaceStore, data: bytes, name: str, verify: str) -> int:
    """How many rows are served with this file among the shards, after all that are were found to be right."""
    path = shard_path(others, name)
    path.write_bytes(data)
    later = reopened(others, verify=verify)
    keys = text_keys([*ROWS, *OTHERS] * 4)
    try:
        assert len(later.pin()) == 3
        assert VectorCache(others.folder.parent.parent).spaces()[0].shards == 3
        for _ in range(2):
            lookup = later.lookup(keys)
            assert lookup.vectors is not None
            np.testing.assert_array_equal(lookup.vectors[lookup.found], vectors_of(keys[lookup.found]))
            assert lookup.found.reshape(4, -1)[:, -2:].all()
        return int(lookup.found.sum())
    except FrozenheadError:
        return 0
    finally:
        path.unlink(missing_ok=True)
        rmtree(others.folder / "quarantine", ignore_errors=True)


@given(data=ANY_BYTES, verify=st.sampled_from(["lazy", "always"]))
@example(data=sound_shard()[:-1], verify="lazy")
@example(data=sound_shard().replace(b"shard-1", b"shard-2"), verify="lazy")
@MANY
def test_any_bytes_under_a_name_that_fits_harm_no_other_shard(others: SpaceStore, data: bytes, verify: str) -> None:
    """Whoever makes the name fit may put any vectors in, but the rows are served or not at all, and nobody falls."""
    name = hashlib.sha256(data).hexdigest()
    path = shard_path(others, name)
    path.write_bytes(data)
    try:
        lookup = reopened(others, verify=verify).lookup(text_keys([*ROWS, *OTHERS] * 4))
        assert lookup.found.reshape(4, -1)[:, -2:].all()
    except FrozenheadError as error:
        message = str(error)
        assert len(message.splitlines()) <= 3, message
    finally:
        path.unlink(missing_ok=True)
        rmtree(others.folder / "quarantine", ignore_errors=True)


@given(data=ANY_BYTES.filter(lambda data: data != sound_shard()))
@example(data=sound_shard()[:-1] + bytes([sound_shard()[-1] ^ 1]))
@MANY
def test_altered_bytes_under_the_old_name_serve_nothing(others: SpaceStore, data: bytes) -> None:
    assert rows_served(others, data, hashlib.sha256(sound_shard()).hexdigest(), "lazy") == 8


def unsorted_shard(order: tuple[int, ...]) -> bytes:
    """A shard of right rows in another order than that of their keys."""
    keys = text_keys(ROWS)
    keys = keys[sorting_order(keys)][list(order)]
    return bytes(save({"keys": keys, "tokens": tokens_of(keys), "vectors": vectors_of(keys)}, {SHARD_FORMAT: SPACE.id}))


@pytest.mark.parametrize("verify", ["lazy", "always", "never"])
def test_rows_in_any_order_are_served_right_or_not_at_all(others: SpaceStore, verify: str) -> None:
    for order in permutations(range(5)):
        data = unsorted_shard(order)
        served = rows_served(others, data, hashlib.sha256(data).hexdigest(), verify)
        if order == (0, 1, 2, 3, 4):
            assert served == 28
        elif verify != "never":  # which finds some of them
            assert served == 8


def test_copies_of_a_key_that_are_looked_up_in_disorder_are_served_right_or_not_at_all(others: SpaceStore) -> None:
    data = unsorted_shard((0, 3, 1, 4, 2))
    shard_path(others, hashlib.sha256(data).hexdigest()).write_bytes(data)
    keys = text_keys(ROWS)
    keys = keys[sorting_order(keys)][[0, 0, 0, 3]]
    lookup = reopened(others, verify="never").lookup(keys)
    assert lookup.vectors is not None
    np.testing.assert_array_equal(lookup.vectors[lookup.found], vectors_of(keys[lookup.found]))


@given(data=ANY_BYTES)
@MANY
def test_any_bytes_harm_no_other_shard_although_nothing_is_hashed(others: SpaceStore, data: bytes) -> None:
    """Vectors are then what the bytes say, but those of sound shards are served all the same."""
    name = "0" * 64
    shard_path(others, name).write_bytes(data)
    try:
        lookup = reopened(others, verify="never").lookup(text_keys(OTHERS))
        np.testing.assert_array_equal(lookup.vectors, vectors_of(text_keys(OTHERS)))
    except FrozenheadError:
        pass
    finally:
        shard_path(others, name).unlink(missing_ok=True)
        rmtree(others.folder / "quarantine", ignore_errors=True)


def test_a_folder_full_of_damage_serves_what_is_sound(store: SpaceStore, caplog: pytest.LogCaptureFixture) -> None:
    write_rows(store, ["sound"])
    sound = sound_shard()
    for i in range(0, len(sound), 29):
        bad = sound[:i] + bytes([sound[i] ^ 255]) + sound[i + 1 :]
        shard_path(store, hashlib.sha256(os.urandom(8)).hexdigest()).write_bytes(bad)
    damaged = len(store.pin()) - 1
    assert_held(store, ["sound"])
    assert not store.lookup(text_keys(ROWS)).found.any()
    assert len(caplog.records) == damaged
    assert_held(store, ["sound"])
