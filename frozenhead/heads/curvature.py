"""The diagonal of the Hessian in coordinates that nearly make it diagonal, to precondition the search.

The Hessian of the mean cross-entropy is sum_i s_i (diag p_i - p_i p_i^T) (x) x_i x_i^T. With the intercepts taken at
the weighted mean of the vectors, the second factor is close to the covariance of X, whose eigenvectors U are found
once; the first is close to its weighted mean, K x K, whose eigenvectors Q are cheap. In the coordinates Q^T W U the
true diagonal is a product of two small matrices and is measured anew as the probabilities change, and the penalty only
adds l2 to it: one U serves every l2. (Kronecker-factored curvature in its eigenbasis: Martens and Grosse 2015;
George et al. 2018, there for deep networks.)

That is measured on a sample of rows: the search needs the curvature within a factor of about 2, not its digits. It
serves well as long as few rows are certain. Later each class depends on rows of its own; then `Blocks` holds the whole
D x D block of each class, as in block Jacobi, measured on the rows that matter to it.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_lapack_funcs

from frozenhead.heads.objective import Floats, Objective, Parameters, other_classes

ROWS_PER_DIMENSION = 16
"""Eigenvalues of the covariance of a sample of 16 D rows are within 0.56 to 1.56 of the true ones."""
SAMPLE = 2**24
"""Most numbers in the sample, 64 MiB in float32."""
WIDEST = 2048
"""Vectors of more dimensions are taken as they are, U = I: their eigenvectors would take minutes."""
FLAT = 1e-8
"""Curvature below this part of the largest is rounding of float32 vectors."""
WHOLE = 2**28
"""Most bytes in the blocks of all scores, 256 MiB."""
ALIKE = 8.0
"""Blocks serve, scaled, until loss or penalty has changed by more than this factor."""
ROWS = 4
"""Rows that a score's block is measured on, in parts of its width; shared among scores, each of which has 1."""
TIES = 4.0
"""The fall that blocks promise is too small by this, for what they leave out: by 3 to 11 where problems are hard."""
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
    caution = 1.0  # how many times the fall that it promises may be left

    def __call__(self, gradient: Parameters) -> Parameters:
        """`gradient` (S, D + 1) times the approximate inverse."""
        slope = self.Q.T @ (gradient[:, :-1] - np.outer(gradient[:, -1], self.mean))
        rotated = slope if self.U is None else slope @ self.U
        rotated = rotated / self.weights
        weights = self.Q @ (rotated if self.U is None else rotated @ self.U.T)
        at_mean = self.Q @ (self.Q.T @ gradient[:, -1] / self.intercepts)
        return np.column_stack([weights, at_mean - weights @ self.mean])


