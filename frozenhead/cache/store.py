"""The cache: all spaces under one folder.

    <folder>/v1/<space id>/
      space.json                   every input of the id, readable
      shards/<sha256>.safetensors  immutable, named by the hash of their own bytes
      quarantine/                  files that failed verification

The rename of a shard is its commit; there is no index to tear, and no lock. Readers take the list of
shards they see, or the list that a run has pinned, and verify each shard when they first touch it.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs
from numpy.typing import NDArray

from frozenhead.cache.keys import KEY_BYTES, Keys, find_keys
from frozenhead.cache.shard import SUFFIX, BadShard, ShardLayout, check_shard, parse_layout
from frozenhead.cache.space import Space
from frozenhead.cache.upkeep import (
    PruneItem,
    SpaceSummary,
    find_waste,
    is_shard_name,
    read_description,
    remove_waste,
    summarise,
)
from frozenhead.cache.writer import FLUSH_BYTES, FLUSH_SECONDS, ShardWriter
from frozenhead.errors import CacheDamaged, StorageError
from frozenhead.files import make_folder, storage_errors, write_json

logger = logging.getLogger(__name__)

Verify = Literal["lazy", "always", "never"]

PRIVATE = 0o700


def default_folder() -> Path:
    """`FROZENHEAD_CACHE_DIR` if set, else the user's cache folder for frozenhead."""
    named = os.environ.get("FROZENHEAD_CACHE_DIR")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("frozenhead"))


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """What the cache holds of the keys asked for.

    Attributes
    ----------
    found : bool array (n,)
    vectors : array (n, D) of the stored dtype, or None if only presence was asked for
        Rows that were not found hold zeros and must not be used.
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
        self._verify = verify
        self._known: dict[str, tuple[tuple[int, ...], ShardLayout]] = {}

    def pin(self) -> tuple[str, ...]:
        """Names of the shards that are there now, sorted. Files that others add later are not in it."""
        try:
            names = os.listdir(self.folder / "shards")
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StorageError(f"Cannot read the cache folder {self.folder}: {error.strerror}.") from error
        return tuple(sorted(n.removesuffix(SUFFIX) for n in names if is_shard_name(n)))

    def lookup(self, keys: Keys, *, shards: Sequence[str] | None = None, with_vectors: bool = True) -> Lookup:
        """Find keys.

        Parameters
        ----------
        keys : uint8 array (n, 32)
        shards : sequence of str, optional
            Look only into these, which must be there and sound: the pins of a run.
            By default all shards of the space, a bad one being set aside.
        with_vectors : bool
            False asks only which keys are there.

        Raises
        ------
        CacheDamaged
            A pinned shard is missing or failed verification.
        """
        n = len(keys)
        found = np.zeros(n, bool)
        tokens = np.zeros(n, np.int32)
        vectors = np.zeros((n, self.space.dim), self.space.dtype) if with_vectors else None
        used = []
        for name, layout, block in self._layouts(self.pin() if shards is None else shards, pinned=shards is not None):
            rows = np.flatnonzero(~found)
            if not len(rows):
                break
            positions = find_keys(layout.keys, keys[rows])
            rows, positions = rows[positions >= 0], positions[positions >= 0]
            if not len(rows):
                continue
            if vectors is not None:
                source = layout.vectors(block) if block is not None else layout.read_vectors(self._path(name))
                vectors[rows] = source[positions]
            found[rows] = True
            tokens[rows] = layout.tokens[positions]
            used.append(name)
        return Lookup(found=found, vectors=vectors, tokens=tokens, shards=tuple(sorted(used)))

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
        make_folder(self.folder.parent.parent, mode=PRIVATE)
        make_folder(self.folder.parent, mode=PRIVATE)
        make_folder(self.folder, mode=PRIVATE)
        make_folder(self.folder / "shards", mode=PRIVATE)
        if read_description(self.folder)[0] != self.space:
            content = {"id": self.space.id, "space": self.space.to_dict(), "recorded": recorded or {}}
            write_json(self.folder / "space.json", content)
        return ShardWriter(
            self.folder / "shards",
            self.space.id,
            dtype=np.dtype(self.space.dtype),
            flush_bytes=flush_bytes,
            flush_seconds=flush_seconds,
        )

    def check_all(self) -> list[tuple[str, str]]:
        """Verify every shard anew; bad ones go to quarantine. Returns (name, reason) of the bad."""
        bad = []
        for name in self.pin():
            try:
                self._load(name, verify="always")
            except FileNotFoundError:
                continue
            except BadShard as error:
                bad.append((name, str(error)))
                self._quarantine(name, str(error))
        return bad

    def rows(self) -> Iterator[tuple[Keys, NDArray[Any], NDArray[np.int32]]]:
        """Keys (n, 32), vectors (n, D) and tokens (n,) shard by shard, as they are stored."""
        for name, layout, block in self._layouts(self.pin(), pinned=False):
            source = layout.vectors(block) if block is not None else layout.read_vectors(self._path(name))
            yield layout.keys, source, layout.tokens

    def _path(self, name: str) -> Path:
        return self.folder / "shards" / f"{name}{SUFFIX}"

    def _layouts(self, names: Sequence[str], *, pinned: bool) -> Iterator[tuple[str, ShardLayout, bytes | None]]:
        """Each sound shard, with the bytes of its file if they had to be read for verification."""
        for name in names:
            try:
                layout, block = self._load(name, verify=self._verify)
            except FileNotFoundError as error:
                if pinned:
                    raise CacheDamaged(_damaged(name, self.folder, "is gone")) from error
                continue
            except BadShard as error:
                self._quarantine(name, str(error))
                if pinned:
                    raise CacheDamaged(_damaged(name, self.folder, f"is damaged ({error})")) from error
                continue
            yield name, layout, block

    def _load(self, name: str, *, verify: Verify) -> tuple[ShardLayout, bytes | None]:
        """Layout of a shard, hashed on first touch and again whenever its file has changed since."""
        path = self._path(name)
        try:
            status = path.stat()
            signature = (status.st_ino, status.st_size, status.st_mtime_ns)
            if verify != "always" and name in self._known and self._known[name][0] == signature:
                return self._known[name][1], None
            data = path.read_bytes()
        except FileNotFoundError:
            self._known.pop(name, None)
            raise
        except OSError as error:
            raise StorageError(f"Cannot read {path}: {error.strerror}. Check the disk and the permissions.") from error
        self._known.pop(name, None)
        layout = parse_layout(data, self.space.id) if verify == "never" else check_shard(name, data, self.space.id)
        if layout.dim != self.space.dim or layout.vectors_dtype != np.dtype(self.space.dtype):
            raise BadShard("its vectors have another size or type than the space")
        self._known[name] = (signature, layout)
        return layout, data

    def _quarantine(self, name: str, reason: str) -> None:
        """Set a bad file aside, with one warning; where that is not permitted it is only passed over."""
        target = self.folder / "quarantine" / f"{name}{SUFFIX}"
        try:
            target.parent.mkdir(mode=PRIVATE, exist_ok=True)
            os.replace(self._path(name), target)
            fate = "set aside in quarantine"
        except OSError:
            fate = "passed over"
        logger.warning("shard %s of %s: %s; %s, its rows will be computed again", name[:12], self.folder, reason, fate)


class VectorCache:
    """All spaces under one folder.

    Parameters
    ----------
    folder : path, optional
        Default: `FROZENHEAD_CACHE_DIR`, else the user's cache folder. Created, private (0700), when first written to.
    verify : {"lazy", "always", "never"}
        When a shard is hashed: on first touch, on every touch, or not at all.

    Examples
    --------
    >>> cache = VectorCache("vectors")                  # doctest: +SKIP
    >>> found = cache.space(space).lookup(text_keys(["some text"]))   # doctest: +SKIP
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, verify: Verify = "lazy") -> None:
        if verify not in ("lazy", "always", "never"):
            raise ValueError(f"verify must be 'lazy', 'always' or 'never', got {verify!r}.")
        self.folder = default_folder() if folder is None else Path(folder).expanduser()
        self._verify: Verify = verify
        self._stores: dict[str, SpaceStore] = {}

    def space(self, space: Space) -> SpaceStore:
        """The store of one space. Nothing is created on disk before something is written."""
        if space.id not in self._stores:
            self._stores[space.id] = SpaceStore(self.folder / "v1" / space.id, space, self._verify)
        return self._stores[space.id]

    def spaces(self) -> list[SpaceSummary]:
        """What is there, space by space."""
        return [summarise(folder) for folder in self._space_folders()]

    def open_space(self, prefix: str) -> SpaceStore:
        """The store whose id starts with `prefix`, from its `space.json`. Raises `LookupError` if not exactly one."""
        ids = [folder.name for folder in self._space_folders() if folder.name.startswith(prefix)]
        if len(ids) != 1:
            raise LookupError(f"{len(ids)} spaces start with {prefix!r}")
        summary = summarise(self.folder / "v1" / ids[0])
        if summary.space is None:
            raise LookupError(f"space.json of {ids[0]} cannot be read")
        return self.space(summary.space)

    def check_all(self) -> dict[str, list[tuple[str, str]]]:
        """Verify every shard of every space; bad ones go to quarantine. Returns them by space id."""
        bad = {}
        for summary in self.spaces():
            if summary.space is not None:
                bad[summary.id] = self.space(summary.space).check_all()
        return {space_id: shards for space_id, shards in bad.items() if shards}

    def prune(self, *, spaces: Sequence[str] = (), dry_run: bool = False) -> list[PruneItem]:
        """Remove what nobody needs: files of dead writers, quarantined files, and whole `spaces` named by id.

        Returns what went, or with `dry_run` what would go.
        """
        items = [item for folder in self._space_folders() for item in find_waste(folder, whole=folder.name in spaces)]
        if not dry_run:
            with storage_errors(self.folder, "prune"):
                remove_waste(items)
        return items

    def _space_folders(self) -> list[Path]:
        top = self.folder / "v1"
        if not top.is_dir():
            return []
        with storage_errors(top, "read"):
            return sorted(p for p in top.iterdir() if p.is_dir() and len(p.name) == 2 * KEY_BYTES)


def _damaged(name: str, folder: Path, what: str) -> str:
    return (
        f"Shard {name[:12]} of {folder}, which this run uses, {what}.\n"
        "Run the same `frozenhead embed` command again: it computes the missing vectors and pins them anew."
    )
