"""The corpus: rows of text, label and split from one, two or three files, checked.

The room's way in; every message names a file, everything worth saying aloud is a note. Imports errors, labels,
texts, the keys of the cache, and the modules of this room.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import distinct_keys, text_keys
from frozenhead.corpus.classes import Labels, encode_labels
from frozenhead.corpus.columns import check_column, column_values, find_columns
from frozenhead.corpus.duplicates import count_conflicts, leaked
from frozenhead.corpus.reading import check_delimiter, check_format, read_table
from frozenhead.corpus.splitting import (
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    complete_splits,
    parse_split,
    split_codes,
    split_column,
    unseen_label,
)
from frozenhead.corpus.table import Format, Table
from frozenhead.errors import DataError, UsageError
from frozenhead.labels import lookalikes
from frozenhead.texts import Texts, joined

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Role = Literal["data", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """How to read and split labelled texts; contradictions raise `UsageError`.

    Attributes
    ----------
    text, label
        Column names; guessed when None.
    labelled
        False: no labels are read, and rows are not split.
    split
        Shares of train, val and test, for what the data does not split itself.
    seed
        Of the split, 0 to 2**32 - 1.
    split_column
        A column that names each row's split.
    val, test
        Paths of further files; the data is then the train split.
    group_duplicates
        Copies of a text stay in one split.
    format, encoding, delimiter
        As in `read_table`, for every file.
    """

    text: str | None = None
    label: str | None = None
    labelled: bool = True
    split: str = "0.7/0.15/0.15"
    seed: int = 2018
    split_column: str | None = None
    val: str | None = None
    test: str | None = None
    group_duplicates: bool = False
    format: Format | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None

    def __post_init__(self) -> None:
        parse_split(self.split)
        check_format(self.format)
        check_delimiter(self.delimiter, format=self.format)
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"Found the seed {self.seed}. Expected a whole number from 0 to 4294967295.")
        if self.split_column is not None and (self.val is not None or self.test is not None):
            raise UsageError("Splits come from a column or from files: pass `--split-column`, or `--val` and `--test`.")
        if self.split_column is not None and self.split_column in {self.text, self.label}:
            raise UsageError(f"{self.split_column!r} cannot be the split column and the text or label column at once.")
        if not self.labelled and self.label is not None:
            raise UsageError(f"Unlabelled texts have no label column {self.label!r}: drop `--label` or `--no-label`.")
        if not self.labelled and self.group_duplicates:
            raise UsageError("Unlabelled texts are not split: drop `--group-duplicates` or `--no-label`.")
        _check_one_standard_input([self.val, self.test])


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

    @property
    def table(self) -> "pa.Table":
        """(N, 5) `row` int64, 0 to N - 1, `text`, `label`, `split`, `key`; the strings and keys are not copied."""
        import pyarrow as pa

        def over(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
            return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])

        def named(codes: NDArray[Any], kind: pa.DataType, names: Sequence[str]) -> pa.Array:
            return pa.DictionaryArray.from_arrays(over(codes, kind), Texts.of(names).column.chunk(0))

        rows = len(self.texts)
        columns = {
            "row": over(np.arange(rows), pa.int64()),
            "text": self.texts.column,
            "label": pa.nulls(rows) if self.labels is None else named(self.labels, pa.int32(), self.classes),
            "split": named(self.splits, pa.int8(), SPLITS),
            "key": over(self.keys, pa.binary(self.keys.shape[1])),
        }
        return pa.table(columns)

    @property
    def frame(self) -> "pd.DataFrame":
        """(N, 4) `row`, `text`, `label`, `split`, strings in object columns; `label` is None when unlabelled."""
        frame: pd.DataFrame = self.table.drop_columns("key").to_pandas()
        return frame.astype({"text": object, "label": object, "split": object})


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
        A path, or `-` for standard input.

    Raises
    ------
    DataError
        A file, row, column, label or class is not fit; names the file and the line or row.
    UsageError
        Two sources are standard input, or an option does not suit a file's format.
    """
    _check_one_standard_input([str(data), options.val, options.test])
    parts, columns, notes = _read_parts(data, options)
    texts = joined([part.texts for part in parts])
    labels = encode_labels(joined([part.labels for part in parts if part.labels])) if options.labelled else None
    splits, split_rule = _given_splits(parts, options)
    keys = text_keys(texts)
    if labels is not None:
        copies = distinct_keys(keys)[1]
        _check_classes(parts[0].table, labels, column=columns["label"])
        with _about(parts[0].table.source):
            splits, split_rule, more = _make_splits(splits, split_rule, copies, labels, options)
        _check_unseen(parts, labels, splits)
        notes += (*more, *_notes_on_lookalikes(labels), *_notes_on_leaks(copies, splits))
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


