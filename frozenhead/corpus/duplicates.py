"""Exact copies of a text: which rows share one, what label it has, where it leaks to. Pure functions on arrays.

Imports nothing from the package. Letters: N rows, G distinct texts.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def text_codes(texts: Sequence[str]) -> NDArray[np.int64]:
    """Number the distinct texts in order of first appearance.

    Returns
    -------
    int64 (N,)
        ["b", "a", "b"] -> [0, 1, 0]; two rows are copies when their codes are equal.
    """
    codes, _ = pd.factorize(np.array(texts, dtype=object))
    return codes.astype(np.int64, copy=False)


def most_common_label(codes: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The label that most copies of each text carry; among equals the lowest.

    Parameters
    ----------
    codes
        int64 (N,), from `text_codes`.
    labels
        int64 (N,), the class codes.

    Returns
    -------
    int64 (G,)
    """
    texts, carried, counts = _pairs(codes, labels)
    order = np.lexsort((carried, -counts, texts))  # by text, then most copies first, then lowest label
    _, first = np.unique(texts[order], return_index=True)
    return carried[order][first]  # (pairs,) -> (G,)


def count_conflicts(codes: NDArray[np.int64], labels: NDArray[np.int64]) -> int:
    """How many distinct texts carry more than one label; arguments as in `most_common_label`."""
    texts, _, _ = _pairs(codes, labels)
    return int((np.bincount(texts) > 1).sum())


def leaked(codes: NDArray[np.int64], splits: NDArray[np.object_], *, into: str) -> NDArray[np.bool_]:
    """Mark the rows of split `into` whose text also stands in train.

    Returns
    -------
    bool (N,)
    """
    in_train = np.isin(codes, codes[splits == "train"])
    return in_train & np.equal(splits, into).astype(np.bool_)


def _pairs(
    codes: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct pairs of text and label, and how many rows have each: three int64 (pairs,)."""
    K = int(labels.max()) + 1
    pairs, counts = np.unique(codes * K + labels, return_counts=True)
    return pairs // K, pairs % K, counts.astype(np.int64, copy=False)
