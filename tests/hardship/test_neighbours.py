"""Foreign files and folders in the cache are ignored or handled, and never an error."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from frozenhead.cache import SpaceStore, VectorCache, compact, text_keys
from tests.cache.examples import assert_absent, assert_held, make_space, reopened, shard_path, write_rows

FILES = 2000


@pytest.fixture
def store(scratch: Path) -> SpaceStore:
    """Two shards."""
    store = VectorCache(scratch / "cache").space(make_space())
    write_rows(store, ["a", "b"])
    write_rows(store, ["c"])
    return store


def many(folder: Path) -> None:
    for i in range(FILES):
        (folder / f"foreign {i}.safetensors").touch()


def odd(folder: Path) -> None:
    """Names close to ours."""
    digits = "0123456789abcdef" * 4
    for name in (
        ".DS_Store", "Thumbs.db", "lost+found", digits, f"{digits[:-1]}.safetensors", f"{digits}0.safetensors",
        f"{digits}.safetensors.part", f"{digits}.SAFETENSORS", f"{digits[:-1]}g.safetensors", f" {digits}.safetensors",
        ".nfs000000000000000100000001", f"{digits}.safetensors~", "-", "\n", os.fsdecode(b"\xff"),
    ):  # fmt: skip
        (folder / name).write_bytes(b"foreign")
    (folder / "folder").mkdir()
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")


def other_case(folder: Path) -> None:
    """The same names in capital letters, as a copy from a disk that does not tell them apart may bring."""
    for path in [p for p in folder.iterdir() if p.is_file()]:
        if path.name.upper() != path.name:
            (folder / path.name.upper()).write_bytes(path.read_bytes())


STRANGERS = {f.__name__: f for f in (many, odd, other_case)}
SHARD = "0123456789abcdef" * 4


@pytest.mark.parametrize("place", ["shards", ".", "..", "../..", "pins", "quarantine"])
@pytest.mark.parametrize("strangers", STRANGERS)
def test_foreign_files_harm_nothing_and_stay(
    store: SpaceStore, strangers: str, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = (store.folder / place).resolve()
    folder.mkdir(exist_ok=True)
    STRANGERS[strangers](folder)
    foreign = {p for p in folder.iterdir() if p.name not in ("shards", "space.json", "v1", store.space.id)}
    foreign -= {store.shard(name) for name in store.pin()}
    cache, later = VectorCache(store.folder.parent.parent), reopened(store)
    assert_held(later, ["a", "b", "c"])
    assert len(later.pin()) == 2
    [summary] = cache.spaces()
    assert (summary.id, summary.rows, summary.shards) == (store.space.id, 3, 2)
    checked = cache.check_all()
    assert (checked.shards, checked.bad) == (2, ())
    assert cache.prune(quarantine=False).items == ()
    write_rows(later, ["d"])
    compact(later, repin=lambda holder, new: ())
    assert_held(reopened(store), ["a", "b", "c", "d"])
    assert len(later.pin()) == 1
    assert foreign <= set(folder.iterdir())
    assert caplog.records == []


def upper_case(v1: Path, space: str) -> None:
    (v1 / space.upper()).mkdir()
    shards = v1 / space.upper() / "shards"
    shards.mkdir()
    for path in (v1 / space / "shards").iterdir():
        (shards / path.name).write_bytes(path.read_bytes())


def of_that_length(v1: Path, space: str) -> None:
    (v1 / ("x" * 64) / "shards").mkdir(parents=True)


def link_of_that_length(v1: Path, space: str) -> None:
    (v1 / ("x" * 64)).symlink_to("/")


@pytest.mark.parametrize("stranger", [upper_case, of_that_length, link_of_that_length], ids=lambda f: f.__name__)
def test_a_folder_whose_name_is_no_id_is_no_space(store: SpaceStore, stranger: Callable[[Path, str], None]) -> None:
    stranger(store.folder.parent, store.space.id)
    cache = VectorCache(store.folder.parent.parent)
    assert [s.id for s in cache.spaces()] == [store.space.id]
    assert cache.check_all().bad == ()
    cache.prune(unused_seconds=-1.0)
    assert [p.name for p in store.folder.parent.iterdir()] != []
    assert not store.folder.exists()


def test_a_file_or_an_empty_folder_under_a_space_s_name_is_no_error(store: SpaceStore) -> None:
    (store.folder.parent / SHARD).mkdir()
    (store.folder.parent / SHARD[::-1]).write_bytes(b"")
    cache = VectorCache(store.folder.parent.parent)
    assert [(s.id, s.rows) for s in cache.spaces()] == sorted([(SHARD, 0), (store.space.id, 3)])
    assert cache.check_all().bad == ()
    assert cache.prune().items == ()


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"\xff", b'{"space": {}}', b"[" * 100_000])
def test_a_description_that_cannot_be_read_costs_no_vector_and_is_written_anew(
    store: SpaceStore, content: bytes
) -> None:
    (store.folder / "space.json").write_bytes(content)
    cache = VectorCache(store.folder.parent.parent)
    assert_held(reopened(store), ["a", "b", "c"])
    assert [(s.space, s.rows) for s in cache.spaces()] == [(None, 3)]
    assert cache.check_all().bad == ()
    write_rows(reopened(store), ["d"])
    assert [s.space for s in cache.spaces()] == [store.space]
    assert_held(reopened(store), ["a", "b", "c", "d"])


@pytest.mark.parametrize("full", [False, True])
def test_a_folder_named_like_a_shard_is_set_aside(store: SpaceStore, full: bool) -> None:
    folder = shard_path(store, SHARD)
    folder.mkdir()
    if full:
        (folder / "file").touch()
    later = reopened(store)
    assert not later.lookup(text_keys(["d"])).found.any()
    assert_held(later, ["a", "b", "c"])
    assert len(later.pin()) == 2
    assert (store.folder / "quarantine" / folder.name).is_dir()
    VectorCache(store.folder.parent.parent).prune()
    assert not list((store.folder / "quarantine").iterdir())


@pytest.mark.parametrize(
    "history",
    [
        ["folder"],
        ["folder", "folder"],
        ["folder", "file"],
        ["file", "folder"],
    ],
    ids=" then ".join,
)
def test_what_stands_in_the_place_of_a_shard_is_set_aside_and_the_shard_written_again(
    store: SpaceStore, history: list[str]
) -> None:
    [name] = write_rows(store, ["d"])
    for kind in history:
        shard_path(store, name).unlink()
        if kind == "folder":
            shard_path(store, name).mkdir()
            (shard_path(store, name) / "file").touch()
        else:
            shard_path(store, name).write_bytes(b"foreign")
        assert_absent(reopened(store), ["d"])
        assert write_rows(reopened(store), ["d"]) == [name]
        assert_held(reopened(store), ["a", "b", "c", "d"])
