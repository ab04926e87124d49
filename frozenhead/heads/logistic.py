"""scikit-learn's LogisticRegression on fixed vectors: the baseline everybody knows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from frozenhead.heads.base import Head
from frozenhead.heads.weighting import ClassWeight


class LogisticHead(Head):
    """Logistic regression, multinomial, L2.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, as in scikit-learn.
    max_iter : int
        Most L-BFGS iterations.
    class_weight : "balanced", None, or mapping of label to weight

    Attributes
    ----------
    coef_ : float array (K, D), or (1, D) for two classes
    intercept_ : float array (K,) or (1,)
    classes_, class_weights_
        See `Head`.
    """

    def __init__(self, *, C: float = 1.0, max_iter: int = 2000, class_weight: ClassWeight = "balanced") -> None:
        self.C = C
        self.max_iter = max_iter
        self.class_weight = class_weight

    def _fit(
        self,
        X: NDArray[np.float32],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: Any,  # noqa: ARG002
    ) -> None:
        model = logistic_regression(self.C, self.max_iter).fit(X, codes, weights)
        self.coef_, self.intercept_ = model.coef_, model.intercept_
        self.n_iter_ = int(model.n_iter_.max())

    def _probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        return logistic_probabilities(self.coef_, self.intercept_, X)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`coef` and `intercept`."""
        return {"coef": self.coef_, "intercept": self.intercept_}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
        self.n_features_in_ = self.coef_.shape[1]


def logistic_regression(C: float, max_iter: int) -> LogisticRegression:
    """An unfitted LogisticRegression."""
    return LogisticRegression(C=C, max_iter=max_iter)


def logistic_probabilities(coef: NDArray[Any], intercept: NDArray[Any], X: Any) -> NDArray[np.float64]:
    """scikit-learn's own prediction from bare coefficients: (N, D) -> (N, K)."""
    model = LogisticRegression()
    model.coef_, model.intercept_ = coef, intercept
    model.classes_ = np.arange(max(2, len(coef)))
    model.n_features_in_ = coef.shape[1]
    return np.asarray(model.predict_proba(X), np.float64)
