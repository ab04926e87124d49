"""Rows whose vectors follow from their keys, so that any row read back can be checked without having been kept."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frozenhead.cache import Space, SpaceStore, VectorCache, text_keys
from frozenhead.cache.keys import Keys
from frozenhead.cache.shard import encode_shard

DIM = 3


def make_space(**changes: Any) -> Space:
    """A small space; `changes` replace fields."""
    files = (("config.json", "c" * 64), ("model.safetensors", "a" * 64))
    return Space(**{"files": files, "pooling": "pooler", "max_length": 16, "dim": DIM, **changes})


def vectors_of(keys: Keys, dtype: str = "float32") -> NDArray[Any]:
    """The vectors (n, D) that belong to keys: their first D bytes, which float16 holds exactly."""
    return keys[:, :DIM].astype(dtype)


def tokens_of(keys: Keys) -> NDArray[np.int32]:
    """The token counts (n,) that belong to keys."""
    return keys[:, 31].astype(np.int32) + 1


def shard_bytes(space: Space, keys: Keys, vectors: NDArray[Any], tokens: NDArray[np.int32]) -> bytes:
    """A shard's file, in one piece."""
    return b"".join(encode_shard(space, keys, vectors, tokens))


def write_rows(store: SpaceStore, texts: Iterable[str]) -> list[str]:
    """Commit texts as one shard; returns its name in a list, empty if there was nothing to write."""
    keys = text_keys(texts)
    with store.writer() as writer:
        writer.add(keys, vectors_of(keys, store.space.dtype), tokens_of(keys))
    return writer.committed


def assert_held(store: SpaceStore, texts: Iterable[str], *, shards: Iterable[str] | None = None) -> None:
    """Every text is found, with its own vector and token count."""
    keys = text_keys(texts)
    lookup = store.lookup(keys, shards=None if shards is None else list(shards))
    assert lookup.found.all()
    assert lookup.vectors is not None
    assert lookup.vectors.dtype == np.dtype(store.space.dtype)
    np.testing.assert_array_equal(lookup.vectors, vectors_of(keys, store.space.dtype))
    np.testing.assert_array_equal(lookup.tokens, tokens_of(keys))


def assert_absent(store: SpaceStore, texts: Iterable[str]) -> None:
    """No text is found."""
    assert not store.lookup(text_keys(texts)).found.any()


def shard_path(store: SpaceStore, name: str) -> Path:
    """Where a shard lies."""
    return store.folder / "shards" / f"{name}.safetensors"


def flip_bit(path: Path, *, at: int) -> None:
    """Damage one bit of a file in place; its size stays."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def reopened(store: SpaceStore, **options: Any) -> SpaceStore:
    """The same store as another process would open it: nothing is known yet."""
    return VectorCache(store.folder.parent.parent, **options).space(store.space)


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


def break_open(monkeypatch: pytest.MonkeyPatch, path: Path, code: int) -> None:
    """Opening `path` fails, as root too."""
    sound = os.open

    def broken(file: Any, *args: Any, **options: Any) -> int:
        if Path(file) == path:
            raise OSError(code, os.strerror(code), str(file))
        return sound(file, *args, **options)

    monkeypatch.setattr(os, "open", broken)


def raiser(error: BaseException) -> Callable[..., Any]:
    """A call that fails."""

    def raise_it(*_: Any, **__: Any) -> Any:
        raise error

    return raise_it
