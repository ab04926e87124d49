"""The store of one space: find vectors by key, and write new ones.

    <folder>/v1/<space id>/
      space.json                   every input of the id, readable
      shards/<sha256>.safetensors  immutable, named by the hash of their own bytes
      pins/<hash>.json             which run refers to which shards
      quarantine/                  files that failed verification

The rename of a shard is its commit; there is no index to tear, and nobody waits. Readers take the list of
shards they see, or the list that a run has pinned, and verify each shard when they first touch it.
"""

import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache.folder import PRIVATE, SpaceFolder, Verify
from frozenhead.cache.keys import KEY_BYTES, Keys, WantedKeys, distinct_keys, join_keys
from frozenhead.cache.shard import BadShard, OpenShard, is_shard_name
from frozenhead.cache.space import Space
from frozenhead.cache.upkeep import note_use, read_description
from frozenhead.cache.writer import FLUSH_BYTES, FLUSH_SECONDS, ShardWriter
from frozenhead.errors import CacheDamaged
from frozenhead.files import check_writable, make_folder, new_file, storage_errors, sync_folder, write_json

_COPY_ROWS = 2048  # rows read and copied at once: 3 MiB of 384 float32
_NOTE_SECONDS = 60.0
_LOOKUP_ROWS = 2**22  # keys sorted and matched at once: 100 MiB, however many there are


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """What the cache holds of the keys asked for.

    Attributes
    ----------
    found : bool array (n,)
    vectors : array (n, D) of the stored dtype, or None if only presence was asked for
        Rows that were not found hold NaN, so that nobody takes them for vectors.
    tokens : int32 array (n,)
        Length of each text in tokens before truncation; 0 where not found.
    shards : tuple of str
        The shards that served a row, sorted: what a run pins.
    """

    found: NDArray[np.bool_]
    vectors: NDArray[Any] | None
    tokens: NDArray[np.int32]
    shards: tuple[str, ...]


