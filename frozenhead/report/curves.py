"""Curves behind the scores: ROC, precision against recall, and how far probabilities can be believed.

Imports areas and numpy. Lines are those of scikit-learn's `roc_curve` and `precision_recall_curve`, thinned until what
would be drawn starts to change; areas are those of all points. Bins follow Guo et al. (2017), section 2.
Letters: `n` rows, `K` classes, `m` points.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.report.areas import areas

MOST_POINTS = 200  # of a line
TOLERANCE = 5e-4  # of the side of a plot: an eighth of a pixel where it is 250 pixels wide
BINS = 15
MOST_CLASSES = 8  # with a line each; of more, the lowest and the highest half of so many areas

_AT_ONCE = 2**20  # probabilities looked at together: 8 MiB

Floats = NDArray[np.float64]
_Deviation = Callable[[Floats, Floats], Floats]


def curve_block(
    true: NDArray[np.int64], probabilities: Floats, classes: Sequence[str], temperature: float | None
) -> dict[str, Any]:
    """ROC lines, precision-recall lines and reliability bins of one head on one split.

    Parameters
    ----------
    true : int64 array (n,)
        Positions of the true classes.
    probabilities : float64 array (n, K)
        Columns in the order of `classes`; after division by `temperature`.
    classes : sequence of str, length K
    temperature : float or None
        T, by which the head's scores were divided before softmax; None or 1 for a head that was not calibrated.

    Returns
    -------
    dict
        `roc`, `precision_recall`: lists of {label, x, y, area}, one class against the rest, `x` rising (false positive
        rate or recall), at most `MOST_POINTS` points of which the first and the last are exact; `area` is that under
        the whole ROC line, or the average precision. Two classes: the second only. Above `MOST_CLASSES`: those of the
        lowest and of the highest areas. A class that no row or every row has is left out.
        `reliability`: {"before", "after"} temperature scaling, each {confidence, accuracy, rows, ece}; means over
        bins of equal width of the largest probability, empty ones left out. "before" is None where nothing was scaled.
    """
    support = np.bincount(true, minlength=len(classes))  # (K,)
    told = np.flatnonzero((support > 0) & (support < len(true)))
    told = told[told == 1] if len(classes) == 2 else told
    found = [areas(np.ascontiguousarray(probabilities[:, c]), true == c) for c in told]
    area = np.array(found).reshape(-1, 2)  # (told, 2)
    lines: dict[str, list[dict[str, Any]]] = {}
    for kind, own, points, deviation in (
        ("roc", area[:, 1], _roc_points, _from_chord),
        ("precision_recall", area[:, 0], _precision_recall_points, _from_steps),
    ):
        lines[kind] = []
        for i in _ends(own):
            x, y = points(*_counts(probabilities[:, told[i]], true == told[i]))
            kept = _thinned(x, y, deviation)
            line = {"x": x[kept].tolist(), "y": y[kept].tolist(), "area": float(own[i])}
            lines[kind].append({"label": classes[told[i]], **line})
    right = probabilities.argmax(axis=1) == true  # (n,)
    before = None
    if temperature is not None and temperature != 1:
        before = _bins(_unscaled(probabilities, temperature), right)
    return {**lines, "reliability": {"before": before, "after": _bins(probabilities.max(axis=1), right)}}


def _counts(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """True and false positives (m,) at each distinct score, the highest first."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = np.cumsum(positive[order])[last]
    return found.astype(np.float64), (last + 1 - found).astype(np.float64)


def _roc_points(found: Floats, wrong: Floats) -> tuple[Floats, Floats]:
    """False and true positive rate (m + 1,), from (0, 0) to (1, 1)."""
    return np.append(0.0, wrong / wrong[-1]), np.append(0.0, found / found[-1])


def _precision_recall_points(found: Floats, wrong: Floats) -> tuple[Floats, Floats]:
    """Recall and precision (m + 1,), from (0, 1), which stands for no row at all."""
    return np.append(0.0, found / found[-1]), np.append(1.0, found / (found + wrong))


