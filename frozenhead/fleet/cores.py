"""Which cores a worker computes on, where several share a host: threads that fight over cores spin, and lose."""

import os
import socket

from frozenhead.fleet.share import Share

_SLOT = "\0frozenhead-{user}-{kind}-{slot}-of-{slots}"  # of Linux' abstract names, which end with who holds them
_held: list[socket.socket] = []


def take_cores(share: Share) -> None:
    """Compute on this share of the cores that the process may use, and leave the others to its neighbours.

    Every `share.of`-th core: where systems number the two threads of a core far apart, that keeps them together.
    """
    cores = usable_cores()
    if not hasattr(os, "sched_setaffinity"):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(cores) // share.of)))
        return
    os.sched_setaffinity(0, cores[share.index % len(cores) :: share.of])


def take_slot(count: int, *, kind: str = "cores") -> Share | None:
    """Compute on `count` cores that no other worker of this user and host has taken; they are free when it ends.

    Those who take slots of one kind keep clear of each other. Returns None, and changes nothing, where that is not to
    be had: all are taken, or the system has no such names.
    """
    cores = usable_cores()
    slots = len(cores) // max(1, count)
    if slots < 2 or not hasattr(os, "sched_setaffinity"):
        return None
    for slot in range(slots):
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            held.bind(_SLOT.format(user=os.geteuid(), kind=kind, slot=slot, slots=slots))
        except OSError:
            held.close()
            continue
        _held.append(held)
        share = Share(index=slot, of=slots)
        take_cores(share)
        return share
    return None


def usable_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
