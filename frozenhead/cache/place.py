"""Whether a folder may hold the cache at all: ours, plain, of this format, and not in the midst of source code."""

import os
import re
from pathlib import Path

from frozenhead.errors import CacheDamaged, FormatRefused, StorageError
from frozenhead.files import storage_errors

FORMAT = "v1"

_FORMAT_FOLDER = re.compile(r"v([0-9]{1,9})")
_SUBFOLDERS = ("", "shards", "pins", "quarantine")


def place(named: str | os.PathLike[str]) -> Path:
    """The absolute path of a folder as the user named it, wherever the process goes later. Raises `StorageError`."""
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError as error:
        raise StorageError(f"The cache {named} cannot be found: there is no such user's home.") from error


def check_cache_folder(folder: Path) -> None:
    """Refuse a folder that must not be used as the cache. One that is not there yet may be.

    Raises
    ------
    StorageError
        It is a file, belongs to another user, lies inside a Python package, or may not be looked at.
    FormatRefused
        It holds a cache of a newer format.
    CacheDamaged
        It holds a link. It may itself be one.
    """
    choose = "Choose another folder with --cache-dir or FROZENHEAD_CACHE_DIR."
    with storage_errors(folder, "use as the cache"):
        package = next((p for p in (folder, *_target(folder).parents) if _is_package(p)), None)
        if package is not None:
            raise StorageError(
                f"The cache {folder} would lie inside the Python package {package}, among source code. {choose}"
            )
        try:
            status = os.stat(folder)
        except FileNotFoundError:
            return
        if not folder.is_dir():
            raise StorageError(f"The cache {folder} is a file, not a folder. {choose}")
        if os.name == "posix" and status.st_uid not in (os.geteuid(), 0):
            raise StorageError(
                f"The cache {folder} belongs to user {status.st_uid}, and you are {os.geteuid()}: whoever owns it can "
                f"change its vectors.\n{choose}"
            )
        formats = [int(match[1]) for name in os.listdir(folder) if (match := _FORMAT_FOLDER.fullmatch(name))]
        if max(formats, default=1) > int(FORMAT[1:]):
            raise FormatRefused(
                f"The cache {folder} holds format v{max(formats)}; this version of frozenhead knows {FORMAT}.\n"
                f"Upgrade frozenhead. Or: {choose[0].lower()}{choose[1:]}"
            )
    check_links(folder / FORMAT)


def check_space_folder(space: Path) -> None:
    """Refuse a space whose folders are links. Raises `CacheDamaged`."""
    check_links(*(space / name for name in _SUBFOLDERS))


def check_links(*folders: Path) -> None:
    """Refuse folders that are links. Raises `CacheDamaged`."""
    for folder in folders:
        with storage_errors(folder, "read"):
            if folder.is_symlink():
                raise CacheDamaged(
                    f"{folder} is a link, to {_target(folder)}: one that leads out of the cache, or to another space, "
                    "would let what is there be changed.\nRemove the link, or put the folder itself in its place."
                )


def _target(path: Path) -> Path:
    """Where a path leads. Unlike `Path.resolve` before Python 3.13, no error for a link to itself."""
    return Path(os.path.realpath(path))


def _is_package(folder: Path) -> bool:
    try:
        return (folder / "__init__.py").exists()
    except OSError:
        return False
