"""Heads whose scores say which class, but not how surely: one temperature, found in `fit`, makes them probabilities.

With validation rows it is fitted on those. Without, on training rows held out: a fifth at a time, by a model that has
not seen them. A row's fifth is decided by its content, so copies of a row stay together, and a row of weight 2 is the
same as the row given twice. Where a class has no two different rows, it is fitted on what the model has seen.
"""

import zlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.base import Head, softmax
from frozenhead.heads.calibration import fit_temperature
from frozenhead.heads.linear import linear_logits
from frozenhead.heads.stored import part, stretches

FOLDS = 5


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

    def _ready(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """A block of rows as the scores take them."""
        return X

    def _fit(
        self,
        X: NDArray[np.float32],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: tuple[NDArray[np.float32], NDArray[np.int64]] | None,
    ) -> None:
        unseen = None if validation is not None else self._scores_of_the_unseen(X, codes, weights)
        self.coef_, self.intercept_ = self._learn(X, codes, weights)
        # A probability is of the rows as they are: class weights are for learning.
        counts = weights / self.class_weights_[codes]
        if validation is not None:
            X, codes, counts = validation[0], validation[1], np.ones(len(validation[1]))
        scores = self._scores(X, self.coef_, self.intercept_) if unseen is None else unseen
        self.scale_ = fit_temperature(scores, codes, counts)

    def _scores_of_the_unseen(
        self, X: NDArray[np.float32], codes: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """Scores (N, K) of each row by a model that has not seen it; None if a class has no two different rows."""
        folds = folds_by_content(X, codes)
        if folds is None:
            return None
        scores = np.empty((len(X), len(self.classes_)))
        for fold in np.unique(folds):
            held = folds == fold
            coef, intercept = self._learn(X, codes, np.where(held, 0, weights))
            scores[held] = self._scores(part(X, held), coef, intercept)
        return scores

    def _scores(self, X: NDArray[np.float32], coef: NDArray[Any], intercept: NDArray[Any]) -> NDArray[np.float64]:
        """Scores (N, K)."""
        return linear_logits(X, coef, intercept, ready=self._ready)

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
    checksums = np.fromiter((zlib.crc32(row) for rows in stretches(X.shape) for row in X[rows]), np.int64, len(X))
    folds = np.empty(len(codes), np.int64)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        distinct, place = np.unique(checksums[rows], return_inverse=True)
        if len(distinct) < 2:
            return None
        folds[rows] = place % FOLDS
    return folds
