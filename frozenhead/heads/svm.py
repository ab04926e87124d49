"""scikit-learn's LinearSVC on fixed vectors, with probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from frozenhead.heads.margin import MarginHead
from frozenhead.heads.weighting import ClassWeight


class SvmHead(MarginHead):
    """Linear support vector machine, one class against the rest.

    Each class minimises 1/2 ||w, b||^2 + C sum_i w_i max(0, 1 - y_i z_i)^2, the intercept penalised too, by Newton
    steps on the primal: deterministic, without a seed. The probabilities never change which class the machine names.

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty, against a sum over rows.
    max_iter : int, default 1000
        Most Newton steps.
    tol : float, default 1e-4
        Stop when the gradient has fallen to this share of its start.
    class_weight : "balanced", None, or mapping of label to weight, default "balanced"
        Weighs a row in every class's machine; scikit-learn's own weighs it only in that of its class.

    Attributes
    ----------
    coef_ : float64 array (K, D), or (1, D) for two classes
    intercept_ : float64 array (K,) or (1,)
    n_iter_ : int
        Newton steps of the class that took most.
    scale_ : float
        The temperature of the scores: see `frozenhead.heads.margin`.
    classes_, class_weights_
        See `Head`.

    Notes
    -----
    liblinear computes on a float64 copy of the vectors, which `fit` therefore needs three times their memory for.
    Without validation rows it trains six times, for probabilities on rows it has not seen.
    """

    def __init__(
        self, *, C: float = 1.0, max_iter: int = 1000, tol: float = 1e-4, class_weight: ClassWeight = "balanced"
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight

    def _learn(
        self, X: NDArray[np.float32], codes: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        model = LinearSVC(C=self.C, max_iter=self.max_iter, tol=self.tol, dual=False).fit(X, codes, weights)
        self.n_iter_ = int(np.max(model.n_iter_))
        return model.coef_, model.intercept_
