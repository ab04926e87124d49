"""A source of texts read part by part, for more than memory holds: the cells, places and words of `read_table`.

Only where it has several faults may another of them be told: the first that is met. And of Parquet no columns are
read but those asked for. Imports errors, and of this room what `reading` is made of.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np

from frozenhead.corpus.bulk import RowLines, Slabs
from frozenhead.corpus.decoding import (
    GZIP,
    Hashed,
    Unpacked,
    check_encoding,
    file_errors,
    has_mark,
    kept,
    opened,
    text_lines,
)
from frozenhead.corpus.parsing import Start, check_names, csv_records, json_cell, json_records, parquet_errors
from frozenhead.corpus.reading import (
    SEPARATORS,
    STANDARD_INPUT,
    START_BYTES,
    check_content,
    check_delimiter,
    check_format,
    check_size,
    format_of_name,
    format_of_text,
    is_utf8,
)
from frozenhead.corpus.table import Format, Table, joined

PART_ROWS = 2**14  # of a part that the exact parsers read
PART_CHARACTERS = 2**22
BATCH_ROWS = 2**16  # of Parquet
BATCH_BYTES = 64 * 2**20


class Parts(ABC):
    """A source that is open to be read once, part by part; `again` opens it anew.

    Parameters
    ----------
    file
        Of the source.
    source
        Its name in messages.
    encoding
        Of its text.
    """

    format: ClassVar[Format]

    def __init__(self, file: BinaryIO, source: str, encoding: str) -> None:
        self._file, self._source, self._encoding = file, source, encoding
        self.rows = 0
        check_encoding(encoding, source)

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """The names of the columns."""

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Of the bytes as they are stored; once all parts are read."""

    @property
    def header(self) -> Table:
        """A table without rows, that columns can be looked for in."""
        return self._table((), self.names, None)

    @abstractmethod
    def again(self) -> "Parts":
        """The same source from its beginning; what was read of it here is at its end with that."""

    def read(self, columns: Sequence[str] | None = None) -> Iterator[Table]:
        """The rows, some at a time, with these columns, or by default with all of them in order.

        Raises
        ------
        DataError
            As `read_table`.
        """
        for table in self._parts(columns):
            self.rows += table.rows
            yield table
        check_size(len(self.names), self.rows, self._source)

    @abstractmethod
    def _parts(self, columns: Sequence[str] | None) -> Iterator[Table]: ...

    def _table(self, columns: Sequence[Any], names: Sequence[str], lines: Any) -> Table:
        return Table(
            source=self._source,
            sha256="",
            format=self.format,
            names=names,
            columns=columns,
            lines=lines,
            first=self.rows,
        )


class TextParts(Parts):
    """A source that is text, perhaps as gzip."""

    def __init__(self, file: BinaryIO, source: str, encoding: str) -> None:
        super().__init__(file, source, encoding)
        self._stream = Unpacked(file, source)

    @property
    def sha256(self) -> str:
        """Of the bytes as they are stored; once all parts are read."""
        return self._stream.sha256.hexdigest()

    def _lines(self, *, any_break: bool) -> Iterator[str]:
        """The lines of the text, refused if they are all blank."""
        blank, mark = True, has_mark(self._encoding)
        lines = text_lines(self._file, self._stream, self._source, encoding=self._encoding, any_break=any_break)
        for each in lines:
            line, mark = each.removeprefix("\ufeff") if mark else each, False
            blank = blank and not line.strip()
            yield line
        if blank:
            check_content("", self._source)


