"""scikit-learn's LogisticRegression on fixed vectors: the baseline everybody knows."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from frozenhead.heads.base import Head, softmax
from frozenhead.heads.linear import linear_logits
from frozenhead.heads.options import check_word
from frozenhead.heads.weighting import ClassWeight


class LogisticHead(Head):
    """Logistic regression, multinomial, L2.

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty, against a sum over rows, as in scikit-learn.
    max_iter : int, default 2000
        Most L-BFGS iterations.
    tol : float, default 1e-4
        Stop when no component of the gradient is larger.
    precision : {"float32", "float64"}, default "float32"
        What the solver computes in. In float32 the vectors are not copied, and two ways to the same optimum, such as
        a row of weight 2 and the row given twice, may differ by 1e-4 of a probability: no `tol` is finer than the
        sums. float64 copies the vectors at twice their size.
    class_weight : "balanced", None, or mapping of label to weight, default "balanced"

    Attributes
    ----------
    coef_ : float array (K, D), or (1, D) for two classes
    intercept_ : float array (K,) or (1,)
    classes_, class_weights_
        See `Head`.
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        max_iter: int = 2000,
        tol: float = 1e-4,
        precision: Literal["float32", "float64"] = "float32",
        class_weight: ClassWeight = "balanced",
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.precision = precision
        self.class_weight = class_weight

    def _fit(
        self,
        X: NDArray[np.float32],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: Any,  # noqa: ARG002
    ) -> None:
        check_word("precision", self.precision, ("float32", "float64"))
        model = LogisticRegression(C=self.C, max_iter=self.max_iter, tol=self.tol)
        model.fit(X.astype(self.precision, copy=False), codes, weights)
        self.coef_, self.intercept_ = model.coef_, model.intercept_
        self.n_iter_ = int(model.n_iter_.max())

    def _probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        return softmax(self._logits(X))

    def _logits(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        return linear_logits(X, self.coef_, self.intercept_)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`coef` and `intercept`."""
        return {"coef": self.coef_, "intercept": self.intercept_}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
        self.n_features_in_ = self.coef_.shape[1]
