"""How far a score may lie from the true one, given that it was measured on n rows only.

Imports metrics and numpy. A share of rows (accuracy, recall) gets Wilson's interval, a closed form (Wilson 1927).
Scores that are no share of rows get the percentile bootstrap, stratified: each draw takes, within every class, as many
rows as the class has, with replacement (Efron & Tibshirani 1993, chapters 8 and 13).
Letters: `n` rows, `K` classes, `R` draws.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.report.metrics import check_probabilities, positions, row_losses

DRAWS = 1000
LEVEL = 0.95
SEED = 0

Interval = list[float]
"""[low, high], as JSON has it."""

_AT_ONCE = 2**22  # rows drawn at a time: 32 MiB of row numbers


def wilson(hits: int, rows: int, *, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share.

    Parameters
    ----------
    hits, rows : int
        `hits` of `rows`, which are at least 1.
    level : float
        Share of such intervals that hold the true share, in (0, 1).

    Raises
    ------
    ValueError
        `rows` is 0, or `hits` is not one of 0..rows.
    """
    if not 0 <= hits <= rows or rows < 1:
        raise ValueError(f"{hits} of {rows} is no share")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, scale = hits / rows, 1 + z * z / rows
    centre = (share + z * z / (2 * rows)) / scale
    half = z / scale * (share * (1 - share) / rows + (z / (2 * rows)) ** 2) ** 0.5
    # At the ends the formula is exact and its floating point is not.
    return [0.0 if hits == 0 else centre - half, 1.0 if hits == rows else centre + half]


def score_intervals(
    labels: Sequence[str] | NDArray[Any],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = SEED,
    level: float = LEVEL,
) -> dict[str, Any] | None:
    """Intervals of the scores that `score_block` gives for the same arguments.

    Parameters
    ----------
    labels : sequence of str, length n
    probabilities : float64 array (n, K)
        Columns in the order of `classes`.
    classes : sequence of str, length K
    draws : int
        R, of the bootstrap.
    seed : int
        Of the draws: equal arguments give equal intervals.
    level : float

    Returns
    -------
    dict or None
        `accuracy` (Wilson), `balanced_accuracy`, `macro_f1`, `log_loss` (bootstrap), each [low, high]; `per_class`
        {label: {`recall` (Wilson), `f1` (bootstrap)}}, both None for a class without rows; `draws`, `seed`, `level`.
        None when n = 0.

    Raises
    ------
    ValueError
        A label outside `classes`, or numbers that are not probabilities.
    """
    true, K = positions(labels, classes), len(classes)  # (n,)
    check_probabilities(probabilities, (len(true), K))
    if len(true) == 0:
        return None
    predicted = probabilities.argmax(axis=1)
    confusion = np.bincount(K * true + predicted, minlength=K * K).reshape(K, K)  # (K, K)
    support = confusion.sum(axis=1)  # (K,)  the same in every draw
    rng = np.random.default_rng(seed)
    hits, claimed = draw_counts(confusion, draws, rng)  # (R, K), (R, K)
    f1 = np.divide(2 * hits, support + claimed, out=np.zeros(hits.shape), where=support + claimed > 0)  # (R, K)
    recall = hits[:, support > 0] / support[support > 0]  # (R, classes that have rows)
    per_class = {
        name: {
            "recall": wilson(int(confusion[c, c]), int(support[c]), level=level) if support[c] else None,
            "f1": _middle(f1[:, c], level) if support[c] else None,
        }
        for c, name in enumerate(classes)
    }
    return {
        "accuracy": wilson(int(confusion.trace()), len(true), level=level),
        "balanced_accuracy": _middle(recall.mean(axis=1), level),
        "macro_f1": _middle(f1.mean(axis=1), level),
        "log_loss": _middle(draw_means(row_losses(probabilities, true), true, draws, rng), level),
        "per_class": per_class,
        "draws": draws,
        "seed": seed,
        "level": level,
    }


def draw_counts(
    confusion: NDArray[np.int64], draws: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stratified bootstrap of a confusion table, without touching a row.

    Drawing n_c rows of class c with replacement makes row c of the table multinomial: n_c trials, chances
    confusion[c] / n_c. Only what scores need of the drawn tables is kept.

    Parameters
    ----------
    confusion : int64 array (K, K)
        Rows true, columns predicted.
    draws : int
    rng : Generator

    Returns
    -------
    hits : int64 array (R, K)
        The diagonals of the drawn tables.
    claimed : int64 array (R, K)
        Their column sums: rows that were given to each class.
    """
    K = len(confusion)
    hits, claimed = np.zeros((draws, K), np.int64), np.zeros((draws, K), np.int64)
    for c, row in enumerate(confusion):
        (found,) = np.nonzero(row)  # a class is taken for few others, so K² draws become about K
        if len(found) == 0:
            continue
        drawn = rng.multinomial(row.sum(), row[found] / row.sum(), size=draws)  # (R, len(found))
        claimed[:, found] += drawn
        if row[c]:
            hits[:, c] = drawn[:, np.searchsorted(found, c)]
    return hits, claimed


def draw_means(
    values: NDArray[np.float64], strata: NDArray[np.int64], draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Stratified bootstrap of a mean: values (n,) in strata (n,) of 0, 1, ... -> means (R,)."""
    sums = np.zeros(draws)
    for stratum in range(int(strata.max()) + 1):
        own = values[strata == stratum]
        step = max(1, _AT_ONCE // max(1, len(own)))
        for start in range(0, draws if len(own) else 0, step):
            stop = min(start + step, draws)
            sums[start:stop] += own[rng.integers(len(own), size=(stop - start, len(own)))].sum(axis=1)
    return sums / len(values)


def _middle(drawn: NDArray[np.float64], level: float) -> Interval:
    """The percentile interval of drawn scores (R,)."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]