class DelimitedParts(TextParts):
    """csv or tsv, in bulk while it is plain, then exactly."""

    format = "csv"

    def __init__(self, file: BinaryIO, source: str, encoding: str, *, delimiter: str) -> None:
        super().__init__(file, source, encoding)
        self._delimiter = delimiter
        self._slabs = Slabs(self._stream, delimiter=delimiter) if is_utf8(encoding) else None  # type: ignore[arg-type]
        self._records: Iterator[tuple[int, list[str]]] = iter(())
        if self._slabs and self._slabs.header is not None:
            self._names, self._bulk = self._slabs.header, True
        else:
            if self._slabs:
                self._stream.push_back(self._slabs.rest)
            lines = self._lines(any_break=True)
            self._records = csv_records(lines, source=source, delimiter=delimiter)
            self._names, self._bulk = next(self._records, (0, []))[1], False
        check_names(self._names, source=source)
        check_size(len(self._names), 1, source)

    @property
    def names(self) -> list[str]:
        """As the header has them."""
        return self._names

    def again(self) -> "Parts":
        """From the beginning."""
        return DelimitedParts(self._file, self._source, self._encoding, delimiter=self._delimiter)

    def _parts(self, columns: Sequence[str] | None) -> Iterator[Table]:
        picked = [self._names.index(name) for name in columns] if columns is not None else range(len(self._names))
        names = [self._names[index] for index in picked]
        if self._bulk and self._slabs:
            line = self._slabs.first_line
            for piece, table in self._slabs.parsed():
                cells = [table.columns[index] for index in picked]
                yield self._table(cells, names, RowLines(line, piece.rows, piece.inner))
                line += piece.rows + len(piece.inner)
            if self._slabs.doubtful or not self.rows:
                self._stream.push_back(self._slabs.rest)
                begun = Start(header=self._names, lines=line - 1, rows=self.rows)
                lines = self._lines_from(line)
                self._records = csv_records(lines, source=self._source, delimiter=self._delimiter, start=begun)
        for numbers, rows in _gathered(self._records, lambda fields: sum(map(len, fields))):
            yield self._table([[row[index] for row in rows] for index in picked], names, numbers)

    def _lines_from(self, line: int) -> Iterator[str]:
        return text_lines(
            self._file, self._stream, self._source, encoding=self._encoding, any_break=True, before=line - 1
        )


class JsonParts(TextParts):
    """jsonl, which is read once for the names of its columns, and again for its rows."""

    format = "jsonl"

    @cached_property
    def names(self) -> list[str]:
        """Of all objects, in order of first appearance."""
        found: dict[str, None] = {}
        for _, item in json_records(self._lines(any_break=False), source=self._source):
            found.update(dict.fromkeys(item))
        check_names(list(found), source=self._source)
        check_size(len(found), 1, self._source)
        self._stream = Unpacked(self._file, self._source)
        return list(found)

    def again(self) -> "Parts":
        """From the beginning; the names are known."""
        fresh = JsonParts(self._file, self._source, self._encoding)
        fresh.names = self.names
        fresh._stream = Unpacked(self._file, self._source)  # where reading the names has left the file
        return fresh

    def _parts(self, columns: Sequence[str] | None) -> Iterator[Table]:
        names = self.names if columns is None else columns
        _ = self.names
        records = json_records(self._lines(any_break=False), source=self._source)
        for numbers, items in _gathered(records, _size_of_item):
            yield self._table([[json_cell(item.get(name)) for item in items] for name in names], names, numbers)


