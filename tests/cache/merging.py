"""Runs that go by shards, and stores in which there is something to merge."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from frozenhead.cache.pins import read_pins
from frozenhead.files import write_json
from tests.cache.examples import (
    assert_held,
    make_space,
    reopened,
    tokens_of,
    vectors_of,
    write_rows,
)

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
