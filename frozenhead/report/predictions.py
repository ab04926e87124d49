"""What a head predicted, and whether it belongs to the run: its rows, its labels, and what it decides by.

Imports metrics, numpy and pandas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.report.metrics import check_probabilities

# A saved prediction is the class of the largest saved probability, up to the last bits of float64.
ARGMAX_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class HeadEvidence:
    """One trained head on one feature set, with what it predicted.

    Parameters
    ----------
    feature : str
        `<encoder>.<pooling>`, or `text` for a baseline that sees no vectors.
    head : str
        `dense`, `softmax`, `logreg`, `tfidf`, `majority`, ...
    info : mapping
        head.json: `classes`, `params`, `class_weights`, `best_epoch`, `fit_seconds`, `seed`, `temperature`, and
        `threshold`, by which the labels were predicted if there is one.
    history : sequence of mappings
        `epoch`, `train_loss`, `val_loss` per epoch; empty for heads that have no epochs.
    predictions : DataFrame
        `row`, `split` ("val" or "test"), `label`, `predicted`, and `prob_<label>` per class in class order.
    file : str, optional
        Where the predictions were read, for the messages.
    folds : DataFrame, optional
        folds.parquet: out-of-fold predictions, as `predictions` and of every row.
    fold_scores, curve, search : mapping, optional
        folds.json, curve.json, search.json.
    """

    feature: str
    head: str
    info: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    predictions: pd.DataFrame
    file: str | None = None
    folds: pd.DataFrame | None = None
    fold_scores: Mapping[str, Any] | None = None
    curve: Mapping[str, Any] | None = None
    search: Mapping[str, Any] | None = None


def aligned_predictions(
    head: HeadEvidence, judged: pd.DataFrame, classes: list[str]
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Probabilities (n, K) and labels (n,) in the order of `judged`, or a ValueError that names what does not match."""
    if list(head.info["classes"]) != classes:
        raise ValueError(f"it knows {len(head.info['classes'])} classes that are not the {len(classes)} of the others")
    columns = [f"prob_{name}" for name in classes]
    missing = [name for name in ("row", "split", "label", "predicted", *columns) if name not in head.predictions]
    if missing:
        raise ValueError(f"the column {missing[0]!r} is missing")
    table = head.predictions.set_index("row")
    if not table.index.is_unique:
        raise ValueError(f"row {table.index[table.index.duplicated()][0]} is predicted twice")
    rows = pd.Index(judged["row"])
    for found, expected, what in (
        (table.index, rows, "predicted but is not in the validation or test split"),
        (rows, table.index, "in the validation or test split but is not predicted"),
    ):
        strangers = found.difference(expected)
        if len(strangers):
            raise ValueError(f"row {strangers[0]} is {what}")
    table = table.loc[rows]
    for name in ("split", "label"):
        differs = table[name].to_numpy(dtype=object) != judged[name].to_numpy(dtype=object)
        if differs.any():
            raise ValueError(f"row {rows[int(differs.argmax())]} has another {name} in the corpus")
    probabilities: NDArray[np.float64] = table[columns].to_numpy(dtype=np.float64)  # (n, K)
    check_probabilities(probabilities, (len(rows), len(classes)), rows.tolist())
    threshold = head.info.get("threshold")
    if threshold is None:
        _check_most_probable(table["predicted"], probabilities, classes)
    else:
        _check_threshold(table["predicted"], probabilities, classes, threshold)
    return probabilities, table["predicted"].to_numpy(dtype=object)


def _check_threshold(
    predicted: "pd.Series[Any]", probabilities: NDArray[np.float64], classes: list[str], threshold: Mapping[str, Any]
) -> None:
    """Raise unless the positive class of two is predicted just where its probability reaches the threshold."""
    positive, value = str(threshold["positive"]), float(threshold["value"])
    if len(classes) != 2 or positive not in classes:
        raise ValueError(f"its threshold is for {positive!r} among {len(classes)} classes")
    other = next(name for name in classes if name != positive)
    expected = np.where(probabilities[:, classes.index(positive)] >= value, positive, other)
    wrong = predicted.to_numpy(dtype=object) != expected
    if wrong.any():
        row = predicted.index[int(wrong.argmax())]
        raise ValueError(f"the class predicted for row {row} is not the one that the threshold {value:.4f} gives")


def _check_most_probable(predicted: "pd.Series[Any]", probabilities: NDArray[np.float64], classes: list[str]) -> None:
    position = {name: c for c, name in enumerate(classes)}
    chosen = np.array([position.get(name, -1) for name in predicted], dtype=np.int64)  # (n,)  -1: no such class
    of_chosen = np.where(chosen >= 0, probabilities[np.arange(len(chosen)), chosen], -1.0)  # (n,)
    wrong = of_chosen < probabilities.max(axis=1) - ARGMAX_TOLERANCE
    if wrong.any():
        row = predicted.index[int(wrong.argmax())]
        raise ValueError(f"the class predicted for row {row} is not the one of the largest probability")
