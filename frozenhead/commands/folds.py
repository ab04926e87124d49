"""Out-of-fold predictions for every row: the rows of a run in K folds, each judged by a head that never saw it.

Folds are stratified, and copies of a text stay in one fold. For each fold a head is trained on the others but the next,
which chooses the epoch, the temperature and the threshold; of two folds the other one trains and nothing chooses.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from frozenhead.commands.keeping import Inputs, Keeper
from frozenhead.commands.tables import prediction_frame, write_table
from frozenhead.commands.voice import Advance
from frozenhead.errors import DataError, FrozenheadError
from frozenhead.files import write_json
from frozenhead.heads import Head
from frozenhead.heads.fitting import fit_many
from frozenhead.heads.stored import part
from frozenhead.labels import shown
from frozenhead.report.metrics import score_block
from frozenhead.runs import read_json

FORMAT = 1
TABLE, SCORES = "folds.parquet", "folds.json"


def assign_folds(labels: NDArray[Any], groups: NDArray[Any], folds: int, *, seed: int) -> NDArray[np.int64]:
    """The fold of each row (N,), 0 to folds - 1, all rows of a group in one.

    Raises
    ------
    DataError
        A class has fewer distinct texts than there are folds.
    """
    frame = pd.DataFrame({"label": labels, "group": groups})
    distinct = frame.groupby("label")["group"].nunique().sort_values()
    if distinct.iloc[0] < folds:
        label, texts = distinct.index[0], int(distinct.iloc[0])
        fewer = f"Use --folds {texts} or fewer, or give" if texts > 1 else "Give"
        raise DataError(
            f"The class {shown(label)} has {texts} distinct text{'s' * (texts != 1)}; {folds} folds need {folds} of "
            f"each class.\n{fewer} the class more rows."
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold = np.empty(len(labels), np.int64)
    for number, (_, judged) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
        fold[judged] = number
    return fold


class FoldJudge:
    """Trains heads on the folds of a run.

    Parameters
    ----------
    keeper : Keeper
    folds : int
    seed : int

    Raises
    ------
    DataError
        A class has too few distinct texts, or none is left of it to train on.
    """

    def __init__(self, keeper: Keeper, folds: int, seed: int) -> None:
        self.keeper, self.folds, self.seed = keeper, folds, seed
        keys = keeper.run.corpus_table(["key"])["key"].to_pandas(use_threads=False).to_numpy()
        self.fold = assign_folds(keeper.labels, keys, folds, seed=seed)
        parts = [self._part(number) for number in range(folds)]
        self.trains = [np.flatnonzero(trains) for trains, _ in parts]
        self.chooses = None if folds == 2 else [np.flatnonzero(chooses) for _, chooses in parts]

    def judge(self, head: Head, inputs: Inputs, *, name: str, jobs: int, progress: Advance) -> dict[str, Any]:
        """Write `folds.parquet` and `folds.json` beside a stored head; returns the latter.

        Raises
        ------
        DataError
            The head cannot be trained on one of the folds.
        """
        labels, classes = self.keeper.labels, self.keeper.run.info["classes"]
        probabilities = np.empty((len(self.fold), len(classes)))
        predicted = np.empty(len(self.fold), object)
        fitted = fit_many(
            [head] * self.folds, inputs.rows, labels, rows=self.trains, held=self.chooses, jobs=jobs, progress=progress
        )
        with closing(fitted):
            for one in fitted:
                if one.head is None:
                    raise DataError(f"fold {one.index + 1}: {one.error}")
                if self.chooses is not None:
                    chooses = self.chooses[one.index]
                    self.keeper.decision.apply(one.head, part(inputs.rows, chooses), labels[chooses])
                judged = self.fold == one.index
                probabilities[judged] = one.head.predict_proba(part(inputs.rows, judged))
                predicted[judged] = one.head.decide(probabilities[judged])
        return self._write(self.keeper.folder(inputs.feature, name), probabilities, predicted)

    def known(self, inputs: Inputs, name: str) -> dict[str, Any] | None:
        """What `judge` wrote beside the stored head before; a head that is trained anew takes it away."""
        folder = self.keeper.folder(inputs.feature, name)
        try:
            scores = read_json(folder / SCORES, "frozenhead fit") if (folder / TABLE).exists() else {}
        except FrozenheadError:
            return None
        asked = {"format": FORMAT, "folds": self.folds, "seed": self.seed}
        return scores if all(scores.get(key) == value for key, value in asked.items()) else None

    def _part(self, number: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The rows that train for a fold, and those that choose."""
        labels = self.keeper.labels
        chooses = np.zeros(len(self.fold), bool) if self.folds == 2 else self.fold == (number + 1) % self.folds
        trains = (self.fold != number) & ~chooses
        if lacking := set(labels) - set(labels[trains]):
            raise DataError(
                f"For fold {number + 1} of {self.folds} no row of the class {shown(min(lacking))} is left to train on."
                "\nUse another number of folds or another --seed, or give the class more distinct texts."
            )
        return trains, chooses

    def _write(self, folder: Path, probabilities: NDArray[np.float64], predicted: NDArray[Any]) -> dict[str, Any]:
        keeper, classes = self.keeper, self.keeper.run.info["classes"]

        def frame_of(rows: slice) -> pd.DataFrame:
            facts = {"fold": self.fold[rows], "predicted": predicted[rows]}
            return prediction_frame(keeper.corpus[rows], facts, probabilities[rows], classes)

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
        (folder / SCORES).unlink(missing_ok=True)  # the scores come last: with them the table is that of these folds
        write_table(folder / TABLE, len(self.fold), frame_of)
        write_json(folder / SCORES, scores)
        return scores
