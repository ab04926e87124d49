"""An object store, or any place that fsspec reaches by a URL: list, get, put, move, remove. Knows no shards.

Objects there are named as files of a cache folder are, so that a copy of the one is the other. fsspec is imported
when the first URL is named, never for a folder. One loop retries what may pass: 5xx, timeouts, connections that broke.
"""

import errno
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from frozenhead.cache.failures import advice, is_final, is_object_missing, words
from frozenhead.errors import StorageError, UsageError
from frozenhead.files import temporary_name

T = TypeVar("T")

PATIENCE_SECONDS = 20.0
"""How long what may pass is tried again; with the time-outs below a dead network is told within 30 s."""

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 4.0  # seconds between tries, doubled each time
# s3fs and botocore each have retries of their own, which would multiply with ours.
_S3_OPTIONS = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 20, "retries": {"total_max_attempts": 1}}}
_S3 = ("s3", "s3a")
# Stores where a put shows the whole object or none; elsewhere it is written under another name first.
_WHOLE_PUTS = (*_S3, "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory")
_PROTOCOL = re.compile(r"[a-z][a-z0-9+.-]*")
_COLLAPSED = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]")  # what pathlib makes of a URL


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One name in a listing: its size in bytes, when it was last written in seconds since 1970, if that is known."""

    size: int
    time: float | None
    folder: bool


def is_url(named: str | os.PathLike[str]) -> bool:
    """Whether a cache is named by a URL. Raises `UsageError` for one with a single slash, as a `Path` of it has."""
    if _COLLAPSED.match(os.fspath(named)):
        raise UsageError(
            f"The cache {os.fspath(named)!r} looks like a URL with one slash. Give it as a string with two, such as "
            "s3://bucket/folder; a folder of that name as ./..."
        )
    return isinstance(named, str) and "://" in named


def check_url(named: str) -> str:
    """The URL without slashes at its end. Raises `UsageError` for one that holds a secret, which is not repeated."""
    if ":" in named.replace("://", "", 1).rpartition("@")[0] or re.search(r"[?#]", named):
        raise UsageError(
            "The URL of the cache holds a user's password or a query: it would be written into runs.\n"
            "Name the place alone, and give credentials as its own tools take them (for s3: AWS_PROFILE, "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws)."
        )
    protocol, _, rest = named.partition("://")
    if not _PROTOCOL.fullmatch(protocol) or not rest.strip("/"):
        raise UsageError(f"The cache {named} is no place: expected one URL, such as s3://bucket/folder.")
    return named.rstrip("/")


class Remote:
    """A place named by a URL.

    Parameters
    ----------
    url : str
        As `check_url` returns it.
    mirror : Path
        Where what is computed is kept meanwhile, for messages.

    Raises
    ------
    UsageError
        fsspec does not know the protocol, or the package for it is not installed.
    """

    def __init__(self, url: str, mirror: Path) -> None:
        self.url = url
        self.mirror = mirror
        self._protocol = url.partition("://")[0]
        self._root = str(_file_system(url, self._protocol)._strip_protocol(url)).rstrip("/")

    def list(self, *parts: str) -> dict[str, Entry]:
        """What lies in a folder, by name; nothing if it is not there. Raises `StorageError`."""

        def listed(fs: Any) -> dict[str, Entry]:
            path = self._path(*parts)
            fs.invalidate_cache()
            found = {str(info["name"]).rstrip("/").rpartition("/")[2]: info for info in fs.ls(path, detail=True)}
            return {
                name: Entry(size=int(info.get("size") or 0), time=_seconds(info), folder=info["type"] == "directory")
                for name, info in found.items()
                if str(info["name"]).strip("/") != path.strip("/")  # some stores list a folder's own marker
            }

        try:
            return self._call("list", "/".join(parts), listed)
        except FileNotFoundError:
            return {}

    def get(self, target: Path, *parts: str) -> None:
        """Copy an object to a file. Raises `FileNotFoundError` if it is not there, and `StorageError`."""
        self._call("read", "/".join(parts), lambda fs: fs.get_file(self._path(*parts), str(target)))

    def put(self, source: Path, *parts: str, patience: float | None = None) -> None:
        """Copy a file to an object, which is there whole or not at all. Raises `StorageError`."""

        def stored(fs: Any) -> None:
            path = self._path(*parts)
            if self._protocol in _WHOLE_PUTS:
                fs.put_file(str(source), path)
                return
            folder = path.rpartition("/")[0]
            fs.makedirs(folder, exist_ok=True)
            beside = f"{folder}/{temporary_name()}"
            fs.put_file(str(source), beside)
            fs.mv(beside, path)

        try:
            self._call("write", "/".join(parts), stored, patience=patience)
        except FileNotFoundError as error:
            raise self._failed("write", "/".join(parts), error) from error

    def read(self, *parts: str) -> bytes:
        """The bytes of a small object. Raises `FileNotFoundError` if it is not there, and `StorageError`."""
        return self._call("read", "/".join(parts), lambda fs: bytes(fs.cat_file(self._path(*parts))))

    def write(self, data: bytes, *parts: str) -> None:
        """Make a small object, in the place of what is there. Raises `StorageError`."""
        self._pipe(data, parts, anew=False)

    def create(self, data: bytes, *parts: str) -> bool:
        """Make a small object where there is none; whether there was none. Raises `StorageError`.

        A store that knows no such condition lets the last of several win.
        """
        return self._pipe(data, parts, anew=True)

    def _pipe(self, data: bytes, parts: tuple[str, ...], *, anew: bool) -> bool:
        def piped(fs: Any) -> bool:
            path = self._path(*parts)
            if self._protocol not in _WHOLE_PUTS:
                fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            if anew:
                try:
                    fs.pipe_file(path, data, mode="create")
                    return True
                except FileExistsError:
                    return False
                # A store that has no such condition, or a package that takes no `mode`: then as below.
                except (NotImplementedError, TypeError, OSError) as error:
                    if isinstance(error, OSError) and error.errno != errno.ENOSYS:
                        raise
            fs.pipe_file(path, data)
            return True

        try:
            return self._call("write", "/".join(parts), piped)
        except FileNotFoundError as error:
            raise self._failed("write", "/".join(parts), error) from error

    def move(self, source: tuple[str, ...], target: tuple[str, ...]) -> None:
        """Give an object another name. Raises `FileNotFoundError` and `StorageError`."""

        def moved(fs: Any) -> None:
            old, new = self._path(*source), self._path(*target)
            if self._protocol in _WHOLE_PUTS:  # their `mv` does not tell when it could not remove
                fs.cp_file(old, new)
                fs.rm_file(old)
            else:
                fs.makedirs(self._path(*target[:-1]), exist_ok=True)
                fs.mv(old, new)

        self._call("move", "/".join(source), moved)

    def remove(self, *parts: str, whole: bool = False) -> None:
        """Remove an object, or with `whole` all that is in a folder; gone is gone. Raises `StorageError`."""

        def removed(fs: Any) -> None:
            if not whole:
                fs.rm_file(self._path(*parts))
                return
            fs.rm(self._path(*parts), recursive=True)
            fs.invalidate_cache()
            if left := fs.find(self._path(*parts)):  # s3fs does not tell what it could not remove
                raise PermissionError(f"{len(left)} objects could not be removed")

        try:
            self._call("remove", "/".join(parts), removed)
        except FileNotFoundError:
            return

    def check_writable(self, folder: str) -> None:
        """Put a small object and remove it again: better now than after an hour's work. Raises `StorageError`."""
        name = temporary_name()

        def tried(fs: Any) -> None:
            if self._protocol not in _WHOLE_PUTS:
                fs.makedirs(self._path(folder), exist_ok=True)
            fs.pipe_file(self._path(folder, name), b"-")

        try:
            self._call("write into", folder, tried)
        except FileNotFoundError as error:
            raise self._failed("write into", folder, error) from error
        try:
            self.remove(folder, name)
        except StorageError:  # it may be allowed to write and not to remove; `prune` takes it away in a day
            return

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _call(self, doing: str, what: str, use: Callable[[Any], T], *, patience: float | None = None) -> T:
        """`use(file system)`, tried again while what goes wrong may pass.

        Raises `FileNotFoundError` if the object is not there, and else `StorageError`.
        """
        begun, wait = time.monotonic(), _FIRST_WAIT
        limit = PATIENCE_SECONDS if patience is None else patience
        while True:
            try:
                return use(connect(self.url, os.getpid()))
            except Exception as error:  # every store's library raises kinds of its own; `failures` tells them apart
                if is_object_missing(error):
                    raise
                pause = wait * (0.5 + secrets.randbelow(1000) / 1000)  # or a thousand workers come back at once
                waited = time.monotonic() - begun
                if is_final(error) or waited + pause > limit:
                    raise self._failed(doing, what, error, waited) from error
            time.sleep(pause)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _failed(self, doing: str, what: str, error: Exception, waited: float = 0.0) -> StorageError:
        """What went wrong, and what to do."""
        kept = f"\nWhat was computed is kept in {self.mirror}; the same command goes on from there."
        told = advice(error, s3=self._protocol in _S3, waited=waited)
        what = re.sub(r"([0-9a-f]{12})[0-9a-f]{52}", r"\1...", what)  # the other digits tell nobody more
        return StorageError(
            f"Cannot {doing} {self.url}{f'/{what}' if what else ''}: {words(error)}. {told}"
            + (kept if doing == "write" else "")
        )


