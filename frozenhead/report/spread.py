"""How far the scores of probabilities move from one set of rows to another, by what each row adds to them.

Imports areas, metrics and numpy. The rows of each true class are drawn apart from the others, as many as the class
has, so that only the differences of rows within a class count.
Letters: `n` rows, `K` classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frozenhead.report.areas import area_parts
from frozenhead.report.metrics import BINS, confidence_bins, row_briers, row_losses

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """Of one head on some rows.

    Parameters
    ----------
    areas : float64 array (2, K + 1)
        Variances of the average precision and of the ROC area of each class, and in the last column of their means
        over the classes that have rows. Areas that are undefined have a variance of 0.
    losses : mapping of str to (float, float)
        Standard error and skewness of `log_loss`, `weighted_log_loss` and `brier`.
    noise : (float, float)
        Mean and deviation of the `ece` that a head with these very probabilities would show if they were right.
    """

    areas: Floats
    losses: Mapping[str, tuple[float, float]]
    noise: tuple[float, float]


def spread(probabilities: Floats, true: NDArray[np.int64], row_weights_of_class: Floats) -> Spread:
    """Measure it.

    Parameters
    ----------
    probabilities : float64 array (n, K)
    true : int64 array (n,)
        Positions of the true classes; n is at least 1.
    row_weights_of_class : float64 array (K,)
        Of `weighted_log_loss`.
    """
    losses, weights = row_losses(probabilities, true), row_weights_of_class[true]  # (n,), (n,)
    parts = {
        "log_loss": losses / len(true),
        "weighted_log_loss": losses * weights / weights.sum(),
        "brier": row_briers(probabilities, true) / len(true),
    }
    return Spread(
        areas=_area_variances(probabilities, true),
        losses={name: _error_and_skewness(part, true) for name, part in parts.items()},
        noise=_calibration_noise(probabilities),
    )


def _area_variances(probabilities: Floats, true: NDArray[np.int64]) -> Floats:
    n, K = probabilities.shape
    support = np.bincount(true, minlength=K)
    told = np.flatnonzero((support > 0) & (support < n))
    variances, mean = np.zeros((2, K + 1)), np.zeros((2, n))
    for c in told:
        parts = area_parts(np.ascontiguousarray(probabilities[:, c]), true == c)  # (2, n)
        variances[:, c] = [_moments(part, (true == c).astype(np.int64))[0] for part in parts]
        mean += parts / len(told)
    variances[:, K] = [_moments(part, true)[0] for part in mean]
    return variances


def _error_and_skewness(parts: Floats, true: NDArray[np.int64]) -> tuple[float, float]:
    variance, third = _moments(parts, true)
    # Rounding of equal losses is no spread: 1e-12 of the score, far below any that two different rows show.
    if variance <= (1e-12 * parts.sum()) ** 2:
        return 0.0, 0.0
    return variance**0.5, third / variance**1.5


def _moments(parts: Floats, strata: NDArray[np.int64]) -> tuple[float, float]:
    """Variance and third central moment of the sum of parts (n,) whose rows are drawn within each stratum (n,)."""
    rows = np.bincount(strata)
    away = parts - (np.bincount(strata, parts) / np.maximum(rows, 1))[strata]  # (n,)
    freed = (rows / np.maximum(rows - 1, 1))[strata]  # (n,)  n / (n - 1)
    return float(freed @ away**2), float((away**3).sum())


def _calibration_noise(probabilities: Floats) -> tuple[float, float]:
    """If each top probability p is right, a bin's gaps add up to N(0, sum p (1 - p)), and `ece` to their |.| by n."""
    bins, confidence = confidence_bins(probabilities)  # (n,), (n,)
    deviations = np.sqrt(np.bincount(bins, confidence * (1 - confidence), BINS)) / len(bins)  # (BINS,)
    mean, variance = (2 / np.pi) ** 0.5 * deviations.sum(), (1 - 2 / np.pi) * (deviations**2).sum()
    return float(mean), float(variance**0.5)
