"""`frozenhead cache ...` as its users meet it: what is printed where, what is asked, and with which code it ends."""

import json
import os
import pty
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from frozenhead.cache import SpaceStore, VectorCache
from tests.cache.examples import DAMAGE, make_space, shard_path, write_rows
from tests.commands.test_caches import files_under
from tests.test_cli import EXECUTABLE, Command, Done, commands


@pytest.fixture
def cache(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`frozenhead cache WORDS` in this process, where nobody can be asked."""
    with commands(capfd, monkeypatch) as run:
        yield partial(run, "cache")


@pytest.fixture
def store() -> SpaceStore:
    """Three small shards."""
    store = VectorCache().space(make_space())
    store.writer(recorded={"name": "small"})
    for text in ("a", "b", "c"):
        write_rows(store, [text])
    return store


def refer(store: SpaceStore, run: Path) -> Path:
    """The folder of a run that refers to the space."""
    holder = run / "features" / "small.pooler.json"
    holder.parent.mkdir(parents=True)
    holder.write_text(json.dumps({"space": store.space.id, "shards": list(store.pin())}))
    store.refer(holder, store.pin())
    return run


def put_leaving(store: SpaceStore) -> Path:
    """A file that a stopped process has left."""
    path = store.folder / ".tmp-host-1-a"
    path.write_bytes(b"half")
    os.utime(path, (0, 0))
    return path


def everything() -> dict[str, tuple[bytes, int]]:
    return files_under(VectorCache().folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, whenever it was last used."""
    return {name: data for name, (data, _) in files_under(folder).items()}


def test_ls_shows_a_line_for_each_space_and_the_sum(cache: Command, store: SpaceStore, tmp_path: Path) -> None:
    refer(store, tmp_path / "run")
    head, line, total = cache("ls").stdout.splitlines()
    assert re.split(r"  +", head) == [
        "space", "encoder", "pooling", "length", "precision", "rows", "shards", "size", "last use", "runs"
    ]  # fmt: skip
    cells = re.split(r"  +", line)
    assert cells[:7] == [store.space.id[:12], "small", "pooler", "16", "fp32", "3", "3"]
    assert cells[-1] == "1"
    assert total == f"1 space, {cells[7]} in {VectorCache().folder}"


def test_ls_tells_spaces_apart_that_differ_in_nothing_but_how_states_are_pooled(cache: Command) -> None:
    others: list[dict[str, Any]] = [{}, {"layer": -2}, {"prefix": "query: "}, {"normalize": True}, {"long": "windows"}]
    others.append({"layer": -2, "prefix": '"'})
    for changes in others:
        VectorCache().space(make_space(pooling="mean", **changes)).writer(recorded={"name": "small"})
    _, *lines, _ = cache("ls").stdout.splitlines()
    assert {tuple(re.split(r"  +", line)[2:4]) for line in lines} == {
        ("mean", "16"), ("mean, layer -2", "16"), ('mean, prefix "query: "', "16"), ("mean, normalised", "16"),
        ("mean", "windows of 16"), (r'mean, layer -2, prefix "\""', "16"),
    }  # fmt: skip


def test_ls_of_no_cache_says_so(cache: Command, tmp_path: Path) -> None:
    done = cache("ls", "--cache-dir", tmp_path / "none")
    assert (done.returncode, done.stdout) == (0, f"0 spaces, 0 B in {tmp_path / 'none'}\n")
    assert not (tmp_path / "none").exists()


def test_ls_shows_what_it_cannot_know_as_a_question_mark(cache: Command, store: SpaceStore, tmp_path: Path) -> None:
    refer(store, tmp_path / "run")
    next((store.folder / "pins").iterdir()).write_bytes(b"{")
    (store.folder / "space.json").write_bytes(b"{")
    (store.folder / "quarantine").mkdir()
    (store.folder / "quarantine" / "x").write_bytes(b"bad")
    done = cache("ls")
    _, line, total = done.stdout.splitlines()
    assert re.split(r"  +", line)[1:5] == ["?", "?", "?", "?"]
    assert line.endswith("?")
    assert total.endswith("1 file in quarantine")
    assert (done.returncode, done.stderr) == (0, "")


def test_path_is_where_the_cache_is(cache: Command, tmp_path: Path) -> None:
    assert cache("path").stdout == f"{os.environ['FROZENHEAD_CACHE_DIR']}\n"
    assert cache("path", "--cache-dir", tmp_path / "x").stdout == f"{tmp_path / 'x'}\n"
    assert not (tmp_path / "x").exists()


def test_verify_of_a_sound_cache_tells_how_much_and_how_fast(cache: Command, store: SpaceStore) -> None:
    done = cache("verify")
    assert (done.returncode, done.stderr) == (0, "")
    begin, end = f"3 shards in {VectorCache().folder}: 3 sound, 0 bad; ", done.stdout.partition("; ")[2]
    assert done.stdout.startswith(begin)
    assert re.fullmatch(r"[0-9.]+ KiB hashed in [0-9.]+ s \([0-9.]+ ([KMG]i)?B/s\)\n", end)


@pytest.mark.parametrize("how", ["last bit", "cut short", "empty", "another file"])
def test_verify_names_what_it_has_set_aside_and_says_what_to_do(cache: Command, store: SpaceStore, how: str) -> None:
    bad = store.pin()[1]
    DAMAGE[how](shard_path(store, bad))
    done = cache("verify", "--json")
    assert done.returncode == 5
    result = json.loads(done.stdout)
    assert [(b["space"], b["shard"]) for b in result["bad"]] == [(store.space.id, bad)]
    assert result["seconds"] > 0
    assert "set aside in quarantine" in done.stderr
    assert "frozenhead embed" in done.stderr
    assert cache("verify").returncode == 0
    DAMAGE[how](shard_path(store, store.pin()[0]))
    text = cache("verify")
    assert (text.returncode, text.stdout.count("bad: ")) == (5, 1)
    assert "1 sound, 1 bad" in text.stdout
    assert "/s)" in text.stdout


JSON_WORDS = {
    "ls": ["ls"],
    "verify": ["verify"],
    "prune": ["prune", "--yes"],
    "prune --dry-run": ["prune", "--dry-run"],
    "compact": ["compact"],
    "compact --dry-run": ["compact", "--dry-run"],
    "path": ["path"],
    "export parquet": ["export", "SPACE", "-o", "OUT.parquet"],
    "export npy": ["export", "SPACE", "-o", "OUT.npy"],
}


@pytest.mark.parametrize("name", JSON_WORDS)
def test_json_is_one_object_on_stdout_and_nothing_else(
    cache: Command, store: SpaceStore, tmp_path: Path, name: str
) -> None:
    put_leaving(store)
    words = [w.replace("SPACE", store.space.id).replace("OUT", f"{tmp_path}/out") for w in JSON_WORDS[name]]
    done = cache(*words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert isinstance(json.loads(done.stdout), dict)
    assert done.stdout.count("\n") == 1
    plain = cache(*words, "--quiet")
    assert (plain.returncode, plain.stderr) == (0, "")
    assert plain.stdout


def test_compact_tells_what_became_of_each_space(cache: Command, store: SpaceStore) -> None:
    name, before = store.space.id[:12], everything()
    assert cache("compact", "--dry-run").stdout == f"{name}: 3 shards would become 1\n"
    assert everything() == before
    assert cache("compact", "--space", name).stdout == f"{name}: 3 shards became 1\n"
    assert cache("compact").stdout == f"{name}: 1 shard, nothing to merge\n"
    write_rows(store, ["d"])
    (store.folder / "space.json").write_bytes(b"{")
    assert cache("compact").stdout == f"{name}: skipped, its space.json cannot be read\n"
    assert cache("compact", "--space", name).returncode == 5
    assert cache("prune", "--space", name, "--yes").returncode == 0
    assert cache("compact").stdout == f"no spaces in {VectorCache().folder}\n"


def test_compact_tells_of_shards_that_have_to_stay(cache: Command, store: SpaceStore, tmp_path: Path) -> None:
    refer(store, tmp_path / "no run at all")
    done = cache("compact")
    kept = "3 shards, nothing to merge; 3 small ones in use by runs cannot be merged"
    assert done.stdout == f"{store.space.id[:12]}: {kept}\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_export_tells_what_it_wrote_where(cache: Command, store: SpaceStore, tmp_path: Path) -> None:
    parquet = cache("export", store.space.id[:6], "-o", tmp_path / "x.parquet")
    assert parquet.stdout == f"wrote 3 vectors of 3 numbers to {tmp_path / 'x.parquet'}\n"
    npy = cache("export", store.space.id[:6], "-o", tmp_path / "x.npy", "--to", "npy")
    assert (
        npy.stdout == f"wrote 3 vectors of 3 numbers to {tmp_path / 'x.npy'}, and their keys to {tmp_path}/x.keys.npy\n"
    )
    assert {p.name for p in tmp_path.iterdir()} == {"x.parquet", "x.npy", "x.keys.npy"}


def test_prune_shows_what_would_go_and_takes_nothing_in_a_dry_run(
    cache: Command, store: SpaceStore, tmp_path: Path
) -> None:
    leaving, before = put_leaving(store), None
    before = everything()
    done = cache("prune", "--dry-run", "--space", store.space.id)
    size = re.escape(f"v1/{store.space.id} (named, ") + "[0-9.]+ KiB"
    assert re.fullmatch(rf"{size}\)\n1 item, [0-9.]+ KiB would go from {VectorCache().folder}\n", done.stdout)
    assert everything() == before
    done = cache("prune", "--yes")
    relative = leaving.relative_to(VectorCache().folder)
    assert done.stdout == f"{relative} (unfinished file of a stopped process, 4 B)\nremoved 1 item, 4 B\n"
    assert not leaving.exists()
    assert len(everything()) == len(before) - 1


def test_prune_without_a_terminal_wants_a_yes(cache: Command, store: SpaceStore) -> None:
    put_leaving(store)
    before = everything()
    done = cache("prune")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert "--dry-run" in done.stderr
    assert everything() == before


def test_prune_does_not_ask_where_there_is_nothing_to_remove(cache: Command, store: SpaceStore) -> None:
    done = cache("prune")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"nothing to remove in {VectorCache().folder}\n", "")


def test_prune_names_the_runs_that_use_a_space_and_takes_it_when_told_so(
    cache: Command, store: SpaceStore, tmp_path: Path
) -> None:
    run = refer(store, tmp_path / "run")
    refused = cache("prune", "--space", store.space.id[:12], "--yes")
    assert refused.returncode == 2
    assert all(part in refused.stderr for part in (str(run), "--pinned", "frozenhead embed"))
    old = cache("prune", "--unused", "0", "--yes")
    assert old.returncode == 0
    assert old.stdout.splitlines()[0] == f"kept: {store.space.id[:12]}, used by {run} (--pinned removes it)"
    assert store.folder.exists()
    assert cache("prune", "--space", store.space.id[:12], "--pinned", "--yes").returncode == 0
    assert not store.folder.exists()


def at_terminal(words: list[str], answer: bytes) -> Done:
    """A command whose input is a terminal, at which `answer` is typed."""
    user, terminal = pty.openpty()
    command = [*EXECUTABLE, "cache", *words]
    with subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(terminal)
        os.write(user, answer)
        out, err = process.communicate(timeout=60)
    os.close(user)
    return Done(process.returncode, out, err)


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"\x04"], ids=["no", "enter", "ctrl-d"])
def test_prune_asks_at_a_terminal_and_no_means_no(store: SpaceStore, answer: bytes) -> None:
    put_leaving(store)
    before = everything()
    done = at_terminal(["prune", "--json"], answer)
    assert done.returncode == 0
    assert f"Remove 1 item, 4 B, from {VectorCache().folder}? [y/N]" in done.stderr
    assert done.stderr.endswith("nothing was removed\n")
    assert json.loads(done.stdout)["dry_run"] is True
    assert everything() == before


