"""The diagonal of the Hessian in coordinates that nearly make it diagonal, to precondition the search.

The Hessian of the mean cross-entropy is sum_i s_i (diag p_i - p_i p_i^T) (x) x_i x_i^T. With the intercepts taken at
the weighted mean of the vectors, the second factor is close to the covariance of X, whose eigenvectors U are found
once; the first is close to its weighted mean, K x K, whose eigenvectors Q are cheap. In the coordinates Q^T W U the
true diagonal is a product of two small matrices and is measured anew as the probabilities change, and the penalty only
adds l2 to it: one U serves every l2. (Kronecker-factored curvature in its eigenbasis: Martens and Grosse 2015;
George et al. 2018, there for deep networks.)

All is measured on a sample of rows: the search needs the curvature within a factor of about 2, not its digits.
"""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky

from frozenhead.heads.objective import Floats, Objective, Parameters, other_classes

ROWS_PER_DIMENSION = 16
"""Eigenvalues of the covariance of a sample of 16 D rows are within 0.56 to 1.56 of the true ones."""
SAMPLE = 2**24
"""Most numbers in the sample, 64 MiB in float32."""
WIDEST = 2048
"""Vectors of more dimensions are taken as they are, U = I: their eigenvectors would take minutes."""
FLAT = 1e-8
"""Curvature below this part of the largest is rounding of float32 vectors."""
ALIKE = 2.0
"""A whole Hessian serves, scaled, until its sum over the rows has changed by this factor."""
ROUNDING = 1e-5
"""Added to a diagonal, in parts of itself, so that float32 sums which rounding left indefinite have a factor."""
NOTHING = 1e-12
"""A variance below this part of the largest is rounding of float64 sums."""


@dataclass(frozen=True)
class Preconditioner:
    """An approximate inverse Hessian. Called with a gradient (S, D + 1) it gives a change of the parameters."""

    mean: NDArray[np.float64]  # (D,)
    U: NDArray[np.float64] | None  # (D, r)
    Q: NDArray[np.float64]  # (S, S)
    weights: NDArray[np.float64]  # (S, r)  curvature in the coordinates Q^T W U
    intercepts: NDArray[np.float64]  # (S,)
    factor: NDArray[np.float64] | None = None  # (r, r)  Cholesky factor of the whole curvature of one score

    def __call__(self, gradient: Parameters) -> Parameters:
        """`gradient` (S, D + 1) times the approximate inverse."""
        slope = self.Q.T @ (gradient[:, :-1] - np.outer(gradient[:, -1], self.mean))
        rotated = slope if self.U is None else slope @ self.U
        rotated = rotated / self.weights if self.factor is None else cho_solve((self.factor, True), rotated.T).T
        weights = self.Q @ (rotated if self.U is None else rotated @ self.U.T)
        at_mean = self.Q @ (self.Q.T @ gradient[:, -1] / self.intercepts)
        return np.column_stack([weights, at_mean - weights @ self.mean])


@dataclass(frozen=True)
class _Spread:
    """How vectors spread that count by their curvature, which sums to `total`."""

    total: float
    mean: NDArray[np.float64]  # (D,)
    covariance: NDArray[np.float64]  # (r, r)  in the coordinates of U