class ParquetParts(Parts):
    """Parquet, by batches of its row groups; `sha256` is given where the file is not as it is stored."""

    format = "parquet"

    def __init__(self, file: BinaryIO, source: str, encoding: str, *, sha256: str = "") -> None:
        super().__init__(file, source, encoding)
        import pyarrow.parquet as pq

        self._given = sha256
        self._digest = sha256 or _sha256(file, source)
        with parquet_errors(source):
            self._parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
            self._names = self._parquet.schema_arrow.names
        check_names(self._names, source=source)
        check_size(len(self._names), 1, source)

    @property
    def names(self) -> list[str]:
        """As the schema has them."""
        return list(self._names)

    @property
    def sha256(self) -> str:
        """Of the bytes as they are stored."""
        return self._digest

    def again(self) -> "Parts":
        """From the beginning."""
        return ParquetParts(self._file, self._source, self._encoding, sha256=self._given)

    def _parts(self, columns: Sequence[str] | None) -> Iterator[Table]:
        import pyarrow as pa

        chosen = None if columns is None else [*columns]
        with parquet_errors(self._source):
            batches = self._parquet.iter_batches(batch_size=self._batch_rows(), columns=chosen, use_threads=False)
        while True:
            with parquet_errors(self._source):
                batch = next(batches, None)
                if batch is None:
                    return
                batch.validate(full=True)
            if len(batch):
                table = pa.Table.from_batches([batch])
                cells = table.columns if columns is None else [table.column(name) for name in columns]
                yield self._table(cells, self.names if columns is None else columns, None)

    def _batch_rows(self) -> int:
        """As many rows as make a batch of bounded size, if rows are alike."""
        facts = self._parquet.metadata
        size: int = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
        return max(1, min(BATCH_ROWS, BATCH_BYTES * int(facts.num_rows) // max(size, 1)))


@contextmanager
def open_parts(
    path: str | Path,
    *,
    format: Format | None = None,  # noqa: A002  the name that pandas users know
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> Iterator[Parts]:
    """Open a file, or standard input, to be read part by part; options and errors as `read_table`.

    Raises
    ------
    DataError
        The file is missing, unreadable, empty, or not of its format. What is wrong further on is raised when it
        is met.
    """
    name = STANDARD_INPUT if str(path) == "-" else str(path)
    check_format(format)
    delimiter = check_delimiter(delimiter, format=format)
    with opened(path) as file:
        start = Unpacked(file, name).read(START_BYTES) or b""
        if len(start) < START_BYTES:
            check_content(start, name)
        kind = format or format_of_name(name, delimiter) or _format_of_start(start, encoding)
        check_delimiter(delimiter, format=kind)
        if kind == "parquet":
            file.seek(0)
            if file.read(len(GZIP)) != GZIP:
                yield ParquetParts(file, name, encoding)
                return
            stream = Unpacked(file, name)
            with kept(cast("BinaryIO", stream), name) as unpacked:
                yield ParquetParts(unpacked, name, encoding, sha256=stream.sha256.hexdigest())
        elif kind == "jsonl":
            yield JsonParts(file, name, encoding)
        else:
            yield DelimitedParts(file, name, encoding, delimiter=delimiter or SEPARATORS[kind])


def _sha256(file: BinaryIO, source: str) -> str:
    hashed = Hashed(file)
    with file_errors(source):
        while hashed.read(START_BYTES):
            pass
    return hashed.sha256.hexdigest()


def _format_of_start(start: bytes, encoding: str) -> Format:
    if start.startswith(b"PAR1"):
        return "parquet"
    return format_of_text(start.decode("utf-8" if is_utf8(encoding) else encoding, errors="replace").lstrip("\ufeff"))


def _size_of_item(item: dict[str, Any]) -> int:
    return sum(len(value) for value in item.values() if isinstance(value, str))


def _gathered(records: Iterator[tuple[int, Any]], size_of: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Records with their lines, so many at a time."""
    numbers: list[int] = []
    items: list[Any] = []
    size = 0
    for number, item in records:
        numbers.append(number)
        items.append(item)
        size += size_of(item)
        if len(items) >= PART_ROWS or size >= PART_CHARACTERS:
            yield np.array(numbers, dtype=np.int64), items
            numbers, items, size = [], [], 0
    if items:
        yield np.array(numbers, dtype=np.int64), items


def regrouped(tables: Iterable[Table], *, most_rows: int, most_bytes: int) -> Iterator[Table]:
    """The rows of tables that follow one another, as many at a time as may be, whatever parts they came in."""
    held: list[Table] = []
    rows = size = 0
    for table in tables:
        start = 0
        while start < table.rows:
            piece = table.slice(start, most_rows - rows)
            held.append(piece)
            start, rows, size = start + piece.rows, rows + piece.rows, size + _size_of(piece)
            if rows >= most_rows or size >= most_bytes:
                yield joined(held)
                held, rows, size = [], 0, 0
    if held:
        yield joined(held)


def _size_of(table: Table) -> int:
    """About how many bytes the cells take."""
    return sum(
        sum(len(cell) for cell in column if isinstance(cell, str)) if isinstance(column, list) else int(column.nbytes)
        for column in table.columns
    )