def test_prune_asks_at_a_terminal_and_yes_means_yes(store: SpaceStore) -> None:
    leaving = put_leaving(store)
    done = at_terminal(["prune"], b"y\n")
    assert done.returncode == 0
    assert done.stdout.endswith("removed 1 item, 4 B\n")
    assert not leaving.exists()


def test_ls_fits_into_a_narrow_terminal(store: SpaceStore) -> None:
    user, terminal = pty.openpty()
    with subprocess.Popen(
        [*EXECUTABLE, "cache", "ls"], stdout=terminal, env={**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    ) as process:
        os.close(terminal)
        out = b""
        try:
            while piece := os.read(user, 4096):
                out += piece
        except OSError:  # the other end has gone
            pass
        assert process.wait(60) == 0
    os.close(user)
    first, second, total = out.decode().splitlines()
    assert first == f"{store.space.id[:12]}  small, pooler, 16 tokens, fp32"
    assert re.fullmatch(r" {14}rows 3, shards 3, [0-9.]+ KiB, last use [0-9-]{10}, runs 0", second)
    assert total.startswith("1 space, ")


WRONG: dict[str, tuple[int, list[str]]] = {
    "ls: option": (2, ["ls", "--frobnicate"]),
    "ls: word": (2, ["ls", "extra"]),
    "ls: file": (6, ["ls", "--cache-dir", "FILE"]),
    "ls: below a file": (6, ["ls", "--cache-dir", "FILE/cache"]),
    "ls: newer": (5, ["ls", "--cache-dir", "NEWER"]),
    "ls: no value": (2, ["ls", "--cache-dir"]),
    "verify: option": (2, ["verify", "--space", "SPACE"]),
    "verify: word": (2, ["verify", "extra"]),
    "verify: file": (6, ["verify", "--cache-dir", "FILE"]),
    "verify: newer": (5, ["verify", "--cache-dir", "NEWER"]),
    "verify: value for a flag": (2, ["verify", "--json=maybe"]),
    "prune: no such space": (2, ["prune", "--space", "zz"]),
    "prune: no digits": (2, ["prune", "--space", ""]),
    "prune: no number": (2, ["prune", "--unused", "long"]),
    "prune: less than 0 days": (2, ["prune", "--unused=-1"]),
    "prune: no days": (2, ["prune", "--unused", "nan"]),
    "prune: file": (6, ["prune", "--cache-dir", "FILE"]),
    "prune: link out of the cache": (5, ["prune", "--cache-dir", "LINK", "--yes"]),
    "compact: no such space": (2, ["compact", "--space", "zz"]),
    "compact: no digits": (2, ["compact", "--space", ""]),
    "compact: file": (6, ["compact", "--cache-dir", "FILE"]),
    "compact: word": (2, ["compact", "SPACE"]),
    "compact: newer": (5, ["compact", "--cache-dir", "NEWER"]),
    "compact: description lost": (5, ["compact", "--space", "LOST", "--cache-dir", "LOSTDIR"]),
    "path: option": (2, ["path", "--space", "x"]),
    "path: word": (2, ["path", "extra"]),
    "path: no value": (2, ["path", "--cache-dir"]),
    "path: value for a flag": (2, ["path", "--json=1"]),
    "path: two words": (2, ["path", "a", "b"]),
    "export: no space": (2, ["export"]),
    "export: no file": (2, ["export", "SPACE"]),
    "export: no such space": (2, ["export", "zz", "-o", "x.npy"]),
    "export: ending": (2, ["export", "SPACE", "-o", "x.csv"]),
    "export: other ending": (2, ["export", "SPACE", "-o", "x.npy", "--to", "parquet"]),
    "export: unknown kind": (2, ["export", "SPACE", "-o", "x.npy", "--to", "csv"]),
    "export: no such folder": (6, ["export", "SPACE", "-o", "none/x.npy"]),
    "export: a folder": (6, ["export", "SPACE", "-o", "FOLDER.parquet"]),
    "export: a folder, npy": (6, ["export", "SPACE", "-o", "FOLDER.npy"]),
    "export: description lost": (5, ["export", "LOST", "-o", "x.npy", "--cache-dir", "LOSTDIR"]),
    "no such command": (2, ["frobnicate"]),
}


@pytest.fixture
def wrong_words(store: SpaceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], list[str]]:
    """Put what was made in `tmp_path` in the place of the capital words."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file")
    (tmp_path / "newer" / "v99").mkdir(parents=True)
    for name in ("folder.parquet", "folder.npy"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link" / "v1").symlink_to(tmp_path / "elsewhere")
    lost = VectorCache(tmp_path / "lost").space(make_space(pooling="max"))
    write_rows(lost, ["a"])
    (lost.folder / "space.json").unlink()
    places = {
        "FILE": "file", "NEWER": "newer", "FOLDER": "folder", "LOSTDIR": "lost", "LOST": lost.space.id,
        "LINK": "link", "SPACE": store.space.id,
    }  # fmt: skip

    def place(words: list[str]) -> list[str]:
        for name, there in places.items():
            words = [word.replace(name, there) for word in words]
        return words

    return place


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_to_three_lines_and_changes_nothing(
    cache: Command, wrong_words: Callable[[list[str]], list[str]], tmp_path: Path, name: str
) -> None:
    code, words = WRONG[name]
    words = wrong_words(words)
    before = contents(VectorCache().folder), contents(tmp_path)
    done = cache(*words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert 1 <= len(lines) <= 3, done.stderr
    assert lines[0].startswith(("error: ", "Usage: ", "Error: "))
    assert "Traceback" not in done.stderr
    assert (contents(VectorCache().folder), contents(tmp_path)) == before
