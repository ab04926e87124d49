"""The folder of one space: which shards are there, one of them opened and verified, a bad one set aside.

Nothing is memory-mapped: a mapped file that another process cuts short kills the reader with SIGBUS.
"""

import errno
import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from frozenhead.cache.keys import KEY_BYTES
from frozenhead.cache.pins import write_pin
from frozenhead.cache.shard import (
    HEADER_LIMIT,
    SUFFIX,
    BadShard,
    Bytes,
    OpenShard,
    Reader,
    ShardLayout,
    check_bytes,
    check_header,
    check_in_pieces,
    check_shard,
    check_size,
    is_shard_file,
)
from frozenhead.cache.space import Space
from frozenhead.cache.upkeep import file_size
from frozenhead.errors import CacheDamaged, FormatRefused
from frozenhead.files import close, open_plain, storage_errors

logger = logging.getLogger(__name__)

Verify = Literal["lazy", "always", "never"]
Signature = tuple[int, ...]

PRIVATE = 0o700

# The disk has lost the file, and will not give it back however often it is asked: bad like a flipped bit.
_LOST = {errno.EIO, errno.EISDIR, errno.ESTALE, errno.EBADMSG}
_READ_BYTES = 2**20  # read at once: a piece stays in the processor's cache until it is copied


class SpaceFolder:
    """The shards of one space.

    Parameters
    ----------
    path : Path
        Its name is the id of the space.
    space : Space or None
        None if only the id is known: shards can then be checked against their names, and not opened.
    """

    def __init__(self, path: Path, space: Space | None) -> None:
        self.path = path
        self._space = space
        self._known: dict[str, tuple[Signature, ShardLayout]] = {}
        self._told: set[str] = set()

    def names(self) -> tuple[str, ...]:
        """Names of the shards that are there now, sorted."""
        with storage_errors(self.path, "read the cache folder"):
            try:
                names = os.listdir(self.path / "shards")
            except FileNotFoundError:
                return ()
        return tuple(sorted(n.removesuffix(SUFFIX) for n in names if is_shard_file(n)))

    def shard(self, name: str) -> Path:
        """Where the shard of this name lies."""
        return self.path / "shards" / f"{name}{SUFFIX}"

    def size(self, name: str) -> int:
        """Bytes of a shard; 0 if it has gone since it was listed."""
        return file_size(self.shard(name))

    def share(self, file: str) -> None:
        """Let others see a file of the space that was just written: here they see it at once."""

    def share_all(self) -> None:
        """Let others see all that is here."""

    def take_description(self, time: float | None = None) -> None:
        """Get the `space.json` that others have written: here it is in its place."""

    def check_shared(self) -> None:
        """Try whether `share` will do."""

    def note_pin(self, holder: Path, shards: Sequence[str]) -> None:
        """Note that the run's file `holder` goes by these shards. Raises `StorageError`."""
        write_pin(self.path, holder, shards)

    def open(self, name: str, *, verify: Verify, scratch: "Scratch | None" = None, vectors: bool = True) -> OpenShard:
        """A shard, open for reading, to be closed by the caller.

        The file is hashed on first touch, and again whenever it has changed since; what was hashed is what is
        served then. It stays open, so that what was looked at and what is read are one file whatever happens
        to its name.

        Parameters
        ----------
        name : str
        verify : {"lazy", "always", "never"}
        scratch : Scratch, optional
            Where to read it to; the arrays hold until it is used again.
        vectors : bool
            False if only its keys and tokens are needed: the vectors are hashed, and not held in memory.

        Raises
        ------
        FileNotFoundError, BadShard
            It is gone; it is not what it was.
        CacheDamaged, FormatRefused
            It is a link; it is of a newer format.
        StorageError
            It may not be read.
        """
        if self._space is None:
            raise ValueError(f"The space of {self.path} is not known; its shards can only be checked.")
        path = self.shard(name)
        descriptor, status = _open_file(path)
        try:
            read = partial(_read, descriptor, path)
            signature = _signature(status)
            known = self._known.get(name)
            if known is None or known[0] != signature or verify == "always":
                self._known.pop(name, None)
                size = status.st_size
                held: Reader = read
                if verify == "never":
                    layout = check_header(read(0, min(size, HEADER_LIMIT)).tobytes(), size, self._space)
                else:
                    verified = _verify_whole if vectors else _verify_in_pieces
                    layout, held = verified(name, self._space, read, size, scratch or Scratch())
                self._known[name] = (signature, layout)
                return OpenShard(layout, held, partial(close, descriptor))
            return OpenShard(known[1], read, partial(close, descriptor))
        except BaseException:
            close(descriptor)
            raise

    def open_ahead(
        self, names: Sequence[str], *, verify: Verify, vectors: bool = True
    ) -> Generator[tuple[str, Callable[[], OpenShard]]]:
        """Each name with a function that opens its shard: while one is used, the next is read and hashed.

        Functions raise as `open` does. A shard holds until the next one is asked for.
        """
        if len(names) < 2:
            yield from ((name, partial(self.open, name, verify=verify, vectors=vectors)) for name in names)
            return
        scratch = (Scratch(), Scratch())
        with ThreadPoolExecutor(1) as pool:
            coming: deque[tuple[str, Future[OpenShard]]] = deque()
            try:
                for i, name in enumerate(names):
                    opening = pool.submit(self.open, name, verify=verify, scratch=scratch[i % 2], vectors=vectors)
                    coming.append((name, opening))
                    if len(coming) == 2:
                        before, opening = coming.popleft()
                        yield before, opening.result
                last, opening = coming.popleft()
                yield last, opening.result
            finally:  # left early: the one that was opened ahead is not needed
                for _, opening in coming:
                    if not opening.cancel() and opening.exception() is None:
                        opening.result().close()

    def set_aside(self, name: str, reason: str) -> None:
        """Put a bad shard into quarantine, with one warning; where that is not permitted it is only passed over.

        Another process may have put a sound one under the name since ours was read: what was moved is
        looked at once more, and goes back if it is sound. Nothing that was acknowledged is lost.
        """
        target = self.path / "quarantine" / f"{name}{SUFFIX}"
        if os.path.isdir(target) or (os.path.isdir(self.shard(name)) and os.path.lexists(target)):
            # Something was set aside under this name before, and file and folder do not replace each other.
            target = target.with_name(f"{name}-{secrets.token_hex(4)}{SUFFIX}")
        try:
            os.makedirs(target.parent, PRIVATE, exist_ok=True)
            os.replace(self.shard(name), target)
            if self._is_sound(name, target):
                os.replace(target, self.shard(name))
                return
            fate = "set aside in quarantine"
        except FileNotFoundError:
            fate = "set aside by another process"
        except OSError:
            fate = "passed over"
        if name in self._told:
            return
        self._told.add(name)
        logger.warning("shard %s of %s: %s; %s, its rows count as missing", name[:12], self.path, reason, fate)

    def put_back(self) -> None:
        """Give back what is sound in quarantine: a process was stopped in the midst of `set_aside`, or a disk erred."""
        quarantine = self.path / "quarantine"
        names = [name for name in os.listdir(quarantine) if is_shard_file(name)] if quarantine.is_dir() else []
        for name in names:
            if self._is_sound(name.removesuffix(SUFFIX), quarantine / name):
                os.replace(quarantine / name, self.path / "shards" / name)

    def check(self, name: str, scratch: "Scratch | None" = None) -> str | None:
        """Hash one shard anew; why it is bad, after it was set aside, or None if it is sound or gone."""
        try:
            self._examine(name, self.shard(name), scratch or Scratch())
        except FileNotFoundError:
            return None
        except BadShard as error:
            self.set_aside(name, str(error))
            return str(error)
        return None

    def _examine(self, name: str, path: Path, scratch: "Scratch") -> None:
        """Raise as `open` does unless the file at `path` is the shard of this name."""
        descriptor, status = _open_file(path)
        try:
            data = _read_whole(partial(_read, descriptor, path), status.st_size, scratch)
        finally:
            close(descriptor)
        if self._space is None:
            check_bytes(name, data)
        else:
            check_shard(name, data, self._space)

    def _is_sound(self, name: str, path: Path) -> bool:
        try:
            self._examine(name, path, Scratch())
        except (BadShard, CacheDamaged, OSError):
            return False
        except FormatRefused:  # for a newer version to read
            return True
        return True


