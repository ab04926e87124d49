"""Looking after the cache: what is there, and what may go."""

import json
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenhead.cache.shard import SUFFIX, BadShard, parse_header
from frozenhead.cache.space import Space
from frozenhead.files import TEMPORARY_PREFIX, host_name

_SHARD = re.compile(r"[0-9a-f]{64}" + re.escape(SUFFIX))
_PID = re.compile(r"[1-9][0-9]{0,8}")
_HEADER_LIMIT = 4096  # our headers are under 500 bytes
_ABANDONED_SECONDS = 24 * 3600.0


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
    """

    id: str
    space: Space | None
    recorded: dict[str, Any]
    rows: int
    shards: int
    bytes: int
    quarantined: int


@dataclass(frozen=True, kw_only=True)
class PruneItem:
    """A file or folder that `prune` removes, why, and its size in bytes."""

    path: Path
    reason: str
    bytes: int


def is_shard_name(name: str) -> bool:
    """Whether a file name is that of a shard: 64 hexadecimal digits and the suffix."""
    return _SHARD.fullmatch(name) is not None


def summarise(folder: Path) -> SpaceSummary:
    """Read the description of a space and the headers of its shards."""
    space, recorded = read_description(folder)
    shards = sorted(p for p in _entries(folder / "shards") if is_shard_name(p.name))
    return SpaceSummary(
        id=folder.name,
        space=space,
        recorded=recorded,
        rows=sum(_claimed_rows(path) for path in shards),
        shards=len(shards),
        bytes=sum(_size(path) for path in shards),
        quarantined=len(_entries(folder / "quarantine")),
    )


def read_description(folder: Path) -> tuple[Space | None, dict[str, Any]]:
    """The space and the facts beside it in `space.json`; (None, {}) if it is not what the folder's name says."""
    try:
        content = json.loads((folder / "space.json").read_bytes())
        space = Space.from_dict(content["space"])
        recorded = dict(content.get("recorded", {}))
        return (space, recorded) if space.id == folder.name else (None, {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, {}


def find_waste(folder: Path, *, whole: bool) -> list[PruneItem]:
    """What may go from one space: everything if `whole`, else the leavings of dead writers and the quarantine."""
    if whole:
        size = sum(_size(p) for p in folder.rglob("*"))
        return [PruneItem(path=folder, reason="space named", bytes=size)]
    leavings = [p for sub in (folder, folder / "shards") for p in _entries(sub) if _is_abandoned(p)]
    waste = [(p, "unfinished file of a stopped process") for p in leavings]
    waste += [(p, "failed verification") for p in _entries(folder / "quarantine")]
    return [PruneItem(path=p, reason=reason, bytes=_size(p)) for p, reason in waste]


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


def _size(path: Path) -> int:
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
        if time.time() - path.lstat().st_mtime > _ABANDONED_SECONDS:
            return True
    except FileNotFoundError:
        return False
    host, _, rest = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")
    return host == host_name() and _has_ended(rest.partition("-")[0])


def _has_ended(pid: str) -> bool:
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
        with open(path, "rb") as file:
            start = file.read(_HEADER_LIMIT)
        header, _ = parse_header(start)
        return int(header["keys"]["shape"][0])
    except (OSError, BadShard, KeyError, IndexError, TypeError, ValueError, OverflowError):
        return 0
