"""Compaction changes which file a vector stands in, and nothing else, whenever it is stopped and whoever is there."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frozenhead.cache import Compaction, SpaceStore, VectorCache, compact, compaction, text_keys
from frozenhead.cache.pins import read_pins
from frozenhead.errors import FrozenheadError, RunDamaged, StorageError
from frozenhead.files import write_json
from tests.cache.examples import (
    DAMAGE,
    assert_absent,
    assert_held,
    make_space,
    raiser,
    reopened,
    shard_path,
    tokens_of,
    vectors_of,
    write_rows,
)

pytestmark = pytest.mark.usefixtures("quick_disk")

TEXTS = [f"text {i}" for i in range(40)]


def repin(holder: Path, new: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """As the commands do it for a real run."""
    record = json.loads(holder.read_text())
    record["shards"] = sorted({s for name in record["shards"] for s in new.get(name, (name,))})
    write_json(holder, record)
    return tuple(record["shards"])


def refer(store: SpaceStore, name: str, shards: Iterable[str]) -> Path:
    """A run that goes by these shards."""
    holder = store.folder.parent.parent.parent / "runs" / name / "features" / "x.json"
    holder.parent.mkdir(parents=True, exist_ok=True)
    write_json(holder, {"space": store.space.id, "shards": sorted(shards)})
    store.refer(holder, sorted(shards))
    return holder


def list_of(holder: Path) -> list[str]:
    return list(json.loads(holder.read_text())["shards"])


def write_other(store: SpaceStore, texts: Iterable[str], *, off: float) -> str:
    """A shard whose vectors are `off` from those that belong to the texts, as another batch's are in the last bit."""
    keys = text_keys(texts)
    with store.writer() as writer:
        writer.add(keys, vectors_of(keys) + np.float32(off), tokens_of(keys))
    return writer.committed[0]


def write_each(store: SpaceStore, texts: Iterable[str]) -> list[str]:
    """A shard for each text."""
    return [name for text in texts for name in write_rows(store, [text])]


def vectors(store: SpaceStore, texts: Iterable[str], shards: Iterable[str] | None = None) -> NDArray[Any]:
    """What another process reads; every text must be there."""
    lookup = reopened(store).lookup(text_keys(texts), shards=None if shards is None else list(shards))
    assert lookup.found.all()
    assert lookup.vectors is not None
    return lookup.vectors