class Scratch:
    """Memory that one shard after the other is read to: fresh memory for each would cost more than reading it."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def take(self, size: int) -> Bytes:
        """`size` bytes; what was taken before is overwritten."""
        if len(self._memory) < size:
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size]


def _open_file(path: Path) -> tuple[int, os.stat_result]:
    """A plain file's descriptor and status. What the disk lost is a `BadShard`, what it refuses a `StorageError`."""
    with _reading(path):
        return open_plain(path, follow=False)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _LOST:
            raise BadShard(f"it cannot be read ({error.strerror})") from error
        if error.errno == errno.ELOOP:
            raise CacheDamaged(
                f"{path} is a link, and may lead out of the cache; links are not followed.\n"
                "Put the file itself in its place, or remove the link: its rows are then computed again."
            ) from error
        with storage_errors(path, "read"):
            raise


def _read(descriptor: int, path: Path, offset: int, size: int, *, into: Bytes | None = None) -> Bytes:
    """Exactly `size` bytes of a file from `offset`, by plain reads."""
    data = np.empty(size, np.uint8) if into is None else into
    done = 0
    with _reading(path):
        os.lseek(descriptor, offset, os.SEEK_SET)
        while done < size:
            piece = os.read(descriptor, min(size - done, _READ_BYTES))
            if not piece:
                raise BadShard("it became shorter")
            data[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)
    return data


def _read_whole(read: "partial[Bytes]", size: int, scratch: "Scratch | None") -> Bytes:
    """A whole file, if its size is what its header says."""
    check_size(read(0, min(size, HEADER_LIMIT)).tobytes(), size)
    return read(0, size, into=(scratch or Scratch()).take(size))


def _verify_whole(
    name: str, space: Space, read: "partial[Bytes]", size: int, scratch: "Scratch"
) -> tuple[ShardLayout, Reader]:
    """The layout of a sound shard, and how to read what was hashed of it."""
    data = _read_whole(read, size, scratch)
    return check_shard(name, data, space), partial(_part, data)


def _verify_in_pieces(
    name: str, space: Space, read: "partial[Bytes]", size: int, scratch: "Scratch"
) -> tuple[ShardLayout, Reader]:
    """The same for one whose vectors are not needed, and take no memory."""
    start = read(0, min(size, HEADER_LIMIT)).tobytes()
    check_size(start, size)
    try:
        layout = check_header(start, size, space)
    except (BadShard, FormatRefused):  # to be told only if all bytes are those of the name
        return _verify_whole(name, space, read, size, scratch)
    return layout, check_in_pieces(name, layout, read, scratch.take(layout.rows * (KEY_BYTES + 4)))


def _part(data: Bytes, offset: int, size: int) -> Bytes:
    return data[offset : offset + size]


def _signature(status: os.stat_result) -> Signature:
    """What changes when a file does. The change time cannot be set back as the modification time can."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
