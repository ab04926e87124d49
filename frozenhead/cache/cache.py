"""The cache: all spaces under one folder, `<folder>/v1/<space id>/`."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from frozenhead.cache.folder import SpaceFolder, Verify
from frozenhead.cache.place import FORMAT, check_cache_folder, check_space_folder, place
from frozenhead.cache.shard import is_shard_name
from frozenhead.cache.space import Space
from frozenhead.cache.store import SpaceStore
from frozenhead.cache.upkeep import (
    PruneItem,
    SpaceSummary,
    file_size,
    find_models,
    find_probes,
    find_waste,
    last_use,
    live_pins,
    model_folders,
    read_description,
    remove_waste,
    summarise,
    utc_time,
    whole_folder,
)
from frozenhead.files import storage_errors

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class BadFile:
    """A shard that failed verification and was set aside, and why."""

    space: str
    shard: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What `check_all` looked at: how many shards and bytes, and the bad ones among them."""

    shards: int
    bytes: int
    bad: tuple[BadFile, ...]


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What `prune` removed, and the ids of spaces that it kept because runs refer to them."""

    items: tuple[PruneItem, ...]
    kept: tuple[str, ...]


def default_folder() -> Path:
    """`FROZENHEAD_CACHE_DIR` if set, else the user's cache folder for frozenhead."""
    named = os.environ.get("FROZENHEAD_CACHE_DIR")
    return place(named or platformdirs.user_cache_dir("frozenhead"))


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
    >>> from frozenhead.cache import VectorCache, text_keys
    >>> store = VectorCache("vectors").open_space("3f8b")           # doctest: +SKIP
    >>> found = store.lookup(text_keys(["some text", "another"]))   # doctest: +SKIP
    >>> found.found, found.vectors                                  # doctest: +SKIP
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, verify: Verify = "lazy") -> None:
        if verify not in ("lazy", "always", "never"):
            raise ValueError(f"verify must be 'lazy', 'always' or 'never', got {verify!r}.")
        self.folder = default_folder() if folder is None else place(folder)
        check_cache_folder(self.folder)
        self._verify: Verify = verify
        self._stores: dict[str, SpaceStore] = {}

    def space(self, space: Space) -> SpaceStore:
        """The store of one space. Nothing is created on disk before something is written.

        Raises `CacheDamaged` if its folders are links.
        """
        if space.id not in self._stores:
            folder = self.folder / FORMAT / space.id
            check_space_folder(folder)
            self._stores[space.id] = SpaceStore(folder, space, self._verify)
        return self._stores[space.id]

    def spaces(self) -> list[SpaceSummary]:
        """What is there, space by space. Raises `StorageError` if it may not be read."""
        with storage_errors(self.folder, "list"):
            return [summarise(folder) for folder in self._space_folders()]

    def model_bytes(self) -> list[int]:
        """The size of each converted encoder that is kept beside the spaces."""
        with storage_errors(self.folder, "list"):
            return [whole_folder(path, "").bytes for path in model_folders(self.folder)]

    def open_space(self, prefix: str) -> SpaceStore:
        """The store whose id starts with `prefix`, from its `space.json`. Raises `LookupError` if not exactly one."""
        folders = [folder for folder in self._space_folders() if folder.name.startswith(prefix)]
        if len(folders) != 1:
            raise LookupError(f"{len(folders)} spaces start with {prefix!r}")
        space, _ = read_description(folders[0])
        if space is None:
            raise LookupError(f"space.json of {folders[0].name} cannot be read")
        return self.space(space)

    def check_all(self, progress: Progress = lambda done, whole: None) -> Checked:  # noqa: ARG005
        """Hash every shard of every space anew, also where `space.json` is damaged; bad ones go to quarantine.

        Parameters
        ----------
        progress : callable
            Called with (bytes done, bytes in all) after each shard.
        """
        with storage_errors(self.folder, "read"):
            folders = [SpaceFolder(p, read_description(p)[0]) for p in self._space_folders()]
            for folder in folders:
                folder.put_back()
            shards = [(folder, name, file_size(folder.shard(name))) for folder in folders for name in folder.names()]
        whole, done, bad = sum(size for _, _, size in shards), 0, []
        for folder, name, size in shards:
            reason = folder.check(name)
            if reason is not None:
                bad.append(BadFile(space=folder.path.name, shard=name, reason=reason))
            done += size
            progress(done, whole)
        return Checked(shards=len(shards), bytes=whole, bad=tuple(bad))

    def prune(
        self,
        *,
        spaces: Sequence[str] = (),
        unused_seconds: float | None = None,
        temporary: bool = True,
        quarantine: bool = True,
        models: bool = False,
        pinned: bool = False,
        dry_run: bool = False,
    ) -> Pruned:
        """Remove what nobody needs.

        Parameters
        ----------
        spaces : sequence of str
            Ids of spaces to remove whole.
        unused_seconds : float, optional
            Remove spaces that were neither written nor read for so long.
        temporary : bool
            Remove files of dead writers, and pins of runs that are gone.
        quarantine : bool
            Remove files that failed verification.
        models : bool
            Remove encoders converted for another backend; they are converted anew when needed.
        pinned : bool
            Remove spaces that runs refer to as well. Otherwise they are kept, and named in what is returned.
        dry_run : bool
            Remove nothing; tell what would go.
        """
        with storage_errors(self.folder, "prune"):
            items, kept = [], []
            for folder in self._space_folders():
                reason = "named" if folder.name in spaces else _unused(folder, unused_seconds)
                if quarantine and not dry_run:
                    SpaceFolder(folder, read_description(folder)[0]).put_back()
                if reason and not pinned and live_pins(folder):
                    kept.append(folder.name)
                    reason = None
                items += (
                    [whole_folder(folder, reason)]
                    if reason
                    else find_waste(folder, temporary=temporary, quarantine=quarantine)
                )
            items += find_probes(self.folder / FORMAT) if temporary else []
            items += find_models(self.folder, temporary=temporary, models=models)
            if not dry_run:
                remove_waste(items)
        return Pruned(items=tuple(items), kept=tuple(kept))

    def _space_folders(self) -> list[Path]:
        top = self.folder / FORMAT
        with storage_errors(top, "read"):
            if not top.is_dir():
                return []
            folders = sorted(p for p in top.iterdir() if p.is_dir() and is_shard_name(p.name))  # a sha256, too
        for folder in folders:
            check_space_folder(folder)
        return folders


def _unused(folder: Path, seconds: float | None) -> str | None:
    """Why a space may go for its age, if it may."""
    used = last_use(folder)
    if seconds is None or used is None or time.time() - used / 1e9 < seconds:
        return None
    day = utc_time(used / 1e9)
    return f"not used since {day:%Y-%m-%d}" if day else "not used for ages"
