"""Texts that stand behind a URL, such as `s3://bucket/texts.parquet`: copied, so that whoever reads files reads them.

The schemes are those of Arrow (`s3`, `gs`, `abfs`, `hdfs`, `file`), which Ray's readers take as well.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frozenhead.errors import DataError


def is_url(source: str) -> bool:
    """Whether a source is named by a URL and not by a path."""
    return "://" in source


@contextmanager
def local_copy(source: str) -> Iterator[str]:
    """The source itself if it is a path, else a copy of the file or folder, of the same name, while the block lasts.

    Raises
    ------
    DataError
        There is nothing under that URL, it cannot be read, or nothing here knows its scheme.
    """
    if not is_url(source):
        yield source
        return
    from pyarrow import fs

    with tempfile.TemporaryDirectory(prefix="frozenhead-") as folder:
        try:
            system, path = fs.FileSystem.from_uri(source)
            copy = Path(folder) / (Path(path).name or "data")
            _fetch(system, system.get_file_info(path), copy)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{source} cannot be read: {error}. Expected a file or a folder under a URL such as "
                "s3://bucket/folder, and the credentials for it."
            ) from error
        yield str(copy)


def _fetch(system: Any, info: Any, copy: Path) -> None:
    from pyarrow import fs

    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError("there is nothing under this name")
    if info.type == fs.FileType.File:
        with system.open_input_file(info.path) as stored, copy.open("wb") as file:
            shutil.copyfileobj(stored, file, 2**20)
        return
    copy.mkdir()
    for inner in system.get_file_info(fs.FileSelector(info.path)):
        _fetch(system, inner, copy / inner.base_name)
