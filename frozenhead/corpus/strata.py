"""What is split: rows, or distinct texts, each under its class; and one stratified cut of them.

Imports errors and labels, and duplicates of this room. Letters: N rows, U units, K classes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frozenhead.corpus.duplicates import most_common_label, text_codes
from frozenhead.errors import DataError
from frozenhead.labels import natural_order

_DIGITS = 6  # 0.28 * 25 is 7.000000000000001, which train_test_split itself would round up to 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Strata:
    """Units that are never divided, and the class under which each is drawn.

    Attributes
    ----------
    names
        (K,) the classes in natural order.
    labels
        int64 (N,) the class of each row.
    units
        int64 (N,) the unit of each row: the row itself, or its group.
    classes
        int64 (U,) the class of each unit: its most common one.
    smallest
        The smallest share asked for; it tells how many rows a class needs.
    """

    names: list[str]
    labels: NDArray[np.int64]
    units: NDArray[np.int64]
    classes: NDArray[np.int64]
    smallest: float

    def cut(self, units: NDArray[np.int64], *, share: float, seed: int) -> NDArray[np.int64]:
        """The `share` of `units` that one stratified `train_test_split` call puts aside.

        Raises
        ------
        DataError
            A class has too few units; the rarest such class is named.
        """
        from sklearn.model_selection import train_test_split

        present, counts = np.unique(self.classes[units], return_counts=True)
        size = math.ceil(round(share * len(units), _DIGITS))
        # train_test_split's own conditions, tested first: its ValueError could also mean another mistake.
        if counts.min() < 2 or min(size, len(units) - size) < len(present):
            scarce = (counts < 2) | (counts * min(share, 1 - share) < 1)
            raise self._refusal(present[scarce] if scarce.any() else present)
        _, aside = train_test_split(units, test_size=size, random_state=seed, stratify=self.classes[units])
        return np.asarray(aside, dtype=np.int64)

    def check_presence(self, splits: NDArray[np.object_], among: Iterable[str]) -> None:
        """Raise a `DataError` unless every class has a row in each split of `among`. `splits` is object (N,)."""
        everything = np.arange(len(self.names))
        absent = [np.setdiff1d(everything, self.labels[splits == split]) for split in among]
        if any(len(codes) for codes in absent):
            raise self._refusal(np.unique(np.concatenate(absent)))

    def _refusal(self, codes: NDArray[np.int64]) -> DataError:
        counts = np.bincount(self.labels, minlength=len(self.names))
        rarest = int(codes[np.argmin(counts[codes])])
        texts = len(np.unique(self.units[self.labels == rarest]))
        found = f"{counts[rarest]} row{'s' if counts[rarest] > 1 else ''}"
        if texts < counts[rarest]:
            found += f" ({texts} distinct text{'s' if texts > 1 else ''})"
        others = len(codes) - 1
        also = f"; {others} more class{'es are' if others > 1 else ' is'} too small" if others else ""
        return DataError(
            f"class {self.names[rarest]!r} has {found}, too few to stand in every split{also}.\n"
            f"Give it about {math.ceil(1 / self.smallest)} or more, merge it into another class, drop it, "
            "or set the splits yourself with `--split-column`."
        )


def stratify(labels: Sequence[str], groups: Sequence[str] | None, *, smallest: float) -> Strata:
    """The units of rows with these labels (N,): the rows, or the distinct `groups` (N,) in order of appearance."""
    names = natural_order(labels)
    codes = {label: code for code, label in enumerate(names)}
    rows = np.array([codes[label] for label in labels], dtype=np.int64)
    units = np.arange(len(rows)) if groups is None else text_codes(groups)
    classes = rows if groups is None else most_common_label(units, rows)
    return Strata(names=names, labels=rows, units=units, classes=classes, smallest=smallest)
