"""Scores of predicted probabilities against labels.

Imports areas and numpy, so that a report costs no scikit-learn; the tests hold every number to scikit-learn's.
Letters: `n` rows, `K` classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.report.areas import areas

# How far a row of probabilities may be from 1: float32 softmax over thousands of classes stays below 1e-5.
SUM_TOLERANCE = 1e-3

BINS = 15  # of the calibration error, as Guo et al. (2017) have it


def balanced_weights(train_labels: Iterable[str], classes: Sequence[str]) -> dict[str, float]:
    """Weigh each class by n / (K n_c), as scikit-learn's `class_weight="balanced"` does.

    Parameters
    ----------
    train_labels : iterable of str, length n
        Labels of the training split.
    classes : sequence of str, length K
        Every class, in order.

    Raises
    ------
    ValueError
        A class without a training row, or a label that is not in `classes`.
    """
    counts = np.bincount(positions(train_labels, classes), minlength=len(classes))  # (K,)
    if not counts.all():
        empty = [name for name, count in zip(classes, counts, strict=True) if not count]
        raise ValueError(f"no training row has the label {empty[0]!r}")
    weights = counts.sum() / (len(classes) * counts)  # (K,)
    return dict(zip(classes, weights.tolist(), strict=True))


def score_block(
    labels: Sequence[str] | NDArray[Any],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    weights: Mapping[str, float],
    *,
    predicted: Sequence[str] | NDArray[Any] | None = None,
) -> dict[str, Any] | None:
    """Score predictions.

    Parameters
    ----------
    labels : sequence of str, length n
        True labels.
    probabilities : float64 array (n, K)
        Columns in the order of `classes`.
    classes : sequence of str, length K
        Every class, in order.
    weights : mapping of str to float
        Weight of each class in `weighted_log_loss` = sum_i w_{y_i} l_i / sum_i w_{y_i}.
    predicted : sequence of str, length n, optional
        Predicted labels, as a threshold may have them; default the ones of the largest probabilities, the first of
        equals.

    Returns
    -------
    dict or None
        Plain values; None when n = 0. Of the predicted labels: `rows`, `accuracy`, `balanced_accuracy` (mean recall of
        the classes that have rows), `macro_f1` (over all K), `weighted_f1` (by support), `mcc` (0.0 where one class
        alone is predicted, None where one class alone has rows).
        Of the probabilities, whatever was predicted: `log_loss` and `weighted_log_loss` (nats), `brier` (mean of
        sum_c (p_c - [y = c])^2, halved for two classes: scikit-learn's scale), `ece` (`calibration_gaps`),
        `average_precision` and `roc_auc` (one class against the rest, mean over the classes that have rows; the
        second None where one class alone has).
        `per_class` {label: `precision`, `recall`, `f1` (0.0 where the ratio is 0 / 0), `support`, `average_precision`,
        `roc_auc` (None where they are undefined)}; `confusion` (see `confusion_matrix`); `intervals` None, for
        `interval_block` to fill.

    Raises
    ------
    ValueError
        A label outside `classes`, or numbers that are not probabilities.
    """
    true, chosen = _checked(labels, probabilities, classes, predicted)  # (n,), (n,)
    if len(true) == 0:
        return None
    tally = tallies(true, chosen, len(classes))  # (K,), (K,), (K,)
    losses = row_losses(probabilities, true)  # (n,)
    bins, gaps = calibration_gaps(probabilities, true)  # (n,), (n,)
    ranking = _ranking(probabilities, true, tally[2])  # (2, K)
    return {
        "rows": len(true),
        **_decided(tally),
        "log_loss": float(losses.mean()),
        "weighted_log_loss": float(np.average(losses, weights=np.array([weights[name] for name in classes])[true])),
        "brier": float(row_briers(probabilities, true).mean()),
        "ece": float(np.abs(np.bincount(bins, gaps, BINS)).sum() / len(true)),
        "average_precision": _mean(ranking[0]),
        "roc_auc": _mean(ranking[1]),
        "per_class": _per_class(classes, tally, ranking),
        "confusion": _triplets(true, chosen, len(classes)),
        "intervals": None,
    }


def ranking_scores(
    labels: Sequence[str] | NDArray[Any], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, float]:
    """`macro_f1`, `accuracy` and `log_loss` as `score_block` has them: what a search ranks its candidates by.

    Many times cheaper, for it ranks no rows. Raises `ValueError` as `score_block` does, and when n = 0.
    """
    true, chosen = _checked(labels, probabilities, classes, None)
    if len(true) == 0:
        raise ValueError("no rows have no scores")
    scores = decision_scores(*tallies(true, chosen, len(classes)))
    log_loss = float(row_losses(probabilities, true).mean())
    return {"macro_f1": float(scores["macro_f1"]), "accuracy": float(scores["accuracy"]), "log_loss": log_loss}


def confusion_matrix(block: Mapping[str, Any], K: int) -> NDArray[np.int64]:
    """The whole table (K, K), rows true, of a block's `confusion`: [true position, predicted position, rows], no 0."""
    table = np.zeros((K, K), dtype=np.int64)
    for row, column, count in block["confusion"]:
        table[row, column] = count
    return table


def positions(labels: Iterable[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Each label's position among the classes (n,). Raises `ValueError` for one that is not there."""
    position = {name: c for c, name in enumerate(classes)}
    try:
        return np.array([position[label] for label in labels], dtype=np.int64)  # (n,)
    except KeyError as error:
        raise ValueError(f"the label {error.args[0]!r} is none of the {len(classes)} classes") from None


def check_probabilities(
    probabilities: NDArray[np.float64], shape: tuple[int, int], rows: Sequence[int] | None = None
) -> None:
    """Raise `ValueError` unless these are probabilities of this shape (n, K); it names the row as `rows` (n,) do."""
    if probabilities.shape != shape:
        raise ValueError(f"probabilities have the shape {probabilities.shape}, expected {shape}")
    inside: NDArray[np.bool_] = np.all((probabilities >= 0) & (probabilities <= 1), axis=1)  # (n,)  False for NaN too
    sums = probabilities.sum(axis=1)  # (n,)
    valid = inside & (np.abs(sums - 1) <= SUM_TOLERANCE)
    if not valid.all():
        first = int(valid.argmin())
        found = f"they add up to {sums[first]:.6g}" if inside[first] else "one is not"
        row = first if rows is None else rows[first]
        raise ValueError(f"row {row} does not hold probabilities: numbers in 0..1 that add up to 1 ({found})")


def row_losses(probabilities: NDArray[np.float64], true: NDArray[np.int64]) -> NDArray[np.float64]:
    """-log of the probability of the true class (n,), clipped as scikit-learn's `log_loss` clips."""
    eps = np.finfo(probabilities.dtype).eps
    of_truth = probabilities[np.arange(len(true)), true]  # (n,)
    losses: NDArray[np.float64] = -np.log(np.clip(of_truth, eps, 1 - eps))
    return losses


def row_briers(probabilities: NDArray[np.float64], true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Squared distance of the probabilities from the truth (n,), in 0..2, halved for two classes."""
    of_truth = probabilities[np.arange(len(true)), true]  # (n,)
    others = np.maximum(np.einsum("ic,ic->i", probabilities, probabilities) - of_truth**2, 0)  # (n,)
    briers: NDArray[np.float64] = (others + (1 - of_truth) ** 2) * (0.5 if probabilities.shape[1] < 3 else 1.0)
    return briers


def calibration_gaps(
    probabilities: NDArray[np.float64], true: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rows' part in the expected calibration error, sum_b |sum_{i in b} gap_i| / n.

    It asks whether the probabilities can be believed, so it looks at the largest one and its class, the first of
    equals, even where a threshold decides otherwise.

    Returns
    -------
    bins : int64 array (n,)
        As `confidence_bins` has them.
    gaps : float64 array (n,)
        The largest probability, less 1 where its class is the true one.
    """
    bins, confidence = confidence_bins(probabilities)
    return bins, confidence - (probabilities.argmax(axis=1) == true)


def confidence_bins(probabilities: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which of `BINS` intervals (b/15, (b+1)/15] holds each row's largest probability (n,), and the latter (n,)."""
    confidence = probabilities.max(axis=1)  # (n,)
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence), confidence


def tallies(
    true: NDArray[np.int64], chosen: NDArray[np.int64], K: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of each class that are right, that are given to it, and that it has: three int64 arrays (K,)."""
    hits, claimed, support = (np.bincount(rows, minlength=K) for rows in (true[true == chosen], chosen, true))
    return hits, claimed, support


def decision_scores(
    hits: NDArray[Any], claimed: NDArray[Any], support: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Scores that depend on the predicted labels only, of one or many tables (..., K) with one support (K,).

    `accuracy`, `balanced_accuracy`, `macro_f1`, `weighted_f1`, and `mcc` (R_K of Gorodkin 2004; 0.0 where it is 0 / 0,
    as scikit-learn has it), each (...).
    """
    n, has_rows = support.sum(), support > 0
    f1 = ratio(2 * hits, support + claimed)  # (..., K)  = 2 P R / (P + R), and defined wherever either is
    truth, guess = float(n) ** 2 - float(support @ support), float(n) ** 2 - (claimed * 1.0 * claimed).sum(axis=-1)
    agreement = n * 1.0 * hits.sum(axis=-1) - claimed @ support.astype(np.float64)  # (...)
    return {
        "accuracy": hits.sum(axis=-1) / n,
        "balanced_accuracy": (hits[..., has_rows] / support[has_rows]).mean(axis=-1),
        "macro_f1": f1.mean(axis=-1),
        "weighted_f1": f1 @ support / n,
        "mcc": ratio(agreement, np.sqrt(truth * guess)),
    }


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """`part` / `whole`, 0.0 where the whole is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return shares


def _checked(
    labels: Sequence[str] | NDArray[Any],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    predicted: Sequence[str] | NDArray[Any] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    true = positions(labels, classes)  # (n,)
    check_probabilities(probabilities, (len(true), len(classes)))
    if predicted is not None:
        return true, positions(predicted, classes)
    return true, probabilities.argmax(axis=1) if len(true) else true


def _decided(tally: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]) -> dict[str, float | None]:
    scores: dict[str, float | None] = {name: float(value) for name, value in decision_scores(*tally).items()}
    if np.count_nonzero(tally[2]) == 1:  # no label can be told from another where all are the same
        scores["mcc"] = None
    return scores


def _ranking(
    probabilities: NDArray[np.float64], true: NDArray[np.int64], support: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average precision and ROC area of each class against the rest (2, K), NaN where undefined."""
    found = np.full((2, len(support)), np.nan)
    for c in np.flatnonzero(support):
        found[:, c] = areas(np.ascontiguousarray(probabilities[:, c]), true == c)
    return found


def _per_class(
    classes: Sequence[str],
    tally: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    ranking: NDArray[np.float64],
) -> dict[str, dict[str, float | None]]:
    hits, claimed, support = tally
    columns = {
        "precision": ratio(hits, claimed).tolist(),
        "recall": ratio(hits, support).tolist(),
        "f1": ratio(2 * hits, support + claimed).tolist(),
        "support": support.tolist(),
        "average_precision": [_or_none(value) for value in ranking[0]],
        "roc_auc": [_or_none(value) for value in ranking[1]],
    }
    return {name: {key: column[c] for key, column in columns.items()} for c, name in enumerate(classes)}


def _triplets(true: NDArray[np.int64], chosen: NDArray[np.int64], K: int) -> list[list[int]]:
    cells, rows = np.unique(K * true + chosen, return_counts=True)
    triplets: list[list[int]] = np.stack([cells // K, cells % K, rows], axis=1).tolist()
    return triplets


def _mean(values: NDArray[np.float64]) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
