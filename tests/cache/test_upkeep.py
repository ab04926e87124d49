"""Upkeep counts what is there, and removes only what nobody needs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozenhead.cache import SpaceStore, VectorCache
from frozenhead.errors import StorageError
from frozenhead.files import temporary_name
from tests.cache.examples import assert_absent, assert_held, flip_bit, make_space, shard_path, write_rows

TWO_DAYS = 2 * 24 * 3600


def leaving(folder: Path, *, pid: int | str, host: str | None = None, age: float = 0.0) -> Path:
    """A temporary file such as the process `pid` would leave behind."""
    ours, random = f"-{os.getpid()}-", temporary_name().rpartition("-")[2]
    name = temporary_name().partition(ours)[0] if host is None else f".tmp-{host}"
    path = folder / f"{name}-{pid}-{random}"
    path.write_bytes(b"half a shard")
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_summary_counts_rows_shards_bytes_and_quarantine(cache: VectorCache, store: SpaceStore) -> None:
    [bad] = write_rows(store, ["a"])
    write_rows(store, ["b", "c"])
    write_rows(store, ["c", "d", "e"])
    flip_bit(shard_path(store, bad), at=-1)
    assert_absent(store, ["a"])
    leaving(store.folder / "shards", pid=os.getpid())
    other = cache.space(make_space(pooling="cls"))
    with other.writer(recorded={"name": "tiny"}):
        pass
    there = {summary.id: summary for summary in cache.spaces()}
    assert set(there) == {store.space.id, other.space.id}
    ours, empty = there[store.space.id], there[other.space.id]
    assert (ours.space, ours.rows, ours.shards, ours.quarantined) == (store.space, 5, 2, 1)
    assert ours.bytes == sum(shard_path(store, name).stat().st_size for name in store.pin())
    assert (empty.rows, empty.shards, empty.bytes, empty.quarantined) == (0, 0, 0, 0)
    assert empty.recorded == {"name": "tiny"}


@pytest.mark.parametrize(
    "header",
    [b"", b"\xff" * 8, b"{}", b'{"keys": 1}', b'{"keys": {"shape": []}}', b'{"keys": {"shape": [Infinity]}}'],
    ids=str,
)
def test_a_summary_survives_any_file_under_the_name_of_a_shard(
    cache: VectorCache, store: SpaceStore, header: bytes
) -> None:
    write_rows(store, ["a"])
    shard_path(store, "e" * 64).write_bytes(len(header).to_bytes(8, "little") + header)
    [summary] = cache.spaces()
    assert (summary.rows, summary.shards) == (1, 2)


def test_a_summary_survives_a_shard_that_goes_meanwhile(
    cache: VectorCache, store: SpaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    [name] = write_rows(store, ["a"])
    gone, entries = shard_path(store, name), Path.iterdir

    def then_gone(folder: Path) -> list[Path]:
        listed = list(entries(folder))
        if folder == gone.parent:
            gone.unlink(missing_ok=True)
        return listed

    monkeypatch.setattr(Path, "iterdir", then_gone)
    [summary] = cache.spaces()
    assert (summary.rows, summary.bytes) == (0, 0)
    assert not gone.exists()


def test_prune_removes_the_leavings_of_dead_processes_only(cache: VectorCache, store: SpaceStore, dead: int) -> None:
    write_rows(store, ["a"])
    shards = store.folder / "shards"
    of_the_dead = [leaving(shards, pid=dead), leaving(store.folder, pid=dead)]
    of_the_old = [
        leaving(shards, pid=os.getpid(), age=TWO_DAYS),  # the number has gone to another process since
        leaving(shards, pid=dead, host="elsewhere", age=TWO_DAYS),
        leaving(shards, pid="no-number", age=TWO_DAYS),
    ]
    kept = [
        leaving(shards, pid=os.getpid()),
        leaving(store.folder, pid=os.getppid()),
        leaving(shards, pid=1),
        leaving(shards, pid=dead, host="elsewhere"),  # of another host we know nothing
        leaving(shards, pid="0"),  # a signal to 0 would go to our own group
        leaving(shards, pid="9" * 30),
        leaving(shards, pid="²"),
        shards / "notes.txt",
    ]
    kept[-1].write_text("not ours")
    items = cache.prune().items
    assert {item.path for item in items} == {*of_the_dead, *of_the_old}
    assert {item.bytes for item in items} == {len(b"half a shard")}
    assert not any(path.exists() for path in (*of_the_dead, *of_the_old))
    assert all(path.exists() for path in kept)
    assert_held(store, ["a"])


def test_prune_keeps_the_file_of_a_writer_at_work(
    cache: VectorCache, store: SpaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = []
    replace = os.replace

    def prune_first(source: Path, target: Path) -> None:
        pruned.append(cache.prune().items)
        replace(source, target)

    monkeypatch.setattr(os, "replace", prune_first)
    write_rows(store, ["a"])
    assert pruned == [(), ()]  # space.json and the shard
    assert_held(store, ["a"])


def test_prune_survives_a_leaving_that_goes_meanwhile(
    cache: VectorCache, store: SpaceStore, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(store, ["a"])
    gone, entries = leaving(store.folder / "shards", pid=dead), Path.iterdir

    def then_gone(folder: Path) -> list[Path]:
        listed = list(entries(folder))
        if folder == gone.parent:
            gone.unlink(missing_ok=True)
        return listed

    monkeypatch.setattr(Path, "iterdir", then_gone)
    cache.prune()
    assert_held(store, ["a"])


def test_prune_empties_the_quarantine(cache: VectorCache, store: SpaceStore) -> None:
    [bad] = write_rows(store, ["a"])
    write_rows(store, ["b"])
    flip_bit(shard_path(store, bad), at=-1)
    assert_absent(store, ["a"])
    [item] = cache.prune().items
    assert (item.path.name, item.reason) == (f"{bad}.safetensors", "failed verification")
    assert cache.spaces()[0].quarantined == 0
    assert cache.prune().items == ()
    assert_held(store, ["b"])


def test_prune_removes_the_spaces_named_and_no_other(cache: VectorCache, store: SpaceStore) -> None:
    other = cache.space(make_space(pooling="cls"))
    write_rows(store, ["a"])
    write_rows(other, ["a"])
    size = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    [item] = cache.prune(spaces=[store.space.id]).items
    assert (item.path, item.bytes) == (store.folder, size)
    assert not store.folder.exists()
    assert_absent(store, ["a"])
    assert_held(other, ["a"])
    write_rows(store, ["a"])
    assert_held(store, ["a"])


def test_a_dry_run_says_what_would_go_and_removes_nothing(cache: VectorCache, store: SpaceStore, dead: int) -> None:
    [bad] = write_rows(store, ["a"])
    flip_bit(shard_path(store, bad), at=-1)
    assert_absent(store, ["a"])
    leaving(store.folder / "shards", pid=dead)
    other = cache.space(make_space(pooling="cls"))
    write_rows(other, ["a"])
    before = sorted(cache.folder.rglob("*"))
    announced = cache.prune(spaces=[other.space.id], dry_run=True)
    assert sorted(cache.folder.rglob("*")) == before
    assert len(announced.items) == 3
    assert cache.prune(spaces=[other.space.id]) == announced
    assert not any(item.path.exists() for item in announced.items)


def test_a_folder_that_may_not_be_changed_is_a_storage_error(
    cache: VectorCache, store: SpaceStore, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(store, ["a"])
    leaving(store.folder, pid=dead)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match="No permission"):
        cache.prune()


@pytest.mark.parametrize("place", ["v1", "shards"])
def test_a_folder_that_may_not_be_listed_is_a_storage_error(
    cache: VectorCache, store: SpaceStore, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    write_rows(store, ["a"])
    entries = Path.iterdir

    def refuse(folder: Path) -> Iterator[Path]:
        if folder.name == place:
            raise PermissionError(13, "Permission denied")
        return entries(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    for use in (cache.spaces, cache.prune):
        with pytest.raises(StorageError, match="No permission"):
            use()


@pytest.mark.parametrize(
    "place",
    [
        "shards/" + "e" * 64 + ".safetensors",
        "space.json",
        "pins/" + "e" * 64 + ".json",
    ],
    ids=["shard", "description", "pin"],
)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(cache: VectorCache, store: SpaceStore, place: str) -> None:
    write_rows(store, ["a"])
    path = store.folder / place
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)

    def waited(*_: object) -> None:
        raise RuntimeError("it waits")

    before = signal.signal(signal.SIGALRM, waited)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        assert cache.spaces()[0].rows == 1
        assert cache.prune().items == ()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
