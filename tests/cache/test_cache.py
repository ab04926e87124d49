"""The folder of the cache: made when written to, private, described, and honest about what it may not do."""

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozenhead.cache import SpaceStore, VectorCache, default_folder, text_keys
from frozenhead.cache.cache import Checked, Pruned
from frozenhead.errors import StorageError
from tests.cache.examples import (
    assert_absent,
    assert_held,
    break_open,
    flip_bit,
    make_space,
    reopened,
    shard_path,
    write_rows,
)

TEXTS = [f"text {i}" for i in range(10)]


def all_paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_reading_creates_nothing(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "cache")
    store = cache.space(make_space())
    assert_absent(store, TEXTS)
    assert store.pin() == ()
    assert list(store.rows()) == []
    assert cache.spaces() == []
    assert cache.check_all() == Checked(shards=0, bytes=0, bad=())
    assert cache.prune() == Pruned(items=(), kept=())
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

    monkeypatch.setattr(os, call, refuse)
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
