"""Heads of several runs compared on the same rows.

Imports dataset, evidence, judging and predictions. Rows are told apart by text and label, and of
equal ones by their order: two runs may hold the same test rows in another order, and train on others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.errors import DataError, HeadNotFound
from frozenhead.labels import shown
from frozenhead.report.comparisons import beside_copies
from frozenhead.report.copies import find_copies, repeats
from frozenhead.report.dataset import in_train, judged_split
from frozenhead.report.evidence import FORMAT, NEAR, Advance, plain, train_weights
from frozenhead.report.intervals import LEVEL
from frozenhead.report.judging import Answer, Court, Rows, Sampling, baseline_of, rank
from frozenhead.report.predictions import HeadEvidence
from frozenhead.report.resampling import DRAWS, SEED
from frozenhead.report.texts import folded
from frozenhead.report.words import SPLIT_NAMES
from frozenhead.shell import joined


@dataclass(frozen=True, kw_only=True, eq=False)
class RunEvidence:
    """One run: its name, run.json, corpus and heads, as `gather` takes them."""

    name: str
    info: Mapping[str, Any]
    corpus: pd.DataFrame
    heads: Sequence[HeadEvidence]


def gather_runs(
    runs: Sequence[RunEvidence], *, draws: int = DRAWS, seed: int = SEED, progress: Advance | None = None
) -> dict[str, Any]:
    """Score the heads of several runs on the rows that they share, and compare them in pairs.

    Parameters
    ----------
    runs : sequence of RunEvidence
        Two or more, of the same judged rows (test, or validation where there is no test split).
    draws, seed : int
        Of the bootstrap.
    progress : function, optional
        Told how many runs are read.

    Returns
    -------
    dict
        `runs`, `dataset`, `selected`, `selection`, `baseline`, `heads` and the comparisons: docs/report.md. Heads are
        selected on validation if the validation rows are the same too; else the best of the first run, by its own
        validation, is what the others are compared with.

    Raises
    ------
    DataError
        Runs of other classes, or of other judged rows; the first difference is named.
    HeadNotFound
        A run without a head.
    RunDamaged
        Predictions that do not belong to their run.
    """
    runs = [replace(run, corpus=run.corpus.reset_index(drop=True)) for run in runs]
    split, classes = _check(runs)
    sampling = Sampling(draws=draws, seed=seed, level=LEVEL)
    weights = train_weights(runs[0].corpus, classes)
    bench = _Bench(runs, split, [Court.of(run.corpus, classes, weights, sampling=sampling) for run in runs])
    heard: list[tuple[dict[str, str], Answer]] = []
    for number in range(len(runs)):
        heard += bench.hear(number)
        if progress:
            progress(number + 1, len(runs))
    if bench.by_validation:
        heard = [heard[i] for i in rank([bench.court.block(answer, bench.rows("val")) for _, answer in heard])]
    found: dict[str, Any] = plain(_evidence(runs, bench, heard))
    return found


class _Bench:
    """The rows that all runs share: those of the first one, found again in the others.

    Attributes
    ----------
    court : Court
        Of the shared rows.
    by_validation : bool
        Whether the validation rows are the same, so that heads can be selected by them.
    why : str or None
        Why they are not.
    """

    def __init__(self, runs: Sequence[RunEvidence], split: str, courts: Sequence[Court]) -> None:
        self.runs, self.split, self.courts = runs, split, courts
        self.why = None if split == "val" else self._strange_validation()
        self.by_validation = self.why is None
        self.splits = ("val", "test") if self.by_validation and split == "test" else (split,)
        rows = pd.concat([self._of(0, name) for name in self.splits])
        true = courts[0].true[courts[0].rows.index.get_indexer(rows.index)]
        self.court = replace(courts[0], rows=rows, true=true)

    def rows(self, split: str) -> NDArray[np.bool_]:
        """Which of the shared rows are of a split."""
        return self.court.in_split(split)

    def hear(self, number: int) -> list[tuple[dict[str, str], Answer]]:
        """Names and answers on the shared rows of a run's heads, the best on its own validation rows first."""
        run, court = self.runs[number], self.courts[number]
        answers = [court.hear(head) for head in run.heads]
        order = rank([court.block(answer, court.in_split("val")) for answer in answers])
        take = court.rows.index.get_indexer(pd.Index(self._places(number)))  # (n,)  among the run's judged rows
        return [
            (
                {"run": run.name, "feature": head.feature, "head": head.head},
                replace(
                    answer,
                    probabilities=answer.probabilities[take],
                    predicted=answer.predicted[take],
                    chosen=answer.chosen[take],
                ),
            )
            for answer in (answers[i] for i in order)
            for head in [answer.head]
        ]

    def copied(self) -> Rows:
        """Which of the shared rows copy a training text of any run, word for word or but for case and spaces."""
        found = np.zeros(len(self.court.rows), bool)
        for number, run in enumerate(self.runs):
            found |= find_copies(run.corpus, None, threshold=NEAR, feature=None).any[self._places(number)]
        return found

    def _places(self, number: int) -> NDArray[np.int64]:
        """Where a run's corpus holds the shared rows (n,)."""
        return np.concatenate([self._of(number, name).index[self._order(number, name)] for name in self.splits])

    def _of(self, number: int, split: str) -> pd.DataFrame:
        rows = self.courts[number].rows
        return rows[rows["split"] == split]

    def _order(self, number: int, split: str) -> NDArray[np.int64]:
        """Where each row of the first run stands in another. Raises `DataError` if one of them lacks a row."""
        first, other = self._of(0, split), self._of(number, split)
        order, strange = match_rows(first, other), match_rows(other, first)
        for rows, places, one, two in (
            (first, order, self.runs[0], self.runs[number]),
            (other, strange, self.runs[number], self.runs[0]),
        ):
            if (places < 0).any():
                row, what = rows.iloc[int((places < 0).argmax())], f"{SPLIT_NAMES[split]} rows"
                raise DataError(
                    f"Row {row['row']} of {one.name} ({shown(row['text'])}, labelled {shown(row['label'])}) is not "
                    f"among the {what} of {two.name}.\nOnly runs of the same {what} can be compared: embed one file "
                    "with --test, or the same data with the same --split and --seed."
                )
        return order

    def _strange_validation(self) -> str | None:
        if not len(self._of(0, "val")):
            return f"{self.runs[0].name} has no validation rows"
        try:
            for number in range(1, len(self.runs)):
                self._order(number, "val")
        except DataError as error:
            return str(error).partition("\n")[0]
        return None


