"""A stored head as the report reads it: its predictions, and what `fit` found out on the side, each file checked."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frozenhead.commands.belonging import checked_description, repair
from frozenhead.commands.curve import FILE as CURVE
from frozenhead.commands.folds import SCORES, TABLE
from frozenhead.commands.keeping import PREDICTIONS, SEARCH
from frozenhead.errors import RunDamaged
from frozenhead.report import HeadEvidence
from frozenhead.runs import Run, StoredHead, read_table_file, reading

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1  # of the three files; each module that writes one has its own number, all of them 1


def head_evidence(run: Run, stored: StoredHead) -> HeadEvidence:
    """A head with all that stands beside it.

    Raises
    ------
    RunDamaged
        A file is gone or is not what `fit` writes; it is named.
    """
    info, folder = checked_description(run, stored), stored.folder
    again = repair(run, stored)
    weights = dict(zip(info["classes"], info["class_weights"], strict=True))
    fold_scores = _optional(folder / SCORES, _check_folds, again)
    return HeadEvidence(
        feature=stored.feature,
        head=stored.head,
        info={**info, "class_weights": weights},
        history=stored.history(again),
        predictions=stored.predictions(again),
        file=str(folder / PREDICTIONS),
        folds=None if fold_scores is None else read_folds(folder / TABLE, info["classes"], again),
        fold_scores=fold_scores,
        curve=_optional(folder / CURVE, _check_curve, again),
        search=_optional(folder / SEARCH, _check_search, again),
    )


def read_folds(path: Path, classes: list[str], again: str) -> "pd.DataFrame":
    """`folds.parquet`. Raises `RunDamaged` for one that lacks a column."""
    frame = read_table_file(path, f"{again} --folds K")
    expected = ("row", "split", "label", "fold", "predicted", *(f"prob_{label}" for label in classes))
    if lacking := [name for name in expected if name not in frame]:
        raise RunDamaged(f"{path} lacks the column {lacking[0]!r}. Run `{again} --folds K`.")
    return frame


def _optional(path: Path, check: Callable[[Mapping[str, Any]], None], again: str) -> dict[str, Any] | None:
    """A checked JSON object, or None where `fit` was not asked for it."""
    if not path.exists():
        return None
    with reading(path, again):
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"it is of format {content['format']}; this frozenhead reads format {FORMAT}")
        check(content)
        return dict(content)


def _check_folds(content: Mapping[str, Any]) -> None:
    int(content["folds"]), content["seed"], int(content["all"]["rows"])
    _check_scores(content["all"])


def _check_curve(content: Mapping[str, Any]) -> None:
    int(content["seeds"])
    for point in content["points"]:
        float(point["share"]), int(point["rows"]), int(point["seed"])
        _check_scores(point["val"])


def _check_search(content: Mapping[str, Any]) -> None:
    rows, best = content["heads"], content["best"]
    content["halving"]
    if not 0 <= best < len(rows):
        raise ValueError(f"its best is number {best} of {len(rows)}")
    for row in rows:
        dict(row["options"])
        _check_scores(row["val"])


def _check_scores(val: Mapping[str, Any] | None) -> None:
    """Raise `KeyError`, `TypeError` or `ValueError` unless these are scores; None stands for a head that failed."""
    if val is not None:
        for name in ("macro_f1", "accuracy", "log_loss"):
            float(val[name])
