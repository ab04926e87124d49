"""A table as it was read: every cell exactly as written, and the place of every row.

Imports parsing of this room.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from frozenhead.corpus.parsing import row_place

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Format = Literal["csv", "tsv", "jsonl", "parquet"]


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
    names
        Of the columns; those without a name are all called "".
    columns
        (N,) each. csv, tsv: strings, in Arrow's memory where the file is well-formed. jsonl: strings, None where absent
        or null, and nested lists and objects as such. parquet: as stored.
    lines
        (N,): the 1-based line at which each row starts. None for parquet, which has no lines.
    first
        Rows of the source that stand before these, where it is read in parts.
    """

    source: str
    sha256: str
    format: Format
    names: Sequence[str]
    columns: Sequence["pa.ChunkedArray | list[Any]"]
    lines: Sequence[int] | NDArray[np.int64] | None
    first: int = 0

    def place(self, row: int) -> str:
        """Where row `row` stands, counted from 1 without the header: `spam.csv, line 12 (row 11)`."""
        line = None if self.lines is None else int(self.lines[row - 1])
        return row_place(self.source, line=line, row=self.first + row)

    def column(self, name: str) -> "pa.ChunkedArray | list[Any]":
        """The cells of a column, (N,)."""
        return self.columns[list(self.names).index(name)]

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.columns[0])

    def slice(self, start: int, rows: int) -> "Table":
        """Some of the rows, without their lines."""
        columns = [c[start : start + rows] if isinstance(c, list) else c.slice(start, rows) for c in self.columns]
        return replace(self, columns=columns, lines=None, first=self.first + start)

    def without_cells(self) -> "Table":
        """The same without its cells, which take most of the memory."""
        return replace(self, names=(), columns=())

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """(N, columns): object columns, or what pandas makes of those stored in parquet."""
        import pandas as pd

        columns = [self._series(column) for column in self.columns]
        return pd.concat(columns, axis=1).set_axis(list(self.names), axis=1)

    def _series(self, column: "pa.ChunkedArray | list[Any]") -> "pd.Series[Any]":
        import pandas as pd

        if isinstance(column, list):
            return pd.Series(column, dtype=object)
        return stored_cells(column) if self.format == "parquet" else pd.Series(column.to_pylist(), dtype=object)


def joined(tables: "Sequence[Table]") -> Table:
    """Tables of one source, which stand one after the other in it, as one, without lines."""
    if len(tables) == 1:
        return tables[0]
    columns = [_joined(cells) for cells in zip(*(table.columns for table in tables), strict=True)]
    return replace(tables[0], columns=columns, lines=None)


def _joined(parts: "Sequence[pa.ChunkedArray | list[Any]]") -> "pa.ChunkedArray | list[Any]":
    import pyarrow as pa

    if any(isinstance(part, list) for part in parts):  # csv that is plain in its first parts only
        return [cell for part in parts for cell in (part if isinstance(part, list) else part.to_pylist())]
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)  # type: ignore[union-attr]


def stored_cells(column: "pa.ChunkedArray") -> "pd.Series[Any]":
    """A column of parquet as pandas has it; whole numbers stay exact beside nulls."""
    import pyarrow as pa

    frame: pd.DataFrame = pa.table([column], names=["column"]).to_pandas(
        ignore_metadata=True, integer_object_nulls=True
    )
    return frame["column"]
