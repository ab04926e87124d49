"""Compaction: many small shards of a space into few. New first, then the runs that refer to them, old last.

A kill at any moment leaves a cache that is right: at worst some rows stand in an old shard and in a new one.

Two shards may hold vectors of one text that differ in the last bit, computed in other batches. Which of the two a
run gets must not change with the names of the files. So a shard that a run has pinned is merged only if each of its
texts has one vector in all the space; shards that no run has pinned are merged with each other, each key once.

Two compactions of one space wait for each other, the only lock in the cache: each might else remove what the other
has just found to hold the rows. Readers and writers never wait.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache.keys import WantedKeys, join_keys, leading_number
from frozenhead.cache.pins import Pin
from frozenhead.cache.store import SpaceStore
from frozenhead.cache.upkeep import file_size, last_use, live_pins, note_use
from frozenhead.cache.writer import FLUSH_BYTES
from frozenhead.errors import FrozenheadError
from frozenhead.files import close, read_file, storage_errors, sync_folder

SMALL_BYTES = FLUSH_BYTES // 2

Repin = Callable[[Path, Mapping[str, tuple[str, ...]]], tuple[str, ...]]
"""Called with a run's file and what stands in the place of which shard; puts that into the file's own list of
shards, and returns the list."""

Progress = Callable[[int, int], None]

_SHARD_NAME = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """What `compact` did to one space.

    Attributes
    ----------
    space : str
    before, after : int
        Shards there were and are; of a dry run, would be at most.
    removed, written : tuple of str
        Shards taken away, and those that hold their rows now.
    kept : int
        Small shards that could not be merged: a run refers to them, and they hold other vectors of some texts than
        another shard does, or the run's file cannot be changed.
    """

    space: str
    before: int
    after: int
    removed: tuple[str, ...]
    written: tuple[str, ...]
    kept: int


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Which shards are merged with each other, what each pin referred to then, and how many small shards stay."""

    groups: list[list[str]]
    referred: dict[Path, frozenset[str]]
    kept: int


def compact(
    store: SpaceStore,
    *,
    repin: Repin,
    dry_run: bool = False,
    progress: Progress = lambda done, whole: None,  # noqa: ARG005
) -> Compaction:
    """Merge the small shards of a space.

    Parameters
    ----------
    store : SpaceStore
    repin : callable
        Changes the list of shards in a run's file. Where it raises a `FrozenheadError` or `OSError`, the shards of
        that run stay.
    dry_run : bool
        Change nothing; tell which shards would go.
    progress : callable
        Called with (shards rewritten, shards to rewrite).

    Raises
    ------
    StorageError
        The cache cannot be read or written. Nothing is lost then.
    """
    with storage_errors(store.folder, "compact"):
        if not dry_run:
            with _one_at_a_time(store.folder / "space.json"):
                return _compact(store, repin, progress)
        names = store.pin()
        sizes = _sizes(store, names)
        plan = _plan(store, sizes)
        would = tuple(name for group in plan.groups for name in group)
        after = len(names) - len(would) + sum(_most_shards(group, sizes) for group in plan.groups)
        return Compaction(
            space=store.space.id, before=len(names), after=after, removed=would, written=(), kept=plan.kept
        )


def _compact(store: SpaceStore, repin: Repin, progress: Progress) -> Compaction:
    names, used = store.pin(), last_use(store.folder)
    plan = _plan(store, _sizes(store, names))
    whole = sum(map(len, plan.groups))
    new: dict[str, tuple[str, ...]] = {}  # an old shard's name to those that hold its rows now
    written: set[str] = set()
    done = 0
    for group in plan.groups:
        committed = _rewrite(store, group, lambda n, done=done: progress(done + n, whole))  # type: ignore[misc]
        written |= set(committed)
        new |= _proven(store, group, committed)
        done += len(group)
    _move_pins(store, plan.referred, new, repin)
    # Looked at again: a run may have come since, or have gone back to its old list.
    every = (*names, *written)
    in_use = frozenset().union(*(_referred(pin, every) for pin in live_pins(store.folder))) if new else frozenset()
    removed = {name for name in new if name not in in_use and name not in written}
    needed = {name for old in removed for name in new[old]}
    _remove(store, removed | (written - needed - in_use - set(names)))
    if used is not None and set(store.pin()) <= (set(names) - removed) | written:
        note_use(store.folder, used)  # nobody else wrote meanwhile, and to be compacted is no use
    return Compaction(
        space=store.space.id,
        before=len(names),
        after=len(store.pin()),
        removed=tuple(sorted(removed)),
        written=tuple(sorted(needed)),
        kept=plan.kept + len((set(new) & in_use) - written),
    )


def _plan(store: SpaceStore, sizes: Mapping[str, int]) -> _Plan:
    """Group the small shards: those whose texts have one vector each wherever a run has it, and the unpinned rest."""
    names = tuple(sizes)
    small = [name for name in names if sizes[name] < SMALL_BYTES]
    pins = live_pins(store.folder)
    referred = {pin.path: _referred(pin, names) for pin in pins}
    pinned = frozenset().union(*referred.values())
    fixed = {name for name in small if any(pin.holder is None for pin in pins)}  # nobody knows whose they are
    apart = (_disputed(store, names, pinned) if pinned and len(small) > 1 else set()) | fixed
    groups = [[n for n in small if n not in apart], [n for n in small if n in apart and n not in pinned]]
    return _Plan(
        groups=[group for group in groups if len(group) > _most_shards(group, sizes)],
        referred=referred,
        kept=sum(name in apart and name in pinned for name in small),
    )


