"""The promise of the cache: what was acknowledged is served as it was, and nothing else is ever served."""

import errno
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenhead.cache import SpaceStore, VectorCache, default_folder, text_keys
from frozenhead.cache.shard import encode_shard, shard_name
from frozenhead.errors import CacheDamaged, StorageError
from frozenhead.files import write_file
from tests.cache.examples import (
    assert_absent,
    assert_held,
    flip_bit,
    make_space,
    reopened,
    shard_path,
    tokens_of,
    vectors_of,
    write_rows,
)

TEXTS = [f"text {i}" for i in range(10)]


def all_paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


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


# Damage


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "first bit": lambda path: flip_bit(path, at=0),
    "last bit": lambda path: flip_bit(path, at=-1),
    "cut short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "another file": lambda path: path.write_bytes(b"<html>not a shard</html>"),
    "a folder": lambda path: path.unlink() or path.mkdir(),  # type: ignore[func-returns-value]
    "a pipe": lambda path: path.unlink() or os.mkfifo(path),  # type: ignore[func-returns-value]
}


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

    def counting(data: bytes) -> str:
        hashed.append(len(data))
        return shard_name(data)

    monkeypatch.setattr("frozenhead.cache.shard.shard_name", counting)
    for verify, times in (("lazy", 1), ("always", 3), ("never", 0)):
        opened = reopened(store, verify=verify)
        hashed.clear()
        for _ in range(3):
            assert_held(opened, TEXTS)
        assert len(hashed) == times, verify


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


def break_open(monkeypatch: pytest.MonkeyPatch, path: Path, code: int) -> None:
    """Opening `path` for reading fails, as root too."""

    def broken(file: Any, *args: Any, **options: Any) -> Any:
        if Path(file) == path:
            raise OSError(code, os.strerror(code), str(file))
        return open(file, *args, **options)

    monkeypatch.setattr("frozenhead.cache.folder.open", broken, raising=False)


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


