"""Write beside, then replace: the one way a file comes into being here.

A killed writer leaves the old file or the new one, never half of one. Every step is one call of a function
in `os`, so that the tests can stop, fail or forget each of them. Imports only errors.
"""

import errno
import json
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from frozenhead.errors import StorageError

TEMPORARY_PREFIX = ".tmp-"

_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM}
# Some network and FUSE file systems do not fsync folders, and on a read-only one there is nothing to sync.
_NO_SUCH_CALL = {errno.EINVAL, errno.ENOTSUP, errno.EROFS}


@contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an `OSError` while `doing` something to `path` into a `StorageError` that says what to do."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            advice = "The disk or quota is full: make room, or choose another folder."
        elif error.errno in _NO_PERMISSION:
            advice = "No permission: choose another folder, or change its owner or mode."
        elif error.errno == errno.EROFS:
            advice = "Nothing can be written there: choose another folder."
        elif error.errno == errno.EIO:
            advice = "The disk reports a fault: check it, or choose another folder."
        else:
            advice = "Check that the folder exists and can be written."
        reason = error.strerror or type(error).__name__
        raise StorageError(f"Cannot {doing} {path}: {reason}. {advice}") from error


def host_name() -> str:
    """This host's name without hyphens, as it stands in temporary names."""
    return socket.gethostname().replace("-", "_") or "host"


def temporary_name() -> str:
    """A fresh hidden name that tells which process on which host is writing it.

    `.tmp-<host>-<pid>-<random>`: `prune` removes it once that process is gone.
    """
    return f"{TEMPORARY_PREFIX}{host_name()}-{os.getpid()}-{secrets.token_hex(8)}"


def open_plain(path: Path, *, follow: bool = True) -> tuple[int, os.stat_result]:
    """Descriptor, to be closed by the caller, and status of a file, open for reading.

    Raises `OSError`, also for what is no file: opening a pipe would wait for a writer. With `follow=False` a link
    is ELOOP.
    """
    flags = os.O_RDONLY | _FLAGS | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EISDIR, "It is not a file", str(path))
    except BaseException:
        close(descriptor)
        raise
    return descriptor, status


def close(descriptor: int) -> None:
    """Close what was only read, or synced before: should that fail, nothing is lost."""
    with suppress(OSError):
        os.close(descriptor)


def read_file(path: Path, *, limit: int = 2**30, follow: bool = True) -> bytes:
    """The bytes of a file, the first `limit` at most. Raises `OSError`, also for what is no file."""
    descriptor, status = open_plain(path, follow=follow)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return file.read(min(status.st_size, limit)) or b""


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the platform lets a folder be opened for that."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | _FLAGS)
    except PermissionError:  # a folder that may be entered and not read, such as one above a home
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
    finally:
        close(descriptor)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that becomes `path` when the block ends, and leaves nothing if it raises.

    Temporary file in the same folder, plain writes, fsync, rename, fsync of the folder.

    Raises
    ------
    StorageError
        The disk is full or the folder cannot be written. `path` is then as it was before, unless only the
        last step failed, the fsync of the folder: then it is whole, but may not survive a power cut.
    """
    temporary = path.parent / temporary_name()
    with storage_errors(path, "write"):
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):  # what went wrong first is what the user must hear of
                os.unlink(temporary)
            raise
        sync_folder(path.parent)


def write_file(path: Path, *parts: bytes | memoryview) -> None:
    """Write bytes, one part after the other, to `path` as `new_file` does, and raise as it does."""
    with new_file(path) as file:
        for part in parts:
            left = memoryview(part).cast("B")
            while len(left):  # the system may take less than it is offered
                left = left[os.write(file.fileno(), left) :]


def make_folder(path: Path, *, mode: int = 0o777) -> None:
    """Create `path` and its parents, durably; an existing folder is left as it is. Raises `StorageError`."""
    with storage_errors(path, "create"):
        if not path.parent.exists():
            make_folder(path.parent, mode=mode)
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            if not path.is_dir():
                raise
        sync_folder(path.parent)


@contextmanager
def new_folder(place: Path, *, old: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `place` when the block ends, whole; if anything raises, `place` is as it was.

    What stood there is renamed to `old`, beside it, and removed last: a kill in between leaves it under that name.
    """
    fresh = place.parent / temporary_name()
    with storage_errors(place, "write"):
        try:
            os.mkdir(fresh)
            yield fresh
            if place.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.rename(place, old)
            os.rename(fresh, place)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            if old.exists() and not place.exists():
                with suppress(OSError):
                    os.rename(old, place)
            raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Try to write into `folder`: better now than after an hour's work. Raises `StorageError`.

    A folder that is not there is made, with its parents, and removed again.
    """
    probe = folder / temporary_name()
    with storage_errors(folder, "write into"):
        there = folder.exists()
        make_folder(folder)
        try:
            probe.touch()
            probe.unlink()
        finally:
            if not there:
                with suppress(OSError):  # somebody else has written into it meanwhile
                    folder.rmdir()


def canonical_json(value: Any) -> bytes:
    """One byte string per value: sorted keys, no spaces, UTF-8, no NaN. What is hashed is written so."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON that a person can read. NaN and infinity raise `ValueError`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # A path may hold bytes that are no UTF-8, in Python lone surrogates; JSON has an escape for these.
    write_file(path, (text + "\n").encode(errors="backslashreplace"))
