"""A map of the vectors: the two directions in which they vary most.

Imports nothing from the package. Principal components (Pearson 1901; Jolliffe 2002, chapter 2) from the covariance
matrix (D, D), summed in float64 a block at a time, so that memory does not grow with the rows.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

SHOWN = 5000
FITTED = 50_000  # more rows would not move two directions that a reader could see
_BLOCK = 4096


def plane(
    corpus: pd.DataFrame,
    vectors: NDArray[Any],
    classes: Sequence[str],
    wrong: NDArray[np.integer],
    *,
    feature: str,
    most: int = SHOWN,
    seed: int = 2018,
) -> dict[str, Any] | None:
    """Rows as points of a plane, fitted on at most 50,000 rows, at most `most` of them shown.

    Both are stratified samples in which every class stands, as far as there is room, drawn by `seed` from the rows in
    the order of their numbers. Of each axis the sign is such that the largest loading is positive.

    Parameters
    ----------
    corpus : DataFrame
        N rows: `row`, `label`, `split`.
    vectors : float array (N, D)
    classes : sequence of str, length K
    wrong : int array (N,)
        1 where the selected head errs, 0 where it does not, -1 where it was not judged.
    feature : str
        The feature set's name.
    most : int
    seed : int

    Returns
    -------
    dict or None
        `map` of report.json: coordinates to a thousandth of the width or finer, and `variance`, the shares of the total
        variance. None where the vectors do not differ.

    Raises
    ------
    ValueError
        A vector that is not finite.
    """
    order = np.argsort(corpus["row"].to_numpy(), kind="stable")
    labels = pd.Categorical(corpus["label"], categories=list(classes)).codes.astype(np.int64)
    rng = np.random.default_rng(seed)
    fitted, drawn = (order[_stratified(labels[order], size, rng)] for size in (FITTED, most))
    with threadpool_limits(1, "blas"):  # products so small that threads take longer to wait for each other
        mean, axes, shares = _components(vectors, fitted)
    if axes is None:
        return None
    points = np.vstack([(vectors[drawn[block]] - mean) @ axes for block in _blocks(len(drawn))])  # (shown, 2)
    digits = 4 - math.ceil(math.log10(float(np.ptp(points, axis=0).max()) or 1.0))
    judged = wrong[drawn]
    return {
        "feature": feature,
        "variance": shares,
        "rows": len(corpus),
        "shown": len(drawn),
        "x": (points[:, 0].round(digits) + 0.0).tolist(),
        "y": (points[:, 1].round(digits) + 0.0).tolist(),
        "label": labels[drawn].tolist(),
        "row": corpus["row"].to_numpy()[drawn].tolist(),
        "split": corpus["split"].to_numpy(dtype=object)[drawn].tolist(),
        "wrong": [None if one < 0 else int(one) for one in judged],
    }


def _components(
    vectors: NDArray[Any], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, list[float]]:
    """The mean (D,), two axes (D, 2) and their shares of the variance; None for axes where nothing varies."""
    D = vectors.shape[1]
    mean = np.zeros(D)
    for block in _blocks(len(rows)):
        mean += vectors[rows[block]].sum(axis=0, dtype=np.float64) / len(rows)
    if not np.isfinite(mean).all():
        raise ValueError("the vectors hold NaN or infinity")
    scatter = np.zeros((D, D))
    for block in _blocks(len(rows)):
        part = vectors[rows[block]] - mean  # float64
        scatter += part.T @ part
    total = float(scatter.trace())
    if total <= len(rows) * float(np.finfo(vectors.dtype).eps ** 2 * (mean @ mean)):  # no more than rounding
        return mean, None, []
    values, found = np.linalg.eigh(scatter)
    axes = np.zeros((D, 2))
    axes[:, : min(D, 2)] = found[:, ::-1][:, :2]  # (D, 1) of vectors of one number
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    shares = np.maximum(values[::-1][:2], 0) / total
    return mean, axes, [*(round(float(share), 6) for share in shares), 0.0][:2]


def _stratified(labels: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most so many positions in ascending order, classes in proportion, each at least once where there is room."""
    if len(labels) <= most:
        return np.arange(len(labels))
    shuffled = rng.permutation(len(labels))
    # The i-th of the c rows of a class, in shuffled order, comes at (i + 1/2) / c: cutting anywhere keeps proportions.
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    within = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    places = np.where(within == 0, -1.0, (within + 0.5) / np.repeat(counts, counts))  # the first of each class first
    return np.sort(by_class[np.argsort(places, kind="stable")[:most]])


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
