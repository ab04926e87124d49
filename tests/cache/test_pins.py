"""A pin is there as long as its run refers to the space; where that cannot be told, nothing goes."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozenhead.cache import SpaceStore, VectorCache
from frozenhead.cache.pins import Pin, read_pins, write_pin
from frozenhead.errors import StorageError
from tests.cache.examples import assert_absent, assert_held, make_space, raiser, write_rows

NAMES = ["a" * 64, "b" * 64]
SHARD_NAMES = st.lists(st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}"), max_size=4, unique=True)


def make_holder(space: Path, path: Path) -> Path:
    """A file of a run that names the space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"space": space.name}))
    return path


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """The folder of a space, where pins are to be."""
    return tmp_path / "cache" / "v1" / make_space().id


@pytest.fixture
def holder(space: Path, tmp_path: Path) -> Path:
    return make_holder(space, tmp_path / "run" / "features" / "minilm.pooler.json")


def test_a_space_without_pins_has_none(space: Path) -> None:
    assert read_pins(space) == []


@given(names=SHARD_NAMES)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_pin_comes_back_as_it_was_written_whatever_was_there(space: Path, holder: Path, names: list[str]) -> None:
    write_pin(space, holder, names)
    [pin] = read_pins(space)
    assert pin == Pin(path=pin.path, holder=holder.resolve(), shards=tuple(sorted(names)), live=True)
    assert all(pin.holds(name) for name in names)
    assert not pin.holds("f" * 63)


@pytest.mark.parametrize("name", ["a run", "Lauf «ä»", "пробег", "実行", "e\u0301", "a\nb", "-", "'\"\\", "🧊"])
def test_the_path_of_a_run_may_hold_any_character(space: Path, tmp_path: Path, name: str) -> None:
    holder = make_holder(space, tmp_path / name / "minilm pooler.json")
    write_pin(space, holder, NAMES)
    [pin] = read_pins(space)
    assert (pin.holder, pin.shards, pin.live) == (holder.resolve(), tuple(NAMES), True)


def test_the_path_of_a_run_may_be_no_text_at_all(space: Path, tmp_path: Path) -> None:
    holder = make_holder(space, tmp_path / os.fsdecode(b"Lauf-\xe4") / "minilm.json")
    write_pin(space, holder, NAMES)
    [pin] = read_pins(space)
    assert (pin.holder, pin.live) == (holder.resolve(), True)