def _read_parts(data: str | Path, options: CorpusOptions) -> tuple[list[_Part], dict[str, str | None], tuple[str, ...]]:
    """Every file, its columns found by the names that the first one settles."""
    text, label = options.text, options.label
    notes: tuple[str, ...] = ()
    sources: list[tuple[Role, str | Path | None]] = [("data", data), ("val", options.val), ("test", options.test)]
    parts = []
    for role, source in sources:
        if source is None:
            continue
        table = read_table(source, format=options.format, encoding=options.encoding, delimiter=options.delimiter)
        columns = find_columns(table, text=text, label=label, labelled=options.labelled)
        text, label, notes = columns.text, columns.label, notes + columns.notes
        part = _Part(
            role=role,
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
    with _about(f"{table.source}, column {column!r}"):
        return split_column(values)


def _given_splits(parts: list[_Part], options: CorpusOptions) -> tuple[NDArray[np.int8], str]:
    """The splits that the data brings along, else all train; and where they come from, in words."""
    if parts[0].splits is not None:
        return parts[0].splits, f"column {options.split_column!r}"
    codes = [TRAIN if part.role == "data" else SPLITS.index(part.role) for part in parts]
    own = [np.full(len(part.texts), code, np.int8) for part, code in zip(parts, codes, strict=True)]
    return np.concatenate(own), "files" if len(parts) > 1 else "none" if not options.labelled else ""


def _make_splits(
    splits: NDArray[np.int8], rule: str, copies: NDArray[np.int64], labels: Labels, options: CorpusOptions
) -> tuple[NDArray[np.int8], str, list[str]]:
    """Split all rows, or carve out of train what the data does not bring along; the rule and notes say so."""
    shares, seed = parse_split(options.split), options.seed
    groups = copies if options.group_duplicates else None
    together = options.group_duplicates
    how = f"stratified {options.split}, seed {seed}{', copies of a text kept together' if together else ''}"
    notes = _notes_on_conflicts(copies, labels, splits) if together else []
    if not rule:
        return split_codes(labels, shares=shares, seed=seed, groups=groups), how, notes
    completed, carved = complete_splits(splits, labels, shares=shares, seed=seed, groups=groups)
    if carved:
        rows = int((completed != splits).sum())
        return (
            completed,
            f"{rule}; {carved} carved out of train, {how}",
            [f"{carved}: {rows} rows carved out of train, {how}", *notes],
        )
    return completed, rule, ["the data brings every split: copies of a text stay where they are"] if together else []


def _check_classes(table: Table, labels: Labels, *, column: str | None) -> None:
    if len(labels.names) < 2:
        raise DataError(
            f"{table.source}: every row has the label {labels.names[0]!r} in column {column!r}. "
            "Expected two classes or more: check `--label`, or pass `--no-label` to embed only."
        )


def _check_unseen(parts: list[_Part], labels: Labels, splits: NDArray[np.int8]) -> None:
    """A label of val or test that train lacks cannot be learned."""
    row = unseen_label(labels, splits)
    if row is None:
        return
    label, count, index = labels.names[labels.codes[row]], int((labels.codes == labels.codes[row]).sum()), row
    for part in parts:
        if index < len(part.texts):
            raise DataError(
                f"{part.table.place(index + 1)}: the label {label!r} ({count} rows, this the first) "
                f"stands in {SPLITS[splits[row]]} but not in train. "
                "Give train rows of it, drop these rows, or correct the label."
            )
        index -= len(part.texts)


def _notes_on_conflicts(copies: NDArray[np.int64], labels: Labels, splits: NDArray[np.int8]) -> list[str]:
    """Texts among the rows to be split that carry several labels."""
    train = splits == TRAIN
    conflicts = count_conflicts(copies[train], labels.codes[train])
    many = f"{conflicts} texts carry" if conflicts > 1 else "1 text carries"
    return [f"{many} several labels; split under the most common one"] if conflicts else []


def _notes_on_lookalikes(labels: Labels) -> list[str]:
    alike = [", ".join(map(repr, group)) for group in lookalikes(labels.names)]
    return [f"labels that differ only in case or white space: {group}" for group in alike]


def _notes_on_leaks(copies: NDArray[np.int64], splits: NDArray[np.int8]) -> list[str]:
    notes = []
    for split in (VAL, TEST):
        rows = leaked(copies, source=splits == TRAIN, into=splits == split).sum()
        if rows:
            of = f"{(splits == split).sum()} {SPLITS[split]} rows"
            notes.append(f"{rows} of {of} have a text that also stands in train")
    return notes


def _check_one_standard_input(sources: list[str | None]) -> None:
    if sources.count("-") > 1:
        raise UsageError("Standard input (`-`) can be read once: pass a path for the other files.")


@contextmanager
def _about(subject: str) -> Iterator[None]:
    """Begin the message of a `DataError` with what it is about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{subject}: {error}") from error