def match_rows(rows: pd.DataFrame, others: pd.DataFrame) -> NDArray[np.int64]:
    """The place of each row (n,) among others: of equal text and label, the first with the first, -1 for none."""
    one, other = (
        pd.MultiIndex.from_arrays([frame["key"], frame["label"], frame.groupby(["key", "label"]).cumcount()])
        for frame in (rows, others)
    )
    return np.asarray(other.get_indexer(one), dtype=np.int64)


def _check(runs: Sequence[RunEvidence]) -> tuple[str, list[str]]:
    """The judged split and the classes, which must be the same in all runs."""
    first = runs[0]
    classes = [str(name) for name in first.info["classes"]]
    split = judged_split(first.corpus)
    for run in runs:
        if not run.heads:
            raise HeadNotFound(
                f"{run.name} has no trained head. Run `{joined(['frozenhead', 'fit', run.name])}` first."
            )
        others = [str(name) for name in run.info["classes"]]
        if others != classes:
            strange = sorted(set(others) ^ set(classes))
            where = run.name if strange[0] in others else first.name
            raise DataError(
                f"{first.name} has {len(classes)} classes and {run.name} {len(others)}: only {where} has "
                f"{shown(strange[0])}.\nOnly runs of the same classes can be compared."
            )
        if judged_split(run.corpus) != split or not (run.corpus["split"] == split).any():
            raise DataError(
                f"{first.name} is judged on its {SPLIT_NAMES[split]} rows and {run.name} is not, or has none.\n"
                "Only runs of the same test rows can be compared: embed with --split or --test."
            )
    return split, classes


def _evidence(
    runs: Sequence[RunEvidence], bench: _Bench, heard: Sequence[tuple[dict[str, str], Answer]]
) -> dict[str, Any]:
    court, judged = bench.court, bench.rows(bench.split)
    fresh = judged & ~bench.copied()
    names, answers = [name for name, _ in heard], [answer for _, answer in heard]
    scored, baseline = court.score(answers, judged), baseline_of(answers)
    assert scored is not None  # noqa: S101 (`_check` saw that there are rows)
    whole = court.compare(answers, names, scored, judged)
    none_left_out = fresh.sum() == judged.sum()
    scored_fresh = scored if none_left_out else court.score(answers, fresh)
    without = court.compare(answers, names, scored_fresh, fresh)
    clean = [None] * len(answers) if none_left_out or scored_fresh is None else scored_fresh[0]
    vals = [court.block(answer, court.in_split("val")) for answer in answers]
    entries = [
        {**name, "val": val, "test": None, bench.split: block, "without_copies": fresh_block}
        for name, val, block, fresh_block in zip(names, vals, scored[0], clean, strict=True)
    ]
    return {
        "format": FORMAT,
        "runs": [_run(run, runs[0]) for run in runs],
        "dataset": {
            "classes": court.classes,
            "judged_split": bench.split,
            "rows": int(judged.sum()),
            "class_weights": dict(court.weights),
            "within": repeats(folded(court.rows["text"][judged])),
        },
        "selected": names[0],
        "selection": {"by": "validation" if bench.by_validation else "first run", "reason": bench.why},
        "baseline": None if baseline is None else names[baseline],
        "heads": entries,
        "comparisons": whole and beside_copies(whole, without),
        "comparisons_without_copies": without,
    }


def _run(run: RunEvidence, first: RunEvidence) -> dict[str, Any]:
    """What is said of a run beside its heads."""
    leaked, split = in_train(run.corpus), run.corpus["split"]
    train, others = (r.corpus[r.corpus["split"] == "train"] for r in (run, first))
    return {
        "run": run.name,
        "command": run.info.get("command"),
        "split_rule": (run.info.get("split") or {}).get("rule"),
        "split_counts": {name: int((split == name).sum()) for name in ("train", "val", "test")},
        "test_rows_in_train": int((leaked & (split == "test")).sum()),
        "same_training_rows": len(train) == len(others) and bool((match_rows(train, others) >= 0).all()),
        "heads": len(run.heads),
    }
