"""The vectors of a feature set as `fit` takes them: in memory or, where they exceed it, in one file in row order.

The file is derived from the pinned shards and disposable; its name holds a hash of what it is derived from:

    RUN/features/<name>.<hash>.npy             the rows of the corpus
    RUN/features/<name>.<hash>.sha256          of that file: it is verified each time it is used
    RUN/features/<name>.view-3.<hash>.npy      the training rows of a dropout view
"""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import SpaceStore, text_keys
from frozenhead.cache.keys import KEY_BYTES, Keys
from frozenhead.cache.space import View
from frozenhead.commands.memory import gibibytes, machine_memory
from frozenhead.commands.vectors import first_not_finite, look_up, not_finite, recorded_space, view_records
from frozenhead.commands.voice import Voice
from frozenhead.errors import CacheDamaged, StorageError, UsageError
from frozenhead.files import canonical_json, storage_errors, write_file
from frozenhead.heads import StoredRows
from frozenhead.runs import Run
from frozenhead.texts import Texts

SHARE = 4
"""Vectors that take more than one part in so many of memory stay on disk; training copies some of them twice."""

FORMAT = 1

_PIECE = 2**24  # bytes hashed at a time


class FeatureRows:
    """The vectors of one feature set of a run.

    Parameters
    ----------
    run : Run
    record : dict
        features/<name>.json.
    name : str
    rows : int
        N of the corpus.
    cache_dir : Path, optional
    voice : Voice
    """

    def __init__(
        self, run: Run, record: dict[str, Any], *, name: str, rows: int, cache_dir: str | Path | None, voice: Voice
    ) -> None:
        self.run, self.record, self.name, self.rows = run, record, name, rows
        self.cache_dir, self.voice = cache_dir, voice
        space = recorded_space(record, name)
        self.prefix, self.dim, self._itemsize = space.prefix, space.dim, np.dtype(space.dtype).itemsize

    @property
    def size(self) -> int:
        """Bytes of the vectors as they are stored."""
        return self.rows * self.dim * self._itemsize

    @property
    def large(self) -> bool:
        """Whether they are read from a file in row order."""
        return self.size > machine_memory() // SHARE

    def vectors(self) -> NDArray[Any] | StoredRows:
        """All rows (N, D), each vector finite.

        Raises
        ------
        CacheDamaged
            A pinned shard or a vector is missing, or a vector is not finite.
        StorageError
            The disk does not take the file.
        """
        return self._finite(None, np.arange(self.rows))

    def views(self, train: NDArray[np.bool_]) -> list[NDArray[Any] | StoredRows]:
        """The training rows of each dropout view, by index; raises as `vectors`, and `UsageError` if there is none."""
        views = view_records(self.record, self.name)
        if not views:
            raise UsageError(
                f"{self.name} in {self.run.folder} has no dropout views. "
                f"Make some: the same `frozenhead embed` command with --views 10, say."
            )
        return [self._finite(view, np.flatnonzero(train)) for view, _ in views]

    def _finite(self, view: View | None, rows: NDArray[np.intp]) -> NDArray[Any] | StoredRows:
        if self.large:
            return self._stored(view, rows)
        found = self._in_memory(view, rows)
        bad = first_not_finite(found)
        if bad is not None:
            raise self._not_finite(view, int(rows[bad]))
        return found

    def _not_finite(self, view: View | None, row: int) -> CacheDamaged:
        return not_finite(self.run, self.record, row, name=self.name, cache_dir=self.cache_dir, view=view)

    def _in_memory(self, view: View | None, rows: NDArray[np.intp]) -> NDArray[Any]:
        look = partial(SpaceStore.lookup, keys=self._keys(rows))
        found = look_up(self.run, self.record, look, name=self.name, cache_dir=self.cache_dir, view=view)
        return np.asarray(found.vectors)

    def _stored(self, view: View | None, rows: NDArray[np.intp]) -> StoredRows:
        """Rows of the file, which is made if it is not there, or is not what was gathered."""
        entry: Mapping[str, Any] = self.record if view is None else dict(view_records(self.record, self.name))[view]
        label = self.name if view is None else f"{self.name}.view-{view.index}"
        path = self.run.folder / "features" / f"{label}.{self._digest(entry['space'], entry['shards'])}.npy"
        known = _opened(path, (len(rows), self.dim))
        if known is not None and self._verified(path, label):
            return known
        self._gather(path, label, view, rows)
        return StoredRows(path)

    def _verified(self, path: Path, label: str) -> bool:
        """Whether the file holds the bytes that were gathered."""
        try:
            expected = _digest_file(path).read_text()
        except (OSError, ValueError):
            return False
        return self._hash(path, f"verify {label}") == expected

    def _hash(self, path: Path, title: str) -> str:
        digest, done = hashlib.sha256(), 0
        with storage_errors(path, "read"), path.open("rb") as file, self.voice.bar(title, unit="bytes") as progress:
            size = os.fstat(file.fileno()).st_size
            while piece := file.read(_PIECE):
                digest.update(piece)
                done += len(piece)
                progress(done, size)
        return digest.hexdigest()

    def _gather(self, path: Path, label: str, view: View | None, rows: NDArray[np.intp]) -> None:
        _remove_stale(path, label)
        needed = len(rows) * self.dim * self._itemsize
        check_room(path.parent, needed, f"The vectors of {label} in row order")
        self.voice.say(
            f"the vectors of {label} take {gibibytes(needed)}, memory is {gibibytes(machine_memory())}: "
            f"gathering them once in row order, {path}"
        )
        # Only a file without gaps gets the name: `look_up` raises for a vector that is missing.
        beside = path.with_name(f".{path.name}")
        try:
            with self.voice.bar(f"gather {label}", unit="vectors") as progress:
                look = partial(_look_into, path=beside, keys=self._keys(rows), progress=progress)
                look_up(self.run, self.record, look, name=self.name, cache_dir=self.cache_dir, view=view)
            bad = StoredRows(beside).not_finite()
            if len(bad):
                raise self._not_finite(view, int(rows[bad[0]]))
            write_file(_digest_file(path), self._hash(beside, f"hash {label}").encode())
            with storage_errors(path, "write"):
                os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)

    def _digest(self, space: str, shards: Sequence[str]) -> str:
        facts = {"format": FORMAT, "space": space, "shards": sorted(shards), "corpus": self.run.info["corpus_sha256"]}
        return hashlib.sha256(canonical_json(facts)).hexdigest()[:16]

    def _keys(self, rows: NDArray[np.intp]) -> Keys:
        """Keys of rows of the corpus as the encoder sees their texts: uint8 (n, 32)."""
        if self.prefix:
            keys = text_keys(Texts(self.run.corpus_table(["text"])["text"]), prefix=self.prefix)
        else:
            chunks = self.run.corpus_table(["key"])["key"].chunks
            keys = np.concatenate([np.zeros((0, KEY_BYTES), np.uint8), *map(_key_bytes, chunks)])
        return keys if len(rows) == len(keys) else keys[rows]


