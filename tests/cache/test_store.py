"""The promise of the cache: what was acknowledged is served as it was, and nothing else is ever served."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from frozenhead.errors import CacheDamaged
from tests.cache.examples import (
    DAMAGE,
    assert_absent,
    assert_held,
    make_space,
    reopened,
    shard_path,
    tokens_of,
    vectors_of,
    write_rows,
)

TEXTS = [f"text {i}" for i in range(10)]


# Serving what was written


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("verify", ["lazy", "always", "never"])
def test_every_acknowledged_row_is_served_as_it_was(cache: VectorCache, dtype: str, verify: str) -> None:
    store = cache.space(make_space(dtype=dtype))
    for start in range(0, 10, 3):  # several shards
        write_rows(store, TEXTS[start : start + 3])
        assert_held(store, TEXTS[: start + 3])
    other_process = reopened(store, verify=verify)
    for _ in range(2):  # the first touch and a later one
        assert_held(other_process, TEXTS)


def test_rows_come_in_the_order_of_the_keys_asked_for(store: SpaceStore) -> None:
    write_rows(store, TEXTS[:5])
    write_rows(store, TEXTS[5:])
    for order in (TEXTS[::-1], TEXTS[3:] + TEXTS[:3], [TEXTS[7], TEXTS[0], TEXTS[7], TEXTS[7]]):
        assert_held(store, order)


def test_what_is_not_there_is_not_found_and_holds_no_vector(store: SpaceStore) -> None:
    write_rows(store, ["a", "b"])
    lookup = store.lookup(text_keys(["a", "new", "b", "newer"]))
    assert lookup.found.tolist() == [True, False, True, False]
    assert lookup.vectors is not None
    assert np.isnan(lookup.vectors[~lookup.found]).all()
    assert np.isfinite(lookup.vectors[lookup.found]).all()
    assert lookup.tokens[~lookup.found].tolist() == [0, 0]


def test_presence_alone_is_what_the_lookup_with_vectors_says(store: SpaceStore) -> None:
    write_rows(store, TEXTS[:7])
    keys = text_keys(TEXTS)
    alone, full = store.lookup(keys, with_vectors=False), store.lookup(keys)
    assert alone.vectors is None
    assert alone.found.tolist() == full.found.tolist() == [True] * 7 + [False] * 3
    assert alone.tokens.tolist() == full.tokens.tolist()
    assert alone.shards == full.shards


def test_no_key_is_a_lookup_like_any_other(store: SpaceStore) -> None:
    write_rows(store, TEXTS)
    lookup = store.lookup(text_keys([]))
    assert lookup.vectors is not None
    assert (lookup.found.shape, lookup.vectors.shape, lookup.shards) == ((0,), (0, 3), ())


def test_many_rows_of_one_shard_are_copied_whole(store: SpaceStore) -> None:
    many = [str(i) for i in range(9001)]  # more than two blocks of the copy
    write_rows(store, many)
    assert_held(store, many)


@pytest.mark.parametrize(
    "changes",
    [{"pooling": "cls"}, {"max_length": 17}, {"precision": "bf16"}, {"files": (("model", "b" * 64),)}],
    ids=str,
)
def test_no_vector_is_served_to_another_space(store: SpaceStore, cache: VectorCache, changes: dict[str, Any]) -> None:
    write_rows(store, TEXTS)
    assert_absent(cache.space(make_space(**changes)), TEXTS)


def test_a_shard_put_into_the_folder_of_another_space_serves_nobody(store: SpaceStore, cache: VectorCache) -> None:
    [name] = write_rows(store, TEXTS)
    other = cache.space(make_space(pooling="cls"))
    write_rows(other, ["another"])
    os.rename(shard_path(store, name), shard_path(other, name))
    assert_absent(other, TEXTS)
    assert_held(other, ["another"])


def test_rows_shard_by_shard_are_all_rows(store: SpaceStore) -> None:
    write_rows(store, TEXTS[:4])
    write_rows(store, TEXTS[4:])
    seen = []
    for _ in range(2):
        for keys, vectors, tokens in store.rows():
            np.testing.assert_array_equal(vectors, vectors_of(keys))
            np.testing.assert_array_equal(tokens, tokens_of(keys))
            seen += [key.tobytes() for key in keys]
    assert sorted(seen) == sorted([key.tobytes() for key in text_keys(TEXTS)] * 2)


# Pins


def test_a_pinned_lookup_uses_the_pinned_shards_and_no_other(store: SpaceStore) -> None:
    write_rows(store, ["a", "b"])
    pins = store.pin()
    write_rows(store, ["b", "c"])  # added later by another
    lookup = store.lookup(text_keys(["a", "b", "c"]), shards=pins)
    assert lookup.found.tolist() == [True, True, False]
    assert lookup.shards == pins
    assert_held(store, ["a", "b", "c"])


def test_a_shard_that_served_no_row_is_not_pinned(store: SpaceStore) -> None:
    written = {text: write_rows(store, [text])[0] for text in TEXTS}
    asked = TEXTS[3:5]
    assert store.lookup(text_keys(asked)).shards == tuple(sorted(written[text] for text in asked))


def test_the_shards_that_served_are_pins_enough(store: SpaceStore) -> None:
    """Whoever pins what served him is served the same again, from the same shards, while others write."""
    for texts in (TEXTS[:6], TEXTS[3:8], ["other"], TEXTS[7:]):
        write_rows(store, texts)
    served = store.lookup(text_keys(TEXTS))
    for i in range(4):
        write_rows(store, [*TEXTS, f"later {i}"])
    again = reopened(store).lookup(text_keys(TEXTS), shards=served.shards[::-1])
    assert again.found.all()
    assert again.shards == served.shards
    np.testing.assert_array_equal(again.vectors, served.vectors)


@pytest.mark.parametrize("harm", [Path.unlink, DAMAGE["last bit"], DAMAGE["cut short"]], ids=["missing", "bit", "cut"])
@pytest.mark.parametrize("touched", [True, False], ids=["touched before", "untouched"])
def test_a_pinned_shard_that_is_missing_or_damaged_is_an_error(
    store: SpaceStore, harm: Callable[[Path], Any], touched: bool
) -> None:
    [name] = write_rows(store, TEXTS)
    if touched:
        assert_held(store, TEXTS, shards=[name])
    harm(shard_path(store, name))
    with pytest.raises(CacheDamaged, match="frozenhead embed") as caught:
        store.lookup(text_keys(TEXTS), shards=[name])
    assert name[:12] in str(caught.value)
    assert caught.value.exit_code == 5
    write_rows(store, TEXTS)  # what `embed` does then
    assert_held(store, TEXTS, shards=[name])


def test_a_pin_that_leads_elsewhere_moves_nothing(store: SpaceStore, tmp_path: Path) -> None:
    write_rows(store, TEXTS)
    precious = tmp_path / "precious.safetensors"
    precious.write_bytes(b"not ours")
    for pin in (os.path.relpath(tmp_path / "precious", store.folder / "shards"), str(tmp_path / "precious"), "", "*"):
        with pytest.raises(CacheDamaged, match="is no name of a shard"):
            store.lookup(text_keys(TEXTS), shards=[pin])
    assert precious.read_bytes() == b"not ours"


# Many processes

WRITER = """
import sys
from pathlib import Path
from frozenhead.cache import VectorCache
from tests.cache.examples import assert_held, make_space, write_rows
folder, number = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for turn in range(12):
    store = VectorCache(folder).space(make_space())
    texts = [f"text {i}" for i in range(5 * turn + number, 5 * turn + number + 8)]
    write_rows(store, texts)
    assert_held(store, texts)
"""


def test_many_writers_and_a_reader_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    command = [sys.executable, "-W", "error", "-c", WRITER, str(folder)]
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    writers = [subprocess.Popen([*command, str(number)], text=True, **options) for number in range(4)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    store = VectorCache(folder).space(make_space())
    keys, seen = text_keys(f"text {i}" for i in range(66)), np.zeros(66, bool)
    while any(writer.poll() is None for writer in writers):
        lookup = store.lookup(keys)
        assert lookup.vectors is not None
        assert (lookup.found | ~seen).all()  # what was there once is there
        np.testing.assert_array_equal(lookup.vectors[lookup.found], vectors_of(keys[lookup.found]))
        seen = lookup.found
    assert [writer.communicate()[1] for writer in writers] == [""] * 4
    assert [writer.returncode for writer in writers] == [0] * 4
    assert_held(reopened(store), [f"text {i}" for i in range(66)])
    assert not (store.folder / "quarantine").exists()
    assert not [path for path in folder.rglob("*") if path.name.startswith(".tmp-")]
