"""A trained head into its run: calibrated, judged on validation and test, stored whole, and known again.

A stored head carries a stamp, a hash of all that it follows from. While the stamp is the same and the files are what
was written, `fit` trains it no second time: training is deterministic, so it would be the same head.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.commands.tables import prediction_frame, write_table
from frozenhead.commands.vectors import view_records
from frozenhead.errors import DataError, FrozenheadError, UsageError
from frozenhead.files import canonical_json, write_file, write_json
from frozenhead.heads import Head, MajorityHead, ShuffledHead, save_head
from frozenhead.heads.saving import WEIGHTS, plain_params, read_description
from frozenhead.heads.stored import StoredRows, part
from frozenhead.report.metrics import balanced_weights, score_block
from frozenhead.runs import Run, StoredHead

JUDGED = ("val", "test")
LIBRARIES = ("frozenhead", "torch", "scikit-learn", "scipy", "numpy")
FILES = (HISTORY, PREDICTIONS, METRICS) = "history.jsonl", "predictions.parquet", "metrics.json"
SEARCH = "search.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What heads learn from: the rows of a run as vectors of one feature set, or as texts.

    Attributes
    ----------
    feature : str
    rows : array (N, D) or StoredRows of vectors, or object array (N,) of texts, in the order of the corpus
    record : mapping or None
        features/<name>.json; None for texts.
    views : sequence of arrays (n, D) or StoredRows
        Of the training rows, one to each epoch in turn; none for eval-mode vectors.
    """

    feature: str
    rows: Any
    record: Mapping[str, Any] | None
    views: Sequence[Any] = ()

    @property
    def blocks(self) -> list[int] | None:
        """Rows of a block and of a window that `StoredRows` are shuffled in; None for what is in memory."""
        return [self.rows.block, self.rows.window] if isinstance(self.rows, StoredRows) else None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is fitted on validation after training.

    Parameters
    ----------
    temperature : bool
        Scale the logits by one number.
    threshold : mapping, optional
        Arguments of `Head.set_threshold`.
    """

    temperature: bool = True
    threshold: Mapping[str, Any] | None = None

    def apply(self, head: Head, X: Any, y: NDArray[Any]) -> None:
        """Calibrate a head on validation rows; raises `UsageError` where no threshold keeps to the rule.

        `majority` and `shuffled` stay as they are: a floor that has seen true labels beside inputs is none.
        """
        if isinstance(head, MajorityHead | ShuffledHead):
            return
        if self.temperature:
            head.calibrate(X, y)
        if self.threshold is not None:
            try:
                head.set_threshold(X, y, **self.threshold)
            except ValueError as error:
                raise UsageError(f"--threshold: {error}") from error


class Keeper:
    """Stores heads of one run.

    Parameters
    ----------
    run : Run
    corpus : DataFrame
        `row`, `label` and `split`, as `corpus_rows` gives them.
    decision : Decision

    Raises
    ------
    DataError
        A class has no training row.
    """

    def __init__(self, run: Run, corpus: pd.DataFrame, decision: Decision) -> None:
        self.run, self.corpus, self.decision = run, corpus, decision
        self.labels = corpus["label"].to_numpy(object)
        self.split = {name: (corpus["split"] == name).to_numpy() for name in ("train", *JUDGED)}
        try:
            self.weights = balanced_weights(self.labels[self.split["train"]], run.info["classes"])
        except ValueError as error:
            raise DataError(
                f"The training split lacks a class: {error}. Split so that each class has a training row "
                "(frozenhead embed --split), or leave its rows out."
            ) from error

    def folder(self, feature: str, name: str) -> Path:
        """Where a head stands, or will stand."""
        return self.run.folder / "heads" / feature / name

    def stamp(self, head: Head, inputs: Inputs) -> str:
        """A hash of all that a head and what is stored of it follow from."""
        record = inputs.record or {}
        views = view_records(record, inputs.feature) if inputs.views else []
        facts = {
            "head": type(head).__name__,
            "params": plain_params(head),
            "space": record.get("space"),
            "views": [view["space"] for _, view in views],
            "corpus": self.run.info["corpus_sha256"],
            "temperature": self.decision.temperature,
            "threshold": None if self.decision.threshold is None else dict(self.decision.threshold),
            "versions": _versions(),
        } | ({} if inputs.blocks is None else {"blocks": inputs.blocks})
        return hashlib.sha256(canonical_json(json.loads(json.dumps(facts)))).hexdigest()

    def known(self, head: Head, inputs: Inputs, name: str) -> dict[str, Any] | None:
        """What `keep` returned of a head that is stored already, whole, if it is the one asked for."""
        folder = self.folder(inputs.feature, name)
        if not folder.exists():
            return None
        try:
            description = read_description(folder)
            if description["stamp"] != self.stamp(head, inputs) or not _is_whole(folder, description):
                return None
            metrics = StoredHead(feature=inputs.feature, head=name, folder=folder).metrics()
            return _result(inputs.feature, name, description, metrics, known=True)
        except (FrozenheadError, OSError, LookupError, TypeError):
            return None  # damaged or of another format: it is trained anew

    def keep(
        self, head: Head, inputs: Inputs, *, name: str, seconds: float, search: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Calibrate a fitted head, judge it, write its folder; the table of the search that found it, if any, too.

        Returns
        -------
        dict
            feature, head, known, fit_seconds, best_epoch, validation scores `val`, those before calibration
            `val_before`, temperature, threshold; and for the caller to fill search, folds and curve.

        Raises
        ------
        UsageError
            No threshold keeps to the rule on the validation rows.
        """
        stamp, val = self.stamp(head, inputs), self.split["val"]
        judged = val | self.split["test"]
        rows, before = part(inputs.rows, judged), None
        if val.any():
            before = self._block(head, "val", head.predict_proba(rows)[val[judged]])
            self.decision.apply(head, part(inputs.rows, val), self.labels[val])
        probabilities = head.predict_proba(rows)  # (n, K)
        predicted, corpus = head.decide(probabilities).astype(object), self.corpus[judged]

        def predictions(rows: slice) -> pd.DataFrame:
            given = {"predicted": predicted[rows]}
            return prediction_frame(corpus[rows], given, probabilities[rows], head.classes_.tolist())

        scores: dict[str, Any] = {
            split: self._block(head, split, probabilities[self.split[split][judged]]) for split in JUDGED
        }
        scores["val_before"] = before
        facts = self._facts(head, inputs) | {"fit_seconds": round(seconds, 4), "stamp": stamp}
        with self.run.new_head(inputs.feature, name) as folder:
            lines = "".join(json.dumps(epoch) + "\n" for epoch in head.history_)
            write_file(folder / HISTORY, lines.encode())
            write_table(folder / PREDICTIONS, len(predicted), predictions)
            write_json(folder / METRICS, scores)
            if search is not None:
                write_json(folder / SEARCH, search)
            save_head(head, folder, facts=facts | {"files": {file: _digest(folder / file) for file in FILES}})
            description = read_description(folder)
        return _result(inputs.feature, name, description, scores, known=False)

    def _facts(self, head: Head, inputs: Inputs) -> dict[str, Any]:
        """What `head.json` says beside the head's own."""
        record = inputs.record or {}
        return {
            "feature": inputs.feature,
            "takes": head.takes,
            "space": record.get("identity"),
            "space_id": record.get("space"),
            "encoder": record.get("encoder"),
            "train_rows": int(self.split["train"].sum()),
            "views": len(inputs.views),
            "blocks": inputs.blocks,
            "decision": {
                "temperature": self.decision.temperature,
                "threshold": None if self.decision.threshold is None else dict(self.decision.threshold),
            },
            "seed": head.get_params().get("random_state"),
            "versions": _versions(),
        }

    def _block(self, head: Head, split: str, probabilities: NDArray[np.float64]) -> dict[str, Any] | None:
        """Scores of a split's rows, as the head decides now."""
        labels, classes = self.labels[self.split[split]], head.classes_.tolist()
        return score_block(labels, probabilities, classes, self.weights, predicted=head.decide(probabilities))


def _is_whole(folder: Path, description: Mapping[str, Any]) -> bool:
    """Whether every file that a head consists of is the one that was written. Raises `OSError` or `LookupError`."""
    digests = {WEIGHTS: description["weights_sha256"]} | {file: description["files"][file] for file in FILES}
    return all(_digest(folder / file) == digest for file, digest in digests.items())


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _result(
    feature: str, name: str, description: Mapping[str, Any], metrics: Mapping[str, Any], *, known: bool
) -> dict[str, Any]:
    return {
        "feature": feature,
        "head": name,
        "known": known,
        "fit_seconds": description["fit_seconds"],
        "best_epoch": description["best_epoch"],
        "val": metrics["val"],
        "val_before": metrics["val_before"],
        "temperature": description["temperature"],
        "threshold": description["threshold"],
        "search": None,
        "folds": None,
        "curve": None,
    }


@cache
def _versions() -> dict[str, str]:
    """Of the libraries whose change may change a head; read once, since a search asks for each candidate."""
    return {library: version(library) for library in LIBRARIES}
