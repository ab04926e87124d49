"""Any folder may hold the cache, whatever its name, wherever it lies and however it is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from frozenhead.cache import SpaceStore, VectorCache, compact, text_keys
from tests.cache.examples import assert_held, make_space, reopened, tokens_of, vectors_of, write_rows
from tests.hardship.jobs import command
from tests.hardship.nursery import Nursery

LATIN_1 = os.fsdecode(b"caf\xe9")  # no UTF-8: a name from an old disk

NAMES = {
    "spaces": " two  spaces ",
    "a new line": "new\nline",
    "quotes": "it's \"so\"",
    "a pattern": "*[a-z]?{1}",
    "a dash": "--help",
    "an emoji": "\N{ICE CUBE} cold",
    "a combining mark": "cafe\N{COMBINING ACUTE ACCENT}",
    "its composed twin": "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "right to left": "\N{RIGHT-TO-LEFT OVERRIDE}ehcac",
    "bytes that are no UTF-8": LATIN_1,
    "255 bytes": "x" * 255,
    "a tilde inside": "a~b",
    "markup": "[red]bold[/red]",
}  # fmt: skip


def make_folder(path: Path) -> Path:
    """A new folder, where the file system takes its name."""
    try:
        path.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"this file system does not take the name: {error.strerror}")
    return path


def assert_serves(cache: VectorCache) -> SpaceStore:
    """Write, read anew, verify, list."""
    store = cache.space(make_space())
    write_rows(store, ["a", "b"])
    write_rows(store, ["c"])
    assert_held(VectorCache(cache.folder).space(make_space()), ["a", "b", "c"])
    assert cache.check_all().bad == ()
    assert [(s.id, s.rows) for s in cache.spaces()] == [(store.space.id, 3)]
    return store


@pytest.mark.parametrize("name", NAMES)
def test_a_cache_of_any_name_serves(tmp_path: Path, name: str) -> None:
    store = assert_serves(VectorCache(make_folder(tmp_path / NAMES[name])))
    assert compact(store, repin=lambda holder, new: ()).after == 1
    assert_held(reopened(store), ["a", "b", "c"])


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_any_name_pins_its_shards(tmp_path: Path, name: str) -> None:
    holder = make_folder(tmp_path / NAMES[name] / "features") / "text.json"
    cache = VectorCache(tmp_path / "cache")
    store = assert_serves(cache)
    holder.write_text(store.space.id)
    store.refer(holder, store.pin())
    [summary] = cache.spaces()
    assert summary.runs == (holder,)
    assert cache.prune(spaces=[store.space.id]).kept == (store.space.id,)
    assert_held(store, ["a", "b", "c"], shards=store.pin())
    holder.unlink()
    assert [item.reason for item in cache.prune().items] == ["pin of a run that is gone"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a new line", marks=pytest.mark.slow),
        pytest.param("markup", marks=pytest.mark.slow),
        pytest.param("spaces", marks=pytest.mark.slow),
        pytest.param("an emoji", marks=pytest.mark.slow),
        pytest.param("255 bytes", marks=pytest.mark.slow),
        "bytes that are no UTF-8",
    ],
)
def test_commands_take_folders_of_any_name(nursery: Nursery, tmp_path: Path, name: str) -> None:
    home = make_folder(tmp_path / NAMES[name])
    table, run, cache = home / "table.csv", home / "run", home / "cache"
    table.write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(40)))
    for words in (
        ("embed", table, "--out", run, "--cache-dir", cache),
        ("fit", run, "--head", "majority"),
        ("report", run),
        ("cache", "compact", "--cache-dir", cache),
        ("cache", "prune", "--cache-dir", cache),
        ("cache", "ls", "--cache-dir", cache, "--json"),
    ):
        done = nursery.run(command, words=[str(word) for word in words], shard_rows=8)
        assert done.code == 0, (words, done.err)
        assert "Traceback" not in done.err
    [space] = json.loads(done.out)["spaces"]
    assert (space["rows"], space["shards"], space["runs"]) == (40, 1, [str(run)])


def test_a_cache_that_is_a_link_to_another_folder_serves(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    store = assert_serves(VectorCache(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert_held(VectorCache(tmp_path / "elsewhere").space(make_space()), ["a", "b", "c"])
    compact(store, repin=lambda holder, new: ())
    assert [p.name for p in (tmp_path / "elsewhere").iterdir()] == ["v1"]


def test_a_path_through_a_link_and_back_is_what_the_system_takes_it_for(tmp_path: Path) -> None:
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    assert_serves(VectorCache(tmp_path / "link" / ".." / "cache"))
    assert [p.name for p in (tmp_path / "far" / "cache").iterdir()] == ["v1"]
    assert not (tmp_path / "cache").exists()


def test_a_cache_on_another_disk_serves(tmp_path: Path, scratch: Path) -> None:
    """A rename does not cross disks, so that no file may come into being in a folder for temporary ones."""
    if scratch.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    (tmp_path / "link").symlink_to(scratch)
    store = assert_serves(VectorCache(tmp_path / "link"))
    (tmp_path / "run.json").write_text(store.space.id)
    store.refer(tmp_path / "run.json", store.pin())
    found = store.lookup_into(tmp_path / "vectors.npy", text_keys(["a", "c"]))
    assert found.found.all()
    VectorCache(tmp_path / "link").prune()
    assert_held(store, ["a", "b", "c"])


def test_a_path_longer_than_the_system_takes_is_refused_and_not_a_crash(tmp_path: Path) -> None:
    from frozenhead.errors import StorageError

    deep = tmp_path.joinpath(*["x" * 250] * 20)
    with pytest.raises(StorageError, match="too long"):
        VectorCache(deep).space(make_space()).writer()


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert VectorCache("~/cache").folder == tmp_path / "cache"
    monkeypatch.setenv("FROZENHEAD_CACHE_DIR", "~/named")
    assert_serves(VectorCache())
    assert (tmp_path / "named" / "v1").is_dir()


def test_the_home_of_nobody_is_refused_as_a_folder(tmp_path: Path) -> None:
    from frozenhead.errors import FrozenheadError

    with pytest.raises(FrozenheadError, match="nobody-of-this-name"):
        VectorCache("~nobody-of-this-name/cache")


def write_more(cache: VectorCache, away: Callable[[], None]) -> None:
    """Half the rows before the process goes elsewhere, half after."""
    with cache.space(make_space()).writer() as writer:
        for i in range(6):
            keys = text_keys([f"text {i}"])
            writer.add(keys, vectors_of(keys), tokens_of(keys))
            if i == 2:
                writer.flush()
                away()


def test_a_process_that_changes_its_folder_stays_with_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, away = make_folder(tmp_path / "home"), make_folder(tmp_path / "away")
    monkeypatch.chdir(home)
    cache = VectorCache("cache")
    write_more(cache, lambda: os.chdir(away))
    assert_held(cache.space(make_space()), [f"text {i}" for i in range(6)])
    assert_held(VectorCache(home / "cache").space(make_space()), [f"text {i}" for i in range(6)])
    assert list(away.iterdir()) == []
