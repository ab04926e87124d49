"""Labels as `fit` is given them: one per row, all of one type."""

from collections.abc import Iterable
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d


def checked_labels(y: ArrayLike, n: int) -> NDArray[Any]:
    """Labels (N,) for n > 0 inputs. Raises `ValueError` for another number of them, or for what is no label."""
    labels: NDArray[Any] = column_or_1d(y, warn=True)
    if len(labels) != n or n == 0:
        raise ValueError(f"X has {n} rows and y {len(labels)} labels; expected as many, and at least one.")
    # Words are classes; of many, each in few rows, scikit-learn would warn that they may be a regression's numbers.
    if set(map(type, labels.tolist())) != {str}:
        check_classification_targets(labels)
    return labels


def refuse_mixed_types(y: ArrayLike) -> None:
    """Raise `ValueError` for labels of several types: arrays would make 1 and "1", or True and 1, one label."""
    dtype = getattr(y, "dtype", None)
    if not isinstance(y, Iterable) or (isinstance(dtype, np.dtype) and dtype.kind != "O"):
        return
    labels = list(y)
    first: dict[type, int] = {}  # the row where each type comes first
    for i, kind in enumerate(map(type, labels)):
        first.setdefault(kind, i)
    kinds: dict[str, int] = {}
    for kind, i in first.items():
        kinds.setdefault(_kind_of(kind), i)
    if len(kinds) > 1:
        found = ", ".join(f"{labels[i]!r} ({kind}) in row {i}" for kind, i in list(kinds.items())[:3])
        raise ValueError(f"y mixes labels of several types: {found}. Make them all of one.")


def _kind_of(kind: type) -> str:
    """Types whose labels may stand side by side have one name: Python's and numpy's numbers, say."""
    if issubclass(kind, bool | np.bool_):
        return "bool"
    if issubclass(kind, str):
        return "str"
    return "number" if issubclass(kind, Number) else kind.__name__
