"""The corpus: rows of text, label and split from one, two or three files, checked.

The room's way in; every message names a file, everything worth saying aloud is a note. Imports errors, labels,
and the modules of this room.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.corpus.columns import check_column, column_values, find_columns
from frozenhead.corpus.duplicates import count_conflicts, leaked, text_codes
from frozenhead.corpus.reading import Format, Table, check_delimiter, check_format, read_table
from frozenhead.corpus.splitting import complete_splits, parse_split, split_column, split_rows, unseen_label
from frozenhead.errors import DataError, UsageError
from frozenhead.labels import lookalikes, natural_order

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
    """Checked rows of text, label and split.

    Attributes
    ----------
    frame
        (N, 4): `row` int64, 0 to N - 1, in the order of the files (data, val, test); `text` str; `label` str,
        or None throughout when unlabelled; `split` "train", "val" or "test". Strings are in object columns.
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

    frame: pd.DataFrame
    classes: list[str]
    sources: list[dict[str, str | int]]
    columns: dict[str, str | None]
    split_rule: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """One file's share of the corpus."""

    role: Role
    table: Table
    texts: list[str]
    labels: list[str] | None

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
    texts = [text for part in parts for text in part.texts]
    labels = None if not options.labelled else [label for part in parts for label in part.labels or []]
    splits, split_rule = _given_splits(parts, options)
    if labels is not None:
        _check_classes(parts[0].table, labels, column=columns["label"])
        with _about(parts[0].table.source):
            splits, split_rule, more = _make_splits(splits, split_rule, texts, labels, options)
        _check_unseen(parts, labels, splits)
        notes += (*more, *_notes_on_lookalikes(labels), *_notes_on_leaks(texts, splits))
    frame = pd.DataFrame({"row": np.arange(len(texts), dtype=np.int64)})
    frame["text"] = pd.Series(texts, dtype=object)
    frame["label"] = pd.Series(labels if labels is not None else [None] * len(texts), dtype=object)
    frame["split"] = pd.Series(splits, dtype=object)
    return Corpus(
        frame=frame,
        classes=natural_order(labels or []),
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
        texts = column_values(table, columns.text, what="text")
        labels = column_values(table, columns.label, what="label") if columns.label is not None else None
        parts.append(_Part(role=role, table=table, texts=texts, labels=labels))
    return parts, {"text": text, "label": label, "split": options.split_column}, notes


def _given_splits(parts: list[_Part], options: CorpusOptions) -> tuple[NDArray[np.object_], str]:
    """The splits that the data brings along, else all train; and where they come from, in words."""
    if options.split_column is not None:
        table = parts[0].table
        check_column(table, options.split_column, option="--split-column")
        values = column_values(table, options.split_column, what="split")
        with _about(f"{table.source}, column {options.split_column!r}"):
            return split_column(values), f"column {options.split_column!r}"
    roles = [role for part in parts for role in [part.role] * len(part.texts)]
    splits = np.array(["train" if role == "data" else role for role in roles], dtype=object)
    return splits, "files" if len(parts) > 1 else "none" if not options.labelled else ""


def _make_splits(
    splits: NDArray[np.object_], rule: str, texts: list[str], labels: list[str], options: CorpusOptions
) -> tuple[NDArray[np.object_], str, list[str]]:
    """Split all rows, or carve out of train what the data does not bring along; the rule and notes say so."""
    shares, seed = parse_split(options.split), options.seed
    groups = texts if options.group_duplicates else None
    how = f"stratified {options.split}, seed {seed}{', copies of a text kept together' if groups else ''}"
    notes = _notes_on_conflicts(texts, labels, splits) if groups else []
    if not rule:
        return split_rows(labels, shares=shares, seed=seed, groups=groups), how, notes
    completed, carved = complete_splits(splits, labels, shares=shares, seed=seed, groups=groups)
    if carved:
        rows = int((completed != splits).sum())
        return (
            completed,
            f"{rule}; {carved} carved out of train, {how}",
            [f"{carved}: {rows} rows carved out of train, {how}", *notes],
        )
    return completed, rule, ["the data brings every split: copies of a text stay where they are"] if groups else []


def _check_classes(table: Table, labels: list[str], *, column: str | None) -> None:
    classes = set(labels)
    if len(classes) < 2:
        raise DataError(
            f"{table.source}: every row has the label {labels[0]!r} in column {column!r}. "
            "Expected two classes or more: check `--label`, or pass `--no-label` to embed only."
        )


def _check_unseen(parts: list[_Part], labels: list[str], splits: NDArray[np.object_]) -> None:
    """A label of val or test that train lacks cannot be learned."""
    row = unseen_label(labels, splits)
    if row is None:
        return
    label, index = labels[row], row
    for part in parts:
        if index < len(part.texts):
            raise DataError(
                f"{part.table.place(index + 1)}: the label {label!r} ({labels.count(label)} rows, this the first) "
                f"stands in {splits[row]} but not in train. "
                "Give train rows of it, drop these rows, or correct the label."
            )
        index -= len(part.texts)


def _notes_on_conflicts(texts: list[str], labels: list[str], splits: NDArray[np.object_]) -> list[str]:
    """Texts among the rows to be split that carry several labels."""
    order = {label: code for code, label in enumerate(natural_order(labels))}
    codes = np.array([order[label] for label in labels], dtype=np.int64)
    train = splits == "train"
    conflicts = count_conflicts(text_codes(texts)[train], codes[train])
    many = f"{conflicts} texts carry" if conflicts > 1 else "1 text carries"
    return [f"{many} several labels; split under the most common one"] if conflicts else []


def _notes_on_lookalikes(labels: list[str]) -> list[str]:
    alike = [", ".join(map(repr, group)) for group in lookalikes(natural_order(labels))]
    return [f"labels that differ only in case or white space: {group}" for group in alike]


def _notes_on_leaks(texts: list[str], splits: NDArray[np.object_]) -> list[str]:
    copies = text_codes(texts)
    notes = []
    for split in ("val", "test"):
        rows = int(leaked(copies, splits, into=split).sum())
        if rows:
            notes.append(f"{rows} of {(splits == split).sum()} {split} rows have a text that also stands in train")
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
