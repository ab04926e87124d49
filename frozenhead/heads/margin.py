"""Heads whose scores say which class, but not how surely: one temperature, found in `fit`, makes them probabilities.

With validation rows it is fitted on those. Without, on training rows held out: a fifth at a time, by a model that has
not seen them. A row's fifth is decided by its content, so copies of a row stay together, and a row of weight 2 is the
same as the row given twice.
"""

import zlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.base import Head, in_blocks, softmax
from frozenhead.heads.calibration import fit_temperature

FOLDS = 5

Learned = Mapping[str, NDArray[Any]]


class MarginHead(Head):
    """Base of heads with linear scores: softmax(scores / scale_). The highest score is the most probable class.

    Attributes
    ----------
    coef_ : float array (K, D), or (1, D) for two classes
    intercept_ : float array (K,) or (1,)
    scale_ : float
        The temperature of the scores.
    """

    @abstractmethod
    def _learn(
        self, X: NDArray[np.float32], codes: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Coefficients (K, D) and intercepts (K,), or (1, D) and (1,). Rows of weight 0 are to be passed over."""

    def _ready(self, X: NDArray[Any]) -> NDArray[Any]:
        """A block of rows as the scores take them."""
        return X

    def _fit(
        self,
        X: NDArray[np.float32],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: tuple[NDArray[np.float32], NDArray[np.int64]] | None,
    ) -> None:
        self.coef_, self.intercept_ = self._learn(X, codes, weights)
        if validation is not None:
            self.scale_ = fit_temperature(self._scores(validation[0], self.coef_, self.intercept_), validation[1])
            return
        # A calibrated probability is of the rows as they are; class weights are for learning.
        counts = weights / self.class_weights_[codes]
        self.scale_ = fit_temperature(self._scores_of_the_unseen(X, codes, weights), codes, counts)

    def _scores_of_the_unseen(
        self, X: NDArray[np.float32], codes: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Scores (N, K) of each row by a model that has not seen it; by the one model where a class is one row."""
        folds = folds_by_content(X, codes)
        if folds is None:
            return self._scores(X, self.coef_, self.intercept_)
        scores = np.empty((len(X), len(self.classes_)))
        for fold in np.unique(folds):
            held = folds == fold
            coef, intercept = self._learn(X, codes, np.where(held, 0, weights))
            scores[held] = self._scores(X[held], coef, intercept)
        return scores

    def _scores(self, X: NDArray[np.float32], coef: NDArray[Any], intercept: NDArray[Any]) -> NDArray[np.float64]:
        """Scores (N, K) in float64, a block of rows at a time."""
        columns = coef.T.astype(np.float64)  # (D, K) or (D, 1)
        scores = in_blocks(lambda block: self._ready(block.astype(np.float64)) @ columns, X) + intercept
        return np.hstack([-scores / 2, scores / 2]) if scores.shape[1] == 1 else scores

    def _logits(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        return self._scores(X, self.coef_, self.intercept_) / self.scale_

    def _probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        return softmax(self._logits(X))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`coef`, `intercept`, and `scale` (1,)."""
        return {"coef": self.coef_, "intercept": self.intercept_, "scale": np.array([self.scale_])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
        self.scale_ = float(arrays["scale"][0])
        self.n_features_in_ = self.coef_.shape[1]


def folds_by_content(X: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """A fold (N,) for each row, or None if a class has no two different rows.

    Within a class the distinct rows are dealt out in the order of their checksums, so neither the order of rows nor
    the class's name plays a part. Rows that share a checksum by chance share a fold, which does no harm.
    """
    checksums = np.array([zlib.crc32(row) for row in X], np.int64)  # (N,)
    folds = np.empty(len(codes), np.int64)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        distinct, place = np.unique(checksums[rows], return_inverse=True)
        if len(distinct) < 2:
            return None
        folds[rows] = place % FOLDS
    return folds
