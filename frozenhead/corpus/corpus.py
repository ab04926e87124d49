"""The corpus: rows of text, label and split from one file or several, checked, in memory.

Every message names a file, everything worth saying aloud is a note. Imports errors, texts, the keys of the cache, and
the modules of this room.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import distinct_keys, text_keys
from frozenhead.corpus.classes import Labels, encode_labels
from frozenhead.corpus.columns import check_column, column_values, find_columns
from frozenhead.corpus.duplicates import leaked
from frozenhead.corpus.options import CorpusOptions
from frozenhead.corpus.reading import read_table
from frozenhead.corpus.rules import (
    about,
    check_classes,
    check_unseen,
    leak_notes,
    lookalike_notes,
    make_splits,
    no_split,
)
from frozenhead.corpus.sources import Role, Source, find_sources
from frozenhead.corpus.splitting import SPLITS, TEST, TRAIN, VAL, class_counts, split_column
from frozenhead.corpus.table import Table
from frozenhead.texts import Texts, joined

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True, eq=False)
class Bucket:
    """Rows that are embedded together; all copies of a text are in one bucket.

    Attributes
    ----------
    rows
        int64 (n,) where they stand in the corpus, rising; None if they are all of it.
    texts
        (n,)
    keys
        uint8 (n, 32), from `text_keys`.
    labels
        int32 (n,), positions in the classes; None when unlabelled.
    """

    rows: NDArray[np.int64] | None
    texts: Sequence[str]
    keys: NDArray[np.uint8]
    labels: NDArray[np.int32] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """Checked rows of text, label and split, in the order of the files (data, val, test).

    Attributes
    ----------
    texts
        (N,)
    keys
        uint8 (N, 32), from `text_keys`.
    labels
        int32 (N,), positions in `classes`; None when unlabelled.
    splits
        int8 (N,), positions in train, val, test.
    classes
        (K,) in natural order; empty when unlabelled.
    sources
        One for each file: path as given, sha256 of its bytes, role (data, val, test), rows.
    columns
        The names used for text, label and split; None where there is none.
    split_rule
        Where the splits come from, in words.
    notes
        What the user should be told.
    """

    texts: Texts
    keys: NDArray[np.uint8]
    labels: NDArray[np.int32] | None
    splits: NDArray[np.int8]
    classes: list[str]
    sources: list[dict[str, str | int]]
    columns: dict[str, str | None]
    split_rule: str
    notes: tuple[str, ...]

    bucket_count: ClassVar[int] = 1

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.texts)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each split and class: (3, K); (3, 1) when unlabelled."""
        return count_rows(self.labels, self.splits, self.classes)

    def buckets(self) -> Iterator[Bucket]:
        """All rows, as one bucket."""
        yield Bucket(rows=None, texts=self.texts, keys=self.keys, labels=self.labels)

    def tables(self) -> "Iterator[pa.Table]":
        """The table of all rows."""
        yield self.table

    @property
    def table(self) -> "pa.Table":
        """(N, 5) `row` int64, 0 to N - 1, `text`, `label`, `split`, `key`; the strings and keys are not copied."""
        return corpus_table(
            self.texts.column,
            first=0,
            labels=self.labels,
            splits=self.splits,
            keys=self.keys,
            classes=self.classes,
        )

    @property
    def frame(self) -> "pd.DataFrame":
        """(N, 4) `row`, `text`, `label`, `split`, strings in object columns; `label` is None when unlabelled."""
        frame: pd.DataFrame = self.table.drop_columns("key").to_pandas()
        return frame.astype({"text": object, "label": object, "split": object})


