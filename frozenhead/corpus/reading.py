"""A file of labelled texts -> a table of strings exactly as written, and the place of every row.

Where a read begins: bytes, gzip, encoding, format. Imports errors, and parsing for the formats themselves.
"""

import codecs
import gzip
import hashlib
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.corpus.parsing import Parsed, check_names, parse_csv, parse_jsonl, parse_parquet, row_place
from frozenhead.errors import DataError, UsageError

Format = Literal["csv", "tsv", "jsonl", "parquet"]

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
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_JSON_START = re.compile(r"\s*(\{|\[\s*\{)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The rows of one source, in its order.

    Attributes
    ----------
    source
        The path as it was given, or `standard input`.
    sha256
        Of the bytes as they were read, compressed ones included.
    format
        The format they were read as.
    frame
        (N, columns). csv, tsv, jsonl: object columns of str (jsonl: None where absent or null, and nested
        lists and objects as such). parquet: as stored.
    lines
        int64 (N,): the 1-based line at which each row starts. None for parquet, which has no lines.
    """

    source: str
    sha256: str
    format: Format
    frame: pd.DataFrame
    lines: NDArray[np.int64] | None

    def place(self, row: int) -> str:
        """Where row `row` stands, counted from 1 without the header: `spam.csv, line 12 (row 11)`."""
        return row_place(self.source, line=None if self.lines is None else int(self.lines[row - 1]), row=row)


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
    raw = _read_bytes(source)
    data = _decompress(raw, name)
    _check_content(data, name)
    kind = format or _format_of_name(name) or ("csv" if delimiter else None)
    if kind is None and data.startswith(b"PAR1"):
        kind = "parquet"
    check_delimiter(delimiter, format=kind)
    lines = None
    if kind == "parquet":
        frame = parse_parquet(data, source=name)
    else:
        text = _decode(data, encoding, name)
        _check_content(text, name)
        kind = kind or _format_of_text(text)
        parsed = _parse(text, kind, delimiter, name)
        frame = pd.DataFrame(parsed.rows, columns=parsed.header, dtype=object)
        lines = np.array(parsed.lines, dtype=np.int64)
    _check_size(frame, name)
    return Table(source=name, sha256=hashlib.sha256(raw).hexdigest(), format=kind, frame=frame, lines=lines)


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


def _parse(text: str, kind: Format, delimiter: str | None, source: str) -> Parsed:
    if kind == "jsonl":
        parsed = parse_jsonl(text, source=source)
    else:
        parsed = parse_csv(text, source=source, delimiter=delimiter or ("\t" if kind == "tsv" else ","))
    check_names(parsed.header, source=source)
    return parsed


def _read_bytes(source: str | Path) -> bytes:
    if str(source) == "-":
        return sys.stdin.buffer.read()
    path = Path(source)
    try:
        return path.read_bytes()
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


def _folder(source: str | Path) -> str:
    return f"{source} is a folder. Expected a file: csv, tsv, jsonl or parquet, each also as .gz."


def _decompress(raw: bytes, source: str) -> bytes:
    if not raw.startswith(b"\x1f\x8b"):
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


def _format_of_name(name: str) -> Format | None:
    return _EXTENSIONS.get(Path(name.lower().removesuffix(".gz")).suffix)


def _format_of_text(text: str) -> Format:
    if _JSON_START.match(text):
        return "jsonl"
    header = _LINE_BREAK.split(text.lstrip("\r\n"), maxsplit=1)[0]
    return "tsv" if "\t" in header and "," not in header else "csv"


def _check_content(content: bytes | str, source: str) -> None:
    if not content.strip():
        raise DataError(f"{source} is empty. Expected a header and at least one row.")


def _check_size(frame: pd.DataFrame, source: str) -> None:
    if not len(frame.columns):
        raise DataError(f"{source} has no columns. Expected a column of texts at least.")
    if frame.empty:
        raise DataError(f"{source} has a header but no rows. Expected at least one row below it.")
