"""Between frozenhead and the disk: every operation inside one folder is counted, written down, and may be made to fail.

The functions of module `os` are replaced while an `Interposer` is entered, and so is `open`, whose files then go
through these functions too. What lies outside the folder passes untouched. An fsync is counted and not carried
out, unless `sync`: what a killed process has written stays in any case, and what a power failure takes is the
matter of `power`, which goes by the log.
"""

import builtins
import io
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from unittest import mock

How = Literal["kill before", "kill amid", "kill after", "error", "error for ever", "short", "stop"]

WRITES = frozenset({"create", "write", "truncate", "fsync", "rename", "mkdir", "unlink", "rmdir", "utime"})
_BY_PATH = {
    "open": "open", "mkdir": "mkdir", "unlink": "unlink", "remove": "unlink", "rmdir": "rmdir", "listdir": "list",
    "scandir": "list", "stat": "stat", "lstat": "stat", "readlink": "stat", "utime": "utime",
    "replace": "rename", "rename": "rename",
}  # fmt: skip
_BY_DESCRIPTOR = {
    "read": "read", "write": "write", "lseek": "seek", "fsync": "fsync", "fdatasync": "fsync", "close": "close",
    "fstat": "stat", "ftruncate": "truncate", "posix_fallocate": "truncate",
}  # fmt: skip
_MAKES = os.O_CREAT | os.O_TRUNC


