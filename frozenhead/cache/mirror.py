"""A cache in an object store, through its mirror: a folder that is a cache itself, and a part of what is there.

Listing is both together. Reading a shard that only the store has copies it into the mirror, verified by its name.
A shard is acknowledged once it stands in the store; what a stopped process left only in the mirror is uploaded when
the space is next written to. So a machine may lose its mirror, and two machines need nothing but the store.
"""

import hashlib
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import platformdirs

from frozenhead.cache.folder import PRIVATE, Scratch, SpaceFolder, Verify
from frozenhead.cache.pins import write_pin
from frozenhead.cache.place import FORMAT, place
from frozenhead.cache.remote import Entry, Remote
from frozenhead.cache.shard import SUFFIX, BadShard, OpenShard, is_shard_file
from frozenhead.cache.space import Space
from frozenhead.cache.upkeep import file_size, read_description
from frozenhead.errors import StorageError
from frozenhead.files import make_folder, storage_errors, temporary_name

logger = logging.getLogger(__name__)

_AHEAD = 4  # shards of 64 MiB under way at once: one connection alone does not fill a link
_PIECE_BYTES = 2**20
_DESCRIPTION = "space.json"
_OTHER_BYTES = "the bytes in the store do not match its name"


def mirror_folder(url: str) -> Path:
    """Where the mirror of a URL lies: under `FROZENHEAD_MIRROR_DIR`, else in the user's cache folder."""
    named = os.environ.get("FROZENHEAD_MIRROR_DIR")
    top = place(named) if named else place(platformdirs.user_cache_dir("frozenhead")) / "mirrors"
    words = re.sub(r"[^A-Za-z0-9.]+", "-", url)[:60].strip("-")
    return top / f"{words}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


