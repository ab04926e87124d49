"""How much memory there is to work with: the machine's, or what this process may use of it."""

import os
from collections.abc import Iterator
from pathlib import Path

from frozenhead.errors import UsageError

SETTING = "FROZENHEAD_MEMORY"
"""Environment variable: GiB to reckon with in place of the machine's."""

_GROUPS = Path("/proc/self/cgroup")
_LIMITS = Path("/sys/fs/cgroup")


def machine_memory() -> int:
    """Bytes of memory: `FROZENHEAD_MEMORY`, else the machine's or, if it is less, the limit of this process's cgroup.

    Not what is free just now: what is decided by it, such as the order in which rows are read, must be the same
    each time. Raises `UsageError` for a setting that is no number above 0.
    """
    if given := os.environ.get(SETTING):
        try:
            number = float(given)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            raise UsageError(f"{SETTING} is {given!r}; expected GiB as a number above 0, such as 4 or 0.5.")
        return int(number * 2**30)
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_group_limits()])


def _group_limits() -> Iterator[int]:
    """Limits of the control groups (version 2) that this process is in, as Slurm and containers set them."""
    try:
        lines = _GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, group = line.split(":", 2)
        if number == "0":
            place = _LIMITS / group.strip("/")
            for folder in (place, *place.parents):
                if folder == _LIMITS.parent:
                    break
                try:
                    limit = (folder / "memory.max").read_text().strip()
                except OSError:
                    continue
                if limit.isdigit():
                    yield int(limit)


def gibibytes(size: float) -> str:
    """`7.2 GiB`, `512.0 MiB`."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