def test_one_run_has_one_pin_however_its_path_is_written(
    space: Path, holder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(holder.parent)
    monkeypatch.chdir(holder.parent)
    for way in (holder, link / holder.name, holder.parent / ".." / "features" / holder.name, Path(holder.name)):
        write_pin(space, way, NAMES)
    assert [pin.holder for pin in read_pins(space)] == [holder.resolve()]


def test_each_run_has_its_own_pin_and_the_last_word_on_it(space: Path, holder: Path, tmp_path: Path) -> None:
    other = make_holder(space, tmp_path / "other" / "features.json")
    write_pin(space, holder, NAMES)
    write_pin(space, other, NAMES[:1])
    write_pin(space, holder, NAMES[1:])
    pins = {pin.holder: pin.shards for pin in read_pins(space)}
    assert pins == {holder.resolve(): (NAMES[1],), other.resolve(): (NAMES[0],)}


def test_an_equal_pin_is_not_written_again(space: Path, holder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pin(space, holder, NAMES)
    monkeypatch.setattr(os, "replace", raiser(PermissionError(13, "Permission denied")))
    write_pin(space, holder, NAMES[::-1])
    with pytest.raises(StorageError, match="No permission"):
        write_pin(space, holder, NAMES[:1])


def gone(holder: Path) -> None:
    holder.unlink()


def folder_gone(holder: Path) -> None:
    holder.unlink()
    holder.parent.rmdir()
    holder.parent.write_text("a file in the place of the folder")


def other_space(holder: Path) -> None:
    make_holder(Path("f" * 64), holder)


@pytest.mark.parametrize("change", [gone, folder_gone, other_space])
def test_a_pin_whose_run_refers_to_the_space_no_more_is_stale(space: Path, holder: Path, change: Any) -> None:
    write_pin(space, holder, NAMES)
    change(holder)
    [pin] = read_pins(space)
    assert not pin.live
    assert not pin.holds(NAMES[0])
    assert pin.holder == holder


def a_folder(holder: Path) -> None:
    holder.unlink()
    holder.mkdir()


def a_link_to_itself(holder: Path) -> None:
    holder.unlink()
    holder.symlink_to(holder.name)


@pytest.mark.parametrize("change", [a_folder, a_link_to_itself])
def test_a_run_whose_file_cannot_be_read_is_believed(space: Path, holder: Path, change: Any) -> None:
    write_pin(space, holder, NAMES)
    change(holder)
    [pin] = read_pins(space)
    assert (pin.live, pin.holder) == (True, holder)
    assert pin.holds(NAMES[0])


def test_a_pin_with_any_flipped_bit_holds_everything(space: Path, holder: Path) -> None:
    write_pin(space, holder, NAMES[:1])
    [path] = (space / "pins").iterdir()
    sound = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for bit in range(8 * len(sound)):
            os.pwrite(file.fileno(), bytes([sound[bit // 8] ^ 1 << bit % 8]), bit // 8)
            [pin] = read_pins(space)
            assert pin == Pin(path=path, holder=None, shards=(), live=True), bit
            os.pwrite(file.fileno(), sound[bit // 8 : bit // 8 + 1], bit // 8)
    assert pin.holds("e" * 64)


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{}", b"[" * 10**5, b"\xff", b'{"holder": 1, "shards": [], "check": ""}', b"9" * 5000],
    ids=range(8),
)
def test_anything_else_in_the_place_of_a_pin_holds_everything(space: Path, content: bytes) -> None:
    (space / "pins").mkdir(parents=True)
    (space / "pins" / f"{'d' * 64}.json").write_bytes(content)
    (space / "pins" / "notes.txt").write_bytes(b"not ours")
    assert [(pin.live, pin.holds(NAMES[0])) for pin in read_pins(space)] == [(True, True)]


def test_a_pin_under_the_name_of_another_holds_everything(space: Path, holder: Path) -> None:
    write_pin(space, holder, NAMES[:1])
    [path] = (space / "pins").iterdir()
    path.rename(path.with_name(f"{hashlib.sha256(b'another').hexdigest()}.json"))
    assert [(pin.holder, pin.live, pin.holds(NAMES[1])) for pin in read_pins(space)] == [(None, True, True)]


def test_a_pin_that_goes_meanwhile_holds_nothing(space: Path, holder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pin(space, holder, NAMES)
    names = os.listdir(space / "pins")
    for path in (space / "pins").iterdir():
        path.unlink()
    monkeypatch.setattr(os, "listdir", lambda _: names)
    assert [(pin.live, pin.holds(NAMES[0])) for pin in read_pins(space)] == [(False, False)]


# What prune makes of them


def test_prune_removes_the_pins_of_runs_that_are_gone_and_no_other(
    cache: VectorCache, store: SpaceStore, holder: Path, tmp_path: Path
) -> None:
    names = write_rows(store, ["a"])
    other = make_holder(store.folder, tmp_path / "other.json")
    store.refer(holder, names)
    store.refer(other, names)
    damaged = store.folder / "pins" / f"{'d' * 64}.json"
    damaged.write_bytes(b"damaged")
    assert cache.spaces()[0].runs == tuple(sorted([holder, other], key=lambda p: hashlib.sha256(bytes(p)).hexdigest()))
    other.unlink()
    assert cache.spaces()[0].runs == (holder,)
    assert cache.spaces()[0].pinned
    assert cache.prune(temporary=False).items == ()
    [item] = cache.prune().items
    assert item.reason == "pin of a run that is gone"
    assert {pin.holder for pin in read_pins(store.folder)} == {holder, None}
    assert damaged.read_bytes() == b"damaged"
    assert_held(store, ["a"])


@pytest.mark.parametrize("why", [{"spaces": [make_space().id]}, {"unused_seconds": 0.0}], ids=["named", "unused"])
@pytest.mark.parametrize("damaged", [False, True], ids=["sound pin", "damaged pin"])
def test_a_space_that_a_run_refers_to_goes_only_when_that_is_asked_for(
    cache: VectorCache, store: SpaceStore, holder: Path, why: dict[str, Any], damaged: bool
) -> None:
    store.refer(holder, write_rows(store, ["a"]))
    if damaged:
        [pin] = read_pins(store.folder)
        pin.path.write_bytes(b"damaged")
    kept = cache.prune(**why)
    assert (kept.items, kept.kept) == ((), (store.space.id,))
    assert_held(store, ["a"])
    dry = cache.prune(**why, pinned=True, dry_run=True)
    assert_held(store, ["a"])
    assert cache.prune(**why, pinned=True) == dry
    assert ([item.path for item in dry.items], dry.kept) == ([store.folder], ())
    assert_absent(store, ["a"])


def test_a_space_whose_runs_are_all_gone_may_go(cache: VectorCache, store: SpaceStore, holder: Path) -> None:
    store.refer(holder, write_rows(store, ["a"]))
    holder.unlink()
    pruned = cache.prune(spaces=[store.space.id])
    assert ([item.path for item in pruned.items], pruned.kept) == ([store.folder], ())


def test_a_space_that_is_kept_is_cleaned_all_the_same(cache: VectorCache, store: SpaceStore, holder: Path) -> None:
    store.refer(holder, write_rows(store, ["a"]))
    quarantined = store.folder / "quarantine" / "bad"
    quarantined.parent.mkdir()
    quarantined.write_bytes(b"bad")
    pruned = cache.prune(spaces=[store.space.id])
    assert ([item.path for item in pruned.items], pruned.kept) == ([quarantined], (store.space.id,))


@pytest.mark.parametrize(("days", "live"), [(0, True), (29, True), (31, False)])
def test_a_run_of_another_host_counts_until_its_pin_is_old(
    space: Path, holder: Path, monkeypatch: pytest.MonkeyPatch, days: int, live: bool
) -> None:
    """Its disk may not be seen from here."""
    monkeypatch.setattr("frozenhead.cache.pins.host_name", lambda: "elsewhere")
    write_pin(space, holder, NAMES)
    monkeypatch.undo()
    assert [pin.live for pin in read_pins(space)] == [True]
    holder.unlink()
    [pin] = read_pins(space)
    then = time.time() - days * 24 * 3600
    os.utime(pin.path, (then, then))
    assert [(pin.live, pin.shards) for pin in read_pins(space)] == [(live, tuple(sorted(NAMES)))]


def test_writing_an_equal_pin_renews_it(space: Path, holder: Path) -> None:
    write_pin(space, holder, NAMES)
    [pin] = read_pins(space)
    os.utime(pin.path, (0, 0))
    write_pin(space, holder, NAMES)
    assert pin.path.stat().st_mtime == pytest.approx(time.time(), abs=60)
