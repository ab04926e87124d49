"""Texts longer than a space's length, read whole: overlapping windows, and one vector from theirs.

A window is a complete input of at most `max_length` tokens, [CLS] content [SEP]. With s special tokens it holds
c = max_length - s content tokens, neighbours share c // 4 of them, and the last one ends where the text ends:

    max_length 10, s 2 -> c 8, overlap 2, step 6: content 0..19 gives 0..7, 6..13, 12..19.

A tokenizer that cuts on the left lays them from the text's end. The text's vector is the mean of its windows' vectors
weighted by their content tokens; where a space normalises, every window is scaled to length 1, and then the mean.
A text of one window has that window's vector, to the bit.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frozenhead.embedder.pooling import Pooling

Long = Literal["cut", "windows"]
LONGS: tuple[Long, ...] = get_args(Long)

# Shorter ones hold too little text to mean anything: with two special tokens 6 of 8 are content.
SHORTEST_WINDOW = 8

Vectors = dict[Pooling, NDArray[np.float32]]


def overlap(content: int) -> int:
    """Content tokens that neighbouring windows of `content` tokens share."""
    return content // 4


def count_windows(tokens: ArrayLike, *, max_length: int, special: int) -> NDArray[np.int64]:
    """How many windows texts have.

    Parameters
    ----------
    tokens : int array (n,)
        Tokens of each text, special tokens included.
    max_length : int
        Tokens of a window, special tokens included.
    special : int
        Special tokens of a window.

    Returns
    -------
    int64 array (n,)
        1 for texts that fit.
    """
    content = max_length - special
    beyond = np.maximum(np.asarray(tokens, np.int64) - max_length, 0)  # content tokens that the first window leaves
    return 1 - (-beyond // (content - overlap(content)))  # rounded up


class WindowMeans:
    """Vectors of texts from the vectors of their windows, which come in any order and are summed as they come.

    Parameters
    ----------
    texts : int array (m,)
        Which text each window is of.
    weights : int array (m,)
        Content tokens of each window.
    normalize : bool
        Scale each mean to length 1.
    """

    def __init__(self, texts: NDArray[np.intp], weights: NDArray[np.int32], *, normalize: bool = False) -> None:
        self._texts, self._weights, self._normalize = texts, weights, normalize
        self._windows = np.bincount(texts)  # (n,)
        self._missing = self._windows.copy()
        self._totals = np.bincount(texts, weights)  # (n,)
        self._sums: dict[int, dict[Pooling, NDArray[np.float64]]] = {}  # of texts that some windows are missing of

    def add(self, windows: NDArray[np.intp], vectors: Vectors) -> tuple[NDArray[np.intp], Vectors]:
        """Take the vectors (B, D) of a batch of windows; give the texts (b,) now complete, and their vectors (b, D)."""
        texts = self._texts[windows]  # (B,)
        alone = self._windows[texts] == 1
        if alone.all():
            return texts, vectors
        complete = [int(texts[i]) for i in np.flatnonzero(~alone) if self._sum(windows[i], i, vectors)]
        sums = [self._sums.pop(text) for text in complete]
        return np.concatenate([texts[alone], np.array(complete, np.intp)]), {
            p: np.concatenate([v[alone], *(self._mean(t, s[p]) for t, s in zip(complete, sums, strict=True))])
            for p, v in vectors.items()
        }

    def _sum(self, window: np.intp, row: np.intp, vectors: Vectors) -> bool:
        """Add one window to its text; whether it was the last one missing."""
        text = int(self._texts[window])
        # In float64: thousands of windows add up to the same float32 in any order.
        weighted = {p: self._weights[window] * v[row].astype(np.float64) for p, v in vectors.items()}
        so_far = self._sums.get(text)
        self._sums[text] = {p: w + so_far[p] for p, w in weighted.items()} if so_far else weighted
        self._missing[text] -= 1
        return bool(self._missing[text] == 0)

    def _mean(self, text: int, total: NDArray[np.float64]) -> NDArray[np.float32]:
        mean = total / self._totals[text]
        if self._normalize:
            mean /= max(float(np.linalg.norm(mean)), np.finfo(np.float32).tiny)
        vector: NDArray[np.float32] = mean.astype(np.float32)
        return vector[None]  # (1, D)
