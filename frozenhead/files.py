"""Write beside, then replace: the one way a file comes into being here.

A killed writer leaves the old file or the new one, never half of one. Imports only errors.
"""

import errno
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frozenhead.errors import StorageError

TEMPORARY_PREFIX = ".tmp-"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_SUCH_CALL = {errno.EINVAL, errno.ENOTSUP}  # some network and FUSE file systems do not fsync folders


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


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable. Platforms that cannot open a folder need no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to `path`: temporary file in the same folder, fsync, rename, fsync of the folder.

    Raises
    ------
    StorageError
        The disk is full or the folder cannot be written. `path` is then as it was before, unless only the
        last step failed, the fsync of the folder: then it is whole, but may not survive a power cut.
    """
    temporary = path.parent / temporary_name()
    with storage_errors(path, "write"):
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def make_folder(path: Path, *, mode: int = 0o777) -> None:
    """Create `path` and its parents, durably; an existing folder is left as it is."""
    with storage_errors(path, "create"):
        new = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True, mode=mode)
        for folder in new:
            sync_folder(folder.parent)


def check_writable(folder: Path) -> None:
    """Create `folder` and try to write into it: better now than after an hour's work. Raises `StorageError`."""
    make_folder(folder)
    probe = folder / temporary_name()
    with storage_errors(folder, "write into"):
        probe.touch()
        probe.unlink()


def canonical_json(value: Any) -> bytes:
    """One byte string per value: sorted keys, no spaces, UTF-8, no NaN. What is hashed is written so."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON that a person can read. NaN and infinity raise `ValueError`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_file(path, (text + "\n").encode())
