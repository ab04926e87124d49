"""The contents of a table file -> header, rows, and the line at which each row starts.

Exact about errors: what does not parse is refused with its line, nothing is repaired. Imports only errors.
"""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frozenhead.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_QUOTING = "Close every quoted field with one double quote, and write a double quote inside it twice."
_LARGEST_FIELD = min(sys.maxsize, 2**31 - 1)  # a C long, which has 32 bits on Windows


@dataclass(frozen=True, kw_only=True, eq=False)
class Parsed:
    """Rows as strings, with the 1-based line at which each of them starts."""

    header: list[str]
    rows: list[list[Any]]
    lines: list[int]


def row_place(source: str, *, line: int | None, row: int) -> str:
    """Where a row stands: `spam.csv, line 12 (row 11)`, or `spam.parquet, row 11`. Rows count from 1."""
    return f"{source}, row {row}" if line is None else f"{source}, line {line} (row {row})"


def delimiter_hint(names: Sequence[str]) -> str:
    """What to pass when a lone column name holds another delimiter: a sentence, or nothing."""
    if len(names) == 1:
        for delimiter, written in ((";", "';'"), ("\t", r"'\t'"), ("|", "'|'"), (",", "','")):
            if delimiter in names[0]:
                return f" The only column is {names[0]!r}: pass `--delimiter {written}`."
    return ""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where the parsing of a source goes on: its header, and the lines and rows that stand before."""

    header: list[str]
    lines: int
    rows: int


def parse_csv(text: str, *, source: str, delimiter: str) -> Parsed:
    """Read comma or tab separated text; blank lines are skipped unless they are an empty cell of the only column.

    Raises
    ------
    DataError
        A row has more or fewer fields than the header, or a quoted field is not closed; the line is named.
    """
    records = csv_records(io.StringIO(text, newline=""), source=source, delimiter=delimiter)
    _, header = next(records, (0, []))
    rows = list(records)
    return Parsed(header=header, rows=[fields for _, fields in rows], lines=[line for line, _ in rows])


def csv_records(
    text: Iterable[str], *, source: str, delimiter: str, start: Start | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The header, if `start` does not bring it, and every row, each with the line at which it starts.

    Parameters
    ----------
    text
        Line by line, with the line ends as they stand. Errors as `parse_csv`.
    """
    header, before, rows = (start.header, start.lines, start.rows) if start else ([], 0, 0)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        line = before + reader.line_num + 1
        limit = csv.field_size_limit(_LARGEST_FIELD)  # of 128 KiB a field, which is global: lifted, and put back
        try:
            fields = next(reader, None)
        except csv.Error as error:
            place = row_place(source, line=line, row=rows + 1) if header else f"{source}, line {line} (header)"
            reason = f"the double quotes of the record that starts here do not balance ({error})"
            raise DataError(f"{place}: {reason}. {_QUOTING}") from error
        finally:
            csv.field_size_limit(limit)
        if fields is None:
            return
        if is_blank(fields) and len(header) != 1:
            continue
        if not header:
            header = fields
        else:
            fields = fields or [""]
            rows += 1
            if len(fields) != len(header):
                raise DataError(_ragged(row_place(source, line=line, row=rows), fields, header))
        yield line, fields


class Bare(str):
    """What stood in JSON without quotes, a number or a truth value, as it was written."""

    __slots__ = ()


def parse_jsonl(text: str, *, source: str) -> Parsed:
    """Read one JSON object a line. Numbers stay as written, true and false become words, absent and null None.

    A nested list or object stays one; it can be carried along, but is no text and no label.

    Raises
    ------
    DataError
        A line is not JSON, not an object, or names one key twice.
    """
    records = list(json_records(text.split("\n"), source=source))
    header = list(dict.fromkeys(key for _, item in records for key in item))
    rows = [[json_cell(item.get(key)) for key in header] for _, item in records]
    return Parsed(header=header, rows=rows, lines=[line for line, _ in records])


def json_records(text: Iterable[str], *, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The object of every line of `text` that is not blank, and the number of that line. Errors as `parse_jsonl`."""
    rows = 0
    for line, content in enumerate(text, start=1):
        if content.strip(" \t\r\n"):
            rows += 1
            yield line, _json_object(content.removesuffix("\n"), row_place(source, line=line, row=rows))


def parse_parquet(data: bytes, *, source: str) -> "pa.Table":
    """Read a Parquet file; an index comes as a column.

    Raises
    ------
    DataError
        Not a Parquet file, a damaged one, or one with two columns of one name.
    """
    import pyarrow.parquet as pq

    with parquet_errors(source):
        file = pq.ParquetFile(io.BytesIO(data), pre_buffer=False)
        check_names(file.schema_arrow.names, source=source)
        table = file.read(use_threads=False)  # `_read_parquet` of runs.py says why
        table.validate(full=True)
    return table


@contextmanager
def parquet_errors(source: str) -> Iterator[None]:
    """Turn what Arrow says of a file that it cannot read into a `DataError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{source} cannot be read as Parquet: {reason}\n"
            "Write the file again, or name its format with `--format csv|tsv|jsonl`."
        ) from error


def check_names(names: Sequence[str], *, source: str) -> None:
    """Refuse a header that gives two columns one name; columns without a name are let through."""
    seen: set[str] = set()
    for name in names:
        if name.strip() and name in seen:
            raise DataError(
                f"{source}: the header names the column {name!r} twice. Expected one column of a name: rename one."
            )
        seen.add(name)


def is_blank(fields: list[str]) -> bool:
    """Whether a record is a blank line."""
    return not fields or (len(fields) == 1 and fields[0].isspace())


def _ragged(place: str, fields: list[str], header: list[str]) -> str:
    found = f"{len(fields)} field{'s' if len(fields) > 1 else ''}"
    expected = f"{len(header)} column{'s' if len(header) > 1 else ''}"
    advice = delimiter_hint(header) or " Put double quotes around a field that holds the delimiter or a line break."
    return f"{place}: found {found}, the header has {expected}.{advice}"


def _json_object(content: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(
            content, parse_int=Bare, parse_float=Bare, parse_constant=Bare, object_pairs_hook=_without_repeats
        )
    except DataError as error:
        raise DataError(f"{place}: {error}. Expected every key once in an object: rename or remove one.") from error
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} at column {error.colno}"
        raise DataError(f"{place}: {reason}. Expected one JSON object on each line, and nothing else.") from error
    except RecursionError as error:
        raise DataError(f"{place}: nested too deep to be read. Expected a flat JSON object.") from error
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else f"the value {value!r:.40}"
        raise DataError(f'{place}: found {kind}. Expected one JSON object on each line, as in {{"text": "..."}}.')
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise DataError(f"the key {key!r} stands twice in one object")
        result[key] = value
    return result


def json_cell(value: Any) -> Any:
    """A value of an object as it stands in a table: true and false become words."""
    return Bare("true" if value else "false") if isinstance(value, bool) else value
