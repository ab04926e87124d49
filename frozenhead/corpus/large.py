"""A corpus that memory does not hold: read part by part, spooled on disk, split, and shared out into buckets.

The rows, splits, notes and refusals of `load_corpus`. In memory are the classes, a part or a bucket, and, while the
stratified rule draws, some tens of bytes a row. Imports of the package errors, files, texts, the keys of the cache,
and of this room what reads and splits.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import distinct_keys
from frozenhead.corpus.classes import Labels, Numbered
from frozenhead.corpus.columns import Cells, check_column, find_columns
from frozenhead.corpus.corpus import Bucket, corpus_table, count_rows
from frozenhead.corpus.duplicates import leaked
from frozenhead.corpus.options import CorpusOptions
from frozenhead.corpus.rules import (
    TextRule,
    about,
    check_classes,
    check_unseen,
    leak_notes,
    lookalike_notes,
    make_splits,
    no_split,
    told,
)
from frozenhead.corpus.sources import Source
from frozenhead.corpus.splitting import ROWS_AT_ONCE, SPLITS, TEST, TRAIN, VAL, split_alias, split_names
from frozenhead.corpus.spool import Spool, SpoolWriter, spool_folder
from frozenhead.corpus.streaming import Parts, open_parts
from frozenhead.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LABELS = 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class LargeCorpus:
    """Checked rows on disk, in the order of the files; the fields are those of `Corpus`.

    Attributes
    ----------
    spool
        Where texts, keys and labels are.
    """

    spool: Spool
    labels: NDArray[np.int32] | None
    splits: NDArray[np.int8]
    classes: list[str]
    sources: list[dict[str, str | int]]
    columns: dict[str, str | None]
    split_rule: str
    notes: tuple[str, ...]

    @property
    def bucket_count(self) -> int:
        """How many buckets there are."""
        return self.spool.buckets

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.spool.rows

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each split and class: (3, K); (3, 1) when unlabelled."""
        return count_rows(self.labels, self.splits, self.classes)

    def buckets(self) -> Iterator[Bucket]:
        """All rows, as many at a time as are embedded together."""
        for number in range(self.spool.buckets):
            yield self._bucket(number)  # and nothing here holds it while the next is read

    def _bucket(self, number: int) -> Bucket:
        rows, keys, labels, texts = self.spool.bucket(number)
        return Bucket(rows=rows, texts=texts, keys=keys, labels=None if self.labels is None else labels)

    def tables(self) -> "Iterator[pa.Table]":
        """The table of all rows, some thousands at a time."""
        import pyarrow as pa

        first, keys = 0, self.spool.array("keys")
        for texts in self.spool.texts():
            rows = slice(first, first + len(texts))
            yield corpus_table(
                pa.chunked_array([texts.cast(pa.string())]),
                first=first,
                labels=None if self.labels is None else np.asarray(self.labels[rows]),
                splits=np.asarray(self.splits[rows]),
                keys=np.asarray(keys[rows]),
                classes=self.classes,
            )
            first = rows.stop


@contextmanager
def stream_corpus(
    data: str | Path, sources: list[Source], options: CorpusOptions, *, beside: Path
) -> Iterator[LargeCorpus]:
    """Read, check and split labelled texts in little memory; what is spooled is removed when the block ends.

    Parameters
    ----------
    data
        As it was given, for messages.
    sources
        From `find_sources`.
    beside
        The spool is a temporary folder beside this path. It takes twice the texts and 80 bytes a row.

    Raises
    ------
    DataError
        As `load_corpus`; or there are more than `MOST_LABELS` labels.
    StorageError
        The spool cannot be written.
    """
    with spool_folder(beside) as folder:
        yield _Streamed(str(data), sources, options, Spool(folder)).corpus()


