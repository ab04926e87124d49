"""Score intervals of what a confusion table says: Wilson's interval, for more than one share.

Imports metrics, numpy and scipy.optimize. The rows of each true class are a multinomial sample. A value of a score is
believable if it lies no more than z deviations from the one seen, by the deviation under the likeliest shares p that
have this value: those that solve x_ij / p_ij = mu_i + lambda a_ij, where a_ij = d score / d p_ij, and then the test is
lambda^2 V <= z^2 (Rao 1948; Aitchison & Silvey 1958). For one share that is Wilson's interval (1927), for the
difference of two Mee's (1984), for sums of shares that of Martin Andres, Alvarez Hernandez & Herranz Tejedor (2011).
V is the variance at the end of the interval and not at the rows seen, so that it is not 0 where no row, or every row,
is wrong: for each class the worst cells are let in though no row stands there.
Letters: `K` classes, `m` cells of the table, `k` classes that have rows.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from frozenhead.report.metrics import decision_scores, ratio

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NAMES = ("balanced_accuracy", "macro_f1", "weighted_f1", "mcc")

_ROUNDS = 20  # of following a score that is not straight; three or four reach the tolerance
_TOLERANCE = 1e-6  # of the score
_MOST_PUSH = 2.0**60  # where no such lambda is too much, nothing can move the score that way


def score_intervals(confusion: Ints, support: Ints, *, level: float) -> dict[str, list[float]]:
    """Intervals of `NAMES`.

    Parameters
    ----------
    confusion : int64 array (cells, 3)
        True position, predicted position, rows; at least one cell.
    support : int64 array (K,)
        Rows of each class.
    level : float
        Share of such intervals that hold the true score, in (0, 1).

    Returns
    -------
    dict
        {name: [low, high]}; the score itself is in it.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    found = {}
    for name in NAMES:
        table = _table(name, confusion, support)
        seen = table.score(name, table.shares)
        low, high = (_end(name, table, sign * z, seen) for sign in (-1, 1))
        found[name] = [min(low, seen), max(high, seen)]
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """Cells of a confusion table, class by class."""

    rows: Ints  # (m,)  true positions, rising
    columns: Ints  # (m,)
    counts: Floats  # (m,)
    starts: Ints  # (k,)  first cell of each class
    support: Ints  # (K,)

    @property
    def of(self) -> Ints:
        """Which of the k classes each cell belongs to (m,)."""
        return np.repeat(np.arange(len(self.starts)), np.diff(self.starts, append=len(self.rows)))

    @property
    def shares(self) -> Floats:
        return self.counts / self.support[self.rows]

    def tallies(self, shares: Floats) -> tuple[Floats, Floats]:
        """Rows right and rows given to each class (K,), (K,), were these the shares."""
        K, counts = len(self.support), shares * self.support[self.rows]
        right = np.where(self.rows == self.columns, counts, 0)
        return np.bincount(self.rows, right, K).astype(float), np.bincount(self.columns, counts, K).astype(float)

    def score(self, name: str, shares: Floats) -> float:
        return float(decision_scores(*self.tallies(shares), self.support)[name])

    def slopes(self, name: str, shares: Floats) -> Floats:
        """d score / d share (m,)."""
        by_hits, by_claimed = gradient(name, *self.tallies(shares), self.support)
        own = np.where(self.rows == self.columns, by_hits[self.rows], 0)
        return (own + by_claimed[self.columns]) * self.support[self.rows]

    def variance(self, slopes: Floats, shares: Floats) -> float:
        """Of the score, were it straight."""
        means = np.add.reduceat(shares * slopes, self.starts)  # (k,)
        within = np.add.reduceat(shares * (slopes - means[self.of]) ** 2, self.starts)
        return float((within / self.support[self.rows[self.starts]]).sum())


