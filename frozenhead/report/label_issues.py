"""Labels that are probably wrong, by what heads say that never saw the row.

Confident learning (Northcutt, Jiang & Chuang 2021) as cleanlab has it, the extra `labels`; imported only when called.
Imports of this room metrics and texts.
"""

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.report.metrics import check_probabilities, positions
from frozenhead.report.texts import clipped, within
from frozenhead.shell import joined

MOST, ROOM = 500, 300_000  # rows listed, and bytes of the page they may take
INSTALL = 'pip install "frozenhead[labels]"'


def label_issues(
    folds: pd.DataFrame | None, corpus: pd.DataFrame, classes: Sequence[str], *, feature: str, head: str, folder: str
) -> dict[str, Any]:
    """Rows whose label is probably wrong, the least credible label first.

    Parameters
    ----------
    folds : DataFrame, optional
        folds.parquet of the head: `row`, `label`, and `prob_<label>` by a head that did not see the row.
    corpus : DataFrame
        `row`, `text`, `label`, `split`.
    classes : sequence of str, length K
    feature, head : str
        Of the head that the folds are of, or would be.
    folder : str
        The run's, for the command.

    Returns
    -------
    dict
        `label_issues` of report.json. A row's `confidence` is the probability of the label it has, `suggested` the
        most probable one. Where nothing can be said, `reason` tells why and `command` what to run.

    Raises
    ------
    ValueError
        Folds that are not those of this corpus, or numbers that are not probabilities.
    """
    block: dict[str, Any] = {
        "rows": [], "total": 0, "shown": 0, "feature": feature, "head": head, "reason": None, "command": None,
    }  # fmt: skip
    if folds is None:
        features = [] if feature == "text" else ["--features", feature]
        words = ["frozenhead", "fit", folder, *features, "--head", head, "--folds", "5"]
        reason = "No training row was judged by a head that had not seen it; fit --folds 5 does that."
        return {**block, "reason": reason, "command": joined(words)}
    if importlib.util.find_spec("cleanlab") is None:
        return {**block, "reason": "The package cleanlab is not installed.", "command": INSTALL}
    table, probabilities = _aligned(folds, corpus, classes)
    ranked = _ranked(positions(table["label"], classes), probabilities)
    rows = within((_row(table, probabilities, classes, at) for at in ranked[:MOST]), room_for=ROOM)
    return {**block, "rows": rows, "total": len(ranked), "shown": len(rows)}


def _aligned(
    folds: pd.DataFrame, corpus: pd.DataFrame, classes: Sequence[str]
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """The corpus by row number (N, .) and its probabilities (N, K), or a ValueError that tells what does not match."""
    columns = [f"prob_{name}" for name in classes]
    missing = [name for name in ("row", "label", *columns) if name not in folds]
    if missing:
        raise ValueError(f"the folds have no column {missing[0]!r}")
    table, folds = corpus.sort_values("row", ignore_index=True), folds.sort_values("row", ignore_index=True)
    if table["row"].tolist() != folds["row"].tolist():
        raise ValueError(f"the folds have {len(folds)} rows that are not the {len(table)} rows of the corpus")
    differs = (table["label"] != folds["label"]).to_numpy()
    if differs.any():
        raise ValueError(f"row {table['row'].iloc[int(differs.argmax())]} has another label in the folds")
    probabilities: NDArray[np.float64] = folds[columns].to_numpy(dtype=np.float64)
    check_probabilities(probabilities, (len(table), len(classes)))
    return table, probabilities


def _ranked(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of the rows that cleanlab finds, the lowest probability of the own label first, ties by position."""
    from cleanlab.filter import find_label_issues

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes too small to say anything of: those have no row in the list
        found = np.flatnonzero(find_label_issues(true, probabilities, n_jobs=1))
    return np.asarray(found[np.argsort(probabilities[found, true[found]], kind="stable")])


def _row(table: pd.DataFrame, probabilities: NDArray[np.float64], classes: Sequence[str], at: int) -> dict[str, Any]:
    row = table.iloc[at]
    return {
        "row": int(row["row"]),
        "split": row["split"],
        "text": clipped(row["text"]),
        "label": row["label"],
        "suggested": classes[int(probabilities[at].argmax())],
        "confidence": float(f"{probabilities[at, classes.index(row['label'])]:.6g}"),
    }
