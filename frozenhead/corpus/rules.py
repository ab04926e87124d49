"""Which split each row is in: what the data brings along, completed by rule; and what is said of it.

Imports of the package errors and labels, and of this room what splits. Letters: N rows, K classes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from frozenhead.corpus.classes import Labels
from frozenhead.corpus.duplicates import count_conflicts
from frozenhead.corpus.options import CorpusOptions
from frozenhead.corpus.splitting import (
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    complete_splits,
    parse_split,
    split_codes,
    split_texts,
    unseen_label,
)
from frozenhead.corpus.strata import too_few
from frozenhead.errors import DataError
from frozenhead.labels import lookalikes


def no_split(several: bool, options: CorpusOptions) -> str:
    """Where splits come from, in words, as far as the data brings them along: "" if it brings none."""
    if options.split_column is not None:
        return f"column {options.split_column!r}"
    return "files" if several else "" if options.labelled else "none"


class TextRule:
    """Splits each text by itself, in as many parts as the rows come.

    Parameters
    ----------
    present
        (3,) rows that the data puts into each split.

    Attributes
    ----------
    missing
        The splits to be carved out of train.
    """

    def __init__(self, present: NDArray[np.int64], options: CorpusOptions) -> None:
        self.missing = [split for split in (VAL, TEST) if not present[split]]
        if not present[TRAIN]:
            raise DataError("no row is in the train split. Expected train rows: heads are trained on them.")
        shares = parse_split(options.split)
        self._shares = [share if split in {TRAIN, *self.missing} else 0.0 for split, share in enumerate(shares)]
        self._seed = options.seed
        self._counts = np.zeros((len(SPLITS), 0), np.int64)

    def take(
        self, splits: NDArray[np.int8], keys: NDArray[np.uint8], codes: NDArray[np.int32], K: int
    ) -> NDArray[np.int8]:
        """The splits of the next rows: int8 (n,), of those that the data brings along, keys (n, 32) and labels (n,)."""
        completed = splits.copy()
        train = np.flatnonzero(splits == TRAIN) if self.missing else np.zeros(0, np.int64)
        completed[train] = split_texts(keys[train], shares=self._shares, seed=self._seed)
        pairs = np.bincount(completed[train] * np.int64(K) + codes[train], minlength=len(SPLITS) * K).reshape(-1, K)
        self._counts = pairs + self._counts if self._counts.size else pairs
        return completed

    def check(self, names: list[str]) -> None:
        """Raise a `DataError` unless every class of the rows split so stands in each of their splits."""
        rows = self._counts.sum(axis=0)  # (K,)
        among = self._counts[[TRAIN, *self.missing]]
        absent = np.flatnonzero((among == 0).any(axis=0) & (rows > 0))
        if self.missing and len(absent):
            smallest = min(share for share in self._shares if share) / sum(self._shares)
            raise too_few(absent, rows, names, smallest=smallest)


def make_splits(
    splits: NDArray[np.int8],
    brought: str,
    labels: Labels,
    options: CorpusOptions,
    *,
    keys: NDArray[np.uint8],
    copies: Callable[[], NDArray[np.int64]],
) -> tuple[NDArray[np.int8], str, list[str]]:
    """Split all rows, or carve out of train what the data does not bring along; the rule and notes say so.

    Parameters
    ----------
    splits
        int8 (N,) as far as the data brings them, else train.
    brought
        Where these come from, in words.
    keys, copies
        uint8 (N, 32), and what numbers the distinct texts, int64 (N,).
    """
    if options.split_by == "text":
        rule = TextRule(np.bincount(splits, minlength=len(SPLITS)), options)
        completed = rule.take(splits, keys, labels.codes, len(labels.names))
        rule.check(labels.names)
        return completed, *told(brought, rule.missing, int((completed != splits).sum()), options)
    groups = copies() if options.group_duplicates else None
    notes = (
        []
        if groups is None
        else conflict_notes(count_conflicts(groups[splits == TRAIN], labels.codes[splits == TRAIN]))
    )
    shares = parse_split(options.split)
    if not brought:
        return split_codes(labels, shares=shares, seed=options.seed, groups=groups), told("", [], 0, options)[0], notes
    completed, carved = complete_splits(splits, labels, shares=shares, seed=options.seed, groups=groups)
    missing = [SPLITS.index(name) for name in carved.split(" and ") if name]
    words, more = told(brought, missing, int((completed != splits).sum()), options)
    return completed, words, [*more, *notes] if missing else more


def told(brought: str, missing: list[int], rows: int, options: CorpusOptions) -> tuple[str, list[str]]:
    """The rule in words, and notes: so many rows were put into `missing` splits beside what the data brought."""
    together = options.group_duplicates
    kept = ", copies of a text kept together" if together and options.split_by == "stratified" else ""
    how = (
        f"{'stratified' if options.split_by == 'stratified' else 'by text'} {options.split}, seed {options.seed}{kept}"
    )
    if not brought:
        return how, []
    if missing:
        carved = " and ".join(SPLITS[split] for split in missing)
        return f"{brought}; {carved} carved out of train, {how}", [f"{carved}: {rows} rows carved out of train, {how}"]
    return brought, ["the data brings every split: copies of a text stay where they are"] if together else []


def check_classes(labels: list[str], source: str, *, column: str | None) -> None:
    """Refuse labels that are all one."""
    if len(labels) < 2:
        raise DataError(
            f"{source}: every row has the label {labels[0]!r} in column {column!r}. "
            "Expected two classes or more: check `--label`, or pass `--no-label` to embed only."
        )


def check_unseen(labels: Labels, splits: NDArray[np.int8], place: Callable[[int], str]) -> None:
    """A label of val or test that train lacks cannot be learned; `place` says where a row stands."""
    row = unseen_label(labels, splits)
    if row is not None:
        code = labels.codes[row]
        label, count = labels.names[code], int((labels.codes == code).sum())
        raise DataError(
            f"{place(row)}: the label {label!r} ({count} rows, this the first) "
            f"stands in {SPLITS[splits[row]]} but not in train. "
            "Give train rows of it, drop these rows, or correct the label."
        )


def conflict_notes(conflicts: int) -> list[str]:
    """Texts among the rows to be split that carry several labels."""
    many = f"{conflicts} texts carry" if conflicts > 1 else "1 text carries"
    return [f"{many} several labels; split under the most common one"] if conflicts else []


def lookalike_notes(classes: list[str]) -> list[str]:
    """Labels that are likely meant to be one."""
    alike = [", ".join(map(repr, group)) for group in lookalikes(classes)]
    return [f"labels that differ only in case or white space: {group}" for group in alike]


def leak_notes(leaks: dict[int, int], rows: NDArray[np.int64]) -> list[str]:
    """Rows of val and test whose text stands in train: how many of each, and rows (3,) of each split."""
    return [
        f"{leaks[split]} of {rows[split]} {SPLITS[split]} rows have a text that also stands in train"
        for split in (VAL, TEST)
        if leaks[split]
    ]


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Begin the message of a `DataError` with what it is about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{subject}: {error}") from error
