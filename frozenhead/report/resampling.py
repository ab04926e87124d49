"""The judged rows drawn again: what the scores of all heads would be on other rows of the same kind.

Imports areas, metrics, numpy and scipy.sparse. A stratified bootstrap: each draw takes, within every true class, as
many rows as the class has, with replacement (Efron & Tibshirani 1993, chapter 8). A draw is not a list of rows but how
often it holds each, so that the sums behind every score are products of matrices; and all heads are scored on the same
draws, so that the difference of two heads is drawn too.
Letters: `n` rows, `K` classes, `H` heads, `R` draws, `b` draws at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from frozenhead.report.areas import areas, slots
from frozenhead.report.metrics import (
    BINS,
    calibration_gaps,
    confidence_bins,
    decision_scores,
    row_briers,
    row_losses,
)

DRAWS = 2000
SEED = 0

_AT_ONCE = 2**22  # weights held at a time (n b): 16 MiB, and four times that while they are drawn
_MOST_AT_ONCE = 64  # draws: the sums of one class then stay in the processor's cache
_AREA_WORK = 3 * 10**9  # weights added for the areas under curves, H K n of them a draw: about 4 s
_LEAST_AREA_DRAWS = 50  # a standard error from so many is right to 10 %


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Every head's scores on the same draws.

    Parameters
    ----------
    scores : mapping of str to float64 array (H, R)
        Of each score of a score block. `average_precision` and `roc_auc` cost the most: where all R draws would cost
        too much, they stand for the first ones only. Scores that are undefined are NaN or without meaning.
    noise : float64 array (H, 2)
        Mean and deviation of the `ece` that a head with these very probabilities would show if they were right.
    rows : int
        n.
    draws : int
        R.
    seed : int
    """

    scores: Mapping[str, NDArray[np.float64]]
    noise: NDArray[np.float64]
    rows: int
    draws: int
    seed: int


