"""Scores of predicted probabilities against labels, all read off one confusion table.

Imports numpy only, so that a report costs no scikit-learn; the tests hold every number to scikit-learn's.
Letters: `n` rows, `K` classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# How far a row of probabilities may be from 1: float32 softmax over thousands of classes stays below 1e-5.
SUM_TOLERANCE = 1e-3


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
        Predicted labels; default the ones of the largest probabilities, the first of equals.

    Returns
    -------
    dict or None
        `rows`, `accuracy`, `balanced_accuracy` (mean recall of the classes that have rows), `macro_f1`,
        `log_loss` and `weighted_log_loss` (nats), `per_class` ({label: precision, recall, f1, support}; 0.0 where
        the ratio is 0 / 0) and `confusion` (K lists of K counts, rows true, columns predicted), all plain values.
        None when n = 0.

    Raises
    ------
    ValueError
        A label outside `classes`, or numbers that are not probabilities.
    """
    true = positions(labels, classes)  # (n,)
    check_probabilities(probabilities, (len(true), len(classes)))
    if len(true) == 0:
        return None
    K = len(classes)
    chosen = probabilities.argmax(axis=1) if predicted is None else positions(predicted, classes)  # (n,)
    confusion = np.bincount(K * true + chosen, minlength=K * K).reshape(K, K)  # (K, K)
    precision, recall, f1, support = _per_class(confusion)
    losses = row_losses(probabilities, true)  # (n,)
    row_weights = np.array([weights[name] for name in classes])[true]  # (n,)
    return {
        "rows": len(true),
        "accuracy": float(confusion.trace() / len(true)),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_f1": float(f1.mean()),
        "log_loss": float(losses.mean()),
        "weighted_log_loss": float(np.average(losses, weights=row_weights)),
        "per_class": {
            name: {
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "f1": float(f1[c]),
                "support": int(support[c]),
            }
            for c, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def positions(labels: Iterable[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Each label's position among the classes (n,). Raises `ValueError` for one that is not there."""
    position = {name: c for c, name in enumerate(classes)}
    try:
        return np.array([position[label] for label in labels], dtype=np.int64)  # (n,)
    except KeyError as error:
        raise ValueError(f"the label {error.args[0]!r} is none of the {len(classes)} classes") from None


def check_probabilities(probabilities: NDArray[np.float64], shape: tuple[int, int]) -> None:
    """Raise `ValueError` unless these are probabilities of this shape (n, K)."""
    if probabilities.shape != shape:
        raise ValueError(f"probabilities have the shape {probabilities.shape}, expected {shape}")
    inside = (probabilities >= 0) & (probabilities <= 1)  # (n, K)  False for NaN too
    valid = inside.all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) <= SUM_TOLERANCE)  # (n,)
    if not valid.all():
        raise ValueError(f"row {int(valid.argmin())} does not hold probabilities: numbers in 0..1 that add up to 1")


def row_losses(probabilities: NDArray[np.float64], true: NDArray[np.int64]) -> NDArray[np.float64]:
    """-log of the probability of the true class (n,), clipped as scikit-learn's `log_loss` clips."""
    eps = np.finfo(probabilities.dtype).eps
    of_truth = probabilities[np.arange(len(true)), true]  # (n,)
    losses: NDArray[np.float64] = -np.log(np.clip(of_truth, eps, 1 - eps))
    return losses


def _per_class(
    confusion: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Precision, recall, F1 and support, each (K,)."""
    hits = confusion.diagonal().astype(np.float64)
    support = confusion.sum(axis=1)
    claimed = confusion.sum(axis=0)
    return (
        _ratio(hits, claimed),
        _ratio(hits, support),
        _ratio(2 * hits, support + claimed),  # = 2 P R / (P + R), and defined wherever either is
        support,
    )


def _ratio(part: NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
