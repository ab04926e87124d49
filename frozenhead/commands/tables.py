"""Tables of a run that may have millions of rows: the corpus's columns as `fit` needs them, and predictions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.files import new_file
from frozenhead.runs import Run, reading

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 2**18
"""Rows of a table that are made and written at a time, a row group of Parquet."""


def corpus_rows(run: Run) -> pd.DataFrame:
    """`row`, `label` and `split` of a run's corpus (N,): 24 bytes a row, since equal strings are one."""
    table = run.corpus_table(["row", "label", "split"])
    strings = {name: pd.Series(_strings(table[name]), dtype=object) for name in ("label", "split")}
    return pd.DataFrame({"row": table["row"].to_numpy(), **strings})


def corpus_texts(run: Run) -> NDArray[Any]:
    """The texts of a run's corpus as strings: object array (N,)."""
    texts: NDArray[Any] = run.corpus_table(["text"])["text"].to_pandas(use_threads=False).to_numpy(object)
    return texts


def text_bytes(run: Run) -> int:
    """Bytes that the texts of a run's corpus take in Parquet, before compression; the texts are not read."""
    import pyarrow.parquet as pq

    path = run.folder / "corpus.parquet"
    with reading(path, "frozenhead embed --overwrite"), open(path, "rb") as file:
        metadata = pq.ParquetFile(file, pre_buffer=False).metadata
        number = metadata.schema.names.index("text")
        groups = (metadata.row_group(i).column(number) for i in range(metadata.num_row_groups))
        return sum(column.total_uncompressed_size for column in groups)


def _strings(column: "pa.ChunkedArray") -> NDArray[Any]:
    """A column of few distinct strings as an object array (N,), each string made once."""
    known: dict[str | None, str | None] = {}
    parts = [np.empty(0, object)]
    for chunk in column.dictionary_encode().chunks:
        values = np.array([known.setdefault(value, value) for value in [*chunk.dictionary.to_pylist(), None]], object)
        codes = chunk.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
        parts.append(values[codes])
    return np.concatenate(parts)


def prediction_frame(
    corpus: pd.DataFrame, facts: Mapping[str, NDArray[Any]], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> pd.DataFrame:
    """row, split, label, then `facts` (n,), and `prob_<label>` for each class."""
    frame = corpus[["row", "split", "label"]].reset_index(drop=True).assign(**facts)
    return pd.concat([frame, pd.DataFrame(probabilities, columns=[f"prob_{label}" for label in classes])], axis=1)


def write_table(path: Path, rows: int, frame_of: Callable[[slice], pd.DataFrame]) -> None:
    """Write a Parquet file of `rows` rows, which `frame_of` makes so many at a time. Raises `StorageError`.

    A table of one row group is byte for byte what pandas writes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = pa.Table.from_pandas(frame_of(slice(0, ROWS)), preserve_index=False, nthreads=1)
    with new_file(path) as file, pq.ParquetWriter(file, first.schema) as writer:
        writer.write_table(first)
        for start in range(ROWS, rows, ROWS):
            frame = frame_of(slice(start, start + ROWS))
            writer.write_table(pa.Table.from_pandas(frame, schema=first.schema, preserve_index=False, nthreads=1))
