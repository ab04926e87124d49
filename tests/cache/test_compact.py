"""Compaction changes which file a vector stands in, and nothing else."""

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenhead.cache import Compaction, SpaceStore, VectorCache, compact, compaction, text_keys
from frozenhead.cache.pins import read_pins
from frozenhead.errors import FrozenheadError, RunDamaged, StorageError
from tests.cache.examples import (
    DAMAGE,
    assert_absent,
    assert_held,
    make_space,
    raiser,
    reopened,
    shard_path,
    tokens_of,
    write_rows,
)
from tests.cache.merging import (
    TEXTS,
    check_run,
    files_under,
    list_of,
    refer,
    repin,
    rows_in_all,
    vectors,
    write_each,
    write_other,
)

pytestmark = pytest.mark.usefixtures("quick_disk")


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
