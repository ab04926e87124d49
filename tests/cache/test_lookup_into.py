"""Vectors looked up into a file are those looked up into memory; the file is whole or as it was."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenhead.cache import Lookup, SpaceStore, VectorCache, text_keys
from frozenhead.errors import CacheDamaged, StorageError
from tests.cache.examples import DAMAGE, make_space, raiser, shard_path, write_rows

TEXTS = [f"text {i}" for i in range(10)]


def assert_same(into: Lookup, plain: Lookup, path: Path) -> None:
    """Both lookups say the same, and the file holds the same bits."""
    assert into.vectors is not None
    assert plain.vectors is not None
    loaded = np.load(path, allow_pickle=False)
    for vectors in (into.vectors, loaded):
        assert (vectors.dtype, vectors.shape) == (plain.vectors.dtype, plain.vectors.shape)
        assert vectors.tobytes() == plain.vectors.tobytes()
    np.testing.assert_array_equal(into.found, plain.found)
    np.testing.assert_array_equal(into.tokens, plain.tokens)
    assert into.shards == plain.shards


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("rows", [2**22, 3], ids=["at once", "by parts"])
@pytest.mark.parametrize(
    "asked",
    [TEXTS, TEXTS[::-1], [*TEXTS, "new", TEXTS[2], "newer", TEXTS[2]], ["new"], []],
    ids=["all", "turned", "misses and copies", "none there", "none asked"],
)
def test_vectors_in_a_file_are_those_in_memory_bit_for_bit(
    cache: VectorCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, rows: int, asked: list[str]
) -> None:
    monkeypatch.setattr("frozenhead.cache.store._LOOKUP_ROWS", rows)
    store = cache.space(make_space(dtype=dtype))
    write_rows(store, TEXTS[:6])
    write_rows(store, TEXTS[4:])
    path, keys = tmp_path / "vectors.npy", text_keys(asked)
    for _ in range(2):  # a new file, and one that is there
        assert_same(store.lookup_into(path, keys), store.lookup(keys), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "vectors.npy"]


def test_what_is_not_there_is_nan_in_the_file(store: SpaceStore, tmp_path: Path) -> None:
    write_rows(store, ["a"])
    lookup = store.lookup_into(tmp_path / "vectors.npy", text_keys(["new", "a", "newer"]))
    assert np.isnan(np.load(tmp_path / "vectors.npy")).all(axis=1).tolist() == [True, False, True]
    assert lookup.found.tolist() == [False, True, False]


def test_a_pinned_lookup_into_a_file_uses_the_pinned_shards(store: SpaceStore, tmp_path: Path) -> None:
    [pin] = write_rows(store, TEXTS[:6])
    write_rows(store, TEXTS[5:])
    path, keys = tmp_path / "vectors.npy", text_keys(TEXTS)
    assert_same(store.lookup_into(path, keys, shards=[pin]), store.lookup(keys, shards=[pin]), path)


def test_the_vectors_are_a_map_of_the_file_that_nobody_changes(store: SpaceStore, tmp_path: Path) -> None:
    write_rows(store, TEXTS)
    path = tmp_path / "vectors.npy"
    before = store.lookup_into(path, text_keys(TEXTS)).vectors
    assert isinstance(before, np.memmap)
    assert str(before.filename) == str(path)
    assert not before.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        before[0, 0] = 1
    kept = before.copy()
    store.lookup_into(path, text_keys(["new"]))  # another file under the name
    np.testing.assert_array_equal(before, kept)


COPY = "frozenhead.cache.store._copy_rows"
FAILURES: dict[str, tuple[Callable[[pytest.MonkeyPatch, Path], Any], type[BaseException]]] = {
    "a pinned shard is damaged": (lambda patch, shard: DAMAGE["last bit"](shard), CacheDamaged),
    "a pinned shard is gone": (lambda patch, shard: shard.unlink(), CacheDamaged),
    "no memory": (lambda patch, shard: patch.setattr(COPY, raiser(MemoryError())), MemoryError),
    "Ctrl-C": (lambda patch, shard: patch.setattr(COPY, raiser(KeyboardInterrupt())), KeyboardInterrupt),
    "no rename": (lambda patch, shard: patch.setattr(os, "replace", raiser(OSError(errno.EROFS, "ro"))), StorageError),
}  # fmt: skip


@pytest.mark.parametrize("there", [True, False], ids=["over an old file", "a new file"])
@pytest.mark.parametrize(("harm", "error"), FAILURES.values(), ids=FAILURES)
def test_whatever_goes_wrong_in_the_middle_the_file_is_as_it_was(
    store: SpaceStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[pytest.MonkeyPatch, Path], Any],
    error: type[BaseException],
    there: bool,
) -> None:
    names = [*write_rows(store, TEXTS[:5]), *write_rows(store, TEXTS[5:])]
    path = tmp_path / "folder" / "vectors.npy"
    path.parent.mkdir()
    if there:
        path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        harm(patch, shard_path(store, max(names)))
        with pytest.raises(error):
            store.lookup_into(path, text_keys(TEXTS), shards=names)
    assert [p.read_bytes() for p in path.parent.iterdir()] == [b"old"] * there


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_without_room_is_a_storage_error_before_a_vector_is_copied(
    store: SpaceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    write_rows(store, TEXTS)
    copied: list[object] = []
    monkeypatch.setattr("frozenhead.cache.store._copy_rows", lambda *rows: copied.append(rows))
    monkeypatch.setattr(os, "posix_fallocate", raiser(OSError(code, os.strerror(code))))
    path = tmp_path / "vectors.npy"
    with pytest.raises(StorageError, match=r"full: make room, or choose another folder\.") as caught:
        store.lookup_into(path, text_keys(TEXTS))
    assert caught.value.exit_code == 6
    assert str(path) in str(caught.value)
    assert copied == []
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_the_room_is_taken_before_the_map_is_filled(
    store: SpaceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with holes in it would kill the process with SIGBUS on a full disk."""
    write_rows(store, TEXTS)
    taken, sound = [], os.posix_fallocate

    def taking(descriptor: int, offset: int, size: int) -> None:
        sound(descriptor, offset, size)
        taken.append((offset, size, os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "posix_fallocate", taking)
    path = tmp_path / "vectors.npy"
    store.lookup_into(path, text_keys(TEXTS))
    size = 10 * 3 * 4
    assert taken == [(path.stat().st_size - size, size, path.stat().st_size)]


def test_no_folder_for_the_file_is_a_storage_error(store: SpaceStore, tmp_path: Path) -> None:
    write_rows(store, TEXTS)
    with pytest.raises(StorageError, match="Check that the folder exists"):
        store.lookup_into(tmp_path / "no folder" / "vectors.npy", text_keys(TEXTS))


def test_progress_counts_the_keys_found(store: SpaceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(store, TEXTS[:6])
    write_rows(store, TEXTS[6:])
    for rows, last in ((2**22, 10), (4, 10)):
        monkeypatch.setattr("frozenhead.cache.store._LOOKUP_ROWS", rows)
        told: list[tuple[int, int]] = []
        store.lookup_into(tmp_path / "x.npy", text_keys(TEXTS), progress=lambda *counts: told.append(counts))  # noqa: B023
        assert told[-1] == (last, 10)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
