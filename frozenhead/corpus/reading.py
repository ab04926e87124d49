"""A file of labelled texts -> a table of strings exactly as written, and the place of every row.

Where a read begins: bytes, gzip, encoding, format. Imports errors, and of this room the table, decoding, and parsing
and bulk for the formats themselves.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np

from frozenhead.corpus.bulk import parse_bulk
from frozenhead.corpus.decoding import (
    GZIP,
    Hashed,
    broken_gzip,
    check_encoding,
    file_errors,
    has_mark,
    holds_nul,
    last_line,
    not_gzip,
    opened,
    undecodable,
)
from frozenhead.corpus.parsing import Parsed, check_names, parse_csv, parse_jsonl, parse_parquet
from frozenhead.corpus.table import Format, Table
from frozenhead.errors import DataError, UsageError

STANDARD_INPUT = "standard input"

EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
SEPARATORS: dict[str, str] = {"csv": ",", "tsv": "\t"}
START_BYTES = 64 * 2**10  # enough to tell the format
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
    with file_errors(source), opened(source) as file:
        table = _read_in_bulk(file, name, format, delimiter) if is_utf8(encoding) else None
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
    compressed = file.read(len(GZIP)) == GZIP
    if name.lower().endswith(".gz") and not compressed:
        return None
    try:
        kind = kind or format_of_name(name, delimiter) or _format_of_start(file, compressed)
        if kind not in SEPARATORS:
            return None
        hashed = Hashed(file)
        bulk = parse_bulk(_unpacked(hashed, compressed), delimiter=delimiter or SEPARATORS[kind])
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


def _unpacked(file: Any, compressed: bool) -> Any:
    return gzip.GzipFile(fileobj=file) if compressed else file


def _format_of_start(file: BinaryIO, compressed: bool) -> Format:
    file.seek(0)
    start = _unpacked(file, compressed).read(START_BYTES)
    return "parquet" if start.startswith(b"PAR1") else format_of_text(start.decode(errors="replace").lstrip("\ufeff"))


def _read_exactly(raw: bytes, name: str, kind: Format | None, encoding: str, delimiter: str | None) -> Table:
    data = _decompress(raw, name)
    check_content(data, name)
    kind = kind or format_of_name(name, delimiter)
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
        check_content(text, name)
        kind = kind or format_of_text(text)
        parsed = _parse(text, kind, delimiter, name)
        names, lines = parsed.header, np.array(parsed.lines, dtype=np.int64)
        columns = [[row[index] for row in parsed.rows] for index in range(len(names))]
    check_size(len(columns), len(columns[0]) if columns else 0, name)
    digest = hashlib.sha256(raw).hexdigest()
    return Table(source=name, sha256=digest, format=kind, names=names, columns=columns, lines=lines)


def _parse(text: str, kind: Format, delimiter: str | None, source: str) -> Parsed:
    if kind == "jsonl":
        parsed = parse_jsonl(text, source=source)
    else:
        parsed = parse_csv(text, source=source, delimiter=delimiter or SEPARATORS[kind])
    check_names(parsed.header, source=source)
    return parsed


def is_utf8(encoding: str) -> bool:
    """Whether an encoding is UTF-8 by one of its names."""
    return encoding.lower() in {"utf-8", "utf8", "utf_8"}


def _decompress(raw: bytes, source: str) -> bytes:
    if not raw.startswith(GZIP):
        if raw and source.lower().endswith(".gz"):
            raise DataError(not_gzip(source))
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(broken_gzip(source, error)) from error


def _decode(data: bytes, encoding: str, source: str) -> str:
    check_encoding(encoding, source)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = last_line(data[: error.start].decode(encoding, errors="replace"))
        raise DataError(undecodable(data[error.start], line, encoding, source, data[:4])) from error
    except UnicodeError as error:
        raise DataError(f"{source} is not {encoding} ({error}). Pass its own with `--encoding`.") from error
    nul = text.find("\0")
    if nul >= 0:
        raise DataError(holds_nul(source, last_line(text[:nul])))
    return text.removeprefix("\ufeff") if has_mark(encoding) else text


def format_of_name(name: str, delimiter: str | None) -> Format | None:
    """The format that a file's name tells, if it does; what has a delimiter is csv."""
    return EXTENSIONS.get(Path(name.lower().removesuffix(".gz")).suffix) or ("csv" if delimiter else None)


def format_of_text(text: str) -> Format:
    """The format of a text that is no Parquet, by how it begins."""
    if _JSON_START.match(text):
        return "jsonl"
    header = _LINE_BREAK.split(text.lstrip("\r\n"), maxsplit=1)[0]
    return "tsv" if "\t" in header and "," not in header else "csv"


def check_content(content: bytes | str, source: str) -> None:
    """Refuse an empty source."""
    if not content.strip():
        raise DataError(f"{source} is empty. Expected a header and at least one row.")


def check_size(columns: int, rows: int, source: str) -> None:
    """Refuse a source without columns, or without rows."""
    if not columns:
        raise DataError(f"{source} has no columns. Expected a column of texts at least.")
    if not rows:
        raise DataError(f"{source} has a header but no rows. Expected at least one row below it.")
