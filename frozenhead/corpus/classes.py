"""Labels as numbers: the classes in their natural order, and the class of each row.

Imports labels and texts. Letters: N rows, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frozenhead.labels import natural_order
from frozenhead.texts import Texts


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """The labels of N rows.

    Attributes
    ----------
    names
        (K,) the classes in natural order.
    codes
        int32 (N,) the class of each row; every class has one.
    """

    names: list[str]
    codes: NDArray[np.int32]

    def of_rows(self, rows: NDArray[np.intp]) -> "Labels":
        """The labels of some rows, and the classes that these have."""
        present, codes = np.unique(self.codes[rows], return_inverse=True)
        return _in_order([self.names[code] for code in present], codes)


def encode_labels(labels: Sequence[str]) -> Labels:
    """Number the labels (N,) by class; quick for `Texts`."""
    given = Numbered()
    codes = given.take(labels if isinstance(labels, Texts) else Texts.of(labels))
    return _in_order(given.names, codes)


class Numbered:
    """Distinct strings, numbered as they come, however many parts they come in.

    Attributes
    ----------
    names
        The strings, in order of first appearance.
    counts
        How often each came.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.counts: list[int] = []
        self._codes: dict[str, int] = {}

    def take(self, strings: Texts) -> NDArray[np.int32]:
        """The numbers of the next strings (n,): int32 (n,)."""
        parts = [np.zeros(0, np.int32)]
        for chunk in strings.column.dictionary_encode().chunks:
            own = np.array([self._code(name) for name in chunk.dictionary.to_pylist()], np.int32)
            positions = np.from_dlpack(chunk.indices)
            for code, count in zip(own.tolist(), np.bincount(positions, minlength=len(own)).tolist(), strict=True):
                self.counts[code] += count
            parts.append(own[positions])
        return np.concatenate(parts)

    def _code(self, name: str) -> int:
        if name not in self._codes:
            self._codes[name] = len(self.names)
            self.names.append(name)
            self.counts.append(0)
        return self._codes[name]

    def in_order(self) -> tuple[list[str], NDArray[np.int32]]:
        """The strings in natural order, and the position that each number takes in it."""
        ordered = natural_order(self.names)
        position = {name: code for code, name in enumerate(ordered)}
        return ordered, np.array([position[name] for name in self.names], dtype=np.int32)


def _in_order(names: list[str], codes: NDArray[np.integer]) -> Labels:
    """Labels whose `codes` are positions in `names`, which are in any order."""
    ordered = natural_order(names)
    position = {name: code for code, name in enumerate(ordered)}
    return Labels(names=ordered, codes=np.array([position[name] for name in names], dtype=np.int32)[codes])