def _disputed(store: SpaceStore, names: Sequence[str], pinned: frozenset[str]) -> set[str]:
    """Shards with a key that a pinned shard holds, and that has another vector somewhere."""
    numbers = {name: leading_number(store.shard_keys(name)) for name in names}
    every = np.sort(np.concatenate(list(numbers.values())))
    shared = every[1:][every[1:] == every[:-1]]
    rows = [_digests(store, name, shared) for name in names if np.isin(numbers[name], shared).any()]
    distinct = np.unique(np.concatenate([np.zeros((0, 2), np.uint64), *rows]), axis=0)[:, 0]
    differing = distinct[1:][distinct[1:] == distinct[:-1]]
    theirs = np.concatenate([np.zeros(0, np.uint64), *(numbers[name] for name in names if name in pinned)])
    hot = differing[np.isin(differing, theirs)]
    return {name for name in names if np.isin(numbers[name], hot).any()}


def _digests(store: SpaceStore, name: str, shared: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Of a shard's rows whose keys stand in `shared`: the key's leading number, and 8 bytes of the row's hash."""
    pairs = []
    for keys, vectors, tokens in store.rows([name]):
        numbers = leading_number(keys)
        for i in np.flatnonzero(np.isin(numbers, shared)):
            row = hashlib.sha256(keys[i].tobytes() + vectors[i].tobytes() + tokens[i].tobytes())
            pairs.append((int(numbers[i]), int.from_bytes(row.digest()[:8])))
    return np.array(pairs, np.uint64).reshape(-1, 2)


def _rewrite(store: SpaceStore, names: list[str], progress: Callable[[int], None]) -> list[str]:
    """Commit the rows of shards as new ones, each key once; returns the new names."""
    with store.writer(flush_bytes=FLUSH_BYTES, flush_seconds=np.inf) as writer:
        for done, rows in enumerate(store.rows(names), start=1):
            writer.add(*rows)
            progress(done)
    return writer.committed


def _proven(store: SpaceStore, names: list[str], written: list[str]) -> dict[str, tuple[str, ...]]:
    """Old shards whose every row is read back from the disk, and out of which new ones.

    One that went bad or vanished meanwhile is not among them, nor one whose rows it alone was to give.
    """
    theirs = [store.shard_keys(name) for name in written]
    owner = np.repeat(np.arange(len(written)), [len(keys) for keys in theirs])
    there = WantedKeys(join_keys(theirs))
    proven = {}
    for name in names:
        keys = store.shard_keys(name)
        positions, rows = there.match(keys)
        if len(keys) and len(np.unique(positions)) == len(keys):
            proven[name] = tuple(sorted({written[i] for i in np.unique(owner[rows])}))
    return proven


def _move_pins(
    store: SpaceStore, referred: Mapping[Path, frozenset[str]], new: Mapping[str, tuple[str, ...]], repin: Repin
) -> None:
    """Let the runs refer to the new shards, but for those that came or changed since the plan was made."""
    for pin in live_pins(store.folder):
        theirs = _referred(pin, new)
        if pin.holder is None or theirs.isdisjoint(new) or theirs != referred.get(pin.path):
            continue
        coming = {name for old in theirs & set(new) for name in new[old]}
        try:
            store.refer(pin.holder, (*pin.shards, *coming))  # both, until the run's own list is changed
            store.refer(pin.holder, repin(pin.holder, new))
        except (FrozenheadError, OSError):  # its shards stay; what its file says now counts as well as the pin
            with suppress(FrozenheadError, OSError):
                store.refer(pin.holder, pin.shards)


def _referred(pin: Pin, names: Sequence[str] | Mapping[str, object]) -> frozenset[str]:
    """The shards that a run goes by: those of its pin, and those in its own file; all `names` if one cannot be read."""
    if pin.holder is None:
        return frozenset(names)
    try:
        own = _SHARD_NAME.findall(read_file(pin.holder))
    except FileNotFoundError:
        own = []
    except OSError:
        return frozenset((*pin.shards, *names))
    return frozenset(pin.shards) | {name.decode() for name in own}


def _remove(store: SpaceStore, names: set[str]) -> None:
    with storage_errors(store.folder, "remove old shards of"):
        for name in sorted(names):
            store.shard(name).unlink(missing_ok=True)
        if names:
            sync_folder(store.folder / "shards")


def _sizes(store: SpaceStore, names: Sequence[str]) -> dict[str, int]:
    return {name: file_size(store.shard(name)) for name in names}


def _most_shards(group: Sequence[str], sizes: Mapping[str, int]) -> int:
    """How many shards the rows of a group make at most: a writer fills one before it begins another."""
    return 1 + sum(sizes[name] for name in group) // FLUSH_BYTES


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock on a file, where there is one and the file system can; the system ends it with the process."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:  # nothing is there yet, or it may not be written, of which the user hears in time
        yield
        return
    try:
        if os.name == "posix":
            import fcntl

            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        close(descriptor)