@lru_cache
def connect(url: str, process: int) -> Any:  # noqa: ARG001
    """The file system of a URL, one for each process: what serves s3 survives no fork, and takes time to make."""
    protocol = url.partition("://")[0]
    kind = _file_system(url, protocol)
    if protocol not in _S3:
        return kind(**kind._get_kwargs_from_urls(url), skip_instance_cache=True)
    fs = kind(**_S3_OPTIONS, skip_instance_cache=True)
    fs.retries = 1
    return fs


def _file_system(url: str, protocol: str) -> Any:
    """The class that serves a protocol. Raises `UsageError`."""
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"The cache {url} needs fsspec. Run: pip install 'frozenhead[remote]'") from error
    try:
        return fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        way = "pip install 'frozenhead[remote]'" if protocol in _S3 else f"pip install what it names: {error}"
        raise UsageError(f"The package that reaches {protocol}:// is not installed. Run: {way}") from error
    except ValueError as error:
        raise UsageError(
            f"The cache {url}: the protocol {protocol}:// is not known. Expected a folder, s3://bucket/folder, "
            "or another URL of fsspec."
        ) from error


def _seconds(info: dict[str, Any]) -> float | None:
    """When an object was last written, as file systems have it under five names and in three types."""
    for name in ("LastModified", "mtime", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None