class SpaceStore:
    """The vectors of one space. Made by `VectorCache.space`."""

    def __init__(self, folder: Path, space: Space, verify: Verify, shards: SpaceFolder | None = None) -> None:
        self.folder = folder
        self.space = space
        self._verify: Verify = verify
        self._shards = shards or SpaceFolder(folder, space)
        self._note_again = 0.0  # when to note the use of the space next

    def shard(self, name: str) -> Path:
        """The file of a shard."""
        return self._shards.shard(name)

    def pin(self) -> tuple[str, ...]:
        """Names of the shards that are there now, sorted. Files that others add later are not in it."""
        return self._shards.names()

    def lookup(self, keys: Keys, *, shards: Sequence[str] | None = None, with_vectors: bool = True) -> Lookup:
        """Find keys.

        Parameters
        ----------
        keys : uint8 array (n, 32)
            In any order, a key any number of times.
        shards : sequence of str, optional
            Look only into these, the pins of a run; those that are needed must be there and sound.
            By default all shards of the space, a bad one being set aside.
        with_vectors : bool
            False asks only which keys are there.

        Raises
        ------
        CacheDamaged
            A pinned shard is missing or failed verification.
        StorageError
            The folder or a shard may not be read.
        """
        matrix = np.empty((len(keys), self.space.dim), self.space.dtype) if with_vectors else None
        return self._fill(keys, matrix, shards)

    def lookup_into(
        self,
        path: Path,
        keys: Keys,
        *,
        shards: Sequence[str] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Lookup:
        """Find keys, their vectors in a `.npy` file at `path` that is then memory-mapped, for more than memory holds.

        Takes 100 MiB and 5 bytes per key, however many vectors there are. Parameters and errors as `lookup`;
        `progress` is called with the keys found and those asked for, shard after shard.

        Raises
        ------
        StorageError
            The disk does not take the file. `path` is then as it was before.
        """
        shape, dtype = (len(keys), self.space.dim), np.dtype(self.space.dtype)
        with new_file(path) as file:
            np.lib.format.write_array_header_2_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
            file.flush()
            if len(keys):
                # A map into a file without blocks would kill the process when the disk is full: take them first.
                _allocate(file.fileno(), file.tell(), len(keys) * self.space.dim * dtype.itemsize)
                mapped = mmap.mmap(file.fileno(), 0)
                matrix = np.frombuffer(mapped, dtype, offset=file.tell()).reshape(shape)

                def advance(done: int, total: int) -> None:
                    _forget_pages(mapped)
                    if progress is not None:
                        progress(done, total)

                result = self._fill(keys, matrix, shards, advance)
                mapped.flush()
            else:
                result = self._fill(keys, np.empty(shape, dtype), shards)
        return replace(result, vectors=np.load(path, mmap_mode="r" if len(keys) else None, allow_pickle=False))

    def writer(
        self,
        *,
        recorded: dict[str, Any] | None = None,
        flush_bytes: int = FLUSH_BYTES,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> ShardWriter:
        """A writer of this space; its folders and `space.json` are made when they are not there.

        Parameters
        ----------
        recorded : dict, optional
            Names, versions and devices that `space.json` keeps beside the identity, for people to read.

        Raises
        ------
        StorageError
            The cache folder cannot be written.
        """
        for folder in (self.folder.parent.parent, self.folder.parent, self.folder, self.folder / "shards"):
            make_folder(folder, mode=PRIVATE)
        self.settle()
        self.describe(recorded or {})
        note_use(self.folder)
        return ShardWriter(
            self.folder / "shards",
            self.space,
            flush_bytes=flush_bytes,
            flush_seconds=flush_seconds,
            publish=self._shards.share,
        )

    def check_writable(self) -> None:
        """Try to write where vectors will go: better now than after an hour's work. Raises `StorageError`."""
        shards, spaces = self.folder / "shards", self.folder.parent
        with storage_errors(self.folder, "write into"):
            for folder in (spaces.parent, spaces):
                make_folder(folder, mode=PRIVATE)
            check_writable(shards if shards.is_dir() else spaces)  # a space without vectors is not made
        self._shards.check_shared()

    def settle(self) -> None:
        """Make durable the names of all that is there, before anybody relies on it. Raises `StorageError`.

        A process that was killed, or is still at work, may have made folders and shards and not come to syncing them.
        """
        shards = self.folder / "shards"
        with storage_errors(self.folder, "sync"):
            for folder in (shards, *shards.parents):
                sync_folder(folder)
        self._shards.share_all()

    def describe(self, recorded: dict[str, Any]) -> None:
        """Write `space.json` where it is missing or damaged; a sound one is left as it is. Raises `StorageError`."""
        self._shards.take_description()
        if read_description(self.folder)[0] != self.space:
            content = {"id": self.space.id, "space": self.space.to_dict(), "recorded": recorded}
            write_json(self.folder / "space.json", content)
            self._shards.share("space.json")

    def refer(self, holder: Path, shards: Sequence[str]) -> None:
        """Note that the run's file `holder` goes by these shards, for `prune` and `compact`. Raises `StorageError`."""
        self._shards.note_pin(holder, shards)

    def shard_keys(self, name: str, *, strict: bool = False) -> Keys:
        """The keys of one shard, uint8 (n, 32), sorted; of one that is gone or bad none or, if `strict`, an error."""
        with self._tolerant(name, pinned=strict), self._shards.open(name, verify=self._verify) as shard:
            return shard.keys().copy()
        return np.zeros((0, KEY_BYTES), np.uint8)

    def keys(self, *, strict: bool = False) -> Keys:
        """The distinct keys of the space: uint8 (n, 32), in the order of `rows`."""
        keys = join_keys(self.shard_keys(name, strict=strict) for name in self.pin())
        return keys[distinct_keys(keys)[0]]

    def rows(
        self, shards: Sequence[str] | None = None, *, strict: bool = False
    ) -> Iterator[tuple[Keys, NDArray[Any], NDArray[np.int32]]]:
        """Keys (n, 32), vectors (n, D) and tokens (n,), shard by shard, each key once and every byte hashed.

        Where a key stands in several shards, the first by name gives it, as in `lookup`. A shard that is gone or bad
        gives nothing or, if `strict`, raises `CacheDamaged`.
        """
        names = self.pin() if shards is None else self._pinned(shards)
        parts = [self.shard_keys(name, strict=strict) for name in names]
        first = np.zeros(sum(map(len, parts)), bool)
        first[distinct_keys(join_keys(parts))[0]] = True
        ends = np.cumsum([len(part) for part in parts])
        for name, mask in zip(names, np.split(first, ends[:-1]), strict=True) if names else ():
            block = None
            # Hashed whatever was known before: these rows may be written again, under a name that vouches for them.
            with self._tolerant(name, pinned=strict), self._shards.open(name, verify="always") as shard:
                if shard.layout.rows == len(mask):  # it is none other than before, though it may be gone
                    block = shard.keys()[mask], shard.vectors(0, len(mask))[mask], shard.tokens()[mask]
            if block is not None:
                yield block

    def _fill(
        self,
        keys: Keys,
        matrix: NDArray[Any] | None,
        shards: Sequence[str] | None,
        progress: Callable[[int, int], object] = lambda done, total: None,  # noqa: ARG005
    ) -> Lookup:
        """Look all keys up, so many at a time that sorting them takes the same memory whatever their number."""
        if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != KEY_BYTES:
            raise ValueError(
                f"Keys are uint8 (n, {KEY_BYTES}), as text_keys gives them; got {keys.dtype} {keys.shape}."
            )
        found, tokens = np.zeros(len(keys), bool), np.zeros(len(keys), np.int32)
        used: set[str] = set()
        for start in range(0, len(keys), _LOOKUP_ROWS):
            rows = slice(start, start + _LOOKUP_ROWS)
            part = _Part(keys[rows], found[rows], tokens[rows], None if matrix is None else matrix[rows])

            def advance(found: int, start: int = start) -> None:
                progress(start + found, len(keys))

            used |= self._fill_part(part, shards, advance)
        if used and time.monotonic() >= self._note_again:
            self._note_again = time.monotonic() + _NOTE_SECONDS
            note_use(self.folder)
        return Lookup(found=found, vectors=matrix, tokens=tokens, shards=tuple(sorted(used)))

    def _fill_part(self, part: "_Part", shards: Sequence[str] | None, progress: Callable[[int], object]) -> set[str]:
        """Fill rows from one shard after the other, told how many are found; returns the names of those that served."""
        used: set[str] = set()
        seen: set[str] = set()
        names = self.pin() if shards is None else self._pinned(shards)
        while names and part.missing:
            for name, opening in self._shards.open_ahead(names, verify=self._verify, vectors=part.wants_vectors):
                with self._tolerant(name, pinned=shards is not None), opening() as shard:
                    if part.take(shard):
                        used.add(name)
                        progress(len(part) - part.missing)
                if not part.missing:
                    break
            # `cache compact` may have put new shards in the place of some before we came to these.
            seen.update(names)
            names = () if shards is not None else tuple(name for name in self.pin() if name not in seen)
        part.leave()
        return used

    def _pinned(self, shards: Sequence[str]) -> tuple[str, ...]:
        """The names of pinned shards, sorted. They are read from a file of the run: none may lead elsewhere."""
        names = tuple(sorted({str(name) for name in shards}))
        for name in names:
            if not is_shard_name(name):
                raise CacheDamaged(_damaged(name, self.folder, "is no name of a shard"))
        return names

    @contextmanager
    def _tolerant(self, name: str, *, pinned: bool) -> Iterator[None]:
        """A shard that is gone is passed over and a bad one set aside; if it was pinned, either is an error."""
        try:
            yield
        except FileNotFoundError as error:
            if pinned:
                raise CacheDamaged(_damaged(name, self.folder, "is gone")) from error
        except BadShard as error:
            self._shards.set_aside(name, str(error))
            if pinned:
                raise CacheDamaged(_damaged(name, self.folder, f"is damaged ({error})")) from error


class _Part:
    """Keys and, row by row, what was found of them. The arrays are filled in place."""

    def __init__(
        self, keys: Keys, found: NDArray[np.bool_], tokens: NDArray[np.int32], matrix: NDArray[Any] | None
    ) -> None:
        self._wanted = WantedKeys(keys)
        self._found, self._tokens, self._matrix = found, tokens, matrix
        self._rows = self.missing = len(keys)
        self.wants_vectors = matrix is not None

    def __len__(self) -> int:
        return self._rows

    def take(self, shard: OpenShard) -> bool:
        """Fill the rows that `shard` holds and no shard before it held; returns whether there were any."""
        positions, rows = self._wanted.match(shard.keys())
        new = ~self._found[rows]
        positions, rows = positions[new], rows[new]
        if not len(rows):
            return False
        if self._matrix is not None:
            _copy_rows(shard, positions, self._matrix, rows)
        self._tokens[rows] = shard.tokens()[positions]
        self._found[rows] = True
        self.missing -= len(rows)
        return True

    def leave(self) -> None:
        """Rows that were not found hold NaN."""
        if self._matrix is not None and self.missing:
            self._matrix[~self._found] = np.nan


def _copy_rows(shard: OpenShard, positions: NDArray[np.intp], target: NDArray[Any], rows: NDArray[np.intp]) -> None:
    """`target[rows] = vectors[positions]`, reading only the stretches of the shard that are needed."""
    cuts = np.searchsorted(positions, np.arange(0, shard.layout.rows + _COPY_ROWS, _COPY_ROWS))
    for first, last in pairwise(cuts):
        if first < last:
            start = positions[first]
            block = shard.vectors(start, positions[last - 1] + 1)
            target[rows[first:last]] = block[positions[first:last] - start]


def _allocate(descriptor: int, start: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, size)
    else:
        os.truncate(descriptor, start + size)


def _forget_pages(mapped: mmap.mmap) -> None:
    """Let go of the pages that were written: they are the system's to keep, and count as this process's no more."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _damaged(name: str, folder: Path, what: str) -> str:
    return (
        f"Shard {name[:12]} of {folder}, whose rows are needed, {what}.\n"
        "Run the same `frozenhead embed` command again: it computes the missing vectors."
    )
