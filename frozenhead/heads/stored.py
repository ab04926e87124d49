"""Rows of a matrix on disk: training on more vectors than memory holds.

The matrix is a `.npy` file in row order, and blocks of its rows are read as they are needed. They are plain reads: a
memory map of a file that somebody cuts short would kill the reader, and its pages would count as this process's memory.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from frozenhead.errors import RunDamaged

BLOCK = 2048
"""Rows that stay together when rows are shuffled: 1.5 MiB of 384 float16, which a disk reads at nearly full speed."""
WINDOW = 2**25
"""Numbers in the blocks that are shuffled with each other: 64 MiB in float16, 42 blocks of 384."""
STRETCH = 2**22
"""Numbers of a stretch that predicts or is checked at a time: 16 MiB in float32."""

_GAP = 16  # rows that are read and not wanted, rather than reading twice
_PIECE = 2**15  # numbers that torch converts without its threads


class StoredRows:
    """All rows of a `.npy` file, or some of them, each time read anew. Heads take it in place of an array.

    `rows[a:b]` and `rows[numbers]` are new float32 arrays (n, D), whatever the file's type; `select` reads nothing.

    Parameters
    ----------
    path : Path or str
        Of a matrix (N, D), N > 0, of float16, float32 or float64, its rows one after the other.
    block : int
        Rows that stay together when heads shuffle rows.
    window : int, optional
        Rows in the blocks that are shuffled with each other, and in memory at that time; default 2**25 / D.

    Raises
    ------
    ValueError
        The file is no such matrix, or shorter or longer than it says.
    OSError
        It cannot be read.

    Notes
    -----
    Heads that train epoch by epoch read blocks in random order, join as many as fit `window`, and take the rows of
    these in random order: each row once in an epoch. Where all rows fit, the order is that of a matrix in memory.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, path: Path | str, *, block: int = BLOCK, window: int | None = None) -> None:
        self._file = _Matrix(Path(path))
        self._rows: NDArray[np.int64] | None = None
        self.block, self.window = block, max(block, window or WINDOW // self._file.shape[1])

    def __len__(self) -> int:
        return self._file.shape[0] if self._rows is None else len(self._rows)

    @property
    def shape(self) -> tuple[int, int]:
        """N, D."""
        return len(self), self._file.shape[1]

    @property
    def size(self) -> int:
        """N D."""
        return len(self) * self._file.shape[1]

    def select(self, rows: NDArray[Any]) -> "StoredRows":
        """Some rows, by a mask (N,) or by numbers (n,), of the same file and read as this is."""
        rows = np.asarray(rows)
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
        chosen = object.__new__(StoredRows)
        chosen._file, chosen.block, chosen.window = self._file, self.block, self.window
        chosen._rows = numbers if self._rows is None else self._rows[numbers]
        return chosen

    def __getitem__(self, rows: slice | NDArray[Any]) -> NDArray[np.float32]:
        return as_float32(self.stored(rows))

    def stored(self, rows: slice | NDArray[Any]) -> NDArray[Any]:
        """Rows (n, D) as they are stored: those of a slice without step, or of numbers in any order."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                raise IndexError("StoredRows are read in row order; give a slice without a step.")
            if self._rows is None:
                return self._file.read(start, max(start, stop))
            return self._file.gather(self._rows[start:stop])
        numbers = np.asarray(rows)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise IndexError("Give StoredRows a slice or an array of row numbers; `select` takes a mask.")
        return self._file.gather(numbers if self._rows is None else self._rows[numbers])

    def not_finite(self) -> NDArray[np.int64]:
        """Numbers of the rows (m,) that hold NaN or infinity; the file is read for it once."""
        bad = self._file.not_finite()
        return bad if self._rows is None or not len(bad) else np.flatnonzero(np.isin(self._rows, bad))

    def stretches(self) -> Iterator[slice]:
        """Slices of all rows, in order, each small enough for memory."""
        return stretches(self.shape)


class InOrder:
    """Rows of `StoredRows` in a given order, read a window at a time.

    Parameters
    ----------
    X : StoredRows
    rows : int array (n,)
        Row numbers, in the order in which they are wanted.
    """

    def __init__(self, X: StoredRows, rows: NDArray[np.int64]) -> None:
        self.shape, self._X, self._rows, self._at = (len(rows), X.shape[1]), X, rows, 0
        self._window: NDArray[Any] | None = None
        self._place: NDArray[np.intp] | None = None  # in the window, which is in the order of the file

    def take(self, count: int) -> NDArray[np.float32]:
        """The next `count` rows (count, D)."""
        parts, stop = [], self._at + count
        while self._at < stop:
            start = self._at % self._X.window
            if start == 0 or self._window is None or self._place is None:
                window, place = self._read(self._at - start)
                self._window, self._place = window, place
            end = min(stop - self._at + start, self._X.window)
            parts.append(self._window[self._place[start:end]])
            self._at += end - start
        return as_float32(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def _read(self, start: int) -> tuple[NDArray[Any], NDArray[np.intp]]:
        self._window = None  # never two at a time
        rows = self._rows[start : start + self._X.window]
        order = np.argsort(rows)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return self._X.stored(rows[order]), place


class _Matrix:
    """An open `.npy` file."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._not_finite: NDArray[np.int64] | None = None
        file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed with this object)
        weakref.finalize(self, file.close)
        self._file = file
        self.shape, self.dtype = _header(file, path)
        self._start = file.tell()
        size, expected = path.stat().st_size, self._start + self.shape[0] * self.shape[1] * self.dtype.itemsize
        if size != expected:
            raise ValueError(f"{path} has {size:,} bytes, its header says {expected:,}.")

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows from `start` to before `stop`, of the file's type."""
        rows = np.empty((stop - start, self.shape[1]), self.dtype)
        left: memoryview = rows.reshape(-1).view(np.uint8).data
        with self._lock:
            self._file.seek(self._start + start * self.shape[1] * self.dtype.itemsize)
            while len(left):
                done = self._file.readinto(left)
                if not done:
                    raise RunDamaged(f"{self._path} became shorter while it was read. Run the same command again.")
                left = left[done:]
        return rows

    def gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows (n, D) by number, of the file's type. Those that lie near each other are read at once."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.shape[0]:
            raise IndexError(f"Rows go from {rows.min()} to {rows.max()}; {self._path} has rows 0 to {len(self) - 1}.")
        steps = np.diff(rows)
        if (steps < 0).any():
            order = np.argsort(rows, kind="stable")
            found = np.empty((len(rows), self.shape[1]), self.dtype)
            found[order] = self.gather(rows[order])
            return found
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        most, whole = max(1, STRETCH // self.shape[1]), (steps > 0).all()
        begin = 0
        for end in [*(np.flatnonzero(steps > _GAP) + 1).tolist(), len(rows)]:
            for first in range(begin, end, most):
                wanted = rows[first : min(first + most, end)]
                read = self.read(wanted[0], wanted[-1] + 1)
                found[first : first + len(wanted)] = (
                    read if whole and len(read) == len(wanted) else read[wanted - wanted[0]]
                )
            begin = end
        return found

    def not_finite(self) -> NDArray[np.int64]:
        """Numbers of the rows that are not finite in float32."""
        if self._not_finite is None:
            bad = []
            for part in stretches(self.shape):
                rows = as_float32(self.read(part.start, part.stop))
                finite = np.isfinite(rows.max(axis=1)) & np.isfinite(rows.min(axis=1))  # both pass NaN on
                bad.append(part.start + np.flatnonzero(~finite))
            self._not_finite = np.concatenate(bad)
        return self._not_finite

    def __len__(self) -> int:
        return self.shape[0]


def _header(file: Any, path: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape and type of a `.npy` file, which is left where its numbers begin."""
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, columns_first, dtype = read(file)
    except ValueError as error:
        raise ValueError(f"{path} is not a .npy file ({error}).") from error
    if len(shape) != 2 or 0 in shape or columns_first or dtype not in (np.float16, np.float32, np.float64):
        raise ValueError(f"{path} holds {dtype} {shape}; expected a matrix of floats, its rows one after the other.")
    return shape, dtype


def as_float32(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Rows in float32: a copy, or the same if they are so already.

    Every float16 is a float32. numpy converts one at a time, torch many: 20 times as fast.
    """
    if rows.dtype != np.float16:
        with np.errstate(over="ignore"):  # infinite, and refused as such
            return rows.astype(np.float32, copy=False)
    import torch

    half = torch.from_numpy(np.ascontiguousarray(rows)).view(-1)
    full = torch.empty(half.shape, dtype=torch.float32)
    for i in range(0, len(half), _PIECE):
        full[i : i + _PIECE] = half[i : i + _PIECE]
    return np.asarray(full.numpy().reshape(rows.shape))


def stretches(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the rows of a matrix (N, D), in order, so many at a time that a copy of them is small."""
    most = max(1, STRETCH // shape[1])
    return (slice(start, min(start + most, shape[0])) for start in range(0, shape[0], most))


def part(X: Any, rows: Any) -> Any:
    """`X[rows]` for a mask or numbers; of stored rows without reading them."""
    return X.select(rows) if isinstance(X, StoredRows) else X[rows]


def by_stretches(function: Callable[[Any], NDArray[Any]], X: Any) -> NDArray[Any]:
    """`function(X)`, which has a row for each of X's; of stored rows a stretch at a time."""
    if not isinstance(X, StoredRows):
        return function(X)
    first, *others = X.stretches()
    values = function(X[first])
    found = np.empty((len(X), *values.shape[1:]), values.dtype)
    found[first] = values
    for rows in others:
        found[rows] = function(X[rows])
    return found