class _Streamed:
    """Files on their way to a corpus."""

    def __init__(self, data: str, sources: list[Source], options: CorpusOptions, spool: Spool) -> None:
        self._sources, self._options, self._spool = sources, options, spool
        self._name = str(sources[0].path) if len(sources) == 1 else data
        self._text, self._label = options.text, options.label
        self._notes: tuple[str, ...] = ()
        self._labels = Numbered()
        self._facts: list[dict[str, str | int]] = []

    def corpus(self) -> LargeCorpus:
        """Read everything, and split it."""
        with self._spool.writing() as writer:
            for source in self._sources:
                self._read(source, writer)
        labelled, spool = self._options.labelled, self._spool
        rule = no_split(len({source.role for source in self._sources}) > 1, self._options)
        classes: list[str] = []
        if labelled:
            classes, positions = self._labels.in_order()
            check_classes(classes, self._name, column=self._label)
            spool.write_array("labels", (positions[codes] for codes in _blocks(spool.array("labels"))))
        spool.share_out(labelled=labelled)
        if labelled:
            labels = Labels(names=classes, codes=spool.array("labels"))
            with about(self._name):
                rule, more = self._split(labels, rule)
            check_unseen(labels, spool.array("splits"), self._place)
            self._notes += (*more, *lookalike_notes(classes), *self._leaks())
        return LargeCorpus(
            spool=spool,
            labels=spool.array("labels") if labelled else None,
            splits=spool.array("splits"),
            classes=classes,
            sources=self._facts,
            columns={"text": self._text, "label": self._label, "split": self._options.split_column},
            split_rule=rule,
            notes=self._notes,
        )

    def _read(self, source: Source, writer: SpoolWriter) -> None:
        """Spool a file, its columns found by the names that the first one settles."""
        options = self._options
        with self._open(source) as parts:
            columns = find_columns(parts.header, text=self._text, label=self._label, labelled=options.labelled)
            self._text, self._label, self._notes = columns.text, columns.label, self._notes + columns.notes
            if options.split_column is not None:
                check_column(parts.header, options.split_column, option="--split-column")
            self._spool_parts(source, parts, writer)
            self._facts.append(
                {"path": str(source.path), "sha256": parts.sha256, "role": source.role, "rows": parts.rows}
            )

    def _spool_parts(self, source: Source, parts: Parts, writer: SpoolWriter) -> None:
        named = {"text": self._text, "label": self._label, "split": self._options.split_column}
        cells = {what: Cells(name, what=what) for what, name in named.items() if name is not None}  # type: ignore[arg-type]
        given, own = Numbered(), TRAIN if source.role == "data" else SPLITS.index(source.role)
        for table in parts.read(sorted({name for name in named.values() if name is not None})):
            found = {what: reader.take(table) for what, reader in cells.items()}
            texts, labels, splits = found["text"], found.get("label"), found.get("split")
            codes = None if labels is None else self._labels.take(labels)
            self._check_labels(source)
            if splits is not None:
                numbers = given.take(splits)
                into = np.array([split_alias(name, otherwise=TRAIN) for name in given.names], np.int8)[numbers]
            else:
                into = np.full(len(table.columns[0]), own, np.int8)
            if texts is not None and (codes is not None or "label" not in cells):
                writer.add(texts, labels=codes, splits=into)
        for reader in cells.values():
            reader.check()
        if self._options.split_column is not None:
            with about(f"{source.path}, column {self._options.split_column!r}"):
                split_names(given)

    def _check_labels(self, source: Source) -> None:
        if len(self._labels.names) > MOST_LABELS:
            raise DataError(
                f"{source.path}: the column {self._label!r} holds more than {MOST_LABELS:,} different labels. "
                "Expected classes: check `--label`, or pass `--no-label` to embed only."
            )

    def _split(self, labels: Labels, brought: str) -> tuple[str, list[str]]:
        """Write the splits of all rows; the rule, and notes."""
        spool, options = self._spool, self._options
        if options.split_by == "text":
            return self._split_by_text(labels, brought)
        splits, rule, notes = make_splits(
            np.array(spool.array("splits")),
            brought,
            labels,
            options,
            keys=spool.array("keys"),
            copies=self._copies,
        )
        spool.write_array("splits", iter([splits]))
        return rule, notes

    def _split_by_text(self, labels: Labels, brought: str) -> tuple[str, list[str]]:
        spool = self._spool
        given, keys = spool.array("splits"), spool.array("keys")
        present = sum((np.bincount(part, minlength=len(SPLITS)) for part in _blocks(given)), np.zeros(3, np.int64))
        rule, moved = TextRule(present, self._options), 0

        def parts() -> Iterator[NDArray[np.int8]]:
            nonlocal moved
            for start in range(0, len(given), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                old = np.asarray(given[rows])
                new = rule.take(old, np.asarray(keys[rows]), np.asarray(labels.codes[rows]), len(labels.names))
                moved += int((new != old).sum())
                yield new

        spool.write_array("splits", parts())
        rule.check(labels.names)
        return told(brought, rule.missing, moved, self._options)

    def _copies(self) -> NDArray[np.int64]:
        """The distinct texts, numbered in order of first appearance: int64 (N,), in memory."""
        first = np.zeros(self._spool.rows, bool)
        copies = np.empty(self._spool.rows, np.int64)
        for number in range(self._spool.buckets):
            rows, keys, _, _ = self._spool.bucket(number)
            distinct, inverse = distinct_keys(keys)
            first[rows[distinct]] = True
            copies[rows] = rows[distinct][inverse]
        ranks = np.cumsum(first) - 1
        for start in range(0, len(copies), ROWS_AT_ONCE):
            copies[start : start + ROWS_AT_ONCE] = ranks[copies[start : start + ROWS_AT_ONCE]]
        return copies

    def _leaks(self) -> list[str]:
        """Rows of val and test whose text stands in train, counted bucket by bucket."""
        splits, leaks = self._spool.array("splits"), {VAL: 0, TEST: 0}
        counts = np.zeros(len(SPLITS), np.int64)
        for number in range(self._spool.buckets):
            rows, keys, _, _ = self._spool.bucket(number)
            own, copies = np.asarray(splits[rows]), distinct_keys(keys)[1]
            counts += np.bincount(own, minlength=len(SPLITS))
            for split in leaks:
                leaks[split] += int(leaked(copies, source=own == TRAIN, into=own == split).sum())
        return leak_notes(leaks, counts)

    def _place(self, row: int) -> str:
        """Where a row of the corpus stands, counted from 0: its file is read again up to it."""
        ends = np.cumsum([0, *(int(fact["rows"]) for fact in self._facts)]).tolist()
        for source, (start, end) in zip(self._sources, pairwise(ends), strict=True):
            if start <= row < end:
                with self._open(source) as parts:
                    for table in parts.read([self._text or ""]):
                        if row - start < parts.rows:
                            return table.place(row - start - table.first + 1)
        raise IndexError(row)

    def _open(self, source: Source) -> AbstractContextManager[Parts]:
        options = self._options
        return open_parts(source.path, format=options.format, encoding=options.encoding, delimiter=options.delimiter)


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """An array, so many rows at a time."""
    for start in range(0, len(array), ROWS_AT_ONCE):
        yield np.asarray(array[start : start + ROWS_AT_ONCE])
