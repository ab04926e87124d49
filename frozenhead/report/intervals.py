"""How far a score may lie from the true one, given that it was measured on n rows only.

Imports resampling (its draws), score_intervals and numpy. One rule for each score, chosen by how often such intervals
held the true score in simulations (docs/report.md has the table); the plain percentile bootstrap was too short wherever
few rows are wrong, and of no length where none is.

- `wilson`: accuracy, precision and recall are shares of rows: Wilson (1927). So is the F1 of a class, written
  otherwise.
- `score`: balanced accuracy, macro and weighted F1 and MCC: Wilson's idea for several shares (score_intervals).
- `wilson, effective rows`: average precision and ROC area, as if they were shares of so many rows as vary alike.
- `skewness-corrected`: log loss and Brier score are means of what each row costs, most of it in a few rows: the normal
  interval after the transformation of Hall (1992).
- `percentile and basic bootstrap`: the calibration error is a sum of distances, so noise only raises it, that of a draw
  on top of that of the rows: percentiles of the draws lie too high. Their mirror image in the score (the basic
  bootstrap) makes good for that, but may end too low. The interval reaches as far as both, and down to 0 where right
  probabilities would show as much.

Letters: `K` classes, `R` draws.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.report.resampling import Draws
from frozenhead.report.score_intervals import NAMES, score_intervals

LEVEL = 0.95

METHODS = {
    **dict.fromkeys(("accuracy", "precision", "recall", "f1"), "wilson"),
    **dict.fromkeys(NAMES, "score"),
    **dict.fromkeys(("average_precision", "roc_auc"), "wilson, effective rows"),
    **dict.fromkeys(("log_loss", "weighted_log_loss", "brier"), "skewness-corrected"),
    "ece": "percentile and basic bootstrap",
}

Interval = list[float]
"""[low, high], as JSON has it."""


def wilson(hits: float, rows: float, *, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share.

    Parameters
    ----------
    hits, rows : float
        `hits` of `rows`, which are more than 0.
    level : float
        Share of such intervals that hold the true share, in (0, 1).

    Raises
    ------
    ValueError
        `rows` is 0, or `hits` is not in 0..rows.
    """
    if not 0 <= hits <= rows or rows <= 0:
        raise ValueError(f"{hits} of {rows} is no share")
    z = _z(level)
    share, scale = hits / rows, 1 + z * z / rows
    centre = (share + z * z / (2 * rows)) / scale
    half = z / scale * (share * (1 - share) / rows + (z / (2 * rows)) ** 2) ** 0.5
    # At the ends the formula is exact and its floating point is not.
    return [0.0 if hits == 0 else centre - half, 1.0 if hits == rows else centre + half]


def f1_interval(hits: int, claimed: int, support: int, *, level: float = LEVEL) -> Interval:
    """Interval of the F1 of a class.

    Of the rows that have the class or are given it, the share J that has both makes F1 = 2 J / (1 + J). So Wilson's
    interval of J is one of F1, and unlike a bootstrap it is not of width 0 where no row is wrong.

    Parameters
    ----------
    hits, claimed, support : int
        Rows that have the class and are given it, that are given it, that have it. Not both of the last are 0.
    level : float
    """
    low, high = wilson(hits, claimed + support - hits, level=level)
    return [2 * low / (1 + low), 2 * high / (1 + high)]


def area_interval(area: float, variance: float, worst: float, *, level: float = LEVEL) -> Interval:
    """Interval of an area under a curve, or of a mean of such: Wilson's, of effective rows.

    A share s of m rows has the variance s (1 - s) / m, so an area s of the variance v counts as one of s (1 - s) / v
    rows. Where few rows are on the wrong side the variance seen is too small, or 0. So one more row is added, as wrong
    as a row can be: both s (1 - s) and v grow by what it would add.

    Parameters
    ----------
    area : float
        In 0..1.
    variance : float
        By what each row adds to it (`Spread.areas`).
    worst : float
        How much a row at the wrong end takes from the area, above 0.
    level : float
    """
    rows = (area * (1 - area) + worst) / (variance + worst**2)
    return wilson(area * rows, rows, level=level)


def mean_interval(mean: float, error: float, skewness: float, *, level: float = LEVEL) -> Interval | None:
    """Interval of a mean that few rows make up most of: Hall's (1992, "On the removal of skewness by transformation").

    Parameters
    ----------
    mean : float
        0 or more.
    error, skewness : float
        Standard error of the mean, and its skewness.
    level : float

    Returns
    -------
    list or None
        None where the error is 0: rows that are all alike within their classes do not show how others differ.
    """
    if error == 0:
        return None
    z = _z(level)
    if abs(skewness) < 1e-6:  # the limit: less than 2e-6 deviations away
        return [max(0.0, mean - z * error), mean + z * error]
    ends = [3 / skewness * (np.cbrt(1 + skewness * (q - skewness / 6)) - 1) for q in (z, -z)]
    return [max(0.0, mean - float(ends[0]) * error), mean - float(ends[1]) * error]


