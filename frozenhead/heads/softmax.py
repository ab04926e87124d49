"""Softmax regression on fixed vectors, solved to the optimum.

    minimise  sum_i w_{y_i} CE(y_i, W x_i + b) / sum_i w_{y_i}  +  (l2/2) ||W||^2 ;  b is free.

scikit-learn's LogisticRegression minimises sum_i w_{y_i} CE + (1/2C) ||W||^2: the same problem at
C = 1 / (l2 sum_i w_{y_i}). For two classes it has one sigmoid, of which W is half each way, and the penalty counts
half: C = 2 / (l2 sum_i w_{y_i}). Notation follows Bishop (2006), section 4.3.4.
"""

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from frozenhead.heads.base import Head, softmax
from frozenhead.heads.blocks import block_map
from frozenhead.heads.objective import Objective
from frozenhead.heads.options import check_positive, check_whole, is_number
from frozenhead.heads.search import LEARNED, Solution, search_path
from frozenhead.heads.weighting import ClassWeight

SMALL = 2**18
"""Numbers in X up to which products are float64: 2 MiB, and the optimum to its last digit costs nothing."""
LAST_DIGIT = 1e-16
SLACK = 10
"""Rounding may end a search above `tol`; up to this many times it, nobody needs to know."""


class SoftmaxHead(Head):
    """Linear softmax classifier at the optimum, by preconditioned L-BFGS over all rows.

    The products with X are float32, and X is never copied; it may be a read-only memory map, or `StoredRows`, whose
    rows each iteration reads twice. Beside X it takes 8 bytes for each row and class, or 8 a row for two classes. The
    result is the same bits on any number of cores. Small problems, up to 262,144 numbers in X, are solved in float64 to
    the last digit.

    Parameters
    ----------
    l2 : float, default 1e-4
        Penalty on the weights, not on the intercepts; per unit of weighted mean loss.
    max_iter : int, default 1000
        Most iterations; each costs two products with X.
    tol : float, default 1e-7
        Stop when the objective is above its minimum by at most this part of itself, as its curvature has it: the
        estimate is within a factor of about 3. It does not depend on the scale of the vectors.
    class_weight : "balanced", None, or mapping of label to weight, default "balanced"

    Attributes
    ----------
    coef_ : float32 array (K, D)
    intercept_ : float32 array (K,)
    n_iter_ : int
    loss_ : float
        The objective at the solution, in float64.
    classes_, class_weights_
        See `Head`.

    Warns
    -----
    ConvergenceWarning
        The search ended above 10 `tol`; or without a penalty the classes can be told apart without error, so that there
        is no optimum.
    """

    copies = 0

    def __init__(
        self, *, l2: float = 1e-4, max_iter: int = 1000, tol: float = 1e-7, class_weight: ClassWeight = "balanced"
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
        (solution,) = self._solve(X, codes, weights, [self.l2])
        self._take(solution)

    def _solve(
        self, X: NDArray[np.float32], codes: NDArray[np.int64], weights: NDArray[np.float64], l2s: Sequence[float]
    ) -> list[Solution]:
        """A solution for each l2."""
        for l2 in l2s:
            if not (is_number(l2) and l2 >= 0):
                raise ValueError(f"l2 must be at least 0 and finite, got {l2!r}.")
        check_whole("max_iter", self.max_iter)
        check_positive("tol", self.tol)
        small, classes = X.size <= SMALL, len(self.classes_)
        # What is not finite, of vectors too large for float32, ends the search; its excess then says so.
        with block_map(X.shape, classes if classes > 2 else 1) as blocks, np.errstate(all="ignore"):
            objective = Objective(
                X=X[:].astype(np.float64) if small else X,
                codes=codes,
                shares=weights / weights.sum(),
                classes=classes,
                blocks=blocks,
            )
            # One score z for two classes stands for -z/2 and z/2, whose squares are half of z's.
            halves = 2 if classes == 2 else 1
            return search_path(
                objective,
                [l2 / halves for l2 in l2s],
                goal=min(self.tol, LAST_DIGIT) if small else self.tol,
                max_iter=self.max_iter,
            )

    def _take(self, solution: Solution) -> None:
        """Become this solution, and say so where it is none."""
        if self.l2 == 0 and solution.value < 2 * LEARNED:
            _warn("The classes can be told apart without error, so without a penalty there is no optimum; raise l2.")
        elif not solution.excess <= SLACK * self.tol:
            way = "raise max_iter or l2" if solution.iterations >= self.max_iter else "raise l2 or tol"
            _warn(
                f"Not at the optimum after {solution.iterations} iterations: the objective is above it by about "
                f"{solution.excess:.1g} of itself; {way}, or scale the vectors."
            )
        theta = solution.theta
        if len(theta) == 1:
            theta = theta * np.array([[-0.5], [0.5]], np.float32)  # (2, D + 1)
        self.coef_, self.intercept_ = np.ascontiguousarray(theta[:, :-1]), theta[:, -1].copy()
        self.n_iter_, self.loss_ = solution.iterations, solution.value

    def _probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        coef = self.coef_.T.astype(np.float64)  # (D, K)
        # Sums in float64, a block of rows at a time: a row's probabilities do not depend on its neighbours.
        with block_map(X.shape, coef.shape[1]) as blocks:
            logits = np.concatenate(list(blocks(lambda block: X[block].astype(np.float64) @ coef)))
        return softmax(logits + self.intercept_)  # (N, K)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`coef` and `intercept`."""
        return {"coef": self.coef_, "intercept": self.intercept_}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
        self.n_features_in_ = self.coef_.shape[1]


class _Path(SoftmaxHead):
    """Fits many penalties where a head fits one."""

    l2s: Sequence[float]
    solutions: list[Solution]

    def _fit(
        self,
        X: NDArray[np.float32],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: Any,  # noqa: ARG002
    ) -> None:
        self.solutions = self._solve(X, codes, weights, self.l2s)

    def head(self, l2: float, solution: Solution) -> SoftmaxHead:
        """What `SoftmaxHead(l2=l2)` would have become."""
        head = SoftmaxHead(l2=l2, max_iter=self.max_iter, tol=self.tol, class_weight=self.class_weight)
        for name in [name for name in vars(self) if name.endswith("_")]:
            setattr(head, name, copy(getattr(self, name)))
        head._take(solution)
        return head


def softmax_path(
    X: Any,
    y: ArrayLike,
    l2s: Sequence[float],
    *,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight = "balanced",
    max_iter: int = 1000,
    tol: float = 1e-7,
) -> list[SoftmaxHead]:
    """A fitted `SoftmaxHead` for each penalty, much sooner than one by one.

    Each is what `SoftmaxHead(l2=l2).fit(X, y)` finds, to `tol`; what they share is computed once, and each search
    starts where that of the next stronger penalty ended.

    Parameters
    ----------
    X : float array (N, D)
    y : array (N,)
    l2s : sequence of float
        In any order. C of scikit-learn's LogisticRegression is 1 / (l2 times the sum of the rows' weights).
    sample_weight, class_weight, max_iter, tol
        See `SoftmaxHead` and its `fit`.

    Returns
    -------
    list of SoftmaxHead
        In the order of `l2s`.

    Raises
    ------
    ValueError
        As `SoftmaxHead.fit`.
    """
    path = _Path(max_iter=max_iter, tol=tol, class_weight=class_weight)
    path.l2s = sorted({float(l2) for l2 in l2s}, reverse=True)
    path.fit(X, y, sample_weight)
    found = dict(zip(path.l2s, path.solutions, strict=True))
    heads = []
    for l2 in l2s:
        heads.append(path.head(float(l2), found[float(l2)]))  # noqa: PERF401  (a frame less: warnings name the caller)
    return heads


def _warn(message: str) -> None:
    warnings.warn(message, ConvergenceWarning, stacklevel=5)  # the caller of fit or softmax_path