def files_under(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's bytes and time."""
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def rows_in_all(store: SpaceStore) -> int:
    return sum(len(store.shard_keys(name)) for name in store.pin())


def check_run(store: SpaceStore, holder: Path, texts: Iterable[str]) -> None:
    """The run's list is that of its pin, and gives every text its vector."""
    [pin] = [pin for pin in read_pins(store.folder) if pin.holder == holder]
    assert pin.live
    assert list(pin.shards) == list_of(holder)
    assert_held(reopened(store), texts, shards=list_of(holder))


@pytest.mark.parametrize("seed", range(15))
def test_every_text_keeps_its_vector_in_one_shard_and_once_is_enough(store: SpaceStore, seed: int) -> None:
    random = np.random.default_rng(seed)
    written: dict[str, list[str]] = {}
    for _ in range(random.integers(2, 12)):
        texts = list(random.choice(TEXTS, size=random.integers(1, 15), replace=False))
        written[write_rows(store, texts)[0]] = texts
    runs = {}
    for number in range(random.integers(0, 4)):
        shards = list(random.choice(list(written), size=random.integers(1, len(written) + 1), replace=False))
        runs[refer(store, str(number), shards)] = [text for name in shards for text in written[name]]
    everything = [text for texts in written.values() for text in texts]

    result = compact(store, repin=repin)

    assert (result.before, result.after, result.kept) == (len(written), 1, 0)
    assert set(result.removed) == set(written) - set(store.pin())
    assert rows_in_all(store) == len(set(everything))
    assert_held(reopened(store), everything)
    for holder, texts in runs.items():
        check_run(store, holder, texts)
    before = files_under(store.folder)
    again = compact(reopened(store), repin=repin)
    assert (again.before, again.after, again.removed, again.written) == (1, 1, (), ())
    assert files_under(store.folder) == before


@pytest.mark.parametrize("seed", range(20))
def test_a_run_gets_the_same_bits_whatever_else_the_space_holds_of_its_texts(store: SpaceStore, seed: int) -> None:
    random = np.random.default_rng(seed)
    written: dict[str, list[str]] = {}
    for _ in range(random.integers(3, 10)):
        texts = list(random.choice(TEXTS, size=random.integers(1, 6), replace=False))
        written[write_other(store, texts, off=float(random.integers(0, 3)))] = texts
    runs = {}
    for number in range(random.integers(1, 4)):
        shards = list(random.choice(list(written), size=random.integers(1, 4), replace=False))
        holder = refer(store, str(number), shards)
        texts = [text for name in shards for text in written[name]]
        runs[holder] = (texts, vectors(store, texts, shards))
    everything = sorted({text for texts in written.values() for text in texts})
    could_be = {
        text: [vectors(store, [text], [n]) for n, held in written.items() if text in held] for text in everything
    }

    count = len(written)
    for _ in range(3):
        result = compact(reopened(store), repin=repin)
        assert result.after <= count
        assert result.after < result.before or not result.removed
        count = result.after
        for holder, (texts, expected) in runs.items():
            np.testing.assert_array_equal(vectors(store, texts, list_of(holder)), expected)
        for text in everything:
            assert any(np.array_equal(vectors(store, [text]), one) for one in could_be[text])
    assert not result.removed


def test_unpinned_copies_are_merged_each_text_once_and_the_first_by_name_gives_it(store: SpaceStore) -> None:
    names = [write_other(store, ["a", "b"], off=1), write_other(store, ["b", "c"], off=2), *write_rows(store, ["d"])]
    before = vectors(store, "abcd")
    result = compact(store, repin=repin)
    assert (result.before, result.after, set(result.removed)) == (3, 1, set(names))
    assert rows_in_all(store) == 4
    np.testing.assert_array_equal(vectors(store, "abcd"), before)


def test_a_pinned_shard_stays_if_another_has_other_bits_of_one_of_its_texts(store: SpaceStore) -> None:
    mine, other = write_rows(store, ["a", "b"])[0], write_other(store, ["b", "c"], off=1)
    loose = write_each(store, ["d", "e"])
    pinned = write_rows(store, ["f"])
    holder = refer(store, "run", [mine, *pinned])
    result = compact(store, repin=repin)
    assert {mine, other} <= set(store.pin())
    assert (result.before, result.after, result.kept) == (5, 3, 1)
    assert set(result.removed) == {*loose, *pinned}
    assert mine in list_of(holder)
    check_run(store, holder, ["a", "b", "f"])


def test_a_large_pinned_shard_keeps_its_texts_from_being_taken_from_elsewhere(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = write_rows(store, TEXTS)[0]
    monkeypatch.setattr(compaction, "SMALL_BYTES", shard_path(store, large).stat().st_size)
    small = [write_other(store, TEXTS[:1], off=1), *write_rows(store, ["x"]), *write_rows(store, ["y"])]
    holder = refer(store, "run", [large, *small[1:]])
    compact(store, repin=repin)
    assert {large, small[0]} <= set(store.pin())
    assert len(store.pin()) == 3
    check_run(store, holder, [*TEXTS, "x", "y"])


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "loose"])
def test_a_shard_that_compaction_has_itself_written_is_not_removed(store: SpaceStore, pinned: bool) -> None:
    whole = write_rows(store, TEXTS)[0]
    parts = write_each(store, TEXTS[:3])
    holder = refer(store, "run", [whole, *parts] if pinned else [])
    result = compact(store, repin=repin)
    assert (store.pin(), result.written, set(result.removed)) == ((whole,), (whole,), set(parts))
    check_run(store, holder, TEXTS if pinned else [])
    assert_held(reopened(store), TEXTS)


@pytest.mark.parametrize("texts", [[], ["a"]], ids=["no shard", "one shard"])
def test_where_there_is_nothing_to_merge_nothing_is_touched(store: SpaceStore, texts: list[str]) -> None:
    names = write_each(store, texts)
    refer(store, "run", names)
    before = files_under(store.folder)
    result = compact(store, repin=raiser(AssertionError("no run is to be changed")))
    assert (result.before, result.after, result.kept) == (len(names), len(names), 0)
    assert files_under(store.folder) == before


