"""Rows on disk between reading and embedding them, for a corpus that memory does not hold.

    texts.arrow              the texts, in the order of the rows
    keys, labels, splits     32, 4 and 1 bytes a row; memory-mapped where they are read
    bucket-<n>.arrow         row, key, label and text of the rows whose keys fall to one bucket

A folder of its own, removed with all that is in it when the corpus is done with. Imports errors, files, texts, and the
keys of the cache.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import key_shares, text_keys
from frozenhead.cache.keys import KEY_BYTES
from frozenhead.cache.upkeep import has_ended
from frozenhead.files import TEMPORARY_PREFIX, host_name, storage_errors, temporary_name
from frozenhead.texts import Texts

if TYPE_CHECKING:
    import pyarrow as pa

BUCKET_ROWS = 2**20
BUCKET_BYTES = 256 * 2**20
MOST_BUCKETS = 512  # each is an open file while rows are shared out
SHARED_ROWS = 2**18  # shared out at once
SHARED_BYTES = 64 * 2**20

_TEXTS = "texts.arrow"


@contextmanager
def spool_folder(beside: Path) -> Iterator[Path]:
    """A new hidden folder beside a path, removed at the end; those of processes that were killed go first.

    Raises
    ------
    StorageError
        It cannot be made.
    """
    place = next(folder for folder in beside.absolute().parents if folder.is_dir())
    for path in place.glob(f"{TEMPORARY_PREFIX}{host_name()}-*-*"):
        if (path / _TEXTS).is_file() and has_ended(path.name.split("-")[-2]):
            shutil.rmtree(path, ignore_errors=True)
    folder = place / temporary_name()
    with storage_errors(folder, "create"):
        os.mkdir(folder, 0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Spool:
    """Rows that are written once, one part after the other, and read any number of times.

    Parameters
    ----------
    folder : Path
        Empty.

    Attributes
    ----------
    rows, bytes : int
        How many rows there are, and what their texts take in UTF-8.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = self.bytes = self.buckets = 0

    @contextmanager
    def writing(self) -> Iterator["SpoolWriter"]:
        """What takes the rows. Raises `StorageError` if the disk does not."""
        import pyarrow as pa

        with ExitStack() as stack:
            with self._storage():
                files = {name: stack.enter_context(open(self.folder / name, "wb")) for name in _ARRAYS}
                texts = stack.enter_context(open(self.folder / _TEXTS, "wb"))
                stream = pa.ipc.new_stream(texts, _texts_schema())
            yield SpoolWriter(self, stream, files)
            with self._storage():
                stream.close()
                for file in (texts, *files.values()):
                    file.close()

    def array(self, name: str) -> NDArray[Any]:
        """`keys` uint8 (N, 32), `labels` int32 (N,), or `splits` int8 (N,), on disk."""
        dtype, width = _ARRAYS[name]
        found = np.memmap(self.folder / name, dtype, mode="r")
        return found.reshape(-1, width) if width > 1 else found

    def write_array(self, name: str, parts: Iterator[NDArray[Any]]) -> None:
        """Put another array in the place of one; `parts` may be made of the old one."""
        fresh = self.folder / f"new-{name}"
        with self._storage():
            with open(fresh, "wb") as file:
                for part in parts:
                    file.write(np.ascontiguousarray(part, _ARRAYS[name][0]).tobytes())
            os.replace(fresh, self.folder / name)

    def texts(self) -> "Iterator[pa.Array]":
        """The texts in the order of the rows, some thousands at a time."""
        import pyarrow as pa

        with open(self.folder / _TEXTS, "rb") as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                yield batch.column(0)

    def share_out(self, *, labelled: bool) -> None:
        """Write the buckets. All copies of a text fall to one; there are as few as keep to the size of a bucket."""
        import pyarrow as pa

        wanted = max(-(-self.rows // BUCKET_ROWS), -(-self.bytes // BUCKET_BYTES), 1)
        self.buckets = min(wanted, MOST_BUCKETS)
        with ExitStack() as stack:
            with self._storage():
                files = [stack.enter_context(open(self._bucket(n), "wb")) for n in range(self.buckets)]
                streams = [pa.ipc.new_stream(file, _bucket_schema()) for file in files]
            keys, labels = self.array("keys"), self.array("labels") if labelled else None
            for first, texts in self._gathered():
                rows = slice(first, first + len(texts))
                own = np.zeros(len(texts), np.int32) if labels is None else labels[rows]
                table = _bucket_table(first, np.asarray(keys[rows]), own, texts)
                with self._storage():
                    _scatter(table, key_shares(keys[rows], self.buckets), streams)
            with self._storage():
                for part in (*streams, *files):
                    part.close()

    def bucket(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int32], Texts]:
        """Rows (n,), rising, keys (n, 32), labels (n,) and texts (n,) of a bucket."""
        import pyarrow as pa

        with open(self._bucket(number), "rb") as file, pa.ipc.open_stream(file) as stream:
            batches = list(stream)
        rows, keys, labels = (
            np.concatenate([np.zeros(0, dtype), *(_values(batch.column(i), dtype) for batch in batches)])
            for i, dtype in enumerate((np.int64, np.uint8, np.int32))
        )
        texts = pa.chunked_array([batch.column(3) for batch in batches], pa.large_string())
        return rows, keys.reshape(-1, KEY_BYTES), labels, Texts(texts)

    def _gathered(self) -> "Iterator[tuple[int, pa.Array]]":
        """The texts, more at a time: small parts would be scattered into smaller ones. And the row of the first."""
        import pyarrow as pa

        gathered: list[pa.Array] = []
        first = rows = size = 0
        for texts in self.texts():
            gathered.append(texts)
            rows, size = rows + len(texts), size + texts.nbytes
            if rows >= SHARED_ROWS or size >= SHARED_BYTES:
                yield first, pa.concat_arrays(gathered)
                gathered, first, rows, size = [], first + rows, 0, 0
        if gathered:
            yield first, pa.concat_arrays(gathered)

    def _bucket(self, number: int) -> Path:
        return self.folder / f"bucket-{number}.arrow"

    def _storage(self) -> Any:
        return storage_errors(self.folder, "write into")


_ARRAYS: dict[str, tuple[Any, int]] = {"keys": (np.uint8, KEY_BYTES), "labels": (np.int32, 1), "splits": (np.int8, 1)}


class SpoolWriter:
    """Takes the rows of a spool. Made by `Spool.writing`."""

    def __init__(self, spool: Spool, stream: Any, files: dict[str, Any]) -> None:
        self._spool, self._stream, self._files = spool, stream, files

    def add(self, texts: Texts, *, labels: NDArray[np.int32] | None, splits: NDArray[np.int8]) -> None:
        """The next rows: (n,) each. Raises `StorageError`."""
        import pyarrow as pa

        keys = text_keys(texts)
        spool = self._spool
        with storage_errors(spool.folder, "write into"):
            for chunk in texts.column.chunks:
                stored = chunk.cast(pa.large_string())
                self._stream.write_batch(pa.record_batch([stored], schema=_texts_schema()))
                spool.bytes += stored.nbytes
            self._files["keys"].write(keys.tobytes())
            self._files["splits"].write(np.ascontiguousarray(splits, np.int8))
            if labels is not None:
                self._files["labels"].write(np.ascontiguousarray(labels, np.int32))
        spool.rows += len(texts)


def _texts_schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([("text", pa.large_string())])


def _bucket_schema() -> "pa.Schema":
    import pyarrow as pa

    kinds = (("row", pa.int64()), ("key", pa.binary(KEY_BYTES)), ("label", pa.int32()), ("text", pa.large_string()))
    return pa.schema(kinds)


def _bucket_table(
    first: int, keys: NDArray[np.uint8], labels: NDArray[np.int32], texts: "pa.Array"
) -> "pa.RecordBatch":
    import pyarrow as pa

    schema = _bucket_schema()
    arrays = (np.arange(first, first + len(texts)), np.ascontiguousarray(keys), np.ascontiguousarray(labels))
    columns = [
        pa.Array.from_buffers(field.type, len(texts), [None, pa.py_buffer(values)])
        for field, values in zip(schema, arrays, strict=False)
    ]
    return pa.record_batch([*columns, texts], schema=schema)


def _scatter(table: "pa.RecordBatch", shares: NDArray[np.int64], streams: list[Any]) -> None:
    """Write each row to the stream of its share, in order."""
    import pyarrow as pa

    order = np.argsort(shares, kind="stable")
    ends = np.searchsorted(shares[order], np.arange(len(streams)), side="right")
    sorted_table = table.take(pa.Array.from_buffers(pa.int64(), len(order), [None, pa.py_buffer(order)]))
    start = 0
    for stream, end in zip(streams, ends.tolist(), strict=True):
        if end > start:
            stream.write_batch(sorted_table.slice(start, end - start))
        start = end


def _values(column: "pa.Array", dtype: Any) -> NDArray[Any]:
    """The numbers or bytes of a column without nulls."""
    width = column.type.bit_width // 8
    data = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width : (column.offset + len(column)) * width]
    return data.view(dtype)
