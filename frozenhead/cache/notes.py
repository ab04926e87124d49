"""A small file of the cache that whoever is first writes, and others read: in its folder, or in the object store.

Nothing here knows what is in it. Of several that are written at once one wins, where the place can tell; where it
cannot, the last does.
"""

import os
from contextlib import suppress
from pathlib import Path

from frozenhead.cache.place import FORMAT
from frozenhead.cache.remote import Remote
from frozenhead.files import make_folder, read_file, storage_errors, temporary_name, write_file

_MOST_BYTES = 2**20
_PRIVATE = 0o700


class Note:
    """One such file.

    Parameters
    ----------
    folder : Path
        The cache, or its mirror, which holds no notes.
    remote : Remote or None
        The object store, if the cache is in one.
    parts : str
        Its folders and its name below the format's.
    """

    def __init__(self, folder: Path, remote: Remote | None, *parts: str) -> None:
        self._remote, self._parts = remote, (FORMAT, *parts)
        self._path = folder.joinpath(*self._parts)

    @property
    def location(self) -> str:
        """Its path or URL."""
        return "/".join((self._remote.url, *self._parts)) if self._remote else str(self._path)

    def read(self) -> bytes | None:
        """What is in it; None if it is not there, or is no file that can be read. Raises `StorageError` for a store."""
        if self._remote:
            try:
                return self._remote.read(*self._parts)
            except FileNotFoundError:
                return None
        try:
            return read_file(self._path, limit=_MOST_BYTES, follow=False)
        except (OSError, ValueError):
            return None

    def create(self, data: bytes) -> bool:
        """Write it if it is not there; whether that was so. Raises `StorageError`."""
        if self._remote:
            return self._remote.create(data, *self._parts)
        return self._write(data, anew=True)

    def replace(self, data: bytes) -> None:
        """Write it, whatever is there. Raises `StorageError`."""
        if self._remote:
            self._remote.write(data, *self._parts)
        else:
            self._write(data, anew=False)

    def remove(self) -> None:
        """Take it away; gone is gone. Raises `StorageError`."""
        if self._remote:
            self._remote.remove(*self._parts)
            return
        with storage_errors(self._path, "remove"), suppress(FileNotFoundError):
            os.unlink(self._path)

    def _write(self, data: bytes, *, anew: bool) -> bool:
        make_folder(self._path.parent, mode=_PRIVATE)
        draft = self._path.parent / temporary_name()
        with storage_errors(self._path, "write"):
            write_file(draft, data)
            try:
                if anew:
                    os.link(draft, self._path)
                else:
                    os.replace(draft, self._path)
            except FileExistsError:
                return False
            except OSError:  # a file system without links
                os.replace(draft, self._path)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(draft)
        return True