def _table(name: str, confusion: Ints, support: Ints) -> _Table:
    """The cells that rows stand in, those of right rows, and of each class the two columns that harm the score most."""
    K, told = len(support), np.flatnonzero(support)
    hits = np.bincount(confusion[:, 0], confusion[:, 2] * (confusion[:, 0] == confusion[:, 1]), K)
    claimed = np.bincount(confusion[:, 1], confusion[:, 2], K)
    _, by_claimed = gradient(name, hits + 0.5 * (support > 0), claimed + 0.5, support)
    worst = np.argsort(by_claimed, kind="stable")[:2]  # the second is for the class whose own column is the first
    added = np.stack([np.repeat(told, 1 + len(worst)), np.stack([told, *np.meshgrid(worst, told)[0].T], 1).ravel()], 1)
    cells, at = np.unique(np.concatenate([confusion[:, :2], added]) @ [K, 1], return_inverse=True)  # (m,)
    counts = np.bincount(at[: len(confusion)], confusion[:, 2], len(cells)).astype(float)
    starts = np.flatnonzero(np.diff(cells // K, prepend=-1))
    return _Table(rows=cells // K, columns=cells % K, counts=counts, starts=starts, support=support)


def gradient(name: str, hits: NDArray[Any], claimed: NDArray[Any], support: Ints) -> tuple[Floats, Floats]:
    """Slopes (K,) of a score by the rows right and by the rows given to each class."""
    n, K = support.sum(), len(support)
    if name == "balanced_accuracy":
        return ratio(np.ones(K), support) / np.count_nonzero(support), np.zeros(K)
    if name == "mcc":
        # Where one class alone has rows, or is predicted, a ratio is 0 / 0: any slope will do to leave that place.
        truth, guess = (max(1.0, float(n) ** 2 - float(rows @ rows)) for rows in (support, claimed))
        agreement, scale = n * hits.sum() - claimed @ support, (truth * guess) ** 0.5
        return np.full(K, n / scale), agreement * claimed / (guess * scale) - support / scale
    weights = np.full(K, 1 / K) if name == "macro_f1" else support / n
    return ratio(2 * weights, support + claimed), -ratio(2 * weights * hits, (support + claimed) ** 2)


def _end(name: str, table: _Table, z: float, seen: float) -> float:
    """The score at the end of the interval that lies z deviations from the one `seen`: below it for z < 0."""
    cells = np.bincount(table.of)[table.of]  # (m,)
    # A score that is 0 / 0 at the rows seen has no slope there: begin with a row more of each class, over its cells.
    shares = (table.counts + 1 / cells) / (table.support[table.rows] + 1)
    ends = [seen]
    for _ in range(_ROUNDS):
        slopes = np.sign(z) * table.slopes(name, shares)
        slopes -= np.maximum.reduceat(slopes, table.starts)[table.of]  # what is common to a class moves nothing
        if not slopes.any():
            return seen
        pushed = _pushed(table, slopes / -slopes.min(), abs(z))
        if pushed is None:
            return seen
        # Half the way where the last steps went to and fro
        astray = len(ends) > 2 and (ends[-1] - ends[-2]) * (ends[-2] - ends[-3]) < 0
        shares = (shares + pushed) / 2 if astray else pushed
        ends.append(table.score(name, shares))
        if abs(ends[-1] - ends[-2]) < _TOLERANCE:
            break
    return ends[-1]


def _pushed(table: _Table, slopes: Floats, z: float) -> Floats | None:
    """Shares (m,) that lie z deviations up the slopes (m,), which are at most 0; None where there are none so far."""

    def beyond(push: float) -> float:
        return float(push * table.variance(slopes, _likeliest(table, -push * slopes)) ** 0.5 - z)

    spread = table.variance(slopes, table.shares) ** 0.5
    push = z / spread if spread > 0 else 1.0
    while beyond(push) < 0:
        push *= 2
        if push > _MOST_PUSH:
            return None
    least = push / 2
    while beyond(least) > 0:
        least /= 2
    return _likeliest(table, -brentq(beyond, least, push, rtol=1e-6) * slopes)


def _likeliest(table: _Table, costs: Floats) -> Floats:
    """The shares counts / (mu + costs) (m,) that add up to 1 in each class; costs (m,) are 0 for its best cell.

    If all counts / costs of a class are less than 1 together, mu is 0 and the best cell, where no row stands, has what
    is left. Newton's steps: the sum is convex in mu and they begin on its left.
    """
    of, starts, counts = table.of, table.starts, table.counts
    mu = np.maximum(np.maximum.reduceat(np.where(counts > 0, counts - costs, 0), starts), 0)  # (k,)
    while True:
        shares = ratio(counts, mu[of] + costs)  # (m,)
        over = np.add.reduceat(shares, starts) - 1  # (k,)
        step = ratio(np.maximum(over, 0), np.add.reduceat(ratio(shares, mu[of] + costs), starts))
        if (step <= 1e-10 * mu).all():
            break
        mu += step
    best = (costs == 0) & (counts == 0)
    return shares + np.where(
        best, np.maximum(-over, 0)[of] / np.maximum(np.add.reduceat(best, starts, dtype=int), 1)[of], 0
    )