class Halt(BaseException):
    """The process is as good as dead: nothing that it tries from now on reaches the disk."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens at operation `at`, and with "for ever" and "stop" at all that follow.

    "stop" is to the disk what "kill before" is, but leaves the process alive.
    """

    at: int
    how: How
    code: int = 0

    def __str__(self) -> str:
        return f"{self.how} {os.strerror(self.code) if self.code else ''} at operation {self.at}"


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operation that was carried out.

    Attributes
    ----------
    number : int
    name : str
        `WRITES` are those that change something; others are open, read, seek, list, stat, close.
    path, target : str
        Relative to the folder, "." being the folder itself; `target` of a rename only, else empty.
    handle : int
        Number of the operation that opened the descriptor it went to; -1 if none.
    data : bytes
        What was written.
    offset : int
        Where; of a truncation, the new size.
    """

    number: int
    name: str
    path: str
    target: str = ""
    handle: int = -1
    data: bytes = b""
    offset: int = 0


class Interposer:
    """Replaces the functions that reach the disk, for paths and descriptors inside `folder`.

    Parameters
    ----------
    folder : Path
    fault : Fault, optional
    record : callable
        Told every operation of `WRITES` after it was carried out.
    sync : bool
        Whether an fsync is carried out.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fault: Fault | None = None,
        record: Callable[[Op], None] = lambda op: None,
        sync: bool = False,
    ) -> None:
        self.folder = folder
        self.count = 0
        self.inside = False
        self._fault, self._record, self._sync = fault, record, sync
        self._open: dict[int, tuple[str, int]] = {}  # descriptor -> path and number of the operation that opened it
        self._true: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in {*_BY_PATH, *_BY_DESCRIPTOR}}
        self._true["open file"] = io.open
        self._patches = ExitStack()

    def __enter__(self) -> "Interposer":
        enter = self._patches.enter_context
        for name in _BY_PATH:
            enter(mock.patch.object(os, name, self._by_path(name)))
        for name in _BY_DESCRIPTOR:
            enter(mock.patch.object(os, name, self._by_descriptor(name)))
        enter(mock.patch.object(os, "fdopen", self._fdopen))
        enter(mock.patch.object(io, "open", self._open_file))
        enter(mock.patch.object(builtins, "open", self._open_file))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patches.close()

    def _by_path(self, function: str) -> Callable[..., Any]:
        def call(path: Any = ".", *args: Any, **options: Any) -> Any:
            if isinstance(path, int):
                return self._by_descriptor(function)(path, *args, **options)
            name = _BY_PATH[function]
            inside = self._inside(path, options.get("dir_fd", options.get("src_dir_fd")))
            target = self._inside(args[0], options.get("dst_dir_fd")) if name == "rename" else ""
            if inside is None and not target:
                return self._true[function](path, *args, **options)
            if name == "open" and args[0] & _MAKES:
                name = "create"
            op = Op(number=self.count, name=name, path=inside or "", target=target or "")
            result = self._do(op, lambda: self._true[function](path, *args, **options), os.fspath(path))
            if name in ("open", "create"):
                self._open[result] = (op.path, op.number)
            return result

        return call

    def _by_descriptor(self, function: str) -> Callable[..., Any]:
        def call(descriptor: Any, *args: Any, **options: Any) -> Any:
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            if number not in self._open:
                return self._true[function](descriptor, *args, **options)
            path, handle = self._open[number]
            name = {**_BY_PATH, **_BY_DESCRIPTOR}[function]
            true = self._true[function]
            data, offset = b"", 0
            if name == "write":
                data, offset = bytes(args[0]), self._true["lseek"](number, 0, os.SEEK_CUR)
            elif name == "truncate":
                offset = sum(args)
            elif name == "fsync" and not self._sync:
                true = os.getpid
                descriptor, args = None, ()
            if name == "close":
                del self._open[number]  # the descriptor is gone even if close says that it failed
            op = Op(number=self.count, name=name, path=path, handle=handle, data=data, offset=offset)
            whole = (lambda: true(descriptor, *args, **options)) if descriptor is not None else true
            half = (lambda: true(descriptor, args[0][: max(1, len(data) // 2)])) if data else None
            return self._do(op, whole, None, half)

        return call

    def _do(self, op: Op, whole: Callable[[], Any], path: str | None, half: Callable[[], int] | None = None) -> Any:
        """Carry an operation out, or let the fault happen that stands at its number."""
        self.count += 1
        fault = self._fault
        lasting = fault is not None and fault.how in ("error for ever", "stop")
        if fault and (op.number < fault.at or (op.number > fault.at and not lasting)):
            fault = None
        how = fault.how if fault else None
        if how == "stop" and op.name != "close":
            raise Halt
        if how == "kill before":
            signal.raise_signal(signal.SIGKILL)
        if how in ("kill amid", "short") and half is not None:
            taken = self._truly(half)
            if how == "kill amid":
                signal.raise_signal(signal.SIGKILL)
            self._record(Op(**{**vars(op), "data": op.data[:taken]}))
            return taken
        if fault and fault.code:
            if op.name == "close":
                self._truly(whole)
            raise OSError(fault.code, os.strerror(fault.code), *([path] if path else []))
        result = self._truly(whole)
        if op.name in WRITES:
            self._record(Op(**{**vars(op), "data": op.data[:result]}) if op.name == "write" else op)
        if how == "kill after":
            signal.raise_signal(signal.SIGKILL)
        return result

    def _truly(self, call: Callable[[], Any]) -> Any:
        outer, self.inside = self.inside, True
        try:
            return call()
        finally:
            self.inside = outer

    def _inside(self, path: Any, near: int | None = None) -> str | None:
        """The path relative to the folder, or None if it is not in it."""
        whole = Path(os.fsdecode(path))
        if near in self._open:
            return (Path(self._open[near][0]) / whole).as_posix()
        return whole.relative_to(self.folder).as_posix() if whole.is_relative_to(self.folder) else None

    def _fdopen(self, descriptor: int, mode: str = "r", *args: Any, **options: Any) -> Any:
        if descriptor in self._open:
            return _buffered(descriptor, mode, *args, **options)
        return self._true["open file"](descriptor, mode, *args, **options)

    def _open_file(self, file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if isinstance(file, int):
            return self._fdopen(file, mode, *args, **options)
        if self._inside(file) is None:
            return self._true["open file"](file, mode, *args, **options)
        access = os.O_RDWR if "+" in mode else os.O_RDONLY if "r" in mode else os.O_WRONLY
        new = {"r": 0, "w": os.O_CREAT | os.O_TRUNC, "a": os.O_CREAT | os.O_APPEND, "x": os.O_CREAT | os.O_EXCL}
        descriptor = os.open(file, access | new[mode.strip("bt+")] | os.O_CLOEXEC, 0o666)
        return _buffered(descriptor, mode, *args, **options)


class _Descriptor(io.RawIOBase):
    """A raw file whose every step is a call of a function of `os`."""

    def __init__(self, descriptor: int, mode: str) -> None:
        self._descriptor, self._mode = descriptor, mode

    def fileno(self) -> int:
        return self._descriptor

    def readable(self) -> bool:
        return "r" in self._mode or "+" in self._mode

    def writable(self) -> bool:
        return "r" not in self._mode or "+" in self._mode

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        return os.write(self._descriptor, data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        os.ftruncate(self._descriptor, size)
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def _buffered(descriptor: int, mode: str, buffering: int = -1, *text: Any, **options: Any) -> Any:
    """What `open` would give for this descriptor."""
    raw = _Descriptor(descriptor, mode)
    if buffering == 0:
        return raw
    kind = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
    return kind(raw) if "b" in mode else io.TextIOWrapper(kind(raw), *text, **options)
