"""Areas under the precision-recall and the ROC curve of one class against the rest, and what each row adds to them.

Imports numpy only. Average precision is the step sum sum_t (R_t - R_{t-1}) P_t over falling thresholds t, not
interpolated; the ROC area is the share of (positive, negative) pairs in which the positive row scores higher, ties
counted half (Mann & Whitney 1947). Both need only how many rows lie where between the scores of the positive rows.
Letters: `n` rows, `G` distinct scores of positive rows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class _Counts(NamedTuple):
    """Rows around the G distinct positive scores u_0 < u_1 < ..., each float64 (G,) but for `slots`."""

    hits: Floats  # positive rows at u_j
    level: Floats  # negative rows at u_j
    below: Floats  # negative rows below u_j
    found: Floats  # positive rows at and above u_j
    wrong: Floats  # negative rows at and above u_j
    slots: NDArray[np.int32]  # (n,)  j in 0..G: a negative row between u_{j-1} and u_j; G + 1 + j: one at u_j;
    # 2G + 1 + j: a positive row at u_j


def areas(scores: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return both areas.

    Parameters
    ----------
    scores : float64 array (n,)
        Larger means more likely positive. Equal scores are ties.
    positive : bool array (n,)
        At least one True.

    Returns
    -------
    average_precision, roc_auc : float
        The second is NaN without a negative row.
    """
    at = _count(scores, positive)
    pairs = at.hits.sum() * (at.below[0] + at.wrong[0])
    average_precision = at.hits @ (at.found / (at.found + at.wrong)) / at.hits.sum()
    return float(average_precision), float(at.hits @ (at.below + at.level / 2) / pairs) if pairs else np.nan


def area_parts(scores: Floats, positive: NDArray[np.bool_]) -> Floats:
    """What each row adds to both areas (2, n), average precision first; only differences within a kind of row count.

    The variance of an area is that of the sum of these parts. For the ROC area that is DeLong, DeLong &
    Clarke-Pearson's (1988): the part of a row is the share of the other kind that it is on the right side of. For
    average precision it is the jackknife's (Efron & Tibshirani 1993, chapter 11): what the area loses without the row,
    those ranked below having moved up by one. Parameters as in `areas`; both kinds of rows must be there.
    """
    at = _count(scores, positive)
    positives, negatives = at.hits.sum(), at.below[0] + at.wrong[0]
    claimed = at.found + at.wrong  # (G,)
    moved = 1 / (claimed * np.maximum(claimed - 1, 1))  # (G,)  P(P - 1) ; of a single claimed row nothing moves
    gain, loss = np.cumsum(at.hits * moved * at.wrong), np.cumsum(at.hits * moved * at.found)  # (G,), (G,)
    own = at.found / claimed + gain - moved * at.wrong
    precision = np.concatenate([[0.0], -loss, -loss, own]) / positives  # (3G + 1,)
    ranks = np.concatenate([at.found, [0.0], at.found - at.hits / 2, at.below + at.level / 2]) / (positives * negatives)
    return np.stack([precision, ranks])[:, at.slots]


def _count(scores: Floats, positive: NDArray[np.bool_]) -> _Counts:
    knots, own = np.unique(scores[positive], return_inverse=True)  # (G,), (positive rows,)
    G = len(knots)
    slots = np.searchsorted(knots, scores).astype(np.int32)  # (n,)  j with u_{j-1} < s <= u_j
    tied = knots[np.minimum(slots, G - 1)] == scores  # (n,)
    slots[tied] += G + 1
    slots[positive] = 2 * G + 1 + own
    rows = np.bincount(slots, minlength=3 * G + 1).astype(np.float64)
    between, level, hits = rows[: G + 1], rows[G + 1 : 2 * G + 1], rows[2 * G + 1 :]
    below = np.cumsum(between[:-1] + level) - level
    wrong = between.sum() + level.sum() - below
    return _Counts(hits=hits, level=level, below=below, found=np.cumsum(hits[::-1])[::-1], wrong=wrong, slots=slots)
