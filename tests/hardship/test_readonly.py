"""A cache that may be read and not be written: a co-worker's, or one on a read-only file system."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hardship.conftest import Mount
from tests.hardship.jobs import command
from tests.hardship.nursery import Done, Nursery

ROWS = 40


def write_table(path: Path, texts: list[str]) -> Path:
    path.write_text("text,label\n" + "".join(f"{text},{i % 2}\n" for i, text in enumerate(texts)))
    return path


@dataclass(frozen=True, kw_only=True)
class Place:
    """A cache that cannot be written, and how a process sees it so."""

    cache: Path
    run: Callable[..., Done]


@pytest.fixture(params=["permission bits", "file system"])
def readonly(request: pytest.FixtureRequest, nursery: Nursery, mount: Mount, tmp_path: Path) -> Iterator[Place]:
    """The cache of a run over `ROWS` texts, made read-only, with the run beside it and one head trained."""
    bits = request.param == "permission bits"
    cache = (tmp_path if bits else mount("size=16m")) / "cache"
    table = write_table(tmp_path / "table.csv", [f"text {i}" for i in range(ROWS)])

    def run(*words: object) -> Done:
        plain = [str(word) for word in words]
        return nursery.run(command, words=plain, cwd=tmp_path, powerless=bits)

    assert run("embed", table, "--out", "run", "--cache-dir", cache).code == 0
    if not bits:
        mount("ro")
        yield Place(cache=cache, run=run)
        return
    places = [cache, *cache.rglob("*")]
    for path in places:
        path.chmod(0o500 if path.is_dir() else 0o400)
    yield Place(cache=cache, run=run)
    for path in places:
        path.chmod(0o700)


def content(folder: Path) -> dict[Path, bytes]:
    """Every file with its bytes. The owner of a file may still set its time, which tells of the last use."""
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def test_a_readonly_cache_serves_every_command_that_computes_nothing(readonly: Place, tmp_path: Path) -> None:
    before = content(readonly.cache)
    for words in (
        ("fit", "run", "--head", "logreg,majority"),
        ("report", "run"),
        ("embed", "table.csv", "--out", "other", "--cache-dir", readonly.cache),
        ("predict", "run", "table.csv", "-o", "labelled.csv"),
        ("cache", "ls", "--cache-dir", readonly.cache),
        ("cache", "verify", "--cache-dir", readonly.cache),
        ("cache", "prune", "--cache-dir", readonly.cache),
        ("cache", "compact", "--cache-dir", readonly.cache),
    ):
        done = readonly.run(*words)
        assert done.code == 0, (words, done.err)
        assert "Traceback" not in done.err
    assert len((tmp_path / "labelled.csv").read_text().splitlines()) == ROWS + 1
    assert content(readonly.cache) == before


@pytest.mark.parametrize("words", ["embed", "predict", "prune"])
def test_a_command_that_must_write_into_a_readonly_cache_is_exit_6(readonly: Place, tmp_path: Path, words: str) -> None:
    write_table(tmp_path / "new.csv", [f"new {i}" for i in range(ROWS)])
    if words == "predict":
        assert readonly.run("fit", "run", "--head", "logreg").code == 0
    done = readonly.run(
        *{
            "embed": ("embed", "new.csv", "--out", "new", "--cache-dir", readonly.cache),
            "predict": ("predict", "run", "new.csv"),
            "prune": ("cache", "prune", "--unused", "0", "--pinned", "--yes", "--cache-dir", readonly.cache),
        }[words]
    )
    assert done.code == 6, done.err
    message = done.err[done.err.index("error: ") :].strip()
    assert 1 <= len(message.splitlines()) <= 3
    assert str(readonly.cache) in message
    assert "No permission" in message or "Nothing can be written there" in message
    assert "Traceback" not in done.err
    assert readonly.run("embed", "table.csv", "--out", "again", "--cache-dir", readonly.cache).code == 0