class Curvature:
    """The eigenvectors of the vectors' covariance, and on which rows curvature is measured."""

    def __init__(self, objective: Objective) -> None:
        n, dim = objective.X.shape
        self._rows, self._shares = _sample(objective.shares, _sample_size(n, dim, objective.classes))
        vectors = objective.X[self._rows]
        self._mean = self._shares @ vectors
        vectors -= self._mean.astype(vectors.dtype)
        self._length = float(np.abs(vectors).max()) or 1.0  # squares of more than 1e19 would overflow
        vectors /= vectors.dtype.type(self._length)
        self._codes = objective.codes[self._rows]
        self._U = None
        if dim <= WIDEST:
            self._U = _axes(vectors * np.sqrt(self._shares)[:, None].astype(vectors.dtype))
            vectors = vectors @ self._U.astype(vectors.dtype)
        self._vectors, self._squares = vectors, np.square(vectors)  # (n, r)
        self._one_score, self._ask_whole = objective.scores == 1, False
        self._spread: _Spread | None = None

    def ask_whole(self) -> bool:
        """From now on measure the whole Hessian, not only its diagonal; False where that was so or cannot be.

        It takes about ten times as long: for searches of many more steps than ten, and for one score alone.
        """
        asked, self._ask_whole = self._ask_whole, self._one_score
        return self._ask_whole and not asked

    def at(self, margins: Floats, l2: float) -> Preconditioner:
        """The curvature where the margins are these, (S, N)."""
        _, p = other_classes(margins[:, self._rows].astype(np.float64))  # (S, n)
        if len(p) == 1:
            Q, variance = np.ones((1, 1)), p * (1 - p)
        else:
            p[self._codes, np.arange(len(self._codes))] = 1 - p.sum(axis=0)
            mixed = np.diag(p @ self._shares) - (p * self._shares) @ p.T
            Q = np.linalg.eigh(mixed)[1]
            variance = np.maximum((Q.T**2) @ p - (Q.T @ p) ** 2, 0)  # (S, n)  q^T (diag p - p p^T) q
        variance *= self._shares
        if self._ask_whole:
            return self._whole(variance[0], l2)
        weights = (variance.astype(self._squares.dtype) @ self._squares).astype(np.float64) * self._length**2 + l2
        intercepts = variance.sum(axis=1)
        return Preconditioner(self._mean, self._U, Q, _floored(weights, FLAT), _floored(intercepts, 1e-3))

    def _whole(self, variance: NDArray[np.float64], l2: float) -> Preconditioner:
        """The Hessian of one score, where rows count by `variance` (n,), its intercept taken at their mean."""
        total = float(variance.sum()) or 1.0
        if self._spread is None or not 1 / ALIKE < total / self._spread.total < ALIKE:
            self._spread = self._measured(variance, total)
        hessian = self._spread.covariance * total
        hessian[np.diag_indices_from(hessian)] += l2
        diagonal = _floored(np.diag(hessian), FLAT)
        hessian[np.diag_indices_from(hessian)] = diagonal * (1 + ROUNDING)
        factor = None
        with suppress(np.linalg.LinAlgError):  # of numbers that are not finite: the diagonal, and the search, say so
            factor = cholesky(hessian, lower=True, check_finite=False)
        return Preconditioner(self._spread.mean, self._U, np.ones((1, 1)), diagonal[None], np.array([total]), factor)

    def _measured(self, variance: NDArray[np.float64], total: float) -> _Spread:
        mean = variance @ self._vectors / total
        scaled = self._vectors - mean.astype(self._vectors.dtype)
        scaled *= np.sqrt(variance / total)[:, None].astype(scaled.dtype)
        covariance = (scaled.T @ scaled).astype(np.float64) * self._length**2
        return _Spread(total, self._mean + self._length * (mean if self._U is None else self._U @ mean), covariance)


def _axes(scaled: Floats) -> NDArray[np.float64]:
    """Orthonormal columns (D, r) that turn vectors (n, D) to where their components are uncorrelated.

    Fewer rows than dimensions span r <= n of these; gradients, and so the search, have no part outside their span.
    """
    if len(scaled) >= scaled.shape[1]:
        return np.asarray(np.linalg.eigh((scaled.T @ scaled).astype(np.float64))[1])
    scaled = scaled.astype(np.float64)
    variances, rows = np.linalg.eigh(scaled @ scaled.T)
    kept = variances > NOTHING * max(variances[-1], np.finfo(np.float64).tiny)
    return np.asarray(scaled.T @ (rows[:, kept] / np.sqrt(variances[kept])))


def _floored(curvature: NDArray[np.float64], part: float) -> NDArray[np.float64]:
    largest = float(curvature.max(initial=0.0))
    return np.maximum(curvature, part * largest if largest > 0 else 1.0)


def _sample_size(n: int, dim: int, classes: int) -> int:
    return min(n, max(2048, min(ROWS_PER_DIMENSION * dim, SAMPLE // max(dim, classes))))


def _sample(shares: NDArray[np.float64], size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`size` rows drawn in proportion to their shares, in order, which then count alike; all rows if so many."""
    n = len(shares)
    if size >= n:
        return np.arange(n), shares
    # One draw in each of `size` equal parts of the whole; at random within it, for labels may be periodic.
    places = (np.arange(size) + np.random.default_rng(0).random(size)) / size
    ends = np.cumsum(shares)
    return np.searchsorted(ends, places * ends[-1]).clip(0, n - 1), np.full(size, 1 / size)
