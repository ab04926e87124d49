"""Looking after the cache: what is there, and what may go."""

import json
import os
import re
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from frozenhead.cache.pins import Pin, read_pins
from frozenhead.cache.shard import HEADER_LIMIT, is_shard_file
from frozenhead.cache.space import Space
from frozenhead.files import TEMPORARY_PREFIX, host_name, read_file

MODELS = "models"
"""Folder beside the spaces of encoders converted for another backend: derived, and never needed."""

_PID = re.compile(r"[1-9][0-9]{0,8}")
DESCRIPTION_LIMIT = 2**24  # bytes of a space.json; of a damaged one the size may be anything
_ROWS = re.compile(rb'"keys":\{"dtype":"U8","shape":\[([0-9]{1,15}),32\]')
DAY_SECONDS = 24 * 3600.0  # after that a temporary file is abandoned
_UNFINISHED = "unfinished file of a stopped process"


@dataclass(frozen=True, kw_only=True)
class SpaceSummary:
    """One space as `cache ls` shows it.

    Attributes
    ----------
    id : str
    space : Space or None
        None if `space.json` is missing or damaged; its vectors can still be read by those who know the space.
    recorded : dict
        Names and versions written beside the identity.
    rows, shards, bytes, quarantined : int
        Rows are those the headers claim; a text that two writers computed counts twice.
    last_used : float or None
        When its vectors were last written or read, in seconds since 1970; None if that cannot be told.
    pinned : bool
        Whether a run refers to it.
    runs : tuple of Path
        Files of the runs that do, as far as their pins can be read.
    """

    id: str
    space: Space | None
    recorded: dict[str, Any]
    rows: int
    shards: int
    bytes: int
    quarantined: int
    last_used: float | None
    pinned: bool
    runs: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class PruneItem:
    """A file or folder that `prune` removes, why, and its size in bytes; `url` if it stands in an object store."""

    path: Path
    reason: str
    bytes: int
    url: str | None = None


def summarise(folder: Path) -> SpaceSummary:
    """Read the description of a space and the headers of its shards."""
    space, recorded = read_description(folder)
    shards = [p for p in _entries(folder / "shards") if is_shard_file(p.name)]
    pins, used = live_pins(folder), last_use(folder)
    return SpaceSummary(
        id=folder.name,
        space=space,
        recorded=recorded,
        rows=sum(_claimed_rows(path) for path in shards),
        shards=len(shards),
        bytes=sum(file_size(path) for path in shards),
        quarantined=len(_entries(folder / "quarantine")),
        last_used=None if used is None else used / 1e9,
        pinned=bool(pins),
        runs=tuple(pin.holder for pin in pins if pin.holder is not None),
    )


def read_description(folder: Path) -> tuple[Space | None, dict[str, Any]]:
    """The space and the facts beside it in `space.json`; (None, {}) if it is not what the folder's name says."""
    try:
        content = json.loads(read_file(folder / "space.json", limit=DESCRIPTION_LIMIT, follow=False))
        space = Space.from_dict(content["space"])
        recorded = dict(content.get("recorded", {}))
        return (space, recorded) if space.id == folder.name else (None, {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, {}


def note_use(folder: Path, ns: int | None = None) -> None:
    """Set the time of last use, that of `space.json`, to now or to that given, where that can be done."""
    at = time.time_ns() if ns is None else ns
    with suppress(OSError):
        os.utime(folder / "space.json", ns=(at, at), follow_symlinks=False)


def last_use(folder: Path) -> int | None:
    """When a space was last read or written, in ns since 1970; of one that has lost `space.json`, when written."""
    for path in (folder / "space.json", folder / "shards"):
        with suppress(OSError):
            return path.stat().st_mtime_ns
    return None


def utc_time(seconds: float) -> datetime | None:
    """A file's time as a date; None if it lies beyond the years that have one, as on a broken disk."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def find_waste(folder: Path, *, temporary: bool, quarantine: bool) -> list[PruneItem]:
    """What may go from one space: leavings of dead writers, pins of runs that are gone, and the quarantine."""
    waste: list[tuple[Path, str]] = []
    if temporary:
        folders = (folder, folder / "shards", folder / "pins", folder / "quarantine")
        waste += [(path, _UNFINISHED) for sub in folders for path in _entries(sub) if _is_abandoned(path)]
        waste += [(pin.path, "pin of a run that is gone") for pin in read_pins(folder) if not pin.live]
    if quarantine:
        waste += [(path, "failed verification") for path in _entries(folder / "quarantine")]
    return [PruneItem(path=p, reason=reason, bytes=file_size(p)) for p, reason in dict(waste).items()]


def find_probes(spaces: Path) -> list[PruneItem]:
    """Test writes of stopped processes, which stand beside the spaces."""
    leavings = [path for path in _entries(spaces) if _is_abandoned(path)]
    return [PruneItem(path=path, reason=_UNFINISHED, bytes=file_size(path)) for path in leavings]


def whole_folder(folder: Path, reason: str) -> PruneItem:
    """A folder with all that is in it."""
    return PruneItem(path=folder, reason=reason, bytes=sum(file_size(path) for path in folder.rglob("*")))


def model_folders(cache: Path) -> list[Path]:
    """The converted encoders that a cache keeps, unfinished ones not among them; none are followed through a link."""
    return [path for path in _model_entries(cache) if not path.name.startswith(TEMPORARY_PREFIX)]


def find_models(cache: Path, *, temporary: bool, models: bool) -> list[PruneItem]:
    """What may go from the converted encoders: leavings of dead writers, and if asked for all that are whole."""
    items = [whole_folder(path, "converted encoder") for path in model_folders(cache) if models]
    leavings = [path for path in _model_entries(cache) if temporary and _is_abandoned(path)]
    return items + [whole_folder(path, "unfinished folder of a stopped process") for path in leavings]


def _model_entries(cache: Path) -> list[Path]:
    folder = cache / MODELS
    return [] if folder.is_symlink() else [path for path in _entries(folder) if not path.is_symlink()]


def live_pins(folder: Path) -> list[Pin]:
    """The pins of runs that still refer to the space."""
    return [pin for pin in read_pins(folder) if pin.live]


def remove_waste(items: list[PruneItem]) -> None:
    """Remove files and folders; one that is already gone is no error."""
    for item in items:
        if item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        else:
            item.path.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def file_size(path: Path) -> int:
    """Bytes of a file, 0 for a folder; 0 as well if another process has taken it away since it was listed."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    return 0 if stat.S_ISDIR(status.st_mode) else status.st_size


def _is_abandoned(path: Path) -> bool:
    """Whether a temporary file's writer is gone: it is a day old, or its process on this host has ended.

    Age alone tells of other hosts, and of a process whose number another one has got since.
    """
    if not path.name.startswith(TEMPORARY_PREFIX):
        return False
    try:
        if time.time() - path.lstat().st_mtime > DAY_SECONDS:
            return True
    except FileNotFoundError:
        return False
    host, _, rest = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")
    return host == host_name() and has_ended(rest.partition("-")[0])


def has_ended(pid: str) -> bool:
    """Whether no process has this number; False where that cannot be told."""
    if os.name != "posix" or not _PID.fullmatch(pid):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _claimed_rows(path: Path) -> int:
    """Rows by the header alone: a listing does not read the vectors."""
    try:
        match = _ROWS.search(read_file(path, limit=HEADER_LIMIT))
    except OSError:
        return 0
    return int(match[1]) if match else 0
