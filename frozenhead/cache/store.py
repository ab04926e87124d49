"""The store of one space: find vectors by key, and write new ones.

    <folder>/v1/<space id>/
      space.json                   every input of the id, readable
      shards/<sha256>.safetensors  immutable, named by the hash of their own bytes
      quarantine/                  files that failed verification

The rename of a shard is its commit; there is no index to tear, and no lock. Readers take the list of
shards they see, or the list that a run has pinned, and verify each shard when they first touch it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache.folder import PRIVATE, SpaceFolder, Verify
from frozenhead.cache.keys import Keys, find_keys, leading_number
from frozenhead.cache.shard import SUFFIX, BadShard
from frozenhead.cache.space import Space
from frozenhead.cache.upkeep import is_shard_name, read_description
from frozenhead.cache.writer import FLUSH_BYTES, FLUSH_SECONDS, ShardWriter
from frozenhead.errors import CacheDamaged
from frozenhead.files import make_folder, write_json

_COPY_ROWS = 4096  # rows copied at once: 6 MiB of 384 float32, where a whole shard would be 64 MiB more


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

    def __init__(self, folder: Path, space: Space, verify: Verify) -> None:
        self.folder = folder
        self.space = space
        self._verify: Verify = verify
        self._shards = SpaceFolder(folder, space)

    def pin(self) -> tuple[str, ...]:
        """Names of the shards that are there now, sorted. Files that others add later are not in it."""
        return self._shards.names()

    def lookup(self, keys: Keys, *, shards: Sequence[str] | None = None, with_vectors: bool = True) -> Lookup:
        """Find keys.

        Parameters
        ----------
        keys : uint8 array (n, 32)
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
        n = len(keys)
        result = Lookup(
            found=np.zeros(n, bool),
            vectors=np.empty((n, self.space.dim), self.space.dtype) if with_vectors else None,
            tokens=np.zeros(n, np.int32),
            shards=(),
        )
        used = []
        wanted = np.argsort(leading_number(keys))  # rows not found yet, in the order of their keys
        for name in self.pin() if shards is None else sorted({str(name) for name in shards}):
            if not len(wanted):
                break
            with self._tolerant(name, pinned=shards is not None):
                left = self._take(name, keys, wanted, result)
                if len(left) < len(wanted):
                    used.append(name)
                wanted = left
        if result.vectors is not None:
            result.vectors[wanted] = np.nan
        return replace(result, shards=tuple(used))

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
        self.describe(recorded or {})
        return ShardWriter(
            self.folder / "shards",
            self.space.id,
            dim=self.space.dim,
            dtype=np.dtype(self.space.dtype),
            flush_bytes=flush_bytes,
            flush_seconds=flush_seconds,
        )

    def describe(self, recorded: dict[str, Any]) -> None:
        """Write `space.json` where it is missing or damaged; a sound one is left as it is. Raises `StorageError`."""
        if read_description(self.folder)[0] != self.space:
            content = {"id": self.space.id, "space": self.space.to_dict(), "recorded": recorded}
            write_json(self.folder / "space.json", content)

    def check_all(self) -> list[tuple[str, str]]:
        """Verify every shard anew; bad ones go to quarantine. Returns (name, reason) of the bad."""
        return self._shards.check_all()

    def rows(self) -> Iterator[tuple[Keys, NDArray[Any], NDArray[np.int32]]]:
        """Keys (n, 32), vectors (n, D) and tokens (n,) shard by shard, as they are stored."""
        for name in self.pin():
            block = None
            with self._tolerant(name, pinned=False), self._shards.opened(name, verify=self._verify) as (layout, read):
                block = layout.keys, read(), layout.tokens
            if block is not None:
                yield block

    def _take(self, name: str, keys: Keys, wanted: NDArray[np.intp], result: Lookup) -> NDArray[np.intp]:
        """Fill the wanted rows that one shard holds into `result`; returns the rows still wanted."""
        with self._shards.opened(name, verify=self._verify) as (layout, read_vectors):
            positions = find_keys(layout.keys, keys[wanted])
            here = positions >= 0
            rows, positions = wanted[here], positions[here]
            if result.vectors is not None and len(rows):
                _copy_rows(read_vectors(), positions, result.vectors, rows)
            result.tokens[rows] = layout.tokens[positions]
            result.found[rows] = True
            return wanted[~here]

    @contextmanager
    def _tolerant(self, name: str, *, pinned: bool) -> Iterator[None]:
        """A shard that is gone is passed over and a bad one set aside; if it was pinned, either is an error."""
        if not is_shard_name(f"{name}{SUFFIX}"):  # a pin is read from a file of the run: it must not lead elsewhere
            raise CacheDamaged(_damaged(name, self.folder, "is no name of a shard"))
        try:
            yield
        except FileNotFoundError as error:
            if pinned:
                raise CacheDamaged(_damaged(name, self.folder, "is gone")) from error
        except BadShard as error:
            self._shards.set_aside(name, str(error))
            if pinned:
                raise CacheDamaged(_damaged(name, self.folder, f"is damaged ({error})")) from error


def _copy_rows(source: NDArray[Any], positions: NDArray[np.intp], target: NDArray[Any], rows: NDArray[np.intp]) -> None:
    """`target[rows] = source[positions]` without a second array of that size."""
    for start in range(0, len(rows), _COPY_ROWS):
        part = slice(start, start + _COPY_ROWS)
        target[rows[part]] = source[positions[part]]


def _damaged(name: str, folder: Path, what: str) -> str:
    return (
        f"Shard {name[:12]} of {folder}, which this run uses, {what}.\n"
        "Run the same `frozenhead embed` command again: it computes the missing vectors and pins them anew."
    )