def _ends(areas: Floats) -> NDArray[np.int64]:
    """All positions of (told,) areas in order, or those of the lowest and the highest; equals as they stand."""
    if len(areas) <= MOST_CLASSES:
        return np.arange(len(areas))
    rising = np.argsort(areas, kind="stable")
    return np.append(rising[: MOST_CLASSES // 2], rising[-(MOST_CLASSES // 2) :])


def _thinned(x: Floats, y: Floats, deviation: _Deviation) -> NDArray[np.int64]:
    """Positions of the points to keep: greedily the furthest from what is drawn without it (Douglas & Peucker 1973)."""
    kept = [0, len(x) - 1]
    parts: list[tuple[float, int, int, int]] = []  # (-deviation, furthest point, start, stop)

    def look(start: int, stop: int) -> None:
        if stop - start > 1:
            away = deviation(x[start : stop + 1], y[start : stop + 1])  # (stop - start - 1,)
            furthest = int(away.argmax())
            heapq.heappush(parts, (-float(away[furthest]), start + 1 + furthest, start, stop))

    look(0, len(x) - 1)
    while parts and len(kept) < MOST_POINTS and -parts[0][0] > TOLERANCE:
        _, middle, start, stop = heapq.heappop(parts)
        kept.append(middle)
        look(start, middle)
        look(middle, stop)
    return np.sort(np.array(kept, dtype=np.int64))


def _from_chord(x: Floats, y: Floats) -> Floats:
    """Distance of the inner points from the straight line between the first and the last."""
    dx, dy = x[-1] - x[0], y[-1] - y[0]
    inner_x, inner_y = x[1:-1] - x[0], y[1:-1] - y[0]
    length = np.hypot(dx, dy)
    away: Floats = np.abs(dx * inner_y - dy * inner_x) / length if length else np.hypot(inner_x, inner_y)
    return away


def _from_steps(x: Floats, y: Floats) -> Floats:
    """Distance of the inner points from a step that rises or falls at the first x and goes level to the last."""
    low, high = min(y[0], y[-1]), max(y[0], y[-1])
    beyond = np.maximum(np.maximum(low - y[1:-1], y[1:-1] - high), 0)
    away: Floats = np.minimum(np.abs(y[1:-1] - y[-1]), np.hypot(x[1:-1] - x[0], beyond))
    return away


def _unscaled(probabilities: Floats, temperature: float) -> Floats:
    """The largest probability (n,) before the scores were divided by the temperature.

    p_k = exp(z_k / T) / Z, so softmax(z)_k is p_k^T / sum_j p_j^T; in logs, since p^T leaves the floats at T = 1,000.
    """
    largest = np.empty(len(probabilities))
    step = max(1, _AT_ONCE // probabilities.shape[1])
    for start in range(0, len(probabilities), step):
        some = probabilities[start : start + step]
        with np.errstate(divide="ignore"):  # log 0 = -inf, whose power is 0 again
            logs = np.log(some) - np.log(some.max(axis=1, keepdims=True))
        largest[start : start + step] = 1 / np.exp(temperature * logs).sum(axis=1)
    return largest


def _bins(confidence: Floats, right: NDArray[np.bool_]) -> dict[str, Any]:
    """Mean confidence, share right and rows of each bin (i / BINS, (i + 1) / BINS] that has rows."""
    edges = np.linspace(0, 1, BINS + 1)
    which = np.searchsorted(edges[1:-1], confidence)  # (n,)
    rows = np.bincount(which, minlength=BINS)
    held = rows > 0
    mean, accuracy = (np.bincount(which, values, BINS)[held] / rows[held] for values in (confidence, right))
    gap = np.abs(mean - accuracy) @ rows[held] / len(right)
    return {
        "confidence": mean.tolist(),
        "accuracy": accuracy.tolist(),
        "rows": rows[held].tolist(),
        "ece": float(gap),
    }