def test_large_shards_are_untouched(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    large = [write_rows(store, TEXTS[:20])[0], write_rows(store, TEXTS[20:])[0]]
    monkeypatch.setattr(compaction, "SMALL_BYTES", min(shard_path(store, n).stat().st_size for n in large))
    before = files_under(store.folder)
    assert compact(store, repin=repin).removed == ()
    assert files_under(store.folder) == before
    small = write_each(store, ["a", "b", "c"])
    assert set(compact(store, repin=repin).removed) == set(small)
    assert set(large) < set(store.pin())
    assert len(store.pin()) == 3
    assert_held(store, [*TEXTS, "a", "b", "c"])


def test_a_group_that_fills_several_shards_is_split_and_stays_so(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """120 shards of one row: 10 vectors make a new one, which is no small one any more."""
    wide = VectorCache(store.folder.parent.parent).space(make_space(dim=400))
    texts = [f"wide {i}" for i in range(120)]
    for group in [[text] for text in texts] + [texts[i::60] for i in range(30)]:  # some of them stand twice
        keys = text_keys(group)
        with wide.writer() as writer:
            writer.add(keys, keys[:, :1].astype(np.float32).repeat(400, axis=1), tokens_of(keys))
    monkeypatch.setattr(compaction, "FLUSH_BYTES", 10 * 400 * 4)
    monkeypatch.setattr(compaction, "SMALL_BYTES", 5 * 400 * 4)
    holder = refer(wide, "run", wide.pin())
    result = compact(wide, repin=repin)
    assert (result.before, result.after, rows_in_all(wide)) == (150, 12, 120)
    np.testing.assert_array_equal(vectors(wide, texts, list_of(holder))[:, 7], text_keys(texts)[:, 0])
    before = files_under(wide.folder)
    assert compact(wide, repin=repin).removed == ()
    assert files_under(wide.folder) == before


def test_a_dry_run_tells_what_would_go_and_changes_nothing(store: SpaceStore) -> None:
    names = write_each(store, ["a", "b", "c"])
    holder = refer(store, "run", names[:2])
    before, record = files_under(store.folder), holder.read_bytes()
    result = compact(store, repin=repin, dry_run=True)
    assert result == Compaction(
        space=store.space.id, before=3, after=1, removed=tuple(sorted(names)), written=(), kept=0
    )
    assert (files_under(store.folder), holder.read_bytes()) == (before, record)
    assert set(compact(store, repin=repin).removed) == set(result.removed)


def test_a_damaged_pin_protects_every_shard(store: SpaceStore) -> None:
    names = write_each(store, ["a", "b", "c"])
    refer(store, "run", names[:1])
    [pin] = read_pins(store.folder)
    pin.path.write_bytes(pin.path.read_bytes()[:-1])
    before = files_under(store.folder)
    for dry_run in (True, False):
        result = compact(store, repin=repin, dry_run=dry_run, progress=raiser(AssertionError("in vain")))
        assert (result.after, result.removed, result.kept) == (3, (), 3)
    assert files_under(store.folder) == before


@pytest.mark.parametrize(
    "error", [StorageError("full"), RunDamaged("not a run"), PermissionError(13, "no")], ids=lambda e: type(e).__name__
)
def test_a_run_whose_file_cannot_be_changed_keeps_its_shards(store: SpaceStore, error: Exception) -> None:
    names = write_each(store, ["a", "b"])
    holder = refer(store, "run", names)
    record = holder.read_bytes()
    result = compact(store, repin=raiser(error))
    assert (result.after, result.removed, result.kept) == (2, (), 2)
    assert set(store.pin()) == set(names)  # what was written for nobody does not stay either
    assert holder.read_bytes() == record
    assert_held(reopened(store), ["a", "b"], shards=list_of(holder))


def test_one_run_that_cannot_be_changed_does_not_stop_the_others(store: SpaceStore) -> None:
    a, b, c = write_each(store, ["a", "b", "c"])
    stuck, free = refer(store, "stuck", [a]), refer(store, "free", [b, c])

    def choosy(holder: Path, new: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        return repin(holder, new) if holder == free else raiser(RunDamaged("no"))()

    result = compact(store, repin=choosy)
    assert (set(result.removed), result.kept) == ({b, c}, 1)
    assert_held(reopened(store), ["a"], shards=list_of(stuck))
    check_run(store, free, ["b", "c"])


@pytest.mark.parametrize("noted", [0, 2])
def test_the_list_in_the_run_counts_also_where_its_pin_tells_another(store: SpaceStore, noted: int) -> None:
    names = write_each(store, ["a", "b", "c", "d"])
    holder = refer(store, "run", names[:2])
    store.refer(holder, names[2 : 2 + noted])  # a `fit` that read the list before it was changed, and noted it after
    compact(store, repin=repin)
    check_run(store, holder, ["a", "b"])
    assert len(store.pin()) == 1


def test_a_run_that_comes_meanwhile_keeps_the_bits_of_its_shards(store: SpaceStore) -> None:
    mine, other = write_rows(store, ["a"])[0], write_other(store, ["a"], off=1)
    write_rows(store, ["b"])
    holders = []

    def come(done: int, whole: int) -> None:
        holders.append(refer(store, "late", [other if mine < other else mine]))  # the one that does not win

    expected = vectors(store, ["a"], [other if mine < other else mine])
    compact(store, repin=repin, progress=come)
    assert holders
    np.testing.assert_array_equal(vectors(store, ["a"], list_of(holders[0])), expected)


def test_new_shards_come_first_then_the_runs_then_the_old_go(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = write_each(store, ["a", "b", "c"])
    holder = refer(store, "run", names[:2])
    log: list[tuple[str, str]] = []
    replace, unlink = os.replace, os.unlink

    def replaced(source: Any, target: Any, **options: Any) -> None:
        kinds = {holder: "run", **{pin.path: "pin" for pin in read_pins(store.folder)}}
        log.append((kinds.get(Path(target), "new"), Path(target).stem))
        replace(source, target, **options)

    def unlinked(path: Any, **options: Any) -> None:
        log.append(("old", Path(path).stem))
        unlink(path, **options)

    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(os, "unlink", unlinked)
    result = compact(store, repin=repin)
    [new] = result.written
    assert [kind for kind, _ in log] == ["new", "pin", "run", "pin", "old", "old", "old"]
    assert log[0] == ("new", new)
    assert [name for kind, name in log if kind == "old"] == sorted(names)


def test_to_be_compacted_is_no_use_of_a_space(store: SpaceStore) -> None:
    names = write_each(store, ["a", "b", "c"])
    refer(store, "run", names[:2])
    then = 1_000_000_000
    for path in (store.folder / "space.json", store.folder / "shards"):
        os.utime(path, (then, then))
    assert compact(reopened(store), repin=repin).removed
    [summary] = VectorCache(store.folder.parent.parent).spaces()
    assert summary.last_used == then
    write_rows(store, ["d"])
    for path in (store.folder / "space.json", store.folder / "shards"):
        os.utime(path, (then, then))
    compact(reopened(store), repin=repin, progress=lambda *_: print(write_rows(store, ["e"])))
    [summary] = VectorCache(store.folder.parent.parent).spaces()
    assert summary.last_used is not None
    assert summary.last_used > then  # somebody wrote meanwhile


@pytest.mark.parametrize("how", DAMAGE)
def test_a_bad_shard_is_set_aside_and_its_rows_are_not_invented(store: SpaceStore, how: str) -> None:
    bad = write_rows(store, ["a", "b"])[0]
    write_each(store, ["b", "c", "d"])
    DAMAGE[how](shard_path(store, bad))
    fresh = reopened(store)
    compact(fresh, repin=repin)
    assert bad not in fresh.pin()
    assert (fresh.folder / "quarantine" / f"{bad}.safetensors").exists()
    assert len(fresh.pin()) == 1
    assert_held(reopened(store), ["b", "c", "d"])
    assert_absent(reopened(store), ["a"])


def test_a_bad_pinned_shard_is_not_covered_up(store: SpaceStore) -> None:
    """Its rows are elsewhere, with other bits perhaps: the run must hear of it, not be given those."""
    names = write_each(store, ["a", "b", "c"])
    holder = refer(store, "run", names)
    DAMAGE["last bit"](shard_path(store, names[0]))
    compact(reopened(store), repin=repin)
    assert names[0] in list_of(holder)
    with pytest.raises(FrozenheadError, match=f"{names[0][:12]}.*is gone"):
        reopened(store).lookup(text_keys("abc"), shards=list_of(holder))
    assert_held(reopened(store), ["b", "c"])


@pytest.mark.parametrize("when", [1, 2, 3, 4])
@pytest.mark.parametrize("which", range(4))
def test_a_shard_that_vanishes_in_the_middle_takes_nothing_else_with_it(
    store: SpaceStore, when: int, which: int
) -> None:
    rows = {write_rows(store, [f"{i}", f"{i + 1}"])[0]: [f"{i}", f"{i + 1}"] for i in range(4)}
    victim = sorted(rows)[which]

    def vanish(done: int, whole: int) -> None:
        if done == when:
            shard_path(store, victim).unlink()

    compact(store, repin=repin, progress=vanish)
    assert_held(reopened(store), [text for name, texts in rows.items() if name != victim for text in texts])


STOPS: dict[str, Callable[[], BaseException]] = {
    "full disk": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "no permission": lambda: PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    "Ctrl-C": KeyboardInterrupt,
}
WRITING = ("write", "replace", "unlink", "mkdir", "utime")
CALLS = ("open", "fsync", *WRITING)


def make_troubled(folder: Path) -> tuple[SpaceStore, dict[Path, tuple[list[str], NDArray[Any]]]]:
    """A store with loose, pinned, shared and disputed shards; and of each run its texts and vectors."""
    store = VectorCache(folder).space(make_space())
    a, b, c = write_each(store, ["a", "b", "c"])
    shared = write_rows(store, ["c", "d"])[0]
    disputed = write_other(store, ["e"], off=1)
    write_rows(store, ["e", "f"])
    write_each(store, ["g", "h"])
    lists = {"one": ([a, b, disputed], "abe"), "two": ([b, c], "bc"), "three": ([shared], "cd")}
    runs = {}
    for name, (shards, texts) in lists.items():
        runs[refer(store, name, shards)] = (list(texts), vectors(store, texts, shards))
    return store, runs


def check_troubled(store: SpaceStore, runs: Mapping[Path, tuple[list[str], NDArray[Any]]]) -> None:
    """Nothing is lost, and every run gets its bits from its own list."""
    assert_held(reopened(store), "abcdfgh")
    vectors(store, "e")
    for holder, (texts, expected) in runs.items():
        np.testing.assert_array_equal(vectors(store, texts, list_of(holder)), expected)
    assert not (store.folder / "quarantine").exists()


def compact_and_stop(store: SpaceStore, calls: Iterable[str], at: int, stop: Callable[[], BaseException]) -> bool:
    """Compact, the call number `at` failing; returns whether there were so many."""
    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                raise stop()
            return call(*args, **options)

        return counting

    with pytest.MonkeyPatch.context() as patch, suppress(FrozenheadError, OSError, KeyboardInterrupt):
        for name in calls:
            patch.setattr(os, name, counted(getattr(os, name)))
        compact(reopened(store), repin=repin)
    return count >= at


@pytest.mark.parametrize(
    ("how", "calls"),
    [("full disk", WRITING), *(pytest.param(how, CALLS, marks=pytest.mark.slow) for how in STOPS)],
    ids=["writing", *STOPS],
)
def test_whichever_call_fails_nothing_is_lost_and_the_next_compaction_ends_the_work(
    tmp_path: Path, how: str, calls: tuple[str, ...]
) -> None:
    for at in range(1, 1000):
        store, runs = make_troubled(tmp_path / str(at) / "cache")
        stopped = compact_and_stop(store, calls, at, STOPS[how])
        check_troubled(store, runs)
        for holder in runs:  # as the next `fit` does
            store.refer(holder, list_of(holder))
        compact(reopened(store), repin=repin)
        check_troubled(store, runs)
        if not stopped:
            assert at > 15
            assert len(store.pin()) == 3  # the disputed one, what disputes it, and the rest
            return
        assert len(store.pin()) <= 4, at  # and what a stop may have left
    raise AssertionError("compaction never came to its end")


KILLED = """
import os, sys
from pathlib import Path
from tests.cache.test_compact import CALLS, check_troubled, list_of, make_troubled, repin
from tests.cache.examples import reopened
from frozenhead.cache import compact
os.fsync = lambda _: None

def killer(call, at, counter=[0]):
    def counting(*args, **options):
        counter[0] += 1
        if counter[0] == at:
            os._exit(9)
        return call(*args, **options)
    return counting

def after(call, at, counter=[0]):
    def counting(*args, **options):
        result = call(*args, **options)
        counter[0] += 1
        if counter[0] == at:
            os._exit(9)
        return result
    return counting

for wrap in (killer, after):
    for at in range(1, 1000):
        store, runs = make_troubled(Path(sys.argv[1]) / wrap.__name__ / str(at) / "cache")
        child = os.fork()
        if not child:
            for name in CALLS:
                setattr(os, name, wrap(getattr(os, name), at))
            compact(reopened(store), repin=repin)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        check_troubled(store, runs)
        for holder in runs:
            store.refer(holder, list_of(holder))
        compact(reopened(store), repin=repin)
        check_troubled(store, runs)
        assert len(store.pin()) <= 4, at
        if code == 0:
            assert at > 30
            break
        assert code == 9, code
print("done")
"""


def run_script(code: str, *words: object, timeout: float = 120) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_a_kill_at_any_call_loses_nothing(tmp_path: Path) -> None:
    assert run_script(KILLED, tmp_path) == "done\n"


def test_two_compactions_of_one_space_wait_for_each_other(store: SpaceStore) -> None:
    names = write_each(store, ["a", "b"])
    with open(store.folder / "space.json", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        results: list[Compaction] = []
        second = threading.Thread(target=lambda: results.append(compact(reopened(store), repin=repin)))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert set(store.pin()) == set(names)
    second.join(30)
    assert [result.after for result in results] == [1]


def test_a_file_system_that_knows_no_locks_is_no_obstacle(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write_each(store, ["a", "b"])
    monkeypatch.setattr(fcntl, "flock", raiser(OSError(errno.ENOLCK, "No locks available")))
    assert compact(store, repin=repin).after == 1


AT_ONCE = """
import os, sys, time
from pathlib import Path
from tests.cache.test_compact import repin
from tests.cache.examples import make_space
from frozenhead.cache import VectorCache, compact
store = VectorCache(Path(sys.argv[1])).space(make_space())
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
compact(store, repin=repin)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_compactions_at_the_same_moment_lose_nothing(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    store = VectorCache(tmp_path / "cache").space(make_space())
    for _ in range(60):
        write_other(store, random.choice(TEXTS, size=4, replace=False), off=float(random.integers(0, 3)))
    texts = [text for text in TEXTS if store.lookup(text_keys([text])).found.all()]
    some = [str(name) for name in random.choice(store.pin(), size=10, replace=False)]
    theirs = [text for text in TEXTS if store.lookup(text_keys([text]), shards=some).found.all()]
    holder = refer(store, "run", some)
    expected = vectors(store, theirs, some)
    start = str(time.time() + 1.5)
    words = [sys.executable, "-W", "error", "-c", AT_ONCE, str(tmp_path / "cache"), start]
    processes = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    vectors(store, texts)
    np.testing.assert_array_equal(vectors(store, theirs, list_of(holder)), expected)


BUSY = """
import sys, time
from pathlib import Path
from tests.cache.test_compact import repin
from tests.cache.examples import assert_held, make_space, reopened, write_rows
from frozenhead.cache import VectorCache, compact, text_keys
store = VectorCache(Path(sys.argv[1])).space(make_space())
end = time.time() + float(sys.argv[3])
turns = 0
while time.time() < end:
    turns += 1
    if sys.argv[2] == "write":
        write_rows(store, [f"new {turns}", f"new {turns + 1}", f"old {turns % 40}"])
        time.sleep(0.005)
    elif sys.argv[2] == "read":
        assert_held(store if turns % 2 else reopened(store), [f"old {i}" for i in range(40)])
    else:
        compact(reopened(store), repin=repin)
print(turns)
"""


@pytest.mark.slow
def test_readers_and_writers_notice_nothing_of_a_compaction(tmp_path: Path) -> None:
    store = VectorCache(tmp_path / "cache").space(make_space())
    old = [f"old {i}" for i in range(40)]
    holder = refer(store, "run", write_each(store, old))
    roles = ["write", "read", "read", "compact"]
    processes = {}
    for i, role in enumerate(roles):
        words = [sys.executable, "-W", "error", "-c", BUSY, str(tmp_path / "cache"), role, "5"]
        processes[i, role] = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    turns = {}
    for (_, role), process in processes.items():
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), role
        turns[role] = int(out)
    assert min(turns.values()) > 5, turns
    check_run(store, holder, old)
    assert_held(reopened(store), [*old, *(f"new {i}" for i in range(1, turns["write"] + 2))])
    assert not (store.folder / "quarantine").exists()
