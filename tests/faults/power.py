"""What a disk may hold after the power has failed, given the operations that came before.

A weak model in the spirit of ALICE (Pillai et al., OSDI 2014), weaker than any one file system:

* What was written to a file and not followed by an fsync of it may be there or not, sector by sector, in any
  order; the file may have its old size, its new one, or any between, and holds zeros where nothing came.
* A name that was made, moved or removed, and not followed by an fsync of its folder, may have been so or not, each
  name by itself: a later one without an earlier one, a file under its new name that never had its old one.
  A move from one folder to another is one step, and safe when both folders are.
* What was followed by an fsync is there.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.faults.interposer import Op

SECTOR = 512
TOP = 0  # the inode of the disk's own top folder, which was there before

State = dict[str, bytes | None]
"""What lies on the disk: path -> content, None for a folder."""

Entries = dict[int, dict[str, int]]
"""Folder -> name -> what it names."""


@dataclass(frozen=True)
class Names:
    """Names set in folders, or removed where the inode is None: all of them, or none."""

    entries: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True)
class Data:
    """Bytes written to a file."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Sync:
    """The fsync of a file or folder."""

    inode: int


@dataclass(frozen=True)
class Acknowledged:
    """Keys that somebody was told are safe."""

    keys: frozenset[bytes]


Step = Names | Data | Sync | Acknowledged


@dataclass
class Story:
    """The steps of one process after another, on inodes instead of paths."""

    steps: list[Step] = field(default_factory=list)
    files: set[int] = field(default_factory=set)
    _next: int = TOP + 1
    _names: dict[tuple[int, str], int] = field(default_factory=dict)  # as a living process sees them

    def tell(self, ops: Iterable[Op]) -> "Story":
        """Add what one process has done."""
        opened: dict[int, int] = {}
        for op in ops:
            match op.name:
                case "mkdir":
                    self._name((self._place(op.path), self._new()))
                case "create":
                    if self._place(op.path) in self._names:
                        raise NotImplementedError(f"{op.path} is opened for writing a second time")
                    opened[op.number] = self._next
                    self.files.add(self._next)
                    self._name((self._place(op.path), self._new()))
                case "write":
                    self.steps.append(Data(opened[op.handle], op.offset, op.data))
                case "fsync":
                    self.steps.append(Sync(opened[op.handle] if op.handle in opened else self._inode(op.path)))
                case "rename":
                    inode = self._inode(op.path)
                    self._name((self._place(op.path), None), (self._place(op.target), inode))
                case "unlink" | "rmdir":
                    self._name((self._place(op.path), None))
                case "acknowledge":
                    keys = frozenset(op.data[i : i + 32] for i in range(0, len(op.data), 32))
                    self.steps.append(Acknowledged(keys))
                case "utime":  # no law speaks of times
                    pass
                case _:
                    raise NotImplementedError(op.name)
        return self

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    def _name(self, *entries: tuple[tuple[int, str], int | None]) -> None:
        for place, inode in entries:
            self._names.pop(place, None)
            if inode is not None:
                self._names[place] = inode
        self.steps.append(Names(tuple((*place, inode) for place, inode in entries)))

    def _place(self, path: str) -> tuple[int, str]:
        parent, name = os.path.split(path)
        return self._inode(parent), name

    def _inode(self, path: str) -> int:
        inode = TOP
        for name in PurePosixPath(path).parts:
            inode = self._names[inode, name]
        return inode


def acknowledged_in(steps: Iterable[Step]) -> set[bytes]:
    """The keys that were acknowledged in these steps."""
    return {key for step in steps if isinstance(step, Acknowledged) for key in step.keys}


def state_after(story: Story, moment: int, chance: random.Random | None) -> State:
    """One of the states that the disk may be in when the power fails after so many steps.

    Without chance, the one in which nothing has survived that was not synced.
    """
    names, data = _pending(story.steps[:moment])
    happens = _coin(chance)
    entries: Entries = {}
    for change, safe in names:
        if safe or happens():
            for folder, name, inode in change.entries:
                entries.setdefault(folder, {}).pop(name, None)
                if inode is not None:
                    entries[folder][name] = inode
    contents = dict.fromkeys(story.files, b"") | {inode: _content(w, chance) for inode, w in data.items()}
    state: State = {}
    _walk(TOP, "", entries, contents, state)
    return state


def _pending(steps: Sequence[Step]) -> tuple[list[tuple[Names, bool]], dict[int, list[tuple[Data, bool]]]]:
    """All changes of names, and each file's writes, in order, and whether an fsync has made them safe."""
    changes: list[tuple[Names, set[int]]] = []  # and the folders whose fsync is still to come
    writes: dict[int, list[tuple[Data, bool]]] = {}
    for step in steps:
        match step:
            case Names():
                changes.append((step, {folder for folder, _, _ in step.entries}))
            case Data():
                writes.setdefault(step.inode, []).append((step, False))
            case Sync():
                for _, waits in changes:
                    waits.discard(step.inode)
                if step.inode in writes:
                    writes[step.inode] = [(write, True) for write, _ in writes[step.inode]]
    return [(change, not waits) for change, waits in changes], writes


def _coin(chance: random.Random | None) -> Callable[[], bool]:
    """Whether one thing reaches the disk: for all things always, never, or as it comes."""
    if chance is None:
        return lambda: False
    share = chance.choice((0.0, 1.0, 0.5, chance.random()))
    return lambda: chance.random() < share


def _content(writes: list[tuple[Data, bool]], chance: random.Random | None) -> bytes:
    """What a file holds: its safe writes, and of the others some sectors, within some size."""
    old, new = _written([w for w, safe in writes if safe]), _written([w for w, _ in writes])
    if old == new or chance is None:
        return old
    size = chance.choice((len(old), len(new), chance.randint(*sorted((len(old), len(new))))))
    happens = _coin(chance)
    held = bytearray(old.ljust(len(new), b"\0"))
    for start in range(0, len(new), SECTOR):
        if happens():
            held[start : start + SECTOR] = new[start : start + SECTOR]
    return bytes(held[:size])


def _written(writes: Iterable[Data]) -> bytes:
    held = bytearray()
    for write in writes:
        held.extend(bytes(max(0, write.offset - len(held))))
        held[write.offset : write.offset + len(write.data)] = write.data
    return bytes(held)


def _walk(folder: int, path: str, entries: Entries, contents: dict[int, bytes], state: State) -> None:
    """Gather what can be reached: a folder whose name was lost takes all that is in it along."""
    for name, inode in entries.get(folder, {}).items():
        state[path + name] = contents.get(inode)
        _walk(inode, f"{path}{name}/", entries, contents, state)


def lay_out(state: State, disk: Path) -> None:
    """Make the disk hold this state and nothing else."""
    shutil.rmtree(disk, ignore_errors=True)
    os.mkdir(disk)
    for path, content in state.items():  # a folder stands before what is in it
        if content is None:
            os.mkdir(disk / path, 0o700)
        else:
            (disk / path).write_bytes(content)