def interval_block(
    block: Mapping[str, Any], draws: Draws, h: int, classes: Sequence[str], *, level: float = LEVEL
) -> dict[str, Any]:
    """Intervals of a block's scores: what stands there as `intervals`.

    Parameters
    ----------
    block : mapping
        What `score_block` returned.
    draws : Draws
        Of the same rows.
    h : int
        Which of the drawn heads the block belongs to.
    classes : sequence of str, length K
    level : float
        In (0, 1).

    Returns
    -------
    dict
        `level`, `draws`, `seed`; each score of the block as [low, high], None where it is undefined or, of losses, the
        rows of each class cost all the same; `methods` {score: one of the names above}; `per_class` {label:
        {`precision`, `recall`, `f1`, `average_precision`, `roc_auc`}}, None where no row stands behind one, and all but
        the first for a class without rows.
    """
    confusion = np.array(block["confusion"], np.int64)  # (cells, 3)
    support = np.array([block["per_class"][name]["support"] for name in classes])  # (K,)
    right = confusion[confusion[:, 0] == confusion[:, 1]]
    hits, claimed = (np.bincount(cells[:, 1], cells[:, 2], len(classes)).astype(int) for cells in (right, confusion))
    spread = draws.spreads[h]
    found: dict[str, Interval | None] = {
        "accuracy": wilson(int(hits.sum()), block["rows"], level=level),
        **score_intervals(confusion, support, level=level),
        **{name: mean_interval(block[name], *shape, level=level) for name, shape in spread.losses.items()},
        "ece": _ece_interval(block["ece"], draws.scores["ece"][h], *spread.noise, level=level),
    }
    if block["mcc"] is None:
        found["mcc"] = None
    areas = _area_intervals(block, spread.areas, support, level)
    per_class = {}
    for c, name in enumerate(classes):
        tally = int(hits[c]), int(claimed[c]), int(support[c])
        per_class[name] = {
            "precision": wilson(tally[0], tally[1], level=level) if tally[1] else None,
            "recall": wilson(tally[0], tally[2], level=level) if tally[2] else None,
            "f1": f1_interval(*tally, level=level) if tally[2] else None,
            **areas[c],
        }
    return {
        "level": level,
        "draws": draws.draws,
        "seed": draws.seed,
        **(found | areas[-1]),
        "methods": METHODS,
        "per_class": per_class,
    }


def percentiles(drawn: NDArray[np.float64], level: float) -> Interval:
    """The middle `level` of drawn scores (R,)."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def _area_intervals(
    block: Mapping[str, Any], variances: NDArray[np.float64], support: NDArray[np.int64], level: float
) -> list[dict[str, Interval | None]]:
    """Of both areas, of each class and at last of their means; None where a class has no rows, or all."""
    # A class of m rows is as if it had z^2 more: Wilson's interval reaches as far from m rows that are all right.
    # A row at the wrong end takes 1 / m from the ROC area; from average precision about twice that, for those of other
    # classes weigh there too. Of a mean over classes it takes as much of two: its own, and the one it looks like.
    rows, n, told = support + _z(level) ** 2, support.sum(), (support > 0) & (support < support.sum())
    rest = np.minimum(rows, n - support + _z(level) ** 2)
    blocks = [*block["per_class"].values(), block]
    mean = 2 / (np.count_nonzero(told) * rows[told].min()) if told.any() else 0.0
    worst = np.stack([np.append(2 / rows, mean), np.append(1 / rest, mean)])  # (2, K + 1)
    return [
        {
            name: area_interval(row[name], variances[k, c], worst[k, c], level=level) if told_here else None
            for k, name in enumerate(("average_precision", "roc_auc"))
        }
        for c, (row, told_here) in enumerate(zip(blocks, [*told, told.any()], strict=True))
    ]


def _ece_interval(ece: float, drawn: NDArray[np.float64], noise: float, deviation: float, *, level: float) -> Interval:
    low, high = percentiles(drawn, level)
    could_be_noise = ece <= noise + _z(level) * deviation
    return [0.0 if could_be_noise else max(0.0, min(low, 2 * ece - high)), min(1.0, max(high, 2 * ece - low))]


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
