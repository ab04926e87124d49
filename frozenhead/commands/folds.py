"""Out-of-fold predictions for every row: the rows of a run in K folds, each judged by a head that never saw it.

Folds are stratified, and copies of a text stay in one fold. For each fold a head is trained on the others but one,
which chooses the epoch and the temperature; of two folds the other one trains and nothing chooses.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold

from frozenhead.commands.keeping import Inputs, Keeper
from frozenhead.commands.voice import Advance
from frozenhead.errors import DataError
from frozenhead.files import write_file, write_json
from frozenhead.heads import Head
from frozenhead.heads.fitting import fit_many
from frozenhead.labels import shown
from frozenhead.report.metrics import score_block
from frozenhead.runs import parquet_bytes

FORMAT = 1
TABLE, SCORES = "folds.parquet", "folds.json"


def assign_folds(labels: NDArray[Any], groups: NDArray[Any], folds: int, *, seed: int) -> NDArray[np.int64]:
    """The fold of each row (N,), 0 to folds - 1, all rows of a group in one.

    Raises
    ------
    DataError
        A class has fewer distinct texts than there are folds, or all of them fell into one.
    """
    frame = pd.DataFrame({"label": labels, "group": groups})
    distinct = frame.groupby("label")["group"].nunique().sort_values()
    if distinct.iloc[0] < folds:
        label, rows = distinct.index[0], int(distinct.iloc[0])
        raise DataError(
            f"The class {shown(label)} has {rows} distinct texts; {folds} folds need {folds} of each class.\n"
            f"Use --folds {max(2, rows)} or fewer, or give the class more rows."
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold = np.empty(len(labels), np.int64)
    for number, (_, judged) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        fold[judged] = number
    return fold


class FoldJudge:
    """Trains one head on the folds of a run.

    Parameters
    ----------
    keeper : Keeper
    folds : int
    seed : int
    """

    def __init__(self, keeper: Keeper, folds: int, seed: int) -> None:
        self.keeper, self.folds, self.seed = keeper, folds, seed
        self.fold = assign_folds(keeper.labels, keeper.corpus["key"].to_numpy(), folds, seed=seed)

    def judge(self, head: Head, inputs: Inputs, *, name: str, progress: Advance) -> dict[str, Any]:
        """Write `folds.parquet` and `folds.json` beside a stored head; returns the latter.

        Raises
        ------
        DataError
            A training part lacks a class, or the head cannot be trained on it.
        """
        classes = self.keeper.run.info["classes"]
        probabilities = np.empty((len(self.fold), len(classes)))
        predicted = np.empty(len(self.fold), object)
        for number in range(self.folds):
            judged = self.fold == number
            fitted = self._fit(head, inputs, number)
            probabilities[judged] = fitted.predict_proba(inputs.rows[judged])
            predicted[judged] = fitted.decide(probabilities[judged])
            progress(number + 1, self.folds)
        return self._write(inputs.feature, name, probabilities, predicted)

    def _fit(self, head: Head, inputs: Inputs, number: int) -> Head:
        keeper, labels = self.keeper, self.keeper.labels
        chooses = np.zeros(len(self.fold), bool) if self.folds == 2 else self.fold == (number + 1) % self.folds
        trains = (self.fold != number) & ~chooses
        if lacking := set(labels) - set(labels[trains]):
            raise DataError(
                f"Without fold {number + 1} no row of the class {shown(min(lacking))} is left to train on. "
                f"Use fewer folds than {self.folds}."
            )
        held = (inputs.rows[chooses], labels[chooses]) if chooses.any() else None
        [one] = fit_many([clone(head)], inputs.rows[trains], labels[trains], validation=held)
        if one.head is None:
            raise DataError(f"Fold {number + 1}: {one.error}")
        if held is not None:
            keeper.decision.apply(one.head, *held)
        return one.head

    def _write(
        self, feature: str, name: str, probabilities: NDArray[np.float64], predicted: NDArray[Any]
    ) -> dict[str, Any]:
        keeper, classes = self.keeper, self.keeper.run.info["classes"]
        frame = keeper.corpus[["row", "split", "label"]].reset_index(drop=True)
        frame["fold"], frame["predicted"] = self.fold, predicted
        columns = pd.DataFrame(probabilities, columns=[f"prob_{label}" for label in classes])

        def block(rows: NDArray[np.bool_]) -> dict[str, Any] | None:
            return score_block(
                keeper.labels[rows], probabilities[rows], classes, keeper.weights, predicted=predicted[rows]
            )

        scores = {
            "format": FORMAT,
            "folds": self.folds,
            "seed": self.seed,
            "all": block(np.ones(len(self.fold), bool)),
            "each": [block(self.fold == number) for number in range(self.folds)],
        }
        folder = keeper.run.folder / "heads" / feature / name
        write_file(folder / TABLE, parquet_bytes(pd.concat([frame, columns], axis=1)))
        write_json(folder / SCORES, scores)
        return scores
