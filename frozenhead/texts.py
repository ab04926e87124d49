"""Strings that stay in Arrow's memory: as a list, texts of 80 characters would take twice the room.

Imports nothing from the package. Whoever calls `pyarrow.array` or `to_numpy` imports pandas where it is installed, for
0.3 s and 50 MB; buffers do not.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE = 16384  # strings made at a time: what a loop over a million holds is small


class Texts(Sequence[str]):
    """A sequence of strings, each made when it is asked for.

    Parameters
    ----------
    column : pyarrow.ChunkedArray of string or large_string
        (N,), without nulls.
    """

    def __init__(self, column: "pa.ChunkedArray") -> None:
        self.column = column

    @classmethod
    def of(cls, strings: Iterable[str]) -> "Texts":
        """A copy of any strings. Raises `UnicodeEncodeError` if one holds half a surrogate pair."""
        import pyarrow as pa

        data = [string.encode() for string in strings]
        ends = np.cumsum([0, *map(len, data)])
        small = bool(ends[-1] < 2**31)
        kind = pa.StringArray if small else pa.LargeStringArray
        offsets = pa.py_buffer(ends.astype(np.int32 if small else np.int64))
        return cls(pa.chunked_array([kind.from_buffers(len(data), offsets, pa.py_buffer(b"".join(data)))]))

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        text: str = self.column[int(index)].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for part in self._parts():
            yield from part.to_pylist()

    def utf8(self) -> Iterator[list[bytes]]:
        """The UTF-8 bytes of the strings, in order, some thousands at a time."""
        for part in self._parts():
            data, ends = _buffers(part)
            yield [data[start:end] for start, end in pairwise(ends)]

    def _parts(self) -> Iterator["pa.Array"]:
        for chunk in self.column.chunks:
            for start in range(0, len(chunk), _AT_ONCE):
                yield chunk.slice(start, _AT_ONCE)


class Chosen(Sequence[str]):
    """Some of a sequence of strings, `rows` of it, each taken when it is asked for."""

    def __init__(self, strings: Sequence[str], rows: NDArray[np.intp]) -> None:
        self._strings, self._rows = strings, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._strings[row] for row in self._rows[index]]
        return self._strings[int(self._rows[index])]


def joined(parts: Sequence[Texts]) -> Texts:
    """Texts one after the other, none of them copied."""
    import pyarrow as pa

    columns = [part.column for part in parts]
    if len({column.type for column in columns}) > 1:
        columns = [column.cast(pa.large_string()) for column in columns]
    return Texts(pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type))


def _buffers(part: "pa.Array") -> tuple[bytes, list[int]]:
    """The bytes of the strings one after the other, and where each begins and the last ends."""
    _, offsets, data = part.buffers()
    width: type[np.signedinteger] = np.int64 if str(part.type) == "large_string" else np.int32
    ends: NDArray[np.signedinteger] = np.frombuffer(offsets, width)[part.offset : part.offset + len(part) + 1]
    first, last = int(ends[0]), int(ends[-1])
    return (b"" if data is None else data[first:last].to_pybytes()), (ends - first).tolist()
