"""What an object store holds, space by space, for `cache ls` and `prune`: names, sizes and times, and no vectors."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from frozenhead.cache.mirror import MirrorFolder
from frozenhead.cache.place import FORMAT, check_space_folder
from frozenhead.cache.remote import Entry, Remote
from frozenhead.cache.shard import is_shard_file, is_shard_name, rows_by_size
from frozenhead.cache.upkeep import DAY_SECONDS, PruneItem, SpaceSummary
from frozenhead.files import TEMPORARY_PREFIX

_UNFINISHED = "unfinished file of a stopped process"


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What the store holds of one space: the names in its folder and in each one below that."""

    files: dict[str, Entry]
    shards: dict[str, Entry]
    pins: dict[str, Entry]
    quarantine: dict[str, Entry]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(entry.size for part in self._parts for entry in part.values())

    @property
    def last_change(self) -> float | None:
        """When anything in it was last written, in seconds since 1970; a run's pin is, whenever the run is used."""
        return max((e.time for part in self._parts for e in part.values() if e.time is not None), default=None)

    @property
    def _parts(self) -> tuple[dict[str, Entry], ...]:
        return self.files, self.shards, self.pins, self.quarantine


def survey(remote: Remote, mirror: Path) -> dict[str, Holding]:
    """What the store holds of each space, by its id; descriptions and pins are copied into the mirror.

    Raises
    ------
    StorageError
        The store cannot be read, or the mirror not written.
    CacheDamaged
        A space's folder in the mirror is a link.
    """
    ids = sorted(n for n, entry in remote.list(FORMAT).items() if entry.folder and is_shard_name(n))
    return {space_id: _holding(remote, mirror / FORMAT / space_id) for space_id in ids}


def _holding(remote: Remote, folder: Path) -> Holding:
    check_space_folder(folder)
    files, shards, pins, quarantine = (
        {name: entry for name, entry in remote.list(FORMAT, folder.name, *sub).items() if not entry.folder}
        for sub in ((), ("shards",), ("pins",), ("quarantine",))
    )
    holding = Holding(files=files, shards=shards, pins=pins, quarantine=quarantine)
    mirrored = MirrorFolder(folder, None, remote)
    if "space.json" in files:
        mirrored.take_description(holding.last_change)
    for name, entry in pins.items():
        if name.endswith(".json") and is_shard_name(name[:-5]) and _is_newer(entry, folder / "pins" / name):
            mirrored.take(f"pins/{name}", entry.time)
    return holding


def widen(summary: SpaceSummary, holding: Holding, mirror: Path) -> SpaceSummary:
    """The summary of a space's mirror, with what only the store has."""
    folder = mirror / FORMAT / summary.id / "shards"
    far = [e for name, e in holding.shards.items() if is_shard_file(name) and not (folder / name).exists()]
    used = [at for at in (summary.last_used, holding.last_change) if at is not None]
    return replace(
        summary,
        rows=summary.rows + sum(rows_by_size(summary.space, e.size) for e in far if summary.space),
        shards=summary.shards + len(far),
        bytes=summary.bytes + sum(entry.size for entry in far),
        quarantined=summary.quarantined + len(holding.quarantine),
        last_used=max(used, default=None),
    )


def whole_space(remote: Remote, folder: Path, holding: Holding, reason: str) -> PruneItem:
    """All that the store holds of a space."""
    return PruneItem(path=folder, reason=reason, bytes=holding.bytes, url=f"{remote.url}/{FORMAT}/{folder.name}")


def far_waste(
    remote: Remote, folder: Path, holding: Holding, near: Iterable[PruneItem], *, temporary: bool, quarantine: bool
) -> list[PruneItem]:
    """What may go from the store of one space: its quarantine, leavings a day old, and pins that go `near` as well."""
    top = f"{remote.url}/{FORMAT}/{folder.name}"
    stale = {item.path.name: item.reason for item in near if item.path.parent.name == "pins"}
    waste = [("pins", name, entry, stale[name]) for name, entry in holding.pins.items() if name in stale]
    if quarantine:
        waste += [("quarantine", name, entry, "failed verification") for name, entry in holding.quarantine.items()]
    if temporary:
        waste += [
            (sub, name, entry, _UNFINISHED)
            for sub, part in (("shards", holding.shards), ("pins", holding.pins), ("", holding.files))
            for name, entry in part.items()
            if _is_abandoned(name, entry)
        ]
    return [
        PruneItem(path=folder / sub / name, reason=reason, bytes=e.size, url="/".join(filter(None, (top, sub, name))))
        for sub, name, e, reason in waste
    ]


def far_probes(remote: Remote, mirror: Path) -> list[PruneItem]:
    """Test writes, a day old, which stand beside the spaces."""
    return [
        PruneItem(path=mirror / FORMAT / name, reason=_UNFINISHED, bytes=e.size, url=f"{remote.url}/{FORMAT}/{name}")
        for name, e in remote.list(FORMAT).items()
        if _is_abandoned(name, e)
    ]


def remove_far(remote: Remote, items: Iterable[PruneItem]) -> None:
    """Remove from the store what stands there. Raises `StorageError`."""
    for item in items:
        if item.url is not None:
            parts = item.url.removeprefix(f"{remote.url}/").split("/")
            remote.remove(*parts, whole=is_shard_name(parts[-1]))  # v1/<space id>


def _is_abandoned(name: str, entry: Entry) -> bool:
    """Whether a temporary object is a day old; whose it was cannot be asked."""
    return name.startswith(TEMPORARY_PREFIX) and entry.time is not None and time.time() - entry.time > DAY_SECONDS


def _is_newer(entry: Entry, path: Path) -> bool:
    """Whether the store has another pin than the mirror: it has none, or one from before, by the clocks of both."""
    try:
        return entry.time is not None and path.stat().st_mtime < entry.time - 1
    except FileNotFoundError:
        return True