class MirrorFolder(SpaceFolder):
    """The shards of one space, in the mirror and in the store.

    Parameters
    ----------
    path : Path
        The space's folder in the mirror.
    space : Space or None
    remote : Remote
    """

    def __init__(self, path: Path, space: Space | None, remote: Remote) -> None:
        super().__init__(path, space)
        self.remote = remote
        self._listed: dict[str, Entry] = {}
        self._refused: set[str] = set()  # bad in the store, and not to be moved from there
        self._coming: dict[str, Future[None]] = {}

    def names(self) -> tuple[str, ...]:
        """Names of the shards that are there now, here or in the store, sorted. Raises `StorageError`."""
        here = super().names()
        entries = self.remote.list(FORMAT, self.path.name, "shards")
        self._listed = {name.removesuffix(SUFFIX): e for name, e in entries.items() if is_shard_file(name)}
        return tuple(sorted({*here, *(self._listed.keys() - self._refused)}))

    def size(self, name: str) -> int:
        """Bytes of a shard as it was last listed."""
        return super().size(name) or (self._listed[name].size if name in self._listed else 0)

    def open(self, name: str, *, verify: Verify, scratch: Scratch | None = None, vectors: bool = True) -> OpenShard:
        """As `SpaceFolder.open`; a shard that is not here, or is bad here, is fetched from the store first."""
        if coming := self._coming.pop(name, None):
            with suppress(CancelledError):
                coming.result()
        if not os.path.lexists(self.shard(name)):
            self.fetch(name)
        try:
            return super().open(name, verify=verify, scratch=scratch, vectors=vectors)
        except BadShard as here:
            try:
                self.fetch(name)
            except (FileNotFoundError, IsADirectoryError):
                raise here from None
        try:
            return super().open(name, verify=verify, scratch=scratch, vectors=vectors)
        except BadShard as error:  # its bytes are those of its name, and no shard of this space
            self._refuse(name, str(error))
            raise

    def open_ahead(
        self, names: Sequence[str], *, verify: Verify, vectors: bool = True
    ) -> Generator[tuple[str, Callable[[], OpenShard]]]:
        """As `SpaceFolder.open_ahead`, with the next shards on their way here meanwhile."""
        waiting = deque(name for name in names if not os.path.lexists(self.shard(name)))
        pool = ThreadPoolExecutor(_AHEAD)  # starts no thread before it is asked to

        def send_for_more() -> None:
            while waiting and len(self._coming) < 2 * _AHEAD:
                name = waiting.popleft()
                self._coming[name] = pool.submit(self.fetch, name)

        try:
            send_for_more()
            with closing(super().open_ahead(names, verify=verify, vectors=vectors)) as opened:
                for name, opening in opened:
                    send_for_more()
                    yield name, opening
        finally:
            self._coming.clear()
            pool.shutdown(cancel_futures=True)

    def fetch(self, name: str) -> None:
        """Copy a shard from the store to the mirror.

        Raises
        ------
        FileNotFoundError, BadShard
            The store has none; what it has is not what it was, and was moved to its quarantine where that is allowed.
        StorageError
            The store cannot be read, or the mirror not written.
        """
        with self._fetched(name) as (beside, reason):
            if reason is not None:
                self._refuse(name, reason)
                raise BadShard(reason)
            os.replace(beside, self.shard(name))

    @contextmanager
    def _fetched(self, name: str, *, folder: str = "shards") -> Iterator[tuple[Path, str | None]]:
        """A temporary copy of an object, and what is wrong with it; read twice, since a transfer may err, too."""
        shards = self.path / "shards"
        if not shards.is_dir():
            make_folder(shards, mode=PRIVATE)
        beside = shards / temporary_name()
        try:
            for _ in range(2):
                self.remote.get(beside, FORMAT, self.path.name, folder, f"{name}{SUFFIX}")
                sound = _hash(beside) == name
                if sound:
                    break
            yield beside, None if sound else _OTHER_BYTES
        finally:
            beside.unlink(missing_ok=True)

    def _refuse(self, name: str, reason: str) -> None:
        """Move a bad object to the store's quarantine, with one warning; where that is not allowed, pass it over.

        Another machine may have put a sound one there meanwhile: what was moved is looked at, and goes back if it is.
        """
        place, aside = ((FORMAT, self.path.name, sub, f"{name}{SUFFIX}") for sub in ("shards", "quarantine"))
        try:
            self.remote.move(place, aside)
            with self._fetched(name, folder="quarantine") as (_, wrong):
                if wrong is None and reason == _OTHER_BYTES:
                    self.remote.move(aside, place)
                    return
            fate = "moved to its quarantine"
        except FileNotFoundError:
            fate = "set aside by another process"
        except StorageError:
            self._refused.add(name)
            fate = "passed over"
        if name not in self._told:
            self._told.add(name)
            where = f"{self.remote.url}/{FORMAT}/{self.path.name}"
            logger.warning("shard %s of %s: %s; %s, its rows count as missing", name[:12], where, reason, fate)

    def check(self, name: str, scratch: Scratch | None = None) -> str | None:
        """Hash what the store has of a shard and what the mirror has; why one is bad, or None.

        A bad object is replaced if the mirror has a sound one.
        """
        wrong = None
        try:
            with self._fetched(name) as (beside, wrong):
                if wrong is not None:
                    self._refuse(name, wrong)
                elif not os.path.lexists(self.shard(name)):
                    os.replace(beside, self.shard(name))
        except FileNotFoundError:
            pass
        here = super().check(name, scratch)
        if wrong is not None and here is None and os.path.lexists(self.shard(name)):
            self.share(f"shards/{name}{SUFFIX}")
        return wrong or here

    def share(self, file: str, *, patience: float | None = None) -> None:
        """Upload a file of the space. Raises `StorageError`."""
        self.remote.put(self.path / file, FORMAT, self.path.name, *file.split("/"), patience=patience)

    def note_pin(self, holder: Path, shards: Sequence[str]) -> None:
        """As `SpaceFolder.note_pin`, here and in the store. Raises `StorageError`, and at once: a run does not wait."""
        pin = write_pin(self.path, holder, shards, by_host=True)
        self.share(f"pins/{pin.name}", patience=0)

    def share_all(self) -> None:
        """Upload the shards, and the description, that the store lacks. Raises `StorageError`.

        Each is verified before: damage does not spread. One of another size there is not what it was.
        """
        self.names()
        for name in SpaceFolder.names(self):
            listed = self._listed.get(name)
            same = listed is not None and listed.size == file_size(self.shard(name)) and name not in self._refused
            if not same and super().check(name) is None and os.path.lexists(self.shard(name)):
                self.share(f"shards/{name}{SUFFIX}")
        self.take_description()
        if read_description(self.path)[0] and _DESCRIPTION not in self.remote.list(FORMAT, self.path.name):
            self.share(_DESCRIPTION)

    def take_description(self, time: float | None = None) -> None:
        """Copy `space.json` from the store where the mirror lacks a sound one. Raises `StorageError`."""
        if read_description(self.path)[0] is None:
            self.take(_DESCRIPTION, time)

    def take(self, file: str, time: float | None = None) -> None:
        """Copy a small file of the space from the store, if it has it; `time` is set as that of its last change."""
        target = self.path / file
        with storage_errors(target, "write"):
            if not target.parent.is_dir():
                make_folder(target.parent, mode=PRIVATE)
            beside = target.parent / temporary_name()
            try:
                self.remote.get(beside, FORMAT, self.path.name, *file.split("/"))
                if time is not None:
                    os.utime(beside, (time, time))
                os.replace(beside, target)
            except FileNotFoundError:
                return
            finally:
                beside.unlink(missing_ok=True)

    def check_shared(self) -> None:
        """Try to write to the store. Raises `StorageError`."""
        self.remote.check_writable(FORMAT)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
