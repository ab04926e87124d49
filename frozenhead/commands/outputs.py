"""Tables as bytes of a format, part by part; in CSV and TSV a spreadsheet runs nothing of them."""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import pandas as pd

from frozenhead.corpus import Format
from frozenhead.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SPREADSHEETS = ("csv", "tsv")

# What a spreadsheet would run: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


class TableWriter:
    """Writes a table into a file, some rows at a time; the first part makes the header. `close` ends it.

    Parameters
    ----------
    file : BinaryIO
    kind : Format
    raw : bool
        In CSV and TSV, cells that a spreadsheet would run get a leading apostrophe unless `raw`.
    """

    def __init__(self, file: BinaryIO, kind: Format, *, raw: bool) -> None:
        self._file, self._kind, self._raw, self._begun = file, kind, raw, False
        self._parquet: pq.ParquetWriter | None = None

    def write(self, frame: pd.DataFrame, *, types: "dict[str, pa.DataType] | None" = None) -> None:
        """Write further rows.

        Parameters
        ----------
        frame : DataFrame
            The columns of the first part.
        types : dict, optional
            Of columns whose type may not show in the first part, for Parquet.

        Raises
        ------
        DataError
            The format cannot hold such columns.
        """
        with _writable(self._kind):
            if self._kind == "parquet":
                self._write_parquet(frame, types or {})
            elif self._kind == "jsonl":
                self._file.write(_json_lines(frame).encode())
            else:
                separator = "\t" if self._kind == "tsv" else ","
                self._file.write(_delimited(frame, separator, raw=self._raw, header=not self._begun).encode())
        self._begun = True

    def close(self) -> None:
        """Write what ends a file of this format; also after an error, or Arrow would do it at a bad time."""
        if self._parquet is not None:
            self._parquet.close()

    def _write_parquet(self, frame: pd.DataFrame, types: "dict[str, pa.DataType]") -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._parquet is None:
            table = pa.Table.from_pandas(frame, preserve_index=False, nthreads=1)
            self._parquet = pq.ParquetWriter(self._file, _filled(table.schema, types))
        schema = self._parquet.schema
        self._parquet.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False, nthreads=1))


def output_format(out: str) -> Format:
    """The format of an output by its name; standard output is CSV. Raises `UsageError` for another ending."""
    suffixes: dict[str, Format] = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}
    if out == "-":
        return "csv"
    suffix = Path(out).suffix.lower()
    if suffix not in suffixes:
        raise UsageError(f"Output {out}: the name must end in {', '.join(suffixes)}, or be - for standard output.")
    return suffixes[suffix]


def encode_table(frame: pd.DataFrame, kind: Format, *, raw: bool) -> bytes:
    """A whole table as bytes, as `TableWriter` writes it."""
    buffer = io.BytesIO()
    with closing(TableWriter(buffer, kind, raw=raw)) as writer:
        writer.write(frame)
    return buffer.getvalue()


def count_formulas(frame: pd.DataFrame, *, header: bool = True) -> int:
    """How many cells and, with `header`, column names a spreadsheet would run."""
    names = sum(_is_formula(name) for name in frame.columns) if header else 0
    return int(frame.map(_is_formula).to_numpy().sum()) + names


@contextmanager
def _writable(kind: Format) -> Iterator[None]:
    try:
        yield
    except (UnicodeError, ValueError, TypeError) as error:
        raise DataError(
            f"The input's columns cannot be written as {kind} ({error}).\n"
            "Drop or rename such columns, or use another format."
        ) from error


def _filled(schema: "pa.Schema", types: "dict[str, pa.DataType]") -> "pa.Schema":
    """The schema with the types of columns of which the first part shows too little: only nulls, or short decimals."""
    import pyarrow as pa

    for i, field in enumerate(schema):
        if (pa.types.is_null(field.type) or pa.types.is_decimal(field.type)) and field.name in types:
            schema = schema.set(i, field.with_type(types[field.name]))
    return schema


def _json_lines(frame: pd.DataFrame) -> str:
    if not frame.columns.is_unique:
        raise ValueError("two columns have one name")
    records = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    return "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)


def _delimited(frame: pd.DataFrame, separator: str, *, raw: bool, header: bool) -> str:
    if not raw:
        frame = frame.set_axis([_as_data(name) for name in frame.columns], axis=1).apply(_escaped)
    # A lone carriage return ends a row for most readers, but the writer does not quote it by itself.
    returns = frame.map(lambda cell: isinstance(cell, str) and "\r" in cell).to_numpy().any()
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    return str(frame.to_csv(index=False, sep=separator, quoting=quoting, header=header))


def _is_formula(cell: Any) -> bool:
    return isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(cell)


def _escaped(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column without cells that a spreadsheet would run. Whole numbers beside gaps are objects, and stay whole."""
    if column.dtype != object:
        return column.map(_as_data)
    return pd.Series([_as_data(cell) for cell in column], column.index, dtype=object)


def _as_data(cell: Any) -> Any:
    """`=1+1` becomes `'=1+1`; plain numbers such as -5 are data already."""
    return f"'{cell}" if _is_formula(cell) else cell
