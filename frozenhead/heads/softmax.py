"""Softmax regression on fixed vectors, solved to the optimum.

    minimise  sum_i w_{y_i} CE(y_i, W x_i + b) / sum_i w_{y_i}  +  (l2/2) ||W||^2 ;  b is free.

scikit-learn's multinomial LogisticRegression minimises sum_i w_{y_i} CE + (1/2C) ||W||^2: the same
problem at C = 1 / (l2 sum_i w_{y_i}). Notation follows Bishop (2006), section 4.3.4.
"""

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from frozenhead.heads.base import BLOCK, Head, softmax
from frozenhead.heads.threads import one_thread
from frozenhead.heads.weighting import ClassWeight

STEEP = 0.1  # a component of the gradient no rounding explains, for vectors up to about 1e5 long
SMALL = 2**24  # numbers in X, 64 MiB: products over more are worth several threads


class SoftmaxHead(Head):
    """Linear softmax classifier, full batch L-BFGS; the matrix products run in torch in float32.

    Parameters
    ----------
    l2 : float
        Penalty on the weights, not on the intercepts; per unit of weighted mean loss.
    max_iter : int
        Most L-BFGS iterations.
    tol : float
        Stop when no component of the gradient is larger.
    class_weight : "balanced", None, or mapping of label to weight

    Attributes
    ----------
    coef_ : float32 array (K, D)
    intercept_ : float32 array (K,)
    n_iter_ : int
    loss_ : float
        The objective at the solution.
    classes_, class_weights_
        See `Head`.
    """

    def __init__(
        self, *, l2: float = 1e-4, max_iter: int = 1000, tol: float = 1e-6, class_weight: ClassWeight = "balanced"
    ) -> None:
        self.l2 = l2
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight

    def _fit(
        self,
        X: NDArray[np.float32],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: Any,  # noqa: ARG002
    ) -> None:
        from scipy.optimize import minimize

        if not (self.l2 >= 0 and self.max_iter >= 1 and self.tol > 0):
            raise ValueError(
                f"l2 must not be negative, max_iter at least 1 and tol above 0, "
                f"got {self.l2!r}, {self.max_iter!r}, {self.tol!r}."
            )
        classes, dim = len(self.classes_), X.shape[1]
        objective = _objective(X, codes, weights / weights.sum(), len(self.classes_), self.l2)
        with one_thread() if X.size <= SMALL else nullcontext():
            solution = minimize(
                objective,
                np.zeros(classes * (dim + 1)),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": self.max_iter, "maxfun": 2 * self.max_iter, "gtol": self.tol, "ftol": 1e-12},
            )
        if solution.status == 1 or not np.abs(solution.jac).max() <= STEEP:
            warnings.warn(
                f"Not at the optimum after {solution.nit} iterations; raise max_iter, or scale the vectors.",
                ConvergenceWarning,
                stacklevel=3,
            )
        theta = solution.x.reshape(classes, dim + 1).astype(np.float32)
        self.coef_, self.intercept_ = np.ascontiguousarray(theta[:, :-1]), theta[:, -1].copy()
        self.n_iter_, self.loss_ = int(solution.nit), float(solution.fun)

    def _probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        coef = self.coef_.T.astype(np.float64)  # (D, K)
        # Sums in float64, a block of rows at a time: a row's probabilities do not depend on its neighbours.
        blocks = [X[i : i + BLOCK].astype(np.float64) @ coef for i in range(0, len(X), BLOCK)]
        return softmax(np.concatenate(blocks) + self.intercept_)  # (N, K)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`coef` and `intercept`."""
        return {"coef": self.coef_, "intercept": self.intercept_}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
        self.n_features_in_ = self.coef_.shape[1]


def _objective(
    X: NDArray[np.float32], codes: NDArray[np.int64], shares: NDArray[np.float64], n_classes: int, l2: float
) -> Any:
    """Loss and gradient as a function of the flat parameters (K (D + 1),), the intercept last in each row.

    `shares` (N,) are the rows' weights, which sum to 1.

    Products with X are float32; sums over rows are float64, so that the line search sees a smooth function.
    """
    import torch

    vectors = torch.from_numpy(X if X.flags.writeable else X.copy())  # (N, D)
    rows = torch.arange(len(codes))
    targets = torch.from_numpy(codes)
    share = torch.from_numpy(shares)  # (N,)

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        theta = torch.from_numpy(flat).view(n_classes, -1)  # (K, D + 1)
        weights, bias = theta[:, :-1], theta[:, -1]
        logits = (vectors @ weights.T.float()).double() + bias  # (N, K)
        log_p = logits.log_softmax(dim=1)
        loss = -(share * log_p[rows, targets]).sum() + 0.5 * l2 * weights.square().sum()
        residual = log_p.exp()
        residual[rows, targets] -= 1
        residual *= share[:, None]  # (N, K)
        slope = (residual.T.float() @ vectors).double() + l2 * weights  # (K, D)
        gradient = torch.cat([slope, residual.sum(dim=0)[:, None]], dim=1)
        return float(loss), gradient.view(-1).numpy()

    return loss_and_gradient