def _look_into(store: SpaceStore, *, path: Path, keys: Keys, shards: Sequence[str], progress: Any) -> Any:
    return store.lookup_into(path, keys, shards=shards, progress=progress)


def _key_bytes(chunk: Any) -> Keys:
    """A chunk of keys, 32 bytes each, in Arrow's memory: (n, 32)."""
    if str(chunk.type) == f"fixed_size_binary[{KEY_BYTES}]":
        data = np.frombuffer(chunk.buffers()[1], np.uint8).reshape(-1, KEY_BYTES)
        return data[chunk.offset : chunk.offset + len(chunk)]
    return np.frombuffer(b"".join(chunk.to_pylist()), np.uint8).reshape(-1, KEY_BYTES)


def _opened(path: Path, shape: tuple[int, int]) -> StoredRows | None:
    """The rows of a file that is whole; None where it is not there, or damaged."""
    try:
        rows = StoredRows(path)
    except (OSError, ValueError):
        return None
    return rows if rows.shape == shape else None


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _remove_stale(path: Path, label: str) -> None:
    """Remove what was gathered under this label before, or half of it."""
    name = re.compile(rf"\.?{re.escape(label)}\.[0-9a-f]{{16}}\.(npy|sha256)")
    for old in path.parent.iterdir():
        if name.fullmatch(old.name):
            with suppress(OSError):  # then it only takes room
                old.unlink()


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise `StorageError` unless the disk of `folder` has so many bytes free."""
    with storage_errors(folder, "look into"):
        free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{what} take {gibibytes(needed)} in {folder}, and its disk has {gibibytes(free)} free.\n"
            "Make room, or copy the run to another disk."
        )
