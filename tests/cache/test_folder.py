"""A damaged shard serves nothing, is set aside with one warning, and is never the end of the cache."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from frozenhead.cache.cache import Checked
from frozenhead.cache.folder import SpaceFolder
from frozenhead.cache.shard import SHARD_FORMAT, BadShard, shard_name
from frozenhead.files import write_file
from tests.cache.examples import (
    DAMAGE,
    assert_absent,
    assert_held,
    break_open,
    flip_bit,
    make_space,
    reopened,
    shard_path,
    tokens_of,
    vectors_of,
    write_rows,
)

TEXTS = [f"text {i}" for i in range(10)]


@pytest.mark.parametrize("verify", ["lazy", "always"])
@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_shard_is_set_aside_with_one_warning_and_written_again(
    store: SpaceStore, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], Any], verify: str
) -> None:
    [name] = write_rows(store, ["a", "b"])
    write_rows(store, ["c"])
    harm(shard_path(store, name))
    later = reopened(store, verify=verify)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_absent(later, ["a", "b"])
            assert_held(later, ["c"])
    assert len(caplog.records) == 1
    assert name[:12] in caplog.text
    assert not shard_path(store, name).exists()
    assert [p.name for p in (store.folder / "quarantine").iterdir()] == [f"{name}.safetensors"]
    assert write_rows(later, ["a", "b"]) == [name]
    assert_held(later, ["a", "b", "c"])


def test_a_file_changed_after_its_first_touch_is_noticed(store: SpaceStore) -> None:
    [name] = write_rows(store, TEXTS)
    path = shard_path(store, name)
    assert_held(store, TEXTS)
    flip_bit(path, at=-1)
    assert_absent(store, TEXTS)


def test_a_file_changed_behind_a_restored_date_is_noticed(store: SpaceStore) -> None:
    [name] = write_rows(store, TEXTS)
    path = shard_path(store, name)
    before = path.stat()
    assert_held(store, TEXTS)
    while path.stat().st_ctime_ns <= before.st_ctime_ns:  # the clock of the file system is coarse
        flip_bit(path, at=-1)
        flip_bit(path, at=-1)
    flip_bit(path, at=-1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert_absent(store, TEXTS)


def test_always_hashes_on_every_touch_and_never_not_at_all(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(store, TEXTS)
    hashed = []

    def counting(data: bytes | memoryview) -> str:
        hashed.append(len(data))
        return shard_name(data)

    monkeypatch.setattr("frozenhead.cache.shard.shard_name", counting)
    for verify, times in (("lazy", 1), ("always", 3), ("never", 0)):
        opened = reopened(store, verify=verify)
        hashed.clear()
        for _ in range(3):
            assert_held(opened, TEXTS)
        assert len(hashed) == times, verify


def test_checking_all_hashes_what_was_hashed_before(
    store: SpaceStore, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    [name] = write_rows(store, TEXTS)
    assert_held(store, TEXTS)
    monkeypatch.setattr("frozenhead.cache.shard.shard_name", lambda _: "0" * 64)  # as if the disk had decayed
    assert_held(store, TEXTS)
    assert [bad.shard for bad in cache.check_all().bad] == [name]


def test_even_without_hashing_a_broken_header_serves_nothing(store: SpaceStore) -> None:
    [name] = write_rows(store, TEXTS)
    flip_bit(shard_path(store, name), at=0)
    assert_absent(reopened(store, verify="never"), TEXTS)


def test_a_way_to_verify_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lazy"):
        VectorCache(tmp_path, verify="sometimes")  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_what_the_disk_cannot_give_back_is_damage_and_not_the_end(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    [name] = write_rows(store, ["a"])
    write_rows(store, ["b"])
    break_open(monkeypatch, shard_path(store, name), code)
    later = reopened(store)
    assert_absent(later, ["a"])
    assert_held(later, ["b"])


def test_damage_that_cannot_be_set_aside_is_passed_over_with_one_warning(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [name] = write_rows(store, ["a"])
    write_rows(store, ["b"])
    flip_bit(shard_path(store, name), at=-1)

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        for _ in range(3):
            assert_absent(store, ["a"])
            assert_held(store, ["b"])
    assert len(caplog.records) == 1
    assert shard_path(store, name).exists()
    write_rows(store, ["a"])  # over the bad one: same rows, same name
    assert_held(store, ["a", "b"])


def test_a_sound_shard_is_not_lost_to_one_who_still_has_the_bad_one_in_mind(
    store: SpaceStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes read a bad shard; one sets it aside and writes it anew before the other moves the name away."""
    [name] = write_rows(store, TEXTS)
    path = shard_path(store, name)
    good = path.read_bytes()
    flip_bit(path, at=-1)
    move = os.replace

    def late(source: Path, target: Path) -> None:
        if "quarantine" in str(target):
            write_file(path, good)
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("frozenhead.cache.folder.os.replace", late)
        store.lookup(text_keys(TEXTS))
    assert_held(store, TEXTS)
    assert not caplog.records


