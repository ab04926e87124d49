"""Which files a corpus is read from: DATA, `--val` and `--test`, each a file or a folder of files of one format.

Imports errors, and of this room options and reading.
"""

import gzip
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frozenhead.corpus.decoding import GZIP, file_errors
from frozenhead.corpus.options import CorpusOptions
from frozenhead.corpus.reading import START_BYTES, format_of_name
from frozenhead.corpus.table import Format
from frozenhead.errors import DataError, UsageError

Role = Literal["data", "val", "test"]

LARGE_ROWS = 2**20  # of a corpus that is read part by part; also the rows of a bucket
LARGE_BYTES = 256 * 2**20

_FORMATS = "csv, tsv, jsonl or parquet, each also as .gz"
_HIDDEN = (".", "_")  # as Spark and Arrow have it: _SUCCESS, .part-0.crc


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file, or standard input, and what its rows are for."""

    role: Role
    path: str | Path


def find_sources(data: str | Path, options: CorpusOptions) -> list[Source]:
    """The files of data, val and test, those of a folder in the order of their names.

    Raises
    ------
    DataError
        A folder holds no files, other folders, or files of several formats or of none.
    UsageError
        Two of the three are standard input.
    """
    given: list[tuple[Role, str | Path | None]] = [("data", data), ("val", options.val), ("test", options.test)]
    if [str(path) for _, path in given].count("-") > 1:
        raise UsageError("Standard input (`-`) can be read once: pass a path for the other files.")
    return [
        Source(role=role, path=path)
        for role, place in given
        if place is not None
        for path in (_folder_files(Path(place), options) if _is_folder(place) else [place])
    ]


def is_large(sources: list[Source]) -> bool:
    """Whether the rows, as far as sizes and beginnings of files tell, are more than are held in memory at once."""
    rows = size = 0
    for source in sources:
        path = Path(source.path)
        if not path.is_file():  # standard input, a pipe, or nothing: whoever reads it whole says so
            return False
        with file_errors(path):
            more = _expected(path)
        rows, size = rows + more[0], size + more[1]
    return rows > LARGE_ROWS or size > LARGE_BYTES


def check_rereadable(sources: list[Source]) -> None:
    """Refuse, with a `UsageError`, what cannot be read part by part: standard input and pipes come but once."""
    for source in sources:
        if str(source.path) == "-" or (Path(source.path).exists() and not Path(source.path).is_file()):
            name = "standard input" if str(source.path) == "-" else source.path
            raise UsageError(f"--stream reads files, and {name} is none. Save it to a file first, or drop --stream.")


def _is_folder(place: str | Path) -> bool:
    return str(place) != "-" and Path(place).is_dir()


def _folder_files(folder: Path, options: CorpusOptions) -> list[Path]:
    """The files of a folder, hidden ones passed over, all of one format."""
    try:
        paths = sorted((p for p in folder.iterdir() if not p.name.startswith(_HIDDEN)), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}. Expected a folder that may be read.") from error
    if not paths:
        raise DataError(
            f"{folder} holds no files (names that begin with . or _ are passed over). "
            f"Expected files of one format: {_FORMATS}."
        )
    first: tuple[Path, Format] | None = None
    for path in paths:
        if path.is_dir():
            raise DataError(
                f"{folder} holds the folder {path.name!r}. "
                "Expected files only: pass a folder of files, or move them into one."
            )
        kind = options.format or format_of_name(path.name, options.delimiter)
        if kind is None:
            raise DataError(
                f"{path}: its name tells no format. Expected only files of one format in a folder: {_FORMATS}. "
                "Remove it, put a dot before its name, or name the format of all files with `--format`."
            )
        first = first or (path, kind)
        if kind != first[1]:
            raise DataError(
                f"{path} is {kind}, and {first[0]} is {first[1]}. Expected files of one format in a folder: "
                "move the others into a folder of their own."
            )
    return paths


def _expected(path: Path) -> tuple[int, int]:
    """Rows and bytes that reading a file whole would take, estimated by its beginning; of Parquet as it says itself."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(START_BYTES)
        if start.startswith(b"PAR1"):
            return _parquet_size(path)
        if start.startswith(GZIP):
            file.seek(0)
            unpacked = b""
            with suppress(EOFError, zlib.error, gzip.BadGzipFile):
                unpacked = gzip.GzipFile(fileobj=file).read(16 * START_BYTES)
            size = size * len(unpacked) // max(1, min(size, file.tell()))
            start = unpacked
    return size * start.count(b"\n") // max(1, len(start)), size


def _parquet_size(path: Path) -> tuple[int, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            facts = pq.ParquetFile(file, pre_buffer=False).metadata
    except (pa.ArrowException, OSError):
        return 0, 0  # whoever reads it says what is wrong
    return facts.num_rows, sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
