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
    texts = labels if isinstance(labels, Texts) else Texts.of(labels)
    chunks = texts.column.dictionary_encode().unify_dictionaries().chunks
    names = chunks[0].dictionary.to_pylist() if chunks else []
    return _in_order(names, np.concatenate([np.from_dlpack(chunk.indices) for chunk in chunks]))


def _in_order(names: list[str], codes: NDArray[np.integer]) -> Labels:
    """Labels whose `codes` are positions in `names`, which are in any order."""
    ordered = natural_order(names)
    position = {name: code for code, name in enumerate(ordered)}
    return Labels(names=ordered, codes=np.array([position[name] for name in names], dtype=np.int32)[codes])
