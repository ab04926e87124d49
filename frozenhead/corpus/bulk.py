"""Well-formed CSV in UTF-8, many rows at a time, by Arrow.

What Arrow and the exact parser could read differently is left to the latter: a file is read here only if its bytes
show that both give the same cells at the same lines. Imports the exact parser's rules from parsing.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from frozenhead.corpus.parsing import is_blank

if TYPE_CHECKING:
    import pyarrow as pa

SLAB = 2 * 2**20  # bytes read at a time; a row much longer is for the exact parser
_HEADER_BYTES = 64 * 2**10
_BOM = b"\xef\xbb\xbf"
_QUOTE, _FEED, _RETURN = b'"\n\r'


@dataclass(frozen=True, kw_only=True, eq=False)
class Bulk:
    """Columns of strings, (N,) each, with the 1-based line at which each row starts."""

    header: list[str]
    columns: list["pa.ChunkedArray"]
    lines: "RowLines"


class RowLines(Sequence[int]):
    """The line at which each row starts, where only few rows have line breaks in their cells.

    Parameters
    ----------
    first, rows : int
        The line of the first row, and the number of rows.
    inner : int array, sorted
        For each line break within a cell, the row it stands in, counted from 0.
    """

    def __init__(self, first: int, rows: int, inner: NDArray[np.int64]) -> None:
        self._lines, self._inner = range(first, first + rows), inner

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        return self._lines[row] + int(np.searchsorted(self._inner, row))


class _Doubt(Exception):
    """The exact parser must look."""


def parse_bulk(stream: BinaryIO, *, delimiter: str) -> Bulk | None:
    """Read `stream` to its end; None as soon as anything in it is not plain.

    Not plain are: bytes that are no UTF-8, NUL, a quote within an unquoted field or text behind a closing one, blank
    lines (but at the end, or in the only column), rows of more or fewer fields than the header, no rows, a row much
    longer than `SLAB`, carriage returns alone as line ends.
    """
    import pyarrow as pa

    slabs = Slabs(stream, delimiter=delimiter)
    if slabs.header is None:
        return None
    tables, inner, rows = [], [np.zeros(0, np.int64)], 0
    for piece, table in slabs.parsed():
        tables.append(table)
        inner.append(rows + piece.inner)
        rows += piece.rows
    if slabs.doubtful or not tables:
        return None
    lines = RowLines(slabs.first_line, rows, np.concatenate(inner))
    return Bulk(header=slabs.header, columns=pa.concat_tables(tables).columns, lines=lines)


class Slabs:
    """A stream read a slab at a time, up to the first that is not plain.

    Parameters
    ----------
    stream
        At its beginning.

    Attributes
    ----------
    header
        None if even that is not plain.
    first_line
        The line behind the header.
    rest
        Bytes that were read and are not parsed: all that came so far where there is no header.
    doubtful
        The exact parser must go on with `rest` and what the stream still holds.
    """

    def __init__(self, stream: BinaryIO, *, delimiter: str) -> None:
        self._stream, self._delimiter = stream, delimiter
        self.header: list[str] | None = None
        self.first_line, self.doubtful = 1, True
        self.rest = stream.read(SLAB)
        start = self.rest.removeprefix(_BOM)
        if delimiter.isascii():
            with suppress(_Doubt):
                self.header, size, self.first_line = _read_header(start[:_HEADER_BYTES], delimiter)
                self.rest, self.doubtful = start[size:], False

    def parsed(self) -> "Iterator[tuple[Piece, pa.Table]]":
        """Whole rows, about a slab of them at a time, and the table of their cells."""
        width = len(self.header or ())
        try:
            for piece in self._pieces(one_column=width == 1):
                yield piece, _parse_piece(piece, width, self._delimiter)
                self.rest = self.rest[len(piece.data) :]
        except _Doubt:
            self.doubtful = True

    def _pieces(self, *, one_column: bool) -> "Iterator[Piece]":
        """Without the blank lines at the end of the file."""
        while more := self._stream.read(SLAB):
            self.rest += more
            yield _piece(self.rest, self._delimiter, last=False)
        if not one_column:  # whose blank lines are empty cells
            self.rest = self.rest.rstrip(b"\r\n")
        if self.rest:
            yield _piece(self.rest, self._delimiter, last=True)


def _read_header(start: bytes, delimiter: str) -> tuple[list[str], int, int]:
    """The header, the bytes up to its end, and the line that comes next."""
    consumed = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(start.decode(errors="surrogateescape"), newline=""):
            consumed.append(line)
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    try:
        header = next(fields for fields in reader if not is_blank(fields))
        "".join(header).encode()
    except (csv.Error, StopIteration, UnicodeEncodeError) as error:
        raise _Doubt from error
    size = len("".join(consumed).encode(errors="surrogateescape"))
    if size == len(start) or b"\0" in start[:size]:  # it may go on
        raise _Doubt
    return header, size, reader.line_num + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Whole rows, and in which of them, counted from 0, each line break within a cell stands."""

    data: bytes
    rows: int
    inner: NDArray[np.int64]


