"""How far a score may lie from the true one, given that it was measured on n rows only.

Imports resampling (its draws) and numpy. A share of rows (accuracy, precision, recall) gets Wilson's
interval, a closed form (Wilson 1927), and so does the F1 of a class, which is one share written otherwise. Scores that
are no share of rows get the percentile bootstrap (Efron & Tibshirani 1993, chapter 13), two of them with a change:

- The calibration error is a sum of distances, so noise only raises it, that of a draw on top of that of the rows:
  percentiles of the draws lie too high. Their mirror image in the score (the basic bootstrap) makes good for that, but
  may end too low. The interval reaches as far as both, and down to 0 where right probabilities would show as much.
- Areas under curves of which only some draws could be afforded get a normal interval, with the draws' deviation.

Letters: `K` classes, `R` draws.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.report.resampling import Draws

LEVEL = 0.95

Interval = list[float]
"""[low, high], as JSON has it."""


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
        `level`, `draws`, `seed`; each score of the block as [low, high], None where it is undefined; `methods` {score:
        "wilson", "bootstrap", "percentile and basic bootstrap", or "normal, from 300 draws"}; `per_class`
        {label: {`precision`, `recall`, `f1`}}, None where no row stands behind one, and the last two for a class
        without rows.
    """
    hits, claimed = [0] * len(classes), [0] * len(classes)
    for row, column, count in block["confusion"]:
        claimed[column] += count
        hits[column] += count if row == column else 0
    support = [block["per_class"][name]["support"] for name in classes]
    drawn = {
        name: None if block[name] is None else _interval(block[name], values[h], draws.draws, level)
        for name, values in draws.scores.items()
    }
    drawn["ece"] = _ece_interval(block["ece"], draws.scores["ece"][h], *draws.noise[h].tolist(), level=level)
    methods = {name: _method(name, values.shape[1], draws.draws) for name, values in draws.scores.items()}
    return {
        "level": level,
        "draws": draws.draws,
        "seed": draws.seed,
        **(drawn | {"accuracy": wilson(sum(hits), block["rows"], level=level)}),
        "methods": methods | dict.fromkeys(("accuracy", "precision", "recall", "f1"), "wilson"),
        "per_class": {
            name: {
                "precision": wilson(hits[c], claimed[c], level=level) if claimed[c] else None,
                "recall": wilson(hits[c], support[c], level=level) if support[c] else None,
                "f1": f1_interval(hits[c], claimed[c], support[c], level=level) if support[c] else None,
            }
            for c, name in enumerate(classes)
        },
    }


def percentiles(drawn: NDArray[np.float64], level: float) -> Interval:
    """The middle `level` of drawn scores (R,)."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def _interval(score: float, drawn: NDArray[np.float64], draws: int, level: float) -> Interval:
    if len(drawn) == draws:
        return percentiles(drawn, level)
    half = NormalDist().inv_cdf((1 + level) / 2) * float(drawn.std(ddof=1))
    return [max(0.0, score - half), min(1.0, score + half)]  # the areas lie in 0..1


def _ece_interval(ece: float, drawn: NDArray[np.float64], noise: float, deviation: float, *, level: float) -> Interval:
    low, high = percentiles(drawn, level)
    could_be_noise = ece <= noise + NormalDist().inv_cdf((1 + level) / 2) * deviation
    return [0.0 if could_be_noise else max(0.0, min(low, 2 * ece - high)), min(1.0, max(high, 2 * ece - low))]


def _method(name: str, drawn: int, draws: int) -> str:
    if drawn < draws:
        return f"normal, from {drawn} draws"
    return "percentile and basic bootstrap" if name == "ece" else "bootstrap"
