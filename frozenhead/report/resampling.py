"""The judged rows drawn again: what the scores of all heads would be on other rows of the same kind.

Imports metrics, spread, numpy and scipy.sparse. A stratified bootstrap: each draw takes, within every true class, as
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

from frozenhead.report.metrics import BINS, calibration_gaps, decision_scores
from frozenhead.report.spread import Spread, spread

DRAWS = 2000
SEED = 0

_AT_ONCE = 2**22  # weights held at a time (n b): 16 MiB, and four times that while they are drawn
_MOST_AT_ONCE = 64  # draws: the sums of one class then stay in the processor's cache


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Every head's scores on the same draws.

    Parameters
    ----------
    scores : mapping of str to float64 array (H, R)
        `accuracy`, `balanced_accuracy`, `macro_f1`, `weighted_f1`, `mcc` and `ece`. Scores that are undefined are
        without meaning.
    spreads : sequence of Spread, length H
        Of the rows themselves.
    rows : int
        n.
    draws : int
        R.
    seed : int
    """

    scores: Mapping[str, NDArray[np.float64]]
    spreads: Sequence[Spread]
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
    prepared = [_prepare(true, probabilities[order], predicted[order]) for probabilities, predicted in heads]
    drawn: list[list[dict[str, NDArray[np.float64]]]] = [[] for _ in heads]
    for weights in row_weights(support, draws=draws, seed=seed):  # (n, b)
        for found, sums in zip(drawn, prepared, strict=True):
            found.append(_block(sums, weights, support))
    scores = {
        name: np.stack([np.concatenate([part[name] for part in parts]) for parts in drawn])
        for name in (drawn[0][0] if heads else ())
    }
    spreads = [spread(probabilities[order], true, row_weights_of_class) for probabilities, _ in heads]
    return Draws(scores=scores, spreads=spreads, rows=len(true), draws=draws, seed=seed)


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


def _prepare(
    true: NDArray[np.int64], probabilities: NDArray[np.float64], predicted: NDArray[np.int64]
) -> "sparse.csc_array[np.float32]":
    """The rows' part in each sum (2K + BINS, n): rows right, rows given to each class, gaps by bin."""
    K, n = probabilities.shape[1], len(true)
    bins, gaps = calibration_gaps(probabilities, true)
    places = np.stack([true, K + predicted, 2 * K + bins], axis=1)  # (n, 3)  rising
    return _one_each(places, np.stack([true == predicted, np.ones(n), gaps], axis=1), 2 * K + BINS)


def _one_each(places: NDArray[np.integer], parts: NDArray[np.float64], height: int) -> "sparse.csc_array[np.float32]":
    """A matrix (height, n) that holds, in column i, parts[i] in the rows places[i], each (n, m)."""
    n, m = places.shape
    ends = np.arange(0, n * m + 1, m, dtype=np.int32)
    values, rows = parts.astype(np.float32).ravel(), places.astype(np.int32).ravel()
    return sparse.csc_array((values, rows, ends), shape=(height, n))


def _block(
    prepared: "sparse.csc_array[np.float32]", weights: NDArray[np.float32], support: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """The scores of b draws, each (b,)."""
    K, n = len(support), len(weights)
    sums = (prepared @ weights).astype(np.float64)  # (2K + BINS, b)
    ece = np.abs(sums[2 * K :]).sum(axis=0) / n
    return {**decision_scores(sums[:K].T, sums[K : 2 * K].T, support), "ece": ece}
