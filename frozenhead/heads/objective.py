"""The weighted mean of the cross-entropy of a linear softmax classifier, its slope and its curvature.

    minimise  sum_i s_i CE(y_i, W x_i + b)  +  (l2/2) ||W||^2 ;  b is free;  the shares s_i sum to 1.

Parameters are (S, D + 1): a row of weights per score, its intercept last. More than two classes have a score each,
S = K. Two classes have one score z, S = 1, which is W = (-z/2, z/2): half the work, and half the penalty.

Scores are kept as margins (S, N): how far the score of each other class is above that of the row's own,

    CE = log(1 + sum_k exp(u_k)) ,

which stays exact, relative to itself, where a row is almost certain and float32 probabilities would round to 1.
Margins are linear in the parameters, so a line search needs one product with X, whatever the number of its trials.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.blocks import Map

Floats = NDArray[np.floating]
OWN = -1e30
"""Stands for the margin of a row's own class, which has none: exp(-1e30) is 0."""
Parameters = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The data of the problem, and sums over its rows.

    Parameters
    ----------
    X : float array (N, D) or StoredRows
        May be read-only, and a memory map. Products are in its dtype; sums over blocks of rows are float64.
    codes : int array (N,)
    shares : float64 array (N,)
        Sum to 1.
    classes : int
        K.
    blocks : Map
        Of the rows of X.
    """

    X: Any
    codes: NDArray[np.int64]
    shares: NDArray[np.float64]
    classes: int
    blocks: Map

    @property
    def scores(self) -> int:
        """S."""
        return 1 if self.classes == 2 else self.classes

    def zero_margins(self) -> Floats:
        """The margins (S, N) of parameters 0."""
        margins = np.zeros((self.scores, len(self.codes)), self.X.dtype)
        if self.scores > 1:
            margins[self.codes, np.arange(len(self.codes))] = OWN
        return margins

    def margins(self, theta: Parameters, out: Floats | None = None) -> Floats:
        """What `theta` (S, D + 1) adds to the margins (S, N): 0 for a row's own class. Written to `out`, if given."""
        theta = theta.astype(self.X.dtype)
        margins = np.empty((self.scores, len(self.codes)), self.X.dtype) if out is None else out

        def fill(block: slice) -> None:
            margins[:, block] = self._margins(block, theta)

        for _ in self.blocks(fill):
            pass
        return margins

    def loss(self, theta: Parameters) -> float:
        """The loss, without its penalty, with products in float64."""

        def sums(block: slice) -> float:
            margins = self._margins(block, theta)
            if self.scores > 1:
                margins[self.codes[block], np.arange(margins.shape[1])] = OWN
            return float(self.shares[block] @ other_classes(margins)[0])

        return float(sum(self.blocks(sums)))

    def _margins(self, block: slice, theta: Floats) -> Floats:
        """Margins (S, B) of a block of rows, in the dtype of `theta`."""
        codes = self.codes[block]
        scores: Floats = (self.X[block].astype(theta.dtype, copy=False) @ theta[:, :-1].T + theta[:, -1]).T
        if self.scores == 1:
            return scores * _sign(codes, scores.dtype)
        return scores - scores[codes, np.arange(len(codes))]

    def gradient(self, margins: Floats) -> tuple[float, Parameters]:
        """The loss, without its penalty, and its slope (S, D + 1)."""
        n = len(self.codes)

        def sums(block: slice) -> tuple[float, Floats, NDArray[np.float64]]:
            losses, p = other_classes(margins[:, block])
            p *= (self.shares[block] * n).astype(p.dtype)  # about 1: a share of a million rows times p would underflow
            codes = self.codes[block]
            if self.scores == 1:
                p *= _sign(codes, p.dtype)
            else:
                p[codes, np.arange(len(codes))] = -p.sum(axis=0)
            return float(self.shares[block] @ losses), p @ self.X[block], p.sum(axis=1, dtype=np.float64)

        loss, slope = 0.0, np.zeros((self.scores, self.X.shape[1] + 1))
        for part, weights, intercepts in self.blocks(sums):
            loss += part
            slope[:, :-1] += weights
            slope[:, -1] += intercepts
        return loss, slope / n

    def along(self, margins: Floats, change: Floats, step: float) -> tuple[float, float, float]:
        """Loss, slope and curvature in `step` at margins + step change."""

        def sums(block: slice) -> NDArray[np.float64]:
            v = change[:, block]
            losses, p = other_classes(margins[:, block] + v.dtype.type(step) * v)
            p *= v
            slope = p.sum(axis=0)
            p *= v
            return np.array([losses, slope, p.sum(axis=0) - slope**2], np.float64) @ self.shares[block]

        loss, slope, curvature = sum(self.blocks(sums), np.zeros(3)).tolist()
        return loss, slope, curvature


def other_classes(margins: Floats) -> tuple[Floats, Floats]:
    """Cross-entropy (B,), and the probabilities of the classes that are not the row's own (S, B)."""
    top = np.maximum(margins.max(axis=0), 0)
    p = np.exp(margins - top)
    others, own = p.sum(axis=0), np.exp(-top)
    p /= own + others
    return top + np.log1p((own - 1) + others), p


def _sign(codes: NDArray[np.int64], dtype: np.dtype[np.floating]) -> Floats:
    """1 for rows of the first of two classes, whose other class has the score; -1 for those of the second."""
    return (1 - 2 * codes).astype(dtype)
