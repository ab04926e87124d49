"""The cache: all spaces under one folder, `<folder>/v1/<space id>/`."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from frozenhead.cache.folder import SpaceFolder, Verify
from frozenhead.cache.inventory import Holding, far_probes, far_waste, remove_far, survey, whole_space, widen
from frozenhead.cache.mirror import MirrorFolder, mirror_folder
from frozenhead.cache.notes import Note
from frozenhead.cache.place import FORMAT, check_cache_folder, check_space_folder, place
from frozenhead.cache.remote import Remote, check_url, is_url
from frozenhead.cache.shard import is_shard_name
from frozenhead.cache.space import Space
from frozenhead.cache.store import SpaceStore
from frozenhead.cache.upkeep import (
    PruneItem,
    SpaceSummary,
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
    """`FROZENHEAD_CACHE_DIR` if set, else the user's cache folder for frozenhead; of a URL its mirror."""
    return cache_place(None)[0]


def cache_place(named: str | os.PathLike[str] | None) -> tuple[Path, str | None]:
    """The folder of a cache, and its URL if that is the mirror of an object store. Raises `UsageError`."""
    default = os.environ.get("FROZENHEAD_CACHE_DIR") or platformdirs.user_cache_dir("frozenhead")
    chosen = default if named is None else named
    if not is_url(chosen):
        return place(chosen), None
    url = check_url(str(chosen))
    return mirror_folder(url), url


class VectorCache:
    """All spaces under one folder, or in one object store.

    Parameters
    ----------
    folder : path or URL, optional
        Default: `FROZENHEAD_CACHE_DIR`, else the user's cache folder. Created, private (0700), when first written to.
        A URL, a string such as `s3://bucket/folder`, is reached through a mirror, a folder of its own.
    verify : {"lazy", "always", "never"}
        When a shard is hashed: on first touch, on every touch, or not at all.

    Attributes
    ----------
    folder : Path
        The folder, or the mirror.
    url : str or None
        The object store.

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
        self.folder, self.url = cache_place(folder)
        check_cache_folder(self.folder)
        self._remote = None if self.url is None else Remote(self.url, self.folder)
        self._verify: Verify = verify
        self._stores: dict[str, SpaceStore] = {}

    @property
    def location(self) -> str:
        """What a run notes, to find the cache again: the folder's path without links, or the URL."""
        return self.url or str(self.folder.resolve())

    def note(self, *parts: str) -> Note:
        """A small file that processes which share the cache leave for one another, by its folders and its name."""
        return Note(self.folder, self._remote, *parts)

    def space(self, space: Space) -> SpaceStore:
        """The store of one space. Nothing is created on disk before something is written.

        Raises `CacheDamaged` if its folders are links.
        """
        if space.id not in self._stores:
            folder = self.folder / FORMAT / space.id
            check_space_folder(folder)
            self._stores[space.id] = SpaceStore(folder, space, self._verify, self._shards_of(folder, space))
        return self._stores[space.id]

    def spaces(self) -> list[SpaceSummary]:
        """What is there, space by space. Raises `StorageError` if it may not be read."""
        held = self._survey()
        with storage_errors(self.folder, "list"):
            near = [summarise(folder) for folder in self._space_folders()]
        return [widen(one, held[one.id], self.folder) if one.id in held else one for one in near]

    def model_bytes(self) -> list[int]:
        """The size of each converted encoder that is kept beside the spaces."""
        with storage_errors(self.folder, "list"):
            return [whole_folder(path, "").bytes for path in model_folders(self.folder)]

    def open_space(self, prefix: str) -> SpaceStore:
        """The store whose id starts with `prefix`, from its `space.json`. Raises `LookupError` if not exactly one."""
        self._survey()
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
        self._survey()
        with storage_errors(self.folder, "read"):
            folders = [self._shards_of(p, read_description(p)[0]) for p in self._space_folders()]
            for folder in folders:
                folder.put_back()
            shards = [(folder, name, folder.size(name)) for folder in folders for name in folder.names()]
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
        held = self._survey()
        with storage_errors(self.folder, "prune"):
            items, kept = [], []
            for folder in self._space_folders():
                far = held.get(folder.name)
                reason = "named" if folder.name in spaces else _unused(folder, unused_seconds, far)
                if quarantine and not dry_run:
                    SpaceFolder(folder, read_description(folder)[0]).put_back()
                if reason and not pinned and live_pins(folder):
                    kept.append(folder.name)
                    reason = None
                near = (
                    [whole_folder(folder, reason)]
                    if reason
                    else find_waste(folder, temporary=temporary, quarantine=quarantine)
                )
                items += near
                if self._remote and far:
                    items += (
                        [whole_space(self._remote, folder, far, reason)]
                        if reason
                        else far_waste(self._remote, folder, far, near, temporary=temporary, quarantine=quarantine)
                    )
            items += find_probes(self.folder / FORMAT) if temporary else []
            items += far_probes(self._remote, self.folder) if temporary and self._remote else []
            items += find_models(self.folder, temporary=temporary, models=models)
            if not dry_run:
                if self._remote:  # first: what is still in the mirror would be uploaded again
                    remove_far(self._remote, items)
                remove_waste([item for item in items if item.url is None])
        return Pruned(items=tuple(items), kept=tuple(kept))

    def _shards_of(self, folder: Path, space: Space | None) -> SpaceFolder:
        return MirrorFolder(folder, space, self._remote) if self._remote else SpaceFolder(folder, space)

    def _survey(self) -> dict[str, Holding]:
        """What an object store holds, by space; the mirror has a folder for each of these from then on."""
        return survey(self._remote, self.folder) if self._remote else {}

    def _space_folders(self) -> list[Path]:
        top = self.folder / FORMAT
        with storage_errors(top, "read"):
            if not top.is_dir():
                return []
            folders = sorted(p for p in top.iterdir() if p.is_dir() and is_shard_name(p.name))  # a sha256, too
        for folder in folders:
            check_space_folder(folder)
        return folders


def _unused(folder: Path, seconds: float | None, far: Holding | None) -> str | None:
    """Why a space may go for its age, if it may."""
    used = last_use(folder)
    if far and far.last_change is not None:
        used = max(used or 0, int(far.last_change * 1e9))
    if seconds is None or used is None or time.time() - used / 1e9 < seconds:
        return None
    day = utc_time(used / 1e9)
    return f"not used since {day:%Y-%m-%d}" if day else "not used for ages"
