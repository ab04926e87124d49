"""What is split: rows, or distinct texts, each under its class; and one stratified cut of them.

Imports errors, and of this room classes, duplicates and drawing. Letters: N rows, U units, K classes.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frozenhead.corpus.classes import Labels
from frozenhead.corpus.drawing import draw_stratified
from frozenhead.corpus.duplicates import most_common_label
from frozenhead.errors import DataError

_DIGITS = 6  # 0.28 * 25 is 7.000000000000001, which train_test_split itself would round up to 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Strata:
    """Units that are never divided, and the class under which each is drawn.

    Attributes
    ----------
    names
        (K,) the classes in natural order.
    labels
        int32 (N,) the class of each row.
    units
        int64 (N,) the unit of each row: the row itself, or its group.
    classes
        int32 or int64 (U,) the class of each unit: its most common one.
    smallest
        The smallest share asked for; it tells how many rows a class needs.
    """

    names: list[str]
    labels: NDArray[np.int32]
    units: NDArray[np.int64]
    classes: NDArray[np.integer]
    smallest: float

    def cut(self, units: NDArray[np.int64], *, share: float, seed: int) -> NDArray[np.int64]:
        """The `share` of `units` that one stratified `train_test_split` call puts aside.

        Raises
        ------
        DataError
            A class has too few units; the rarest such class is named.
        """
        counts = np.bincount(self.classes[units])
        present = np.flatnonzero(counts)
        counts = counts[present]
        size = math.ceil(round(share * len(units), _DIGITS))
        # train_test_split's own conditions, tested first: its ValueError could also mean another mistake.
        if counts.min() < 2 or min(size, len(units) - size) < len(present):
            scarce = (counts < 2) | (counts * min(share, 1 - share) < 1)
            raise self._refusal(present[scarce] if scarce.any() else present)
        return units[draw_stratified(self.classes[units], size, seed=seed)]

    def check_presence(self, splits: NDArray[np.int8], among: Iterable[int]) -> None:
        """Raise a `DataError` unless every class has a row in each split of `among`. `splits` is int8 (N,)."""
        K = len(self.names)
        rows = np.array([np.bincount(self.labels[splits == split], minlength=K) for split in among])  # (splits, K)
        absent = np.flatnonzero((rows == 0).any(axis=0))
        if len(absent):
            raise self._refusal(absent)

    def _refusal(self, codes: NDArray[np.int64]) -> DataError:
        def texts_of(label: int) -> int:
            return len(np.unique(self.units[self.labels == label]))

        counts = np.bincount(self.labels, minlength=len(self.names))
        return too_few(codes, counts, self.names, smallest=self.smallest, texts_of=texts_of)


def too_few(
    codes: NDArray[np.integer],
    counts: NDArray[np.int64],
    names: list[str],
    *,
    smallest: float,
    texts_of: Callable[[int], int] | None = None,
) -> DataError:
    """The refusal of classes that cannot stand in every split; it names the rarest.

    Parameters
    ----------
    codes
        Of these classes.
    counts, names
        (K,) rows and name of each class.
    smallest
        The smallest share asked for.
    texts_of
        Distinct texts of a class, where rows that share one stay together.
    """
    rarest = int(codes[np.argmin(counts[codes])])
    texts = counts[rarest] if texts_of is None else texts_of(rarest)
    found = f"{counts[rarest]} row{'s' if counts[rarest] > 1 else ''}"
    if texts < counts[rarest]:
        found += f" ({texts} distinct text{'s' if texts > 1 else ''})"
    others = len(codes) - 1
    also = f"; {others} more class{'es are' if others > 1 else ' is'} too small" if others else ""
    return DataError(
        f"class {names[rarest]!r} has {found}, too few to stand in every split{also}.\n"
        f"Give it about {math.ceil(1 / smallest)} or more, merge it into another class, drop it, "
        "or set the splits yourself with `--split-column`."
    )


def stratify(labels: Labels, groups: NDArray[np.int64] | None, *, smallest: float) -> Strata:
    """The units of rows with these labels: the rows, or their `groups`, int64 (N,), numbered from 0 without gaps."""
    rows = labels.codes
    units = np.arange(len(rows)) if groups is None else groups
    classes = rows if groups is None else most_common_label(units, rows)
    return Strata(names=labels.names, labels=rows, units=units, classes=classes, smallest=smallest)
