"""Heads judged on the same rows: their scores, how sure these are, and who leads.

Imports comparisons, curves, extras, intervals, metrics, mistakes, predictions and resampling.
Letters: `n` judged rows, `K` classes, `H` heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.errors import RunDamaged
from frozenhead.report.comparisons import compare
from frozenhead.report.curves import curve_block
from frozenhead.report.dataset import judged_split
from frozenhead.report.extras import extras
from frozenhead.report.intervals import interval_block
from frozenhead.report.metrics import positions, score_block
from frozenhead.report.mistakes import Judgement, error_rows, mistake_rows
from frozenhead.report.predictions import HeadEvidence, aligned_predictions
from frozenhead.report.resampling import Draws, draw_scores

BASELINE = "tfidf"

Rows = NDArray[np.bool_]
"""Which of the judged rows (n,)."""
Scored = tuple[list[dict[str, Any]], Draws]
"""A block for each head, and the draws behind their intervals."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How intervals are drawn: so many draws, from this seed, at this level."""

    draws: int
    seed: int
    level: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What one head said of the judged rows."""

    head: HeadEvidence
    probabilities: NDArray[np.float64]  # (n, K)
    predicted: NDArray[Any]  # (n,)  labels
    chosen: NDArray[np.int64]  # (n,)  their positions among the classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Court:
    """The validation and test rows of a corpus, and what heads say of them.

    Attributes
    ----------
    rows : DataFrame (n rows)
        The judged rows of the corpus; the index holds their positions in it.
    true : int64 array (n,)
        Positions of the labels among the classes.
    classes : list of str, length K
    weights : mapping of str to float
        Of `weighted_log_loss`.
    sampling : Sampling
    """

    rows: pd.DataFrame
    true: NDArray[np.int64]
    classes: list[str]
    weights: Mapping[str, float]
    sampling: Sampling

    @classmethod
    def of(
        cls, corpus: pd.DataFrame, classes: list[str], weights: Mapping[str, float], *, sampling: Sampling
    ) -> "Court":
        """The court of a corpus whose index counts from 0."""
        rows = corpus[corpus["split"].isin(["val", "test"])]
        return cls(
            rows=rows, true=positions(rows["label"], classes), classes=classes, weights=weights, sampling=sampling
        )

    @property
    def judged_split(self) -> str:
        """`test`, or `val` where there is no test row."""
        return judged_split(self.rows)

    def in_split(self, split: str) -> Rows:
        """Which of the judged rows are of a split (n,)."""
        mask: Rows = (self.rows["split"] == split).to_numpy()
        return mask

    def hear(self, head: HeadEvidence) -> Answer:
        """What a head said, in the order of the rows. Raises `RunDamaged` if it was not asked about these."""
        try:
            probabilities, predicted = aligned_predictions(head, self.rows, self.classes)
            chosen = positions(predicted, self.classes)
        except ValueError as error:
            file = f" ({head.file})" if head.file else ""
            raise RunDamaged(
                f"The predictions of {head.head} on {head.feature}{file} do not belong to this run: {error}. "
                "Run `frozenhead fit` again."
            ) from error
        return Answer(head=head, probabilities=probabilities, predicted=predicted, chosen=chosen)

    def block(self, answer: Answer, rows: Rows) -> dict[str, Any] | None:
        """Scores of some of the rows (n,), without intervals; None where there are none."""
        labels = self.rows["label"].to_numpy(dtype=object)[rows]
        return score_block(
            labels, answer.probabilities[rows], self.classes, self.weights, predicted=answer.predicted[rows]
        )

    def score(self, answers: Sequence[Answer], rows: Rows) -> Scored | None:
        """A block with intervals for each head, and the draws behind them; None for no rows."""
        if not rows.any():
            return None
        weights = np.array([self.weights[name] for name in self.classes])
        drawn = draw_scores(
            self.true[rows], [(answer.probabilities[rows], answer.chosen[rows]) for answer in answers],
            len(self.classes), weights, draws=self.sampling.draws, seed=self.sampling.seed,
        )  # fmt: skip
        blocks = [
            {**block, "intervals": interval_block(block, drawn, h, self.classes, level=self.sampling.level)}
            for h, answer in enumerate(answers)
            if (block := self.block(answer, rows)) is not None
        ]
        return blocks, drawn

    def compare(
        self, answers: Sequence[Answer], names: Sequence[Mapping[str, str]], scored: Scored | None, rows: Rows
    ) -> dict[str, Any] | None:
        """Every head against the first and against the TF-IDF one, on the rows (n,) that were scored; None for none."""
        if scored is None:
            return None
        right = np.array([answer.chosen[rows] == self.true[rows] for answer in answers])  # (H, rows)
        blocks, drawn = scored
        return compare(
            drawn, right, names, blocks, best=0, baseline=baseline_of(answers), split=self.judged_split,
            level=self.sampling.level,
        )  # fmt: skip


def baseline_of(answers: Sequence[Answer]) -> int | None:
    """Number of the first TF-IDF head, or None."""
    return next((h for h, answer in enumerate(answers) if answer.head.head == BASELINE), None)


def rank(blocks: Sequence[Mapping[str, Any] | None]) -> list[int]:
    """Numbers of the heads, the best validation block first: by macro F1, of equals by log loss, then as given."""

    def place(number: int) -> tuple[float, float]:
        val = blocks[number]
        return (-val["macro_f1"], val["log_loss"]) if val else (1.0, 0.0)

    return sorted(range(len(blocks)), key=place)


def entry(court: Court, answer: Answer, scores: Mapping[str, Any], *, split: str) -> dict[str, Any]:
    """A head as the evidence has it; `scores` are its blocks by name, `split` the judged one."""
    head, judged = answer.head, court.in_split(split)
    temperature = head.info.get("temperature")
    return {
        "feature": head.feature,
        "head": head.head,
        **scores,
        "curves": curve_block(court.true[judged], answer.probabilities[judged], court.classes, temperature),
        "fit_seconds": head.info.get("fit_seconds"),
        "best_epoch": head.info.get("best_epoch"),
        "epochs": len(head.history) or None,
        "seed": head.info.get("seed"),
        "params": dict(head.info.get("params") or {}),
        "class_weights": head.info.get("class_weights"),
        "temperature": temperature,
        "threshold": head.info.get("threshold"),
        "history": [dict(epoch) for epoch in head.history],
        **extras(head),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Errors:
    """Where the first of some heads is wrong on the judged split, and how many of them err there with it.

    Parameters
    ----------
    court : Court
    answers : sequence of Answer
        Of all heads; the errors are those of the first.
    """

    court: Court
    answers: Sequence[Answer]

    def wrong(self, rows: int) -> NDArray[np.int64]:
        """For each of the corpus's rows 1 where the head errs, 0 where it does not, -1 where it was not judged."""
        judged = self.court.in_split(self.court.judged_split)
        found = np.full(rows, -1, np.int64)
        found[self.court.rows.index[judged]] = (self.answers[0].chosen != self.court.true)[judged]
        return found

    def table(self, corpus: pd.DataFrame, kinds: NDArray[np.object_]) -> pd.DataFrame:
        """Every error, by `error_rows`, with the kind of `copy` that the row is."""
        table = error_rows(self._judgement(corpus))
        copy = pd.Series(kinds[table.index.to_numpy()], index=table.index, dtype=object)
        return table.assign(copy=copy)

    def block(self, corpus: pd.DataFrame, kinds: NDArray[np.object_], vectors: NDArray[Any] | None) -> dict[str, Any]:
        """The errors as the evidence has them."""
        head = self.answers[0].head
        return mistake_rows(
            self._judgement(corpus), heads=len(self.answers), kinds=kinds, vectors=vectors,
            feature=head.feature, head=head.head, split=self.court.judged_split,
        )  # fmt: skip

    def _judgement(self, corpus: pd.DataFrame) -> Judgement:
        court, first = self.court, self.answers[0]
        rows = court.in_split(court.judged_split)
        wrong_heads = np.sum([answer.chosen[rows] != court.true[rows] for answer in self.answers], axis=0)
        return Judgement(
            corpus=corpus, judged=court.rows.index.to_numpy()[rows], true=court.true[rows],
            predicted=first.chosen[rows], probabilities=first.probabilities[rows],
            wrong_heads=wrong_heads, classes=court.classes,
        )  # fmt: skip
