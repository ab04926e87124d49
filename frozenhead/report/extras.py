"""What `fit` found out about a head on the side: its folds, its label-efficiency curve, the search that chose it.

Imports predictions. The files are checked when they are read; here they are only cut to what a report shows.
"""

from collections.abc import Mapping
from typing import Any

from frozenhead.report.predictions import HeadEvidence

MOST_CANDIDATES = 1000  # of a search, those best on validation
SCALARS = (
    "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "log_loss", "weighted_log_loss", "brier", "ece",
    "average_precision", "roc_auc",
)  # fmt: skip


def extras(head: HeadEvidence) -> dict[str, Any]:
    """`folds`, `curve` and `search` of a head, each None where `fit` was not asked for it."""
    return {
        "folds": head.fold_scores and _folds(head.fold_scores),
        "curve": head.curve and _curve(head.curve),
        "search": head.search and _search(head.search),
    }


def _folds(scores: Mapping[str, Any]) -> dict[str, Any]:
    block = scores["all"]
    return {
        "folds": scores["folds"],
        "seed": scores["seed"],
        "rows": block["rows"],
        "scores": {name: block.get(name) for name in SCALARS},  # an older fit wrote fewer
    }


def _curve(curve: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("share", "rows", "seed", "val", "error")
    return {"seeds": curve["seeds"], "points": [{key: point.get(key) for key in keys} for point in curve["points"]]}


def _search(search: Mapping[str, Any]) -> dict[str, Any]:
    """One row per candidate: `chosen` is the one that became the head."""
    keys = ("setting", "options", "seed", "val", "best_epoch", "seconds", "dropped_after", "error")
    rows = [
        {**{key: row.get(key) for key in keys}, "chosen": number == search["best"]}
        for number, row in enumerate(search["heads"])
    ]
    first = sorted(range(len(rows)), key=lambda i: not rows[i]["chosen"] and _place(rows[i]))[:MOST_CANDIDATES]
    return {
        "halving": search["halving"],
        "total": len(rows),
        "shown": len(first),
        "rows": [rows[i] for i in sorted(first)],
    }


def _place(row: Mapping[str, Any]) -> float:
    """Higher is worse; above 1 those without scores, 0 is kept for the chosen one."""
    return 2.0 - row["val"]["macro_f1"] if row["val"] else 3.0
