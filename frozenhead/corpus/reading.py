"""A file of labelled texts -> a table of strings exactly as written, and the place of every row.

Where a read begins: bytes, gzip, encoding, format. Imports errors, and of this room the table, and parsing and bulk
for the formats themselves.
"""

import codecs
import gzip
import hashlib
import io
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np

from frozenhead.corpus.bulk import parse_bulk
from frozenhead.corpus.parsing import Parsed, check_names, parse_csv, parse_jsonl, parse_parquet
from frozenhead.corpus.table import Format, Table
from frozenhead.errors import DataError, UsageError

STANDARD_INPUT = "standard input"

_EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_SEPARATORS: dict[str, str] = {"csv": ",", "tsv": "\t"}
_GZIP = b"\x1f\x8b"
_START_BYTES = 64 * 2**10  # enough to tell the format
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_JSON_START = re.compile(r"\s*(\{|\[\s*\{)")


def read_table(
    source: str | Path,
    *,
    format: Format | None = None,  # noqa: A002  the name that pandas users know
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> Table:
    """Read `source` whole, every cell a string exactly as written.

    Parameters
    ----------
    source
        A path, or `-` for standard input. Gzip is recognised by its first bytes.
    format
        Taken from the file's extension, else from its contents, when None.
    encoding
        Of csv, tsv and jsonl. A byte order mark is dropped.
    delimiter
        One character, for csv and tsv; `\\t` may be written with a backslash.

    Raises
    ------
    DataError
        The file is missing, unreadable, empty, broken, or not of its format; names the file and the line.
    UsageError
        `format` or `delimiter` is not one that can be.
    """
    name = STANDARD_INPUT if str(source) == "-" else str(source)
    check_format(format)
    delimiter = check_delimiter(delimiter, format=format)
    with _opened(source) as file:
        table = _read_in_bulk(file, name, format, delimiter) if _is_utf8(encoding) else None
        if table is None:
            file.seek(0)
            table = _read_exactly(file.read(), name, format, encoding, delimiter)
    return table


def check_format(value: str | None) -> None:
    """Refuse a format that is none, with a `UsageError`."""
    if value is not None and value not in get_args(Format):
        raise UsageError(f"Unknown format {value!r}. Expected one of {', '.join(get_args(Format))}.")


def check_delimiter(delimiter: str | None, *, format: Format | None) -> str | None:  # noqa: A002
    """The one character that separates fields; `UsageError` for anything else, and for formats that have none."""
    if delimiter is None:
        return None
    if format in {"jsonl", "parquet"}:
        raise UsageError(
            f"A delimiter ({delimiter!r}) has no meaning in {format}: leave it out, or name another format."
        )
    delimiter = "\t" if delimiter == r"\t" else delimiter
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise UsageError(f"The delimiter cannot be {delimiter!r}. Expected one character such as `,` `;` or `\\t`.")
    return delimiter


def _read_in_bulk(file: BinaryIO, name: str, kind: Format | None, delimiter: str | None) -> Table | None:
    """The table of a well-formed csv or tsv file; None for any other."""
    compressed = file.read(len(_GZIP)) == _GZIP
    if name.lower().endswith(".gz") and not compressed:
        return None
    try:
        kind = kind or _format_of_name(name, delimiter) or _format_of_start(file, compressed)
        if kind not in _SEPARATORS:
            return None
        hashed = _Hashed(file)
        bulk = parse_bulk(_unpacked(hashed, compressed), delimiter=delimiter or _SEPARATORS[kind])
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return None
    if bulk is None:
        return None
    check_names(bulk.header, source=name)
    return Table(
        source=name,
        sha256=hashed.sha256.hexdigest(),
        format=kind,
        names=bulk.header,
        columns=bulk.columns,
        lines=bulk.lines,
    )


class _Hashed(io.RawIOBase):
    """A file from its beginning, hashed as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def _unpacked(file: Any, compressed: bool) -> Any:
    return gzip.GzipFile(fileobj=file) if compressed else file


def _format_of_start(file: BinaryIO, compressed: bool) -> Format:
    file.seek(0)
    start = _unpacked(file, compressed).read(_START_BYTES)
    return "parquet" if start.startswith(b"PAR1") else _format_of_text(start.decode(errors="replace").lstrip("\ufeff"))


def _read_exactly(raw: bytes, name: str, kind: Format | None, encoding: str, delimiter: str | None) -> Table:
    data = _decompress(raw, name)
    _check_content(data, name)
    kind = kind or _format_of_name(name, delimiter)
    if kind is None and data.startswith(b"PAR1"):
        kind = "parquet"
    check_delimiter(delimiter, format=kind)
    names: Sequence[str]
    columns: Sequence[Any]
    lines = None
    if kind == "parquet":
        stored = parse_parquet(data, source=name)
        names, columns = stored.column_names, stored.columns
    else:
        text = _decode(data, encoding, name)
        _check_content(text, name)
        kind = kind or _format_of_text(text)
        parsed = _parse(text, kind, delimiter, name)
        names, lines = parsed.header, np.array(parsed.lines, dtype=np.int64)
        columns = [[row[index] for row in parsed.rows] for index in range(len(names))]
    _check_size(columns, name)
    digest = hashlib.sha256(raw).hexdigest()
    return Table(source=name, sha256=digest, format=kind, names=names, columns=columns, lines=lines)


def _parse(text: str, kind: Format, delimiter: str | None, source: str) -> Parsed:
    if kind == "jsonl":
        parsed = parse_jsonl(text, source=source)
    else:
        parsed = parse_csv(text, source=source, delimiter=delimiter or _SEPARATORS[kind])
    check_names(parsed.header, source=source)
    return parsed


@contextmanager
def _opened(source: str | Path) -> Iterator[BinaryIO]:
    """A file that can be read again from its beginning; what can be read once, such as a pipe, is in memory."""
    if str(source) == "-":
        yield io.BytesIO(sys.stdin.buffer.read())
        return
    path = Path(source)
    try:
        with path.open("rb") as file:
            yield file if file.seekable() else io.BytesIO(file.read())
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such file. Check the path; it is looked up from the current folder.") from error
    except PermissionError as error:
        if path.is_dir():  # Windows says so of folders
            raise DataError(_folder(source)) from error
        raise DataError(f"{source}: no permission to read it. Change its mode or owner, or pass a copy.") from error
    except IsADirectoryError as error:
        raise DataError(_folder(source)) from error
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}. Expected the path of a readable file.") from error


def _is_utf8(encoding: str) -> bool:
    return encoding.lower() in {"utf-8", "utf8", "utf_8"}


def _folder(source: str | Path) -> str:
    return f"{source} is a folder. Expected a file: csv, tsv, jsonl or parquet, each also as .gz."


def _decompress(raw: bytes, source: str) -> bytes:
    if not raw.startswith(_GZIP):
        if raw and source.lower().endswith(".gz"):
            raise DataError(f"{source} is not gzip, though its name ends in .gz. Compress it, or rename it.")
        return raw
    try:
        return gzip.decompress(raw)
    except EOFError as error:
        raise DataError(f"{source} is cut short: its gzip stream has no end. Copy or download it again.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{source} is broken gzip ({error}). Copy or download it again.") from error


def _decode(data: bytes, encoding: str, source: str) -> str:
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise DataError(
            f"{source}: there is no text encoding {encoding!r}. Pass one that Python knows: "
            "`--encoding utf-8`, `latin-1`, `cp1252`, `utf-16`, ..."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(_undecodable(data, encoding, source, error.start)) from error
    except UnicodeError as error:
        raise DataError(f"{source} is not {encoding} ({error}). Pass its own with `--encoding`.") from error
    nul = text.find("\0")
    if nul >= 0:
        raise DataError(
            f"{source}, line {_last_line(text[:nul])}: found a NUL byte. Expected text: "
            "a UTF-16 file needs `--encoding utf-16`, another was damaged and must be written again."
        )
    return text.removeprefix("\ufeff") if codecs.lookup(encoding).name.startswith("utf") else text


def _undecodable(data: bytes, encoding: str, source: str, start: int) -> str:
    before = data[:start].decode(encoding, errors="replace")
    found = f"{source}, line {_last_line(before)}: byte 0x{data[start]:02x} is not {encoding}."
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"{found} The file begins with a UTF-16 byte order mark: pass `--encoding utf-16`."
    if data.startswith(b"PAR1"):
        return f"{found} The file begins as Parquet does: pass `--format parquet`."
    if codecs.lookup(encoding).name == "utf-8":
        return f"{found} Save the file as UTF-8, or pass its own encoding, often `--encoding latin-1`."
    return f"{found} Pass the encoding that the file was written in with `--encoding`."


def _last_line(text: str) -> int:
    return len(_LINE_BREAK.findall(text)) + 1


def _format_of_name(name: str, delimiter: str | None) -> Format | None:
    return _EXTENSIONS.get(Path(name.lower().removesuffix(".gz")).suffix) or ("csv" if delimiter else None)


def _format_of_text(text: str) -> Format:
    if _JSON_START.match(text):
        return "jsonl"
    header = _LINE_BREAK.split(text.lstrip("\r\n"), maxsplit=1)[0]
    return "tsv" if "\t" in header and "," not in header else "csv"


def _check_content(content: bytes | str, source: str) -> None:
    if not content.strip():
        raise DataError(f"{source} is empty. Expected a header and at least one row.")


def _check_size(columns: Sequence[Any], source: str) -> None:
    if not len(columns):
        raise DataError(f"{source} has no columns. Expected a column of texts at least.")
    if not len(columns[0]):
        raise DataError(f"{source} has a header but no rows. Expected at least one row below it.")
