"""When a space was last used is noted, and prune goes by it."""

import errno
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from tests.cache.examples import assert_absent, assert_held, make_space, reopened, tokens_of, vectors_of, write_rows


def age(store: SpaceStore, days: float) -> float:
    """Let the space have been unused for so long; returns since when."""
    then = time.time() - days * 24 * 3600
    shards = store.folder / "shards"
    for path in (store.folder / "space.json", *shards.glob("*.safetensors"), shards):
        os.utime(path, (then, then))
    return then


def used(cache: VectorCache) -> float:
    [summary] = cache.spaces()
    assert summary.last_used is not None
    return summary.last_used


def test_a_space_is_used_when_it_is_written_to_or_found_in(cache: VectorCache, store: SpaceStore) -> None:
    write_rows(store, ["a"])
    assert used(cache) == pytest.approx(time.time(), abs=60)
    then = age(store, 10)
    assert used(cache) == pytest.approx(then, abs=1)
    assert_absent(reopened(store), ["b"])
    assert used(cache) == pytest.approx(then, abs=1)
    assert_held(reopened(store), ["a"])
    assert used(cache) == pytest.approx(time.time(), abs=60)
    age(store, 10)
    write_rows(store, ["b"])
    assert used(cache) == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOENT])
def test_a_cache_that_may_only_be_read_serves_although_its_use_is_not_noted(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    write_rows(store, ["a"])
    tried = []

    def refuse(path: Path, *_: object, **__: object) -> None:
        tried.append(Path(path))
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "utime", refuse)
    assert_held(reopened(store), ["a"])
    assert tried == [store.folder / "space.json"]


def test_prune_removes_spaces_that_were_not_used_for_so_long_and_no_other(
    cache: VectorCache, store: SpaceStore
) -> None:
    other = cache.space(make_space(pooling="cls"))
    write_rows(store, ["a"])
    write_rows(other, ["a"])
    then = age(store, 10)
    assert cache.prune(unused_seconds=11 * 24 * 3600).items == ()
    assert cache.prune(unused_seconds=None).items == ()
    [item] = cache.prune(unused_seconds=9 * 24 * 3600).items
    assert item.path == store.folder
    assert item.reason == f"not used since {datetime.fromtimestamp(then, UTC):%Y-%m-%d}"
    assert_absent(store, ["a"])
    assert_held(other, ["a"])


def test_a_space_whose_age_cannot_be_told_is_kept(cache: VectorCache, store: SpaceStore) -> None:
    store.folder.mkdir(parents=True)
    assert cache.spaces()[0].last_used is None
    assert cache.prune(unused_seconds=0.0).items == ()
    assert store.folder.exists()


def test_cleaning_a_space_is_no_use_of_it(cache: VectorCache, store: SpaceStore) -> None:
    write_rows(store, ["a"])
    old = store.folder / "shards" / ".tmp-elsewhere-1-0123456789abcdef"
    old.touch()
    os.utime(old, (0, 0))
    then = age(store, 10)
    assert len(cache.prune().items) == 1
    assert used(cache) == pytest.approx(then, abs=1)


def test_a_space_that_is_written_for_days_is_not_unused(cache: VectorCache, store: SpaceStore) -> None:
    with store.writer() as writer:
        keys = text_keys(["a"])
        age(store, 10)
        writer.add(keys, vectors_of(keys), tokens_of(keys))
        writer.flush()
        assert cache.prune(unused_seconds=24 * 3600).items == ()
    assert_held(store, ["a"])


def test_a_space_that_is_read_for_days_is_not_unused(
    cache: VectorCache, store: SpaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(store, ["a"])
    assert_held(store, ["a"])
    age(store, 10)
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert_held(store, ["a"])
    assert cache.prune(unused_seconds=24 * 3600).items == ()
