"""Clocks are set back, and disks come from elsewhere: nothing but the age of leavings is told by the time of a file."""

import os
from pathlib import Path

import pytest

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from frozenhead.commands.caches import list_spaces
from frozenhead.files import TEMPORARY_PREFIX, host_name
from tests.cache.examples import assert_held, make_space, reopened, tokens_of, vectors_of, write_rows
from tests.faults.fake import NOBODY

TIMES = {"before 1970": -1e6, "1970": 0.0, "2242": 2.0**33}
OUT_OF_REACH = {"year 36812": 2.0**40, "year -32873": -(2.0**40)}


def set_time(path: Path, seconds: float) -> None:
    """Set the time of a file, where the file system holds it."""
    os.utime(path, (seconds, seconds))
    if path.stat().st_mtime != seconds:
        pytest.skip("this file system does not hold that time")


def set_times(folder: Path, seconds: float) -> None:
    for path in (folder, *folder.rglob("*")):
        set_time(path, seconds)


@pytest.fixture
def store(scratch: Path) -> SpaceStore:
    """Two shards, pinned by a run, on a disk that holds any time."""
    store = VectorCache(scratch / "cache").space(make_space())
    write_rows(store, ["a", "b"])
    write_rows(store, ["c"])
    (scratch / "run.json").write_text(store.space.id)
    store.refer(scratch / "run.json", store.pin())
    return store


@pytest.mark.parametrize("when", TIMES)
@pytest.mark.parametrize("verify", ["lazy", "always", "never"])
def test_files_of_any_time_are_served_and_stay(store: SpaceStore, when: str, verify: str) -> None:
    cache = store.folder.parent.parent
    set_times(cache, TIMES[when])
    later = reopened(store, verify=verify)
    assert_held(later, ["a", "b", "c"])
    set_times(cache, TIMES[when])
    assert not VectorCache(cache).check_all().bad
    assert VectorCache(cache).prune().items == ()
    write_rows(later, ["d"])
    set_times(cache, TIMES[when])
    assert_held(later, ["a", "b", "c", "d"])
    assert [s["rows"] for s in list_spaces(cache)["spaces"]] == [4]


@pytest.mark.parametrize("when", [*TIMES, *OUT_OF_REACH])
def test_spaces_of_any_time_are_listed_and_may_be_pruned(store: SpaceStore, when: str) -> None:
    cache, seconds = store.folder.parent.parent, {**TIMES, **OUT_OF_REACH}[when]
    set_times(cache, seconds)
    assert len(list_spaces(cache)["spaces"]) == 1
    pruned = VectorCache(cache).prune(unused_seconds=1.0, pinned=True)
    assert len(pruned.items) == (seconds < 2**31)
    assert store.folder.exists() == (seconds > 2**31)


def test_a_shard_changed_and_set_back_in_time_is_noticed(store: SpaceStore) -> None:
    """Same size, same time of modification, on a disk whose clock stands still or goes back."""
    assert_held(store, ["a", "b", "c"])
    vector = vectors_of(text_keys(["c"])).tobytes()
    [path] = [path for path in map(store.shard, store.pin()) if vector in path.read_bytes()]
    before, at = path.stat(), path.read_bytes().index(vector)
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes(len(vector)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.lookup(text_keys(["a", "b", "c"])).found.tolist() == [True, True, False]


@pytest.mark.parametrize("when", ["2242", "year 36812"])  # what is a day old is taken for abandoned
def test_prune_during_a_commit_leaves_the_file_that_is_being_written_whatever_its_time(
    store: SpaceStore, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, pruned = os.replace, []

    def prune_first(source: Path, target: Path) -> None:
        set_time(Path(source), {**TIMES, **OUT_OF_REACH}[when])
        pruned.append(VectorCache(store.folder.parent.parent).prune().items)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", prune_first)
        keys = text_keys(["d"])
        with store.writer() as writer:
            writer.add(keys, vectors_of(keys), tokens_of(keys))
    assert pruned == [()]
    assert_held(reopened(store), ["a", "b", "c", "d"])


@pytest.mark.parametrize("when", [*TIMES, *OUT_OF_REACH])
def test_leavings_of_a_dead_process_go_whatever_their_time(store: SpaceStore, when: str) -> None:
    leaving = store.folder / "shards" / f"{TEMPORARY_PREFIX}{host_name()}-{NOBODY}-0"
    leaving.touch()
    set_time(leaving, {**TIMES, **OUT_OF_REACH}[when])
    assert [item.path for item in VectorCache(store.folder.parent.parent).prune().items] == [leaving]
    assert not leaving.exists()
