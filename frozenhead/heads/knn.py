"""The nearest training rows vote. Every training vector is part of the head."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from frozenhead.heads.base import Head, in_blocks
from frozenhead.heads.centroid import unit_rows
from frozenhead.heads.options import check_whole, check_word
from frozenhead.heads.weighting import ClassWeight


class KnnHead(Head):
    """The k nearest neighbours by scikit-learn's exact search vote for their classes.

    A probability is (k share + 1/K) / (k + 1), as if one more neighbour had voted for all classes alike: a class that
    no neighbour has is unlikely and not impossible, and the log loss of a row stays finite.

    Parameters
    ----------
    k : int, default 5
        Neighbours that vote.
    metric : {"cosine", "euclidean"}, default "cosine"
        The distance: 1 - cosine, or the length of the difference. Rows of zeros are at cosine distance 1/2.
    weights : {"uniform", "distance"}, default "uniform"
        A vote counts 1, or 1 / distance; where neighbours are at distance 0, these alone vote. Either is multiplied
        by the row's own weight, the class's included.
    class_weight : "balanced", None, or mapping of label to weight, default "balanced"

    Attributes
    ----------
    vectors_ : float32 array (N, D)
        The training rows; for `cosine` scaled to length 1.
    codes_ : int64 array (N,)
    votes_ : float64 array (N,)
        What each row's vote counts.
    classes_, class_weights_
        See `Head`.

    Notes
    -----
    Which of several neighbours at one distance make the k is open.
    The saved head holds the training vectors: as large as they are, and as private. `fit` copies them unless they are
    read-only, such as a memory map, and `metric` is `euclidean`.
    """

    copies = 2

    def __init__(
        self,
        *,
        k: int = 5,
        metric: Literal["cosine", "euclidean"] = "cosine",
        weights: Literal["uniform", "distance"] = "uniform",
        class_weight: ClassWeight = "balanced",
    ) -> None:
        self.k = k
        self.metric = metric
        self.weights = weights
        self.class_weight = class_weight

    def _fit(
        self,
        X: NDArray[np.float32],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: Any,  # noqa: ARG002
    ) -> None:
        check_whole("k", self.k)
        check_word("metric", self.metric, ("cosine", "euclidean"))
        check_word("weights", self.weights, ("uniform", "distance"))
        if self.k > len(X):
            raise ValueError(f"k is {self.k}, but there are only {len(X)} training rows (n_samples={len(X)}); lower k.")
        if self.metric == "cosine":
            self.vectors_ = unit_rows(X)
        else:
            self.vectors_ = X.copy() if X.flags.writeable else X  # what the caller may change later is copied
        self.codes_, self.votes_ = codes, weights
        self._index()

    def _probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        return in_blocks(self._block, X)

    def _block(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities (B, K)."""
        distances, rows = self._neighbours.kneighbors(unit_rows(X) if self.metric == "cosine" else X, self.k)  # (B, k)
        votes = self.votes_[rows]
        if self.weights == "distance":
            votes = votes * _inverse(np.square(distances) / 2 if self.metric == "cosine" else distances)
        shares = np.zeros((len(X), len(self.classes_)))
        np.add.at(shares, (np.arange(len(X))[:, None], self.codes_[rows]), votes)
        shares /= shares.sum(axis=1, keepdims=True)
        return (self.k * shares + 1 / shares.shape[1]) / (self.k + 1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`vectors`, `codes` and `votes`."""
        return {"vectors": self.vectors_, "codes": self.codes_, "votes": self.votes_}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.vectors_, self.codes_, self.votes_ = arrays["vectors"], arrays["codes"], arrays["votes"]
        if not len(self.vectors_) == len(self.codes_) == len(self.votes_) or self.codes_.max() >= len(self.classes_):
            raise ValueError("vectors, codes and votes are not of one length, or of other classes")
        self.n_features_in_ = self.vectors_.shape[1]
        self._index()

    def _index(self) -> None:
        # Between vectors of length 1 the squared length of the difference is twice the cosine distance.
        self._neighbours = NearestNeighbors(algorithm="brute", metric="euclidean").fit(self.vectors_)


def _inverse(distances: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """1 / distance (B, k) in float64; in rows that have a distance of 0, 1 for those and 0 for the others."""
    nothing = distances == 0
    inverse = 1 / np.where(nothing, 1, distances).astype(np.float64)
    return np.asarray(np.where(nothing.any(axis=1, keepdims=True), nothing.astype(np.float64), inverse))
