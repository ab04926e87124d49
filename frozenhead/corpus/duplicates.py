"""Exact copies of a text: which rows share one, what label it has, where it leaks to. Pure functions on arrays.

Imports of the package only the keys of the cache: equal keys are equal texts. Letters: N rows, G distinct texts.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import distinct_keys, text_keys


def text_codes(texts: Iterable[str]) -> NDArray[np.int64]:
    """Number the distinct texts in order of first appearance.

    Returns
    -------
    int64 (N,)
        ["b", "a", "b"] -> [0, 1, 0]; two rows are copies when their codes are equal.
    """
    _, codes = distinct_keys(text_keys(texts))
    return codes.astype(np.int64, copy=False)


def renumbered(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number what some of the rows have in order of first appearance: [7, 2, 7] -> [0, 1, 0]; int64 (N,) both."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64, copy=False)


def most_common_label(codes: NDArray[np.int64], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """The label that most copies of each text carry; among equals the lowest.

    Parameters
    ----------
    codes
        int64 (N,), from `text_codes`.
    labels
        int (N,), the class codes.

    Returns
    -------
    int64 (G,)
    """
    texts, carried, counts = _pairs(codes, labels)
    order = np.lexsort((carried, -counts, texts))  # by text, then most copies first, then lowest label
    _, first = np.unique(texts[order], return_index=True)
    return carried[order][first]  # (pairs,) -> (G,)


def count_conflicts(codes: NDArray[np.int64], labels: NDArray[np.integer]) -> int:
    """How many distinct texts carry more than one label; arguments as in `most_common_label`."""
    texts, _, _ = _pairs(codes, labels)
    return int((np.bincount(texts) > 1).sum())


def leaked(codes: NDArray[np.int64], *, source: NDArray[np.bool_], into: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the rows of `into` whose text also stands in a row of `source`; all bool (N,)."""
    known = np.zeros(codes.max(initial=-1) + 1, bool)  # (G,)
    known[codes[source]] = True
    return known[codes] & into


def _pairs(
    codes: NDArray[np.int64], labels: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct pairs of text and label, and how many rows have each: three int64 (pairs,)."""
    K = int(labels.max()) + 1
    pairs, counts = np.unique(codes * K + labels, return_counts=True)
    return pairs // K, pairs % K, counts.astype(np.int64, copy=False)