def draw_scores(
    true: NDArray[np.int64],
    heads: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    K: int,
    row_weights_of_class: NDArray[np.float64],
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Draws:
    """Score every head on every draw.

    Parameters
    ----------
    true : int64 array (n,)
        Positions of the true classes; n is at least 1.
    heads : sequence of (probabilities, predicted)
        float64 (n, K) and positions int64 (n,), as `score_block` takes them.
    K : int
    row_weights_of_class : float64 array (K,)
        Of `weighted_log_loss`.
    draws : int
        R.
    seed : int
        Equal arguments give equal draws, on any machine up to the last digits of float32 sums.

    Raises
    ------
    ValueError
        n = 0, or no draws.
    """
    if len(true) == 0 or draws < 1:
        raise ValueError(f"{draws} draws of {len(true)} rows: expected at least one of each")
    order = np.argsort(true, kind="stable")  # (n,)  class by class, as `row_weights` has them
    true = true[order]
    support = np.bincount(true, minlength=K)
    prepared = [
        _prepare(true, probabilities[order], predicted[order], row_weights_of_class)
        for probabilities, predicted in heads
    ]
    each = max(1, len(heads) * len(true) * int(np.count_nonzero(support)))
    ranked = max(_LEAST_AREA_DRAWS, _AREA_WORK // each)  # draws that areas are computed of
    drawn: list[list[dict[str, NDArray[np.float64]]]] = [[] for _ in heads]
    done = 0
    for weights in row_weights(support, draws=draws, seed=seed):  # (n, b)
        for found, head in zip(drawn, prepared, strict=True):
            found.append(_block(head, weights, support) | (_areas(head, weights) if done < ranked else {}))
        done += weights.shape[1]
    scores = {
        name: np.stack([np.concatenate([part[name] for part in parts if name in part]) for parts in drawn])
        for name in (drawn[0][0] if heads else ())
    }
    noise = np.array([_calibration_noise(probabilities) for probabilities, _ in heads])  # (H, 2)
    return Draws(scores=scores, noise=noise, rows=len(true), draws=draws, seed=seed)


def row_weights(support: NDArray[np.int64], *, draws: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each draw holds each row.

    Parameters
    ----------
    support : int64 array (K,)
        Rows of each class.
    draws : int
    seed : int

    Yields
    ------
    float32 array (n, b)
        Rows class by class, the b of all arrays `draws` together. Within a class every column adds up to its rows.
    """
    rng, n = np.random.default_rng(seed), int(support.sum())
    ends = np.cumsum(support)
    size = min(_MOST_AT_ONCE, max(1, _AT_ONCE // n))
    for done in range(0, draws, size):
        b = min(size, draws - done)
        weights = np.empty((n, b), np.float32)
        for rows, end in zip(support.tolist(), ends.tolist(), strict=True):
            if rows:
                cells = rng.integers(rows, size=(rows, b)) * b + np.arange(b)
                weights[end - rows : end] = np.bincount(cells.ravel(), minlength=rows * b).reshape(rows, b)
        yield weights


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prepared:
    """What is summed of one head, before anything is drawn: the rows' part in each sum."""

    sums: (
        "sparse.csc_array[np.float32]"  # (2K + BINS + 3, n): rows right, rows given to each class, gaps by bin, `means`
    )
    centres: NDArray[np.float64]  # (3,)  of log loss, weighted log loss and Brier score
    curves: Sequence["sparse.csc_array[np.float32]"]  # (3G + 1, n) per class that has rows: the slots of `areas`


def _prepare(
    true: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    predicted: NDArray[np.int64],
    row_weights_of_class: NDArray[np.float64],
) -> _Prepared:
    n, K = probabilities.shape
    losses, weights = row_losses(probabilities, true), row_weights_of_class[true]  # (n,), (n,)
    means = np.stack([losses, losses * weights * n / weights.sum(), row_briers(probabilities, true)], axis=1)  # (n, 3)
    centres = means.mean(axis=0)  # (3,)  what is left sums to little: float32 loses nothing that matters
    bins, gaps = calibration_gaps(probabilities, true)
    places = np.stack([true, K + predicted, 2 * K + bins], axis=1)  # (n, 3)
    places = np.concatenate([places, np.broadcast_to(2 * K + BINS + np.arange(3), (n, 3))], axis=1)  # (n, 6)  rising
    parts = np.concatenate([np.stack([true == predicted, np.ones(n), gaps], axis=1), means - centres], axis=1)
    curves = []
    for c in np.unique(true):
        slot, G = slots(np.ascontiguousarray(probabilities[:, c]), true == c)
        curves.append(_one_each(slot[:, None], np.ones((n, 1)), 3 * G + 1))
    return _Prepared(sums=_one_each(places, parts, 2 * K + BINS + 3), centres=centres, curves=curves)


def _calibration_noise(probabilities: NDArray[np.float64]) -> tuple[float, float]:
    """If each top probability p is right, a bin's gaps add up to N(0, sum p (1 - p)), and `ece` to their |.| by n."""
    bins, confidence = confidence_bins(probabilities)  # (n,), (n,)
    spread = np.sqrt(np.bincount(bins, confidence * (1 - confidence), BINS)) / len(bins)  # (BINS,)
    return float((2 / np.pi) ** 0.5 * spread.sum()), float(((1 - 2 / np.pi) * (spread**2).sum()) ** 0.5)


def _one_each(places: NDArray[np.integer], parts: NDArray[np.float64], height: int) -> "sparse.csc_array[np.float32]":
    """A matrix (height, n) that holds, in column i, parts[i] in the rows places[i], each (n, m)."""
    n, m = places.shape
    ends = np.arange(0, n * m + 1, m, dtype=np.int32)
    values, rows = parts.astype(np.float32).ravel(), places.astype(np.int32).ravel()
    return sparse.csc_array((values, rows, ends), shape=(height, n))


def _block(head: _Prepared, weights: NDArray[np.float32], support: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The scores of b draws but for the areas, each (b,)."""
    K, n = len(support), len(weights)
    sums = (head.sums @ weights).astype(np.float64)  # (2K + BINS + 3, b)
    log_loss, weighted_log_loss, brier = head.centres[:, None] + sums[2 * K + BINS :] / n
    return {
        **decision_scores(sums[:K].T, sums[K : 2 * K].T, support),
        "log_loss": log_loss,
        "weighted_log_loss": weighted_log_loss,
        "brier": brier,
        "ece": np.abs(sums[2 * K : 2 * K + BINS]).sum(axis=0) / n,
    }


def _areas(head: _Prepared, weights: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """The areas under the curves of b draws, means over the classes that have rows, each (b,)."""
    found = np.array([areas(curve @ weights) for curve in head.curves])  # (classes, 2, b)
    average_precision, roc_auc = found.mean(axis=0)
    return {"average_precision": average_precision, "roc_auc": roc_auc}