def test_another_process_that_was_faster_is_no_error(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [name] = write_rows(store, TEXTS)
    path = shard_path(store, name)
    flip_bit(path, at=-1)
    move = os.replace

    def too_late(source: Path, target: Path) -> None:
        path.unlink()
        move(source, target)

    monkeypatch.setattr("frozenhead.cache.folder.os.replace", too_late)
    assert_absent(store, TEXTS)
    assert ["set aside by another process" in record.message for record in caplog.records] == [True]


def test_a_shard_that_goes_between_listing_and_reading_is_passed_over(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    [name] = write_rows(store, ["a"])
    write_rows(store, ["b"])
    seen = store.pin()
    shard_path(store, name).unlink()
    for opened in (store, reopened(store)):
        monkeypatch.setattr(opened, "pin", lambda: seen)
        assert_absent(opened, ["a"])
        assert_held(opened, ["b"])
        assert sum(len(keys) for keys, _, _ in opened.rows()) == 1


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [Path.unlink, cut, lambda path: path.write_bytes(b"")], ids=["gone", "cut", "empty"])
def test_what_was_hashed_is_what_is_served(store: SpaceStore, harm: Callable[[Path], Any]) -> None:
    """Whatever happens to the file between its first touch and the copy of its vectors."""
    [name] = write_rows(store, TEXTS)
    with SpaceFolder(store.folder, store.space).open(name, verify="lazy") as shard:
        harm(shard_path(store, name))
        np.testing.assert_array_equal(shard.vectors(0, 10), vectors_of(shard.keys()))
        np.testing.assert_array_equal(shard.tokens(), tokens_of(shard.keys()))


def test_a_known_shard_that_goes_while_it_is_read_is_read_to_its_end(store: SpaceStore) -> None:
    [name] = write_rows(store, TEXTS)
    folder = SpaceFolder(store.folder, store.space)
    assert folder.check(name) is None
    with folder.open(name, verify="lazy") as shard:
        shard_path(store, name).unlink()
        shard_path(store, name).write_bytes(b"another file under the name")
        np.testing.assert_array_equal(shard.vectors(2, 7), vectors_of(shard.keys())[2:7])


def test_a_known_shard_that_is_cut_while_it_is_read_is_bad_and_no_crash(store: SpaceStore) -> None:
    [name] = write_rows(store, TEXTS)
    folder = SpaceFolder(store.folder, store.space)
    folder.open(name, verify="lazy").close()
    with folder.open(name, verify="lazy") as shard:
        cut(shard_path(store, name))
        with pytest.raises(BadShard, match="shorter"):
            shard.keys(), shard.vectors(0, 10)


def test_a_shard_that_a_system_gives_in_small_pieces_is_read_whole(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(store, TEXTS)
    sound = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: sound(descriptor, min(size, 11)))
    for verify in ("lazy", "never"):
        assert_held(reopened(store, verify=verify), TEXTS)


def test_a_sound_shard_of_other_vectors_is_set_aside(store: SpaceStore) -> None:
    write_rows(store, ["b"])
    keys = text_keys(["a"])
    for vectors in (np.zeros((1, 4), np.float32), np.zeros((1, 3), np.float16)):
        data = save({"keys": keys, "tokens": tokens_of(keys), "vectors": vectors}, {SHARD_FORMAT: store.space.id})
        write_file(shard_path(store, shard_name(data)), data)
        assert_absent(store, ["a"])
        assert not shard_path(store, shard_name(data)).exists()


def test_checking_all_finds_the_bad_and_keeps_the_good(store: SpaceStore, cache: VectorCache) -> None:
    [bad] = write_rows(store, ["a"])
    write_rows(store, ["b"])
    assert_held(store, ["a", "b"])  # touched before: checked anew all the same
    path = shard_path(store, bad)
    flip_bit(path, at=-1)
    (store.folder / "space.json").write_text("{}")  # whose damage must not hide that of the shards
    sizes = [shard_path(store, name).stat().st_size for name in store.pin()]
    done: list[tuple[int, int]] = []
    found = cache.check_all(lambda *progress: done.append(progress))
    assert (found.shards, found.bytes) == (2, sum(sizes))
    assert [(one.space, one.shard) for one in found.bad] == [(store.space.id, bad)]
    assert "match its name" in found.bad[0].reason
    assert done == [(sizes[0], sum(sizes)), (sum(sizes), sum(sizes))]
    assert not path.exists()
    assert cache.check_all() == Checked(shards=1, bytes=shard_path(store, store.pin()[0]).stat().st_size, bad=())
    assert_held(store, ["b"])


@pytest.mark.parametrize("described", [True, False], ids=["described", "not described"])
def test_what_is_sound_in_quarantine_is_given_back_and_not_pruned(
    store: SpaceStore, cache: VectorCache, described: bool
) -> None:
    """A process was killed while it looked at a suspect once more."""
    [name] = write_rows(store, TEXTS)
    [bad] = write_rows(store, ["bad"])
    quarantine = store.folder / "quarantine"
    quarantine.mkdir()
    for moved in (name, bad):
        shard_path(store, moved).rename(quarantine / f"{moved}.safetensors")
    flip_bit(quarantine / f"{bad}.safetensors", at=-1)
    if not described:
        (store.folder / "space.json").unlink()
    assert len(cache.prune(dry_run=True).items) == 2
    assert [item.path.stem for item in cache.prune().items] == [bad]
    assert_held(store, TEXTS)
    assert_absent(store, ["bad"])


def test_a_file_of_any_size_is_seen_to_be_too_long_before_it_is_read(store: SpaceStore, cache: VectorCache) -> None:
    """As a damaged file system may have it: more than memory holds."""
    [name] = write_rows(store, TEXTS)
    os.truncate(shard_path(store, name), 2**42)
    assert_absent(reopened(store), TEXTS)
    write_rows(store, TEXTS)
    os.truncate(shard_path(store, name), 2**42)
    (store.folder / "space.json").unlink()
    assert [bad.reason for bad in cache.check_all().bad] == ["its size does not match its header"]


def test_verifying_gives_back_what_is_sound_in_quarantine(store: SpaceStore, cache: VectorCache) -> None:
    [name] = write_rows(store, TEXTS)
    (store.folder / "quarantine").mkdir()
    shard_path(store, name).rename(store.folder / "quarantine" / f"{name}.safetensors")
    assert cache.check_all().shards == 1
    assert_held(store, TEXTS)


@pytest.mark.parametrize("dtype", ["float32", "float16"])  # their arrays stand in another order
@pytest.mark.parametrize("size", [7, 64, 2**20])
def test_presence_is_told_from_shards_hashed_in_pieces(
    cache: VectorCache, dtype: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frozenhead.cache.shard._PIECE_BYTES", size)
    store = cache.space(make_space(dtype=dtype))
    write_rows(store, "abc")
    write_rows(store, "def")
    keys = text_keys("fxab")
    found = reopened(store).lookup(keys, with_vectors=False)
    assert found.found.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(found.tokens, np.where(found.found, tokens_of(keys), 0))


@pytest.mark.usefixtures("quick_disk")
def test_a_bit_that_flipped_anywhere_is_noticed_also_where_no_vector_is_read(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frozenhead.cache.shard._PIECE_BYTES", 50)
    (name,) = write_rows(store, "ab")
    path = shard_path(store, name)
    sound = path.read_bytes()
    for at in range(0, len(sound), 5):
        path.write_bytes(sound)
        flip_bit(path, at=at)
        assert not reopened(store).lookup(text_keys("ab"), with_vectors=False).found.any(), at
    path.write_bytes(sound)
    assert reopened(store).lookup(text_keys("ab"), with_vectors=False).found.all()