def test_another_process_that_was_faster_is_no_error(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    [name] = write_rows(store, TEXTS)
    path = shard_path(store, name)
    flip_bit(path, at=-1)
    move = os.replace

    def too_late(source: Path, target: Path) -> None:
        path.unlink()
        move(source, target)

    monkeypatch.setattr("frozenhead.cache.folder.os.replace", too_late)
    assert_absent(store, TEXTS)


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


def test_a_sound_shard_of_other_vectors_is_set_aside(store: SpaceStore) -> None:
    write_rows(store, ["b"])
    keys = text_keys(["a"])
    for vectors in (np.zeros((1, 4), np.float32), np.zeros((1, 3), np.float16)):
        data = encode_shard(store.space.id, keys, vectors, tokens_of(keys))
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
    found = cache.check_all()
    assert [(space, name) for space, shards in found.items() for name, _ in shards] == [(store.space.id, bad)]
    assert not path.exists()
    assert cache.check_all() == {}
    assert store.check_all() == []
    assert_held(store, ["b"])


# Pins


def test_a_pinned_lookup_uses_the_pinned_shards_and_no_other(store: SpaceStore) -> None:
    write_rows(store, ["a", "b"])
    pins = store.pin()
    write_rows(store, ["b", "c"])  # added later by another
    lookup = store.lookup(text_keys(["a", "b", "c"]), shards=pins)
    assert lookup.found.tolist() == [True, True, False]
    assert lookup.shards == pins
    assert_held(store, ["a", "b", "c"])


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
        with pytest.raises(CacheDamaged):
            store.lookup(text_keys(TEXTS), shards=[pin])
    assert precious.read_bytes() == b"not ours"


# The folder


def test_reading_creates_nothing(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "cache")
    store = cache.space(make_space())
    assert_absent(store, TEXTS)
    assert store.pin() == ()
    assert list(store.rows()) == []
    assert cache.spaces() == []
    assert cache.check_all() == {}
    assert cache.prune() == []
    assert all_paths(tmp_path) == []


def test_folders_are_private(store: SpaceStore, cache: VectorCache) -> None:
    before = os.umask(0o022)
    try:
        [name] = write_rows(store, TEXTS)
        flip_bit(shard_path(store, name), at=0)
        assert_absent(store, TEXTS)
    finally:
        os.umask(before)
    folders = [cache.folder, *(path for path in all_paths(cache.folder) if path.is_dir())]
    assert [p.name for p in folders] == ["cache", "v1", store.space.id, "quarantine", "shards"]
    assert {stat.S_IMODE(p.stat().st_mode) for p in folders} == {0o700}


def test_a_folder_that_was_there_keeps_its_mode(store: SpaceStore, cache: VectorCache) -> None:
    cache.folder.mkdir()
    cache.folder.chmod(0o755)
    write_rows(store, TEXTS)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o755


def test_the_space_is_described_beside_its_shards(store: SpaceStore) -> None:
    with store.writer(recorded={"name": "tiny"}):
        pass
    content = json.loads((store.folder / "space.json").read_text("utf-8"))
    assert content == {"id": store.space.id, "space": store.space.to_dict(), "recorded": {"name": "tiny"}}
    with store.writer(recorded={"name": "later"}):  # the first facts stay
        pass
    assert json.loads((store.folder / "space.json").read_text("utf-8")) == content


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", "{}", '{"space": {}}', '{"space": {"files": []}}', "[" * 100_000, "\udcff",
     "NaN", "surrogate", "another space"],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_damaged_description_is_healed_and_harms_no_vector(
    store: SpaceStore, cache: VectorCache, damage: str
) -> None:
    write_rows(store, TEXTS)
    path = store.folder / "space.json"
    whole = path.read_bytes()
    fields = store.space.to_dict()
    damage = {
        "NaN": json.dumps({"space": {**fields, "max_length": float("nan")}}),
        "surrogate": json.dumps({"space": {**fields, "prefix": "\ud800"}}),
        "another space": json.dumps({"space": make_space(pooling="cls").to_dict()}),
    }.get(damage, damage)
    path.write_bytes(damage.encode("utf-8", "surrogateescape"))
    assert_held(reopened(store), TEXTS)
    assert [summary.space for summary in cache.spaces()] == [None]
    with pytest.raises(LookupError, match=r"space\.json"):
        cache.open_space(store.space.id[:8])
    write_rows(store, ["more"])
    assert path.read_bytes() == whole
    assert cache.open_space(store.space.id[:8]).space == store.space


def test_a_space_is_opened_by_the_start_of_its_id(store: SpaceStore, cache: VectorCache) -> None:
    write_rows(store, TEXTS)
    write_rows(cache.space(make_space(pooling="cls")), TEXTS)
    assert_held(VectorCache(cache.folder).open_space(store.space.id[:12]), TEXTS)
    for prefix in ("", "no such"):
        with pytest.raises(LookupError):
            cache.open_space(prefix)


@pytest.mark.parametrize("place", ["cache", "cache/v1", "shards"])
def test_a_file_where_a_folder_belongs_is_a_storage_error(cache: VectorCache, tmp_path: Path, place: str) -> None:
    store = cache.space(make_space())
    path = store.folder / "shards" if place == "shards" else tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file")
    for use in (lambda: store.lookup(text_keys(TEXTS)), lambda: write_rows(store, TEXTS)):
        with pytest.raises(StorageError) as caught:
            use()
        assert str(cache.folder) in str(caught.value)
    assert path.read_text() == "a file"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE])
def test_a_shard_that_may_not_be_read_is_a_storage_error_and_stays(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    [name] = write_rows(store, TEXTS)
    break_open(monkeypatch, shard_path(store, name), code)
    with pytest.raises(StorageError, match=os.strerror(code)) as caught:
        store.lookup(text_keys(TEXTS))
    assert caught.value.exit_code == 6
    assert shard_path(store, name).exists()


@pytest.mark.parametrize("call", ["listdir", "mkdir", "open"])
def test_a_folder_without_permission_is_a_storage_error(
    store: SpaceStore, cache: VectorCache, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    if call != "mkdir":
        write_rows(store, TEXTS)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    target = {"open": "frozenhead.files.open"}.get(call, f"os.{call}")
    monkeypatch.setattr(target, refuse, raising=False)
    use: Callable[[], Any] = (
        (lambda: store.lookup(text_keys(TEXTS))) if call == "listdir" else (lambda: write_rows(store, ["new"]))
    )
    with pytest.raises(StorageError, match=r"No permission: choose another folder"):
        use()


def test_the_folder_is_the_one_named_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FROZENHEAD_CACHE_DIR", str(tmp_path))
    assert default_folder() == VectorCache().folder == tmp_path
    monkeypatch.setenv("FROZENHEAD_CACHE_DIR", "~/vectors")
    assert default_folder() == Path.home() / "vectors"
    monkeypatch.delenv("FROZENHEAD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder().name == "frozenhead"


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
    assert not [path for path in all_paths(folder) if path.name.startswith(".tmp-")]