@dataclass(frozen=True)
class Blocks:
    """The inverse of each score's own block of the Hessian: what ties scores together is left out.

    Adding the same to the parameters of all scores changes no loss, which the blocks of more than one do not know: so
    the mean over the scores is taken from the gradient and from the change.
    """

    mean: NDArray[np.float64]  # (S, D)  of the vectors, as each score weighs them: intercepts are taken there
    U: NDArray[np.float64] | None  # (D, r)
    scale: NDArray[np.float64]  # (S, r)
    inverse: Floats  # (S, r, r)  of the block in coordinates W U / scale, where its diagonal is 1
    intercepts: NDArray[np.float64]  # (S,)
    loss: float
    l2: float

    @property
    def caution(self) -> float:
        """How many times the fall that they promise may be left."""
        return TIES if len(self.scale) > 1 else 1.0

    def __call__(self, gradient: Parameters) -> Parameters:
        """`gradient` (S, D + 1) times the approximate inverse."""
        gradient = _centred(gradient)
        slope = gradient[:, :-1] - gradient[:, -1:] * self.mean
        rotated = slope if self.U is None else slope @ self.U
        rotated = (rotated * self.scale).astype(self.inverse.dtype)
        rotated = np.matmul(self.inverse, rotated[:, :, None])[:, :, 0] * self.scale
        weights = rotated if self.U is None else rotated @ self.U.T
        at_mean = gradient[:, -1] / self.intercepts
        return _centred(np.column_stack([weights, at_mean - (weights * self.mean).sum(axis=1)]))


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
        self._objective, self._ask_whole = objective, False
        self._blocks: Blocks | None = None

    def ask_more(self) -> bool:
        """Measure whole blocks from now on, not only a diagonal, and anew; False where they would be too large.

        It takes as long as ten to twenty steps: for searches of many more.
        """
        size = self._objective.scores * self._vectors.shape[1] ** 2 * self._vectors.itemsize
        self._ask_whole, self._blocks = size <= WHOLE, None
        return self._ask_whole

    def at(self, margins: Floats, l2: float) -> Preconditioner | Blocks:
        """The curvature where the margins are these, (S, N)."""
        if self._ask_whole:
            return self._whole(margins, l2)
        _, p = other_classes(margins[:, self._rows].astype(np.float64))  # (S, n)
        if len(p) == 1:
            Q, variance = np.ones((1, 1)), p * (1 - p)
        else:
            p[self._codes, np.arange(len(self._codes))] = 1 - p.sum(axis=0)
            mixed = np.diag(p @ self._shares) - (p * self._shares) @ p.T
            Q = np.linalg.eigh(mixed)[1]
            variance = np.maximum((Q.T**2) @ p - (Q.T @ p) ** 2, 0)  # (S, n)  q^T (diag p - p p^T) q
        variance *= self._shares
        weights = (variance.astype(self._squares.dtype) @ self._squares).astype(np.float64) * self._length**2 + l2
        intercepts = variance.sum(axis=1)
        return Preconditioner(self._mean, self._U, Q, _floored(weights, FLAT), _floored(intercepts, 1e-3))

    def _whole(self, margins: Floats, l2: float) -> Blocks:
        """The block of each score; of one measured where loss and penalty were alike, only its scale."""
        losses = np.concatenate(list(self._objective.blocks(lambda block: other_classes(margins[:, block])[0])))
        loss, known = float(self._objective.shares @ losses), self._blocks
        if known is None or not (_alike(loss, known.loss) and (l2 == known.l2 or _alike(l2, known.l2))):
            self._blocks = self._measured(margins, losses, loss, l2)
            return self._blocks
        less = np.sqrt(known.loss * known.l2 / (loss * l2)) if l2 else known.loss / loss
        return replace(known, scale=known.scale * np.sqrt(less), intercepts=known.intercepts / less)

    def _measured(self, margins: Floats, losses: Floats, loss: float, l2: float) -> Blocks:
        """Each score's block, on rows drawn by what they add to it."""
        objective, r = self._objective, self._vectors.shape[1]
        S, D, dtype = objective.scores, objective.X.shape[1], objective.X.dtype
        found = Blocks(
            mean=np.empty((S, D)),
            U=self._U,
            scale=np.empty((S, r)),
            inverse=np.empty((S, r, r), dtype),
            intercepts=np.empty(S),
            loss=loss,
            l2=l2,
        )
        rows, order = max(ROWS * r // S, r), np.random.default_rng(0).permutation(len(losses))

        def fill(k: int) -> None:
            curved = self._curved(k, margins[k], losses)
            drawn, weights = _drawn(curved, rows, order)
            vectors = (objective.X[drawn] - self._mean.astype(dtype)) / dtype.type(self._length)
            if self._U is not None:
                vectors = vectors @ self._U.astype(dtype)
            total = float(weights.sum()) or 1.0
            mean = weights @ vectors / total
            vectors -= mean.astype(dtype)
            vectors *= np.sqrt(weights / total)[:, None].astype(dtype)
            found.inverse[k], found.scale[k] = _inverse(vectors.T @ vectors, total * self._length**2, l2)
            found.mean[k] = self._mean + self._length * (mean if self._U is None else self._U @ mean)
            found.intercepts[k] = total

        for _ in objective.blocks(fill, range(S)):
            pass
        return found

    def _curved(self, k: int, margins: Floats, losses: Floats) -> NDArray[np.float64]:
        """s p (1 - p) of score k (N,)."""
        p = np.exp(margins - losses).astype(np.float64)
        rest = 1 - p  # not below 0, for no margin is above the loss
        if self._objective.scores > 1:
            own = self._objective.codes == k
            p[own], rest[own] = np.exp(-losses[own]), -np.expm1(-losses[own])
        return self._objective.shares * p * rest


def _inverse(covariance: Floats, total: float, l2: float) -> tuple[Floats, Floats]:
    """The inverse of total covariance + l2, once it is scaled to a diagonal of 1; and the scale (r,)."""
    diagonal = _floored(np.diag(covariance).astype(np.float64) * total + l2, FLAT)
    scale = 1 / np.sqrt(diagonal)
    covariance *= (scale * total)[:, None].astype(covariance.dtype)
    covariance *= scale.astype(covariance.dtype)
    covariance[np.diag_indices_from(covariance)] = 1 + ROUNDING
    factorise, invert = cast("Any", get_lapack_funcs(("potrf", "potri"), (covariance,)))
    factor, failed = factorise(covariance.T, lower=True, overwrite_a=True)
    if failed:  # of numbers that are not finite: the diagonal, and the search, say so
        return np.eye(len(scale), dtype=covariance.dtype), scale
    half = np.tril(invert(factor, lower=True, overwrite_c=True)[0])
    return half + np.tril(half, -1).T, scale


def _alike(a: float, b: float) -> bool:
    return 0 < b / ALIKE <= a <= b * ALIKE


def _centred(values: Parameters) -> Parameters:
    return values - values.mean(axis=0) if len(values) > 1 else values


def _drawn(
    weights: NDArray[np.float64], size: int, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """About `size` rows, the heaviest of them all and the others in proportion, and what each then counts.

    Draws are evenly spaced over the rows in this order.
    """
    n = len(weights)
    if size >= n:
        return np.arange(n), weights
    heaviest = np.sort(weights)[::-1]
    rest = heaviest[::-1].cumsum()[::-1][:size]
    # A row counts for what it weighs where that is above the mean of what is left for the rows yet to draw.
    share = rest / np.arange(size, 0, -1)
    share = share[np.argmax(heaviest[:size] <= share)]
    chances = np.minimum(weights / share, 1) if 0 < share < np.inf else np.zeros(n)
    ends = chances[order].cumsum()
    rows = np.sort(order[np.searchsorted(ends, np.arange(int(ends[-1])) + 0.5)])
    return rows, np.maximum(weights[rows], share)


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
