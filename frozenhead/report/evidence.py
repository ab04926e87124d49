"""Everything the report says, as one value that JSON can hold: the content of `report.json`.

Imports the modules that find things out, none that draws. The page, the figures, the table and the Markdown draw from
the evidence and compute no score. What every field means stands in docs/report.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.errors import CacheDamaged, DataError, HeadNotFound, RunDamaged, StorageError, UsageError
from frozenhead.report.advice import advice
from frozenhead.report.conflicts import label_conflicts
from frozenhead.report.copies import find_copies
from frozenhead.report.dataset import describe
from frozenhead.report.intervals import LEVEL
from frozenhead.report.judging import Answer, Court, Errors, Sampling, rank
from frozenhead.report.label_issues import label_issues
from frozenhead.report.metrics import balanced_weights
from frozenhead.report.predictions import HeadEvidence
from frozenhead.report.projection import plane
from frozenhead.report.resampling import DRAWS, SEED
from frozenhead.report.standings import standings
from frozenhead.shell import joined

FORMAT = 2
NEAR = 0.95

ReadVectors = Callable[[str], NDArray[Any]]
"""The vectors (N, D) of a feature set, in the order of the corpus; raises `CacheDamaged`."""
Advance = Callable[[int, int], None]
"""Called with (stages done, stages to do)."""
TakeErrors = Callable[[pd.DataFrame], None]

# What the report repeats of run.json; split and sources stand under "dataset".
_RUN_KEYS = ("command", "created", "versions", "columns", "options")
STAGES = 6


def gather(
    *,
    corpus: pd.DataFrame,
    features: Mapping[str, Mapping[str, Any]],
    heads: Sequence[HeadEvidence],
    run: Mapping[str, Any],
    folder: str = "RUN",
    command: str | None = None,
    vectors: ReadVectors | None = None,
    near: float = NEAR,
    draws: int = DRAWS,
    seed: int = SEED,
    progress: Advance | None = None,
    take_errors: TakeErrors | None = None,
) -> dict[str, Any]:
    """Score every head and describe the data they were judged on.

    Heads stand in the order of validation macro F1, ties by lower validation log loss, then as given; the
    first is the selected one. The test split ranks nothing.

    Parameters
    ----------
    corpus : DataFrame
        `row`, `text`, `label`, `split` ("train", "val" or "test") and `key`, which is equal iff the texts are.
    features : mapping of name to mapping
        features/<name>.json of every feature set.
    heads : sequence of HeadEvidence
        At least one.
    run : mapping
        run.json.
    folder : str
        The run's, for the commands that the report advises.
    command : str, optional
        The command line that makes this report.
    vectors : function, optional
        Reads the vectors of a feature set: for near copies, neighbours and the map, which are left out without.
    near : float
        Cosine from which two texts are near copies, in (0, 1].
    draws, seed : int
        Of the bootstrap.
    progress : function, optional
        Told how far the work is.
    take_errors : function, optional
        Handed every judged row that the selected head has wrong: the table of `error_rows`, and its `copy`.

    Returns
    -------
    dict
        Plain values only: `json.dumps(..., allow_nan=False)` takes it. Losses that are not finite become None.

    Raises
    ------
    HeadNotFound
        `heads` is empty.
    DataError
        No row to judge a head on.
    RunDamaged
        Predictions that do not belong to this corpus.
    UsageError
        `near` is no cosine.
    """
    corpus = corpus.reset_index(drop=True)  # rows are told apart by position from here on
    _check(corpus, heads, near, folder)
    stage = _Stages(progress)
    court = _court(corpus, heads, run, sampling=Sampling(draws=draws, seed=seed, level=LEVEL))
    answers, vals = _ranked(court, heads)
    stage.done()
    feature, matrix, reason = _vectors(vectors, [answer.head.feature for answer in answers], features)
    copies = find_copies(corpus, matrix, threshold=near, feature=feature)
    stage.done()
    errors = Errors(court=court, answers=answers)
    if take_errors:
        take_errors(errors.table(corpus, copies.kind))
    evidence = {
        "format": FORMAT,
        **_about(corpus, features, run, court, folder=folder, command=command),
        **standings(court, answers, vals, corpus, copies, done=stage.done),
        "copies": copies.block,
        "mistakes": errors.block(corpus, copies.kind, matrix),
        "label_issues": _label_issues(answers, corpus, court.classes, folder),
        "map": _map(corpus, matrix, court.classes, errors, feature),
        "vectors": {"feature": feature, "reason": reason},
    }
    stage.done()
    return dict(plain(evidence))


class _Stages:
    """Tells how far the work is."""

    def __init__(self, progress: Advance | None) -> None:
        self._progress, self._done = progress, 0
        if progress:
            progress(0, STAGES)

    def done(self) -> None:
        self._done += 1
        if self._progress:
            self._progress(self._done, STAGES)


def _check(corpus: pd.DataFrame, heads: Sequence[HeadEvidence], near: float, folder: str) -> None:
    check_near(near)
    if not heads:
        command = joined(["frozenhead", "fit", folder])
        raise HeadNotFound(f"The run has no trained head, expected at least one. Run `{command}` first.")
    if not corpus["split"].isin(["val", "test"]).any():
        raise DataError(
            "The corpus has neither validation nor test rows, so no head can be judged. "
            "Run `frozenhead embed` with --split, --val or --test."
        )


def check_near(near: float) -> None:
    """Raise `UsageError` unless this is a cosine from which texts can be near copies."""
    if not 0 < near <= 1:  # NaN is refused as well
        raise UsageError(
            f"The threshold of near copies is {near}; expected a cosine above 0 and at most 1, such as 0.95."
        )


def train_weights(corpus: pd.DataFrame, classes: list[str]) -> dict[str, float]:
    """Balanced weights of the training labels. Raises `RunDamaged` where corpus and classes do not fit."""
    unknown = sorted(set(corpus["label"]) - set(classes), key=str)
    if unknown:
        raise RunDamaged(
            f"The corpus has the label {unknown[0]!r}, which the heads do not know. Run `frozenhead fit` again."
        )
    try:
        return balanced_weights(corpus.loc[corpus["split"] == "train", "label"], classes)
    except ValueError as error:
        raise RunDamaged(f"The heads do not fit the corpus: {error}. Run `frozenhead fit` again.") from error


def _court(corpus: pd.DataFrame, heads: Sequence[HeadEvidence], run: Mapping[str, Any], *, sampling: Sampling) -> Court:
    classes = [str(name) for name in run.get("classes") or heads[0].info["classes"]]
    return Court.of(corpus, classes, train_weights(corpus, classes), sampling=sampling)


def _ranked(court: Court, heads: Sequence[HeadEvidence]) -> tuple[list[Answer], list[dict[str, Any] | None]]:
    """What the heads said, the best on validation first, and their validation scores."""
    answers = [court.hear(head) for head in heads]
    blocks = [court.block(answer, court.in_split("val")) for answer in answers]
    order = rank(blocks)
    return [answers[i] for i in order], [blocks[i] for i in order]


def _vectors(
    read: ReadVectors | None, ranked: Sequence[str], features: Mapping[str, Any]
) -> tuple[str | None, NDArray[Any] | None, str | None]:
    """The feature set of the best head that has vectors, else the first; its vectors, or why there are none."""
    feature = next((name for name in [*ranked, *features] if name in features), None)
    if feature is None:
        return None, None, "the run has no feature set"
    if read is None:
        return None, None, f"the vectors of {feature} were not given"
    try:
        return feature, read(feature), None
    except (CacheDamaged, StorageError) as error:
        return None, None, " ".join(str(error).split())


def _about(
    corpus: pd.DataFrame,
    features: Mapping[str, Any],
    run: Mapping[str, Any],
    court: Court,
    *,
    folder: str,
    command: str | None,
) -> dict[str, Any]:
    """What is said of the data and of the run, whatever the heads do."""
    return {
        "dataset": describe(corpus, features, run, classes=court.classes, weights=court.weights),
        "conflicts": label_conflicts(corpus),
        "advice": advice(run, folder),
        "run": {key: run[key] for key in _RUN_KEYS if key in run} | ({"report_command": command} if command else {}),
    }


def _map(
    corpus: pd.DataFrame, matrix: NDArray[Any] | None, classes: list[str], errors: Errors, feature: str | None
) -> dict[str, Any] | None:
    if matrix is None or feature is None:
        return None
    return plane(corpus, matrix, classes, errors.wrong(len(corpus)), feature=feature)


def _label_issues(answers: Sequence[Answer], corpus: pd.DataFrame, classes: list[str], folder: str) -> dict[str, Any]:
    """By the best head that has folds; without any the best head is the one to make them with."""
    head = next((answer.head for answer in answers if answer.head.folds is not None), answers[0].head)
    try:
        return label_issues(head.folds, corpus, classes, feature=head.feature, head=head.head, folder=folder)
    except ValueError as error:
        raise RunDamaged(
            f"The folds of {head.head} on {head.feature} do not belong to this run: {error}. "
            "Run `frozenhead fit` with --folds and --refit again."
        ) from error


def plain(value: Any) -> Any:
    """Turn numpy's values into Python's, tuples into lists, and numbers JSON cannot hold into None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