def corpus_table(
    texts: "pa.ChunkedArray",
    *,
    first: int,
    labels: NDArray[np.int32] | None,
    splits: NDArray[np.int8],
    keys: NDArray[np.uint8],
    classes: Sequence[str],
) -> "pa.Table":
    """The table of n rows of a corpus, of which the first is row `first`; as `Corpus.table`."""
    import pyarrow as pa

    def over(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])

    def named(codes: NDArray[Any], kind: pa.DataType, names: Sequence[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(over(codes, kind), Texts.of(names).column.chunk(0))

    rows = len(texts)
    columns = {
        "row": over(np.arange(first, first + rows), pa.int64()),
        "text": texts,
        "label": pa.nulls(rows) if labels is None else named(labels, pa.int32(), classes),
        "split": named(splits, pa.int8(), SPLITS),
        "key": over(keys, pa.binary(keys.shape[1])),
    }
    return pa.table(columns)


def count_rows(labels: NDArray[np.int32] | None, splits: NDArray[np.int8], classes: list[str]) -> NDArray[np.int64]:
    """Rows of each split and class: (3, K); (3, 1) when unlabelled."""
    if labels is None:
        return np.bincount(splits, minlength=len(SPLITS)).reshape(-1, 1)
    return class_counts(Labels(names=classes, codes=labels), splits)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """One file's share of the corpus; the table has given its cells away."""

    role: Role
    table: Table
    texts: Texts
    labels: Texts | None
    splits: NDArray[np.int8] | None

    def source(self) -> dict[str, str | int]:
        rows = len(self.texts)
        return {"path": self.table.source, "sha256": self.table.sha256, "role": self.role, "rows": rows}


def load_corpus(data: str | Path, options: CorpusOptions) -> Corpus:
    """Read, check and split labelled texts.

    Parameters
    ----------
    data
        A path, that of a folder of files of one format, or `-` for standard input.

    Raises
    ------
    DataError
        A file, row, column, label or class is not fit; names the file and the line or row.
    UsageError
        Two sources are standard input, or an option does not suit a file's format.
    """
    parts, columns, notes = _read_parts(find_sources(data, options), options)
    texts = joined([part.texts for part in parts])
    labels = encode_labels(joined([part.labels for part in parts if part.labels])) if options.labelled else None
    splits = np.concatenate([_given_splits(part) for part in parts])
    split_rule = no_split(len({part.role for part in parts}) > 1, options)
    keys = text_keys(texts)
    if labels is not None:
        source = parts[0].table.source if len(parts) == 1 else str(data)
        copies = distinct_keys(keys)[1]
        check_classes(labels.names, source, column=columns["label"])
        with about(source):
            splits, split_rule, more = make_splits(
                splits, split_rule, labels, options, keys=keys, copies=lambda: copies
            )
        check_unseen(labels, splits, lambda row: _place(parts, row))
        notes += (*more, *lookalike_notes(labels.names), *_notes_on_leaks(copies, splits))
    return Corpus(
        texts=texts,
        keys=keys,
        labels=None if labels is None else labels.codes,
        splits=splits,
        classes=[] if labels is None else labels.names,
        sources=[part.source() for part in parts],
        columns=columns,
        split_rule=split_rule,
        notes=notes,
    )


def _read_parts(
    sources: list[Source], options: CorpusOptions
) -> tuple[list[_Part], dict[str, str | None], tuple[str, ...]]:
    """Every file, its columns found by the names that the first one settles."""
    text, label = options.text, options.label
    notes: tuple[str, ...] = ()
    parts = []
    for source in sources:
        table = read_table(source.path, format=options.format, encoding=options.encoding, delimiter=options.delimiter)
        columns = find_columns(table, text=text, label=label, labelled=options.labelled)
        text, label, notes = columns.text, columns.label, notes + columns.notes
        part = _Part(
            role=source.role,
            table=table.without_cells(),
            texts=column_values(table, columns.text, what="text"),
            labels=None if columns.label is None else column_values(table, columns.label, what="label"),
            splits=None if options.split_column is None else _splits_of(table, options.split_column),
        )
        parts.append(part)
    return parts, {"text": text, "label": label, "split": options.split_column}, notes


def _splits_of(table: Table, column: str) -> NDArray[np.int8]:
    check_column(table, column, option="--split-column")
    values = column_values(table, column, what="split")
    with about(f"{table.source}, column {column!r}"):
        return split_column(values)


def _given_splits(part: _Part) -> NDArray[np.int8]:
    """The splits that a file brings along, else its role's."""
    if part.splits is not None:
        return part.splits
    return np.full(len(part.texts), TRAIN if part.role == "data" else SPLITS.index(part.role), np.int8)


def _place(parts: list[_Part], row: int) -> str:
    """Where a row of the corpus stands, counted from 0."""
    for part in parts:
        if row < len(part.texts):
            return part.table.place(row + 1)
        row -= len(part.texts)
    raise IndexError(row)


def _notes_on_leaks(copies: NDArray[np.int64], splits: NDArray[np.int8]) -> list[str]:
    train = splits == TRAIN
    leaks = {split: int(leaked(copies, source=train, into=splits == split).sum()) for split in (VAL, TEST)}
    return leak_notes(leaks, np.bincount(splits, minlength=len(SPLITS)))
