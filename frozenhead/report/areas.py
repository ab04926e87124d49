"""Areas under the precision-recall and the ROC curve of one class against the rest, of rows with weights too.

Imports numpy only. Average precision is the step sum sum_t (R_t - R_{t-1}) P_t over falling thresholds t, not
interpolated; the ROC area is the share of (positive, negative) pairs in which the positive row scores higher, ties
counted half (Mann & Whitney 1947). Both need only how much weight lies where between the scores of the positive rows,
so that the order of the rows is found once and holds for every weighting: that is what a bootstrap needs.
Letters: `n` rows, `G` distinct scores of positive rows, `b` weightings.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", np.float32, np.float64)


def slots(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Say for every row in which sum its weight belongs.

    Parameters
    ----------
    scores : float64 array (n,)
        Larger means more likely positive. Equal scores are ties.
    positive : bool array (n,)
        At least one True.

    Returns
    -------
    slots : int32 array (n,)
        Of the G distinct positive scores u_0 < u_1 < ...: j in 0..G for a negative row between u_{j-1} and u_j;
        G + 1 + j for a negative row at u_j; 2G + 1 + j for a positive row at u_j.
    G : int
        The sums are 3G + 1 in all.
    """
    knots, at = np.unique(scores[positive], return_inverse=True)  # (G,), (positive rows,)
    G = len(knots)
    found = np.searchsorted(knots, scores).astype(np.int32)  # (n,)  j with u_{j-1} < s <= u_j
    tied = knots[np.minimum(found, G - 1)] == scores  # (n,)
    found[tied] += G + 1
    found[positive] = 2 * G + 1 + at
    return found, G


def areas(sums: NDArray[Real]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both areas, given the weight in each slot.

    Parameters
    ----------
    sums : float array (3G + 1, b)
        One column per weighting, of whole numbers; positive rows weigh more than 0 together.

    Returns
    -------
    average_precision, roc_auc : float64 arrays (b,)
        The second is NaN where no negative row has weight.
    """
    G = (len(sums) - 1) // 3
    between, level, hits = sums[: G + 1], sums[G + 1 : 2 * G + 1], sums[2 * G + 1 :]
    positives = hits.sum(axis=0)  # (b,)
    below = between[:-1] + level  # (G, b)
    np.cumsum(below, axis=0, out=below)
    negatives = below[-1] + between[-1]  # (b,)
    below -= level  # negative weight below each knot
    true_positives = np.cumsum(hits[::-1], axis=0)[::-1]  # (G, b)  at and above each knot
    claimed = np.maximum(true_positives - below + negatives, 1)  # (G, b)  whole numbers: 0 only where the hits are 0
    average_precision = np.einsum("gb,gb->b", hits, true_positives / claimed) / positives
    below += level / 2
    pairs = positives.astype(np.float64) * negatives
    won = np.einsum("gb,gb->b", hits, below)
    return average_precision.astype(np.float64), np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
