"""The cache: all spaces under one folder, `<folder>/v1/<space id>/`."""

import os
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from frozenhead.cache.folder import SpaceFolder, Verify
from frozenhead.cache.keys import KEY_BYTES
from frozenhead.cache.space import Space
from frozenhead.cache.store import SpaceStore
from frozenhead.cache.upkeep import PruneItem, SpaceSummary, find_waste, read_description, remove_waste, summarise
from frozenhead.files import storage_errors


def default_folder() -> Path:
    """`FROZENHEAD_CACHE_DIR` if set, else the user's cache folder for frozenhead."""
    named = os.environ.get("FROZENHEAD_CACHE_DIR")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("frozenhead"))


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
        """What is there, space by space. Raises `StorageError` if it may not be read."""
        with storage_errors(self.folder, "list"):
            return [summarise(folder) for folder in self._space_folders()]

    def open_space(self, prefix: str) -> SpaceStore:
        """The store whose id starts with `prefix`, from its `space.json`. Raises `LookupError` if not exactly one."""
        folders = [folder for folder in self._space_folders() if folder.name.startswith(prefix)]
        if len(folders) != 1:
            raise LookupError(f"{len(folders)} spaces start with {prefix!r}")
        space, _ = read_description(folders[0])
        if space is None:
            raise LookupError(f"space.json of {folders[0].name} cannot be read")
        return self.space(space)

    def check_all(self) -> dict[str, list[tuple[str, str]]]:
        """Verify every shard of every space, also where `space.json` is damaged; bad ones go to quarantine.

        Returns them by space id.
        """
        bad = {p.name: SpaceFolder(p, read_description(p)[0]).check_all() for p in self._space_folders()}
        return {space_id: shards for space_id, shards in bad.items() if shards}

    def prune(self, *, spaces: Sequence[str] = (), dry_run: bool = False) -> list[PruneItem]:
        """Remove what nobody needs: files of dead writers, quarantined files, and whole `spaces` named by id.

        Returns what went, or with `dry_run` what would go.
        """
        with storage_errors(self.folder, "prune"):
            folders = self._space_folders()
            items = [item for folder in folders for item in find_waste(folder, whole=folder.name in spaces)]
            if not dry_run:
                remove_waste(items)
        return items

    def _space_folders(self) -> list[Path]:
        top = self.folder / "v1"
        with storage_errors(top, "read"):
            if not top.is_dir():
                return []
            return sorted(p for p in top.iterdir() if p.is_dir() and len(p.name) == 2 * KEY_BYTES)
