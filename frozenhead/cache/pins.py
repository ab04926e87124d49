"""Pins: which runs refer to which shards of a space, so that nothing is taken from under a run unnoticed.

    <space>/pins/<sha256 of the holder's path>.json   {"holder": ..., "host": ..., "shards": [...], "check": ...}

In an object store, which many hosts with equal paths share, the hash is of host, newline and path.
The holder is a file of the run that names the space. It is the run's own list that a `fit` goes by; the pin
is what `prune` and `compact` see of it. A pin whose holder is gone, or names the space no more, is stale; one that
another host wrote, whose disk may not be seen from here, only after 30 days.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenhead.cache.shard import is_shard_name
from frozenhead.files import host_name, make_folder, read_file, write_file

_PRIVATE = 0o700
_FRESH_SECONDS = 30 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What one run refers to.

    Attributes
    ----------
    path : Path
        The pin's own file.
    holder : Path or None
        The run's file; None if the pin is damaged, and nobody knows whose it is.
    shards : tuple of str
    live : bool
        Whether the run still refers to the space. A damaged pin counts as live.
    """

    path: Path
    holder: Path | None
    shards: tuple[str, ...]
    live: bool

    def holds(self, name: str) -> bool:
        """Whether the shard must not go."""
        return self.live and (self.holder is None or name in self.shards)


def write_pin(space: Path, holder: Path, shards: Iterable[str], *, by_host: bool = False) -> Path:
    """Note that `holder` refers to these shards; returns the pin's file. Raises `StorageError`.

    An equal pin is left as it is. With `by_host` another host's run of the same path has another pin.
    """
    holder = holder.resolve()
    path = _pin_path(space, holder, host_name() if by_host else None)
    facts = {"holder": str(holder), "host": host_name(), "shards": sorted(set(shards))}
    content = _ascii_json({**facts, "check": _digest(facts)})
    with suppress(OSError):
        if read_file(path) == content:
            os.utime(path)
            return path
    make_folder(path.parent, mode=_PRIVATE)
    write_file(path, content)
    return path


def read_pins(space: Path) -> list[Pin]:
    """The pins of a space. Raises `OSError` if the folder may not be listed."""
    try:
        names = sorted(os.listdir(space / "pins"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [_read_pin(space, space / "pins" / n) for n in names if n.endswith(".json") and is_shard_name(n[:-5])]


def _read_pin(space: Path, path: Path) -> Pin:
    try:
        content = json.loads(read_file(path))
        check, holder = content.pop("check"), Path(str(content["holder"]))
        shards = tuple(str(name) for name in content["shards"])
        if check != _digest(content) or path not in {_pin_path(space, holder, h) for h in (None, content["host"])}:
            raise ValueError("altered")
        live = _names_space(holder, space.name) or (content["host"] != host_name() and _is_fresh(path))
    except FileNotFoundError:
        return Pin(path=path, holder=None, shards=(), live=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Pin(path=path, holder=None, shards=(), live=True)
    return Pin(path=path, holder=holder, shards=shards, live=live)


def _names_space(holder: Path, space_id: str) -> bool:
    """Whether the run's file is there and still speaks of the space; one that may not be read is believed."""
    try:
        return space_id.encode() in read_file(holder)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _is_fresh(path: Path) -> bool:
    """Whether a pin was written or renewed of late, by a run on another host whose disk this one may not see."""
    return time.time() - path.stat().st_mtime < _FRESH_SECONDS


def _pin_path(space: Path, holder: Path, host: str | None) -> Path:
    whose = os.fsencode(holder) if host is None else os.fsencode(f"{host}\n{holder}")
    return space / "pins" / f"{hashlib.sha256(whose).hexdigest()}.json"


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(_ascii_json(facts)).hexdigest()


def _ascii_json(value: Any) -> bytes:
    """JSON that can also say a path that is no UTF-8."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
