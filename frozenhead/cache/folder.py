"""The folder of one space: which shards are there, one of them opened and verified, a bad one set aside.

Nothing is memory-mapped: a mapped file that another process cuts short kills the reader with SIGBUS.
"""

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache.shard import SUFFIX, BadShard, ShardLayout, check_shard, parse_layout
from frozenhead.cache.space import Space
from frozenhead.cache.upkeep import is_shard_name
from frozenhead.files import storage_errors

logger = logging.getLogger(__name__)

Verify = Literal["lazy", "always", "never"]
Signature = tuple[int, ...]

PRIVATE = 0o700

# The disk has lost the file, and will not give it back however often it is asked: bad like a flipped bit.
_LOST = {errno.EIO, errno.EISDIR, errno.ELOOP, errno.ESTALE, errno.EBADMSG}


class SpaceFolder:
    """The shards of one space.

    Parameters
    ----------
    path : Path
        Its name is the id of the space.
    space : Space or None
        None if only the id is known; size and type of the vectors are then not checked.
    """

    def __init__(self, path: Path, space: Space | None) -> None:
        self.path = path
        self._space = space
        self._known: dict[str, tuple[Signature, ShardLayout]] = {}
        self._passed_over: set[str] = set()

    def names(self) -> tuple[str, ...]:
        """Names of the shards that are there now, sorted."""
        try:
            names = os.listdir(self.path / "shards")
        except FileNotFoundError:
            return ()
        except OSError:
            with storage_errors(self.path, "read the cache folder"):
                raise
        return tuple(sorted(n.removesuffix(SUFFIX) for n in names if is_shard_name(n)))

    @contextmanager
    def opened(self, name: str, *, verify: Verify) -> Iterator[tuple[ShardLayout, Callable[[], NDArray[Any]]]]:
        """Layout of a shard and a function that gives its vectors (n, D).

        The file is hashed on first touch, and again whenever it has changed since; it stays open, so that
        what was looked at and what is read are one file whatever happens to its name.

        Raises
        ------
        FileNotFoundError, BadShard
            It is gone; it is not what it was.
        StorageError
            It may not be read.
        """
        path = self._shard(name)
        with _opened_file(path) as file:
            signature = _signature(file)
            known = self._known.get(name)
            if known is not None and known[0] == signature and verify != "always":
                layout = known[1]
                yield layout, lambda: layout.read_vectors(file)
                return
            self._known.pop(name, None)
            with _reading(path):
                data = file.read()
            layout = self._checked(name, data, verify=verify)
            self._known[name] = (signature, layout)
            yield layout, lambda: layout.vectors(data)

    def set_aside(self, name: str, reason: str) -> None:
        """Put a bad shard into quarantine, with one warning; where that is not permitted it is only passed over.

        Another process may have put a sound one under the name since ours was read: what was moved is
        looked at once more, and goes back if it is sound. Nothing that was acknowledged is lost.
        """
        target = self.path / "quarantine" / f"{name}{SUFFIX}"
        try:
            target.parent.mkdir(mode=PRIVATE, exist_ok=True)
            os.replace(self._shard(name), target)
            if self._is_sound(name, target):
                os.replace(target, self._shard(name))
                return
            fate = "set aside in quarantine"
        except FileNotFoundError:
            fate = "set aside by another process"
        except OSError:
            if name in self._passed_over:
                return
            self._passed_over.add(name)
            fate = "passed over"
        logger.warning("shard %s of %s: %s; %s, its rows will be computed again", name[:12], self.path, reason, fate)

    def check_all(self) -> list[tuple[str, str]]:
        """Verify every shard anew; bad ones are set aside. Returns (name, reason) of the bad."""
        bad = []
        for name in self.names():
            try:
                with self.opened(name, verify="always"):
                    pass
            except FileNotFoundError:
                continue
            except BadShard as error:
                bad.append((name, str(error)))
                self.set_aside(name, str(error))
        return bad

    def _shard(self, name: str) -> Path:
        return self.path / "shards" / f"{name}{SUFFIX}"

    def _checked(self, name: str, data: bytes, *, verify: Verify) -> ShardLayout:
        space_id = self.path.name
        layout = parse_layout(data, space_id) if verify == "never" else check_shard(name, data, space_id)
        known = self._space
        if known is not None and (layout.dim, layout.vectors_dtype) != (known.dim, np.dtype(known.dtype)):
            raise BadShard("its vectors have another size or type than the space")
        return layout

    def _is_sound(self, name: str, path: Path) -> bool:
        try:
            with _opened_file(path) as file:
                self._checked(name, file.read(), verify="always")
        except (BadShard, OSError):
            return False
        return True


@contextmanager
def _opened_file(path: Path) -> Iterator[BinaryIO]:
    with _reading(path):
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for ever
            raise BadShard("it is not a file")
        file = open(path, "rb", buffering=0)  # noqa: SIM115
    with file:
        yield file


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What the disk has lost is a `BadShard`; what it only refuses is a `StorageError`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _LOST:
            raise BadShard(f"it cannot be read ({error.strerror})") from error
        with storage_errors(path, "read"):
            raise


def _signature(file: BinaryIO) -> Signature:
    """What changes when a file does. The change time cannot be set back as the modification time can."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
