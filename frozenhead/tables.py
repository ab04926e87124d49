"""Tables of Arrow, part by part: cut to parts of one size, compared, and as Parquet.

Imports nothing from the package.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 2**16  # a row group
_GROUP_BYTES = 2**28


def in_parts(tables: "Iterable[pa.Table]", *, most_bytes: float = math.inf) -> "Iterator[pa.Table]":
    """The same rows in parts of `ROWS_AT_ONCE`, whatever parts they come in; in smaller ones beyond `most_bytes`."""
    import pyarrow as pa

    gathered: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        for start in range(0, len(table), ROWS_AT_ONCE):
            rest = table.slice(start, ROWS_AT_ONCE)
            while len(rest):
                part = rest.slice(0, ROWS_AT_ONCE - rows)
                rest = rest.slice(len(part))
                gathered.append(part)
                rows, size = rows + len(part), size + part.nbytes
                if rows == ROWS_AT_ONCE or size >= most_bytes:
                    yield pa.concat_tables(gathered)
                    gathered, rows, size = [], 0, 0
    if gathered:
        yield pa.concat_tables(gathered)


def write_parquet(file: BinaryIO, tables: "Iterable[pa.Table]") -> None:
    """Write tables as one, so many rows at a time; dictionaries, of strings, and large strings become strings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with ExitStack() as stack:
        writer = None
        for table in in_parts(tables, most_bytes=_GROUP_BYTES):
            plain = {field.name: pa.string() for field in table.schema if pa.types.is_dictionary(field.type)}
            kinds = {**plain, **{f.name: pa.string() for f in table.schema if pa.types.is_large_string(f.type)}}
            schema = pa.schema([(field.name, kinds.get(field.name, field.type)) for field in table.schema])
            writer = writer or stack.enter_context(pq.ParquetWriter(file, schema, use_dictionary=list(plain)))
            writer.write_table(table.cast(schema))


def read_parquet(file: BinaryIO, columns: Sequence[str] | None = None) -> "pa.Table":
    """A Parquet file, or some of its columns, by this thread alone; Arrow takes no path that is not UTF-8."""
    import pyarrow.parquet as pq

    # Arrow's own threads drop Python's bytes when they come to it. If the program is ending by then, Python ends that
    # thread amid C++, which aborts the process: 1 in 15 to 60 quick exits on a busy machine. Alone is no slower.
    return pq.ParquetFile(file, pre_buffer=False).read(columns=columns, use_threads=False)


def same_values(one: "pa.ChunkedArray", other: "pa.ChunkedArray") -> bool:
    """Whether two columns of equal length hold the same bytes, strings or nulls, in whatever types."""
    import pyarrow as pa

    starts = range(0, len(one), ROWS_AT_ONCE)
    parts = ([column.slice(start, ROWS_AT_ONCE).cast(pa.large_binary()) for column in (one, other)] for start in starts)
    return all(a.equals(b) for a, b in parts)
