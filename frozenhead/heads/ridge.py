"""Ridge regression on classes as +1 and -1, solved in closed form."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.base import BLOCK
from frozenhead.heads.margin import MarginHead
from frozenhead.heads.options import check_positive
from frozenhead.heads.weighting import ClassWeight


class RidgeHead(MarginHead):
    """The least squares of scikit-learn's RidgeClassifier, without its copy of the vectors.

    minimise  sum_i w_i (y_i - z_i)^2 + alpha ||W||^2 ;  the intercept is free. One pass over the rows adds up a
    (D, D) matrix in float64, so that any number of rows fits.

    Parameters
    ----------
    alpha : float, default 1.0
        Penalty on the weights, against a sum over rows.
    class_weight : "balanced", None, or mapping of label to weight, default "balanced"

    Attributes
    ----------
    coef_ : float64 array (K, D), or (1, D) for two classes
    intercept_ : float64 array (K,) or (1,)
    scale_ : float
        The temperature of the scores: see `frozenhead.heads.margin`.
    classes_, class_weights_
        See `Head`.
    """

    copies = 0

    def __init__(self, *, alpha: float = 1.0, class_weight: ClassWeight = "balanced") -> None:
        self.alpha = alpha
        self.class_weight = class_weight

    def _learn(
        self, X: NDArray[np.float32], codes: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        check_positive("alpha", self.alpha)
        columns = np.arange(len(self.classes_)) if len(self.classes_) > 2 else np.array([1])
        return weighted_ridge(X, codes, columns, weights, float(self.alpha))


def weighted_ridge(
    X: NDArray[np.float32],
    codes: NDArray[np.int64],
    columns: NDArray[np.int64],
    weights: NDArray[np.float64],
    alpha: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (M, D) and intercepts (M,): for each class of `columns` (M,), +1 is that class and -1 the others."""
    from scipy.linalg import LinAlgError, solve

    total, dim = weights.sum(), X.shape[1]
    # Vectors around their mean: X'WX - mean mean' would lose digits where the mean is long.
    mean = sum(weights[i : i + BLOCK] @ X[i : i + BLOCK] for i in range(0, len(X), BLOCK)) / total  # (D,)
    gram, moments = np.zeros((dim, dim)), np.zeros((dim, len(columns)))
    shares = np.bincount(codes, weights, minlength=int(columns.max()) + 1)[columns] / total
    targets_mean = 2 * shares - 1  # (M,)
    for i in range(0, len(X), BLOCK):
        root = np.sqrt(weights[i : i + BLOCK, None])  # (B, 1)
        centred = X[i : i + BLOCK] - mean  # (B, D) float64
        centred *= root
        targets = np.where(codes[i : i + BLOCK, None] == columns, 1.0, -1.0) - targets_mean  # (B, M)
        gram += centred.T @ centred
        moments += centred.T @ (targets * root)
    gram[np.diag_indices(dim)] += alpha
    try:
        coef = solve(gram, moments, assume_a="pos").T  # (M, D)
    except LinAlgError as error:
        raise ValueError(f"alpha {alpha} is lost beside numbers of up to {gram.max():.3g}; raise alpha.") from error
    return np.ascontiguousarray(coef), np.asarray(targets_mean - coef @ mean)