def _piece(data: bytes, delimiter: str, *, last: bool) -> Piece:
    """The rows that end in `data`, in which every quote opens a field, closes one, or stands in one beside its twin.

    If so, a line break ends a row when an even number of quotes stands before it.
    """
    array = np.frombuffer(data, np.uint8)
    quotes, breaks = np.flatnonzero(array == _QUOTE), _line_breaks(array)
    inside = np.searchsorted(quotes, breaks) % 2 == 1
    end = len(data)
    if not last:
        feeds = np.flatnonzero(~inside & (array[breaks] == _FEED))  # behind a carriage return one may come yet
        if not len(feeds):
            raise _Doubt
        end = int(breaks[feeds[-1]]) + 1
        inside, quotes = inside[: feeds[-1] + 1], quotes[: np.searchsorted(quotes, end)]
    if not _quotes_fit(array[:end], quotes, delimiter):
        raise _Doubt
    rows_before = np.cumsum(~inside)
    open_row = last and array[-1] not in {_FEED, _RETURN}
    return Piece(data=data[:end], rows=int((~inside).sum()) + open_row, inner=rows_before[inside])


def _line_breaks(array: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Where lines end: at line feeds, and at carriage returns without one behind them."""
    feeds, returns = np.flatnonzero(array == _FEED), np.flatnonzero(array == _RETURN)
    if not len(returns):
        return feeds
    following = array[np.minimum(returns + 1, len(array) - 1)]
    return np.sort(np.concatenate([feeds, returns[following != _FEED]]))


def _quotes_fit(array: NDArray[np.uint8], quotes: NDArray[np.intp], delimiter: str) -> bool:
    """Whether every other quote, from the first on, opens a field or follows its twin, and the rest mirror that."""
    if len(quotes) % 2:
        return False
    fitting = np.zeros(256, bool)
    fitting[[_QUOTE, _FEED, _RETURN, ord(delimiter)]] = True
    before, after = quotes[0::2] - 1, quotes[1::2] + 1
    return bool(fitting[array[before[before >= 0]]].all() and fitting[array[after[after < len(array)]]].all())


def _parse_piece(piece: Piece, width: int, delimiter: str) -> "pa.Table":
    import pyarrow as pa
    from pyarrow import csv as arrow

    if b"\0" in piece.data or piece.data.startswith(_BOM):  # Arrow would take this one for the mark of a file
        raise _Doubt
    names = [str(number) for number in range(width)]
    rules: dict[str, Any] = {"delimiter": delimiter, "newlines_in_values": True, "ignore_empty_lines": width > 1}
    try:
        table = arrow.read_csv(
            pa.BufferReader(piece.data),
            read_options=arrow.ReadOptions(column_names=names, use_threads=False, block_size=2 * SLAB),
            parse_options=arrow.ParseOptions(**rules),
            convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        raise _Doubt from error
    if len(table) != piece.rows:
        raise _Doubt
    return table.combine_chunks()  # Arrow's own buffers are larger than what they hold
