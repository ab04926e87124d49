"""The nearest class mean: the least that vectors can do. A head that does not beat it has wasted its parameters."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.base import BLOCK
from frozenhead.heads.margin import MarginHead
from frozenhead.heads.options import check_word


class CentroidHead(MarginHead):
    """A text belongs to the class whose mean its vector is nearest to.

    Parameters
    ----------
    metric : {"cosine", "euclidean"}, default "cosine"
        `cosine`: vectors and means are scaled to length 1; one of zeros is as near to every class. `euclidean`: as
        they are.

    Attributes
    ----------
    coef_ : float64 array (K, D)
        The means m; for `cosine` those of vectors scaled to length 1, scaled to length 1.
    intercept_ : float64 array (K,)
        What makes them scores: 0 for the cosine x . m; -|m|^2 / 2, since x . m - |m|^2 / 2 is highest where |x - m| is
        lowest.
    scale_ : float
        The temperature of the scores: see `frozenhead.heads.margin`.
    classes_
        See `Head`. `class_weights_` are 1: a mean is a mean, however many rows it has.
    """

    copies = 0
    class_weight = None

    def __init__(self, *, metric: Literal["cosine", "euclidean"] = "cosine") -> None:
        self.metric = metric

    def _learn(
        self, X: NDArray[np.float32], codes: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        check_word("metric", self.metric, ("cosine", "euclidean"))
        means = np.zeros((len(self.classes_), X.shape[1]))
        for i in range(0, len(X), BLOCK):
            block = self._ready(X[i : i + BLOCK].astype(np.float64))
            of_class = codes[i : i + BLOCK] == np.arange(len(means))[:, None]  # (K, B)
            means += (of_class * weights[i : i + BLOCK]) @ block
        means = self._ready(means / np.bincount(codes, weights, minlength=len(means))[:, None])
        intercept = np.zeros(len(means)) if self.metric == "cosine" else -np.square(means).sum(axis=1) / 2
        return means, intercept

    def _ready(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return unit_rows(X) if self.metric == "cosine" else X


def unit_rows(X: NDArray[Any]) -> NDArray[Any]:
    """Rows (N, D) scaled to length 1, in their own dtype; rows of zeros stay zeros."""
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(lengths > 0, lengths, 1))
