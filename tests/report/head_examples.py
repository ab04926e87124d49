"""One head of evidence of format 2: scores, intervals, curves, and what a search and folds leave."""

from collections.abc import Sequence
from typing import Any

import numpy as np

SCORES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "mcc",
    "log_loss",
    "weighted_log_loss",
    "brier",
    "ece",
    "average_precision",
    "roc_auc",
)


Json = dict[str, Any]


def make_entry(
    rng: np.random.Generator, classes: Sequence[str], rows: int, *, head: str, feature: str, rank: int
) -> Json:
    level = 0.97 - 0.02 * rank
    line = {"label": classes[-1], "x": [0.0, 0.1, 1.0], "y": [0.0, 0.9, 1.0], "area": 0.95}
    bins = {"confidence": [0.6, 0.95], "accuracy": [0.5, 0.97], "rows": [10, 90], "ece": 0.031}
    dense = head == "dense"
    return {
        "feature": feature,
        "head": head,
        "val": {**_block(rng, classes, rows, level), "intervals": None},
        "test": _block(rng, classes, rows, level - 0.01),
        "test_without_leaks": _block(rng, classes, rows - 4, level - 0.02),
        "test_without_copies": _block(rng, classes, rows - 9, level - 0.03),
        "fit_seconds": 1.25 + rank,
        "best_epoch": 2 if dense else None,
        "epochs": 4 if dense else None,
        "seed": 2018,
        "params": {"C": 1.0},
        "class_weights": None,
        "temperature": 1.25 if dense else None,
        "threshold": {"positive": classes[-1], "value": 0.41, "rule": "f1"} if dense else None,
        "history": [{"epoch": e, "train_loss": 1 / e, "val_loss": 1 / e + 0.1} for e in range(1, 5)] if dense else [],
        "curves": {
            "roc": [line],
            "precision_recall": [line],
            "reliability": {"before": {**bins, "ece": 0.052} if dense else None, "after": bins},
        },
        "folds": {"folds": 5, "seed": 2018, "rows": 4 * rows, "scores": dict.fromkeys(SCORES, level)}
        if dense
        else None,
        "curve": _curve() if dense else None,
        "search": _search(classes[0]) if dense else None,
    }


def _interval(value: float) -> list[float]:
    return [max(value - 0.02, 0.0), min(value + 0.015, 1.0)]


def _block(rng: np.random.Generator, classes: Sequence[str], rows: int, level: float) -> Json:
    scores = {name: float(level - 0.01 * rng.random()) for name in SCORES}
    K = len(classes)
    confusion = np.diag(np.full(K, max(rows // K - 1, 1)))
    for true in range(K):
        confusion[true, (true + 1) % K] += 1 + int(true == 0)
    support = confusion.sum(axis=1)
    per_class: dict[str, Json] = {
        label: {
            **{key: float(level - 0.02 * rng.random()) for key in ("precision", "recall", "f1")},
            "support": int(support[k]),
            "average_precision": float(rng.random()),
            "roc_auc": None if k == K - 1 else float(rng.random()),
        }
        for k, label in enumerate(classes)
    }
    return {
        "rows": rows,
        **scores,
        "per_class": per_class,
        "confusion": [[int(t), int(p), int(confusion[t, p])] for t, p in np.argwhere(confusion)],
        "intervals": {
            "level": 0.95,
            "draws": 2000,
            "seed": 2018,
            **{name: _interval(value) for name, value in scores.items()},
            "roc_auc": None,
            "methods": {"accuracy": "wilson", "macro_f1": "bootstrap"},
            "per_class": {
                label: {key: _interval(row[key]) for key in ("precision", "recall", "f1")}
                if k
                else {"precision": None, "recall": _interval(row["recall"]), "f1": _interval(row["f1"])}
                for k, (label, row) in enumerate(per_class.items())
            },
        },
    }


def _curve() -> Json:
    points: list[Json] = [
        {
            "share": share,
            "rows": int(300 * share),
            "seed": seed,
            "error": None,
            "val": {"macro_f1": share + 0.001 * seed},
        }
        for share in (0.1, 0.5)
        for seed in (1, 2)
    ]
    points.append({"share": 0.01, "rows": 3, "seed": 1, "error": "too few rows", "val": None})
    return {"seed": 1, "seeds": 2, "points": points}


def _search(word: str) -> Json:
    rows = [
        {
            "stamp": str(i),
            "setting": i,
            "options": {"lr": 0.001 * (i + 1), "note": word},
            "seed": 2018,
            "val": {"macro_f1": [0.91, 0.95, 0.93][i], "accuracy": 0.9, "log_loss": 0.1 * (i + 1)},
            "error": None,
            "best_epoch": 3,
            "seconds": 0.5,
            "dropped_after": None if i < 2 else 4,
            "chosen": i == 1,
        }
        for i in range(3)
    ]
    failed = {**rows[0], "val": None, "error": f"loss is not finite: {word}", "best_epoch": None}
    failed["chosen"] = False
    return {"halving": False, "total": 4, "shown": 4, "rows": [*rows, failed]}
