"""A trained head into its run: calibrated, judged on validation and test, stored whole, and known again.

A stored head carries a stamp, a hash of all that it follows from. While the stamp is the same, `fit` trains it no
second time: training is deterministic, so it would be the same head.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.errors import DataError, FrozenheadError, UsageError
from frozenhead.files import canonical_json, write_file, write_json
from frozenhead.heads import Head, save_head
from frozenhead.heads.saving import plain_params, read_description
from frozenhead.report.metrics import balanced_weights, score_block
from frozenhead.runs import Run, StoredHead, parquet_bytes

JUDGED = ("val", "test")
LIBRARIES = ("frozenhead", "torch", "scikit-learn", "numpy")


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What heads learn from: the rows of a run as vectors of one feature set, or as texts.

    Attributes
    ----------
    feature : str
    rows : array (N, D) of vectors, or object array (N,) of texts, in the order of the corpus
    record : mapping or None
        features/<name>.json; None for texts.
    views : sequence of arrays (n, D)
        Of the training rows, one to each epoch in turn; none for eval-mode vectors.
    """

    feature: str
    rows: Any
    record: Mapping[str, Any] | None
    views: Sequence[NDArray[Any]] = ()


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
        """Calibrate a head on validation rows. Raises `UsageError` where the rule suits neither head nor rows."""
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
        The run's.
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

    def stamp(self, head: Head, inputs: Inputs) -> str:
        """A hash of all that a head and what is stored of it follow from."""
        record = inputs.record or {}
        facts = {
            "head": type(head).__name__,
            "params": plain_params(head),
            "space": record.get("space"),
            "views": [view["space"] for view in record.get("views", [])][: len(inputs.views)],
            "corpus": self.run.info["corpus_sha256"],
            "temperature": self.decision.temperature,
            "threshold": None if self.decision.threshold is None else dict(self.decision.threshold),
            "versions": _versions(),
        }
        return hashlib.sha256(canonical_json(json.loads(json.dumps(facts)))).hexdigest()

    def known(self, head: Head, inputs: Inputs, name: str) -> dict[str, Any] | None:
        """What `keep` returned of a head that is stored already, if it is the one asked for."""
        folder = self.run.folder / "heads" / inputs.feature / name
        if not (folder / "head.json").exists():
            return None
        try:
            description = read_description(folder)
            metrics = StoredHead(feature=inputs.feature, head=name, folder=folder).metrics()
        except FrozenheadError:
            return None  # damaged or of another format: it is trained anew
        if description.get("stamp") != self.stamp(head, inputs):
            return None
        return {**_result(inputs.feature, name, description, metrics), "known": True}

    def keep(self, head: Head, inputs: Inputs, *, name: str, seconds: float) -> dict[str, Any]:
        """Calibrate a fitted head, judge it, write its folder.

        Returns
        -------
        dict
            feature, head, fit_seconds, best_epoch, validation scores `val`, those before calibration `val_before`,
            temperature, threshold.
        """
        stamp = self.stamp(head, inputs)
        before = head.predict_proba(inputs.rows[self.split["val"]]) if self.split["val"].any() else None
        if before is not None:
            self.decision.apply(head, inputs.rows[self.split["val"]], self.labels[self.split["val"]])
        judged = self.split["val"] | self.split["test"]
        probabilities = head.predict_proba(inputs.rows[judged])  # (n, K)
        predictions = self._prediction_frame(head, judged, probabilities)
        scores: dict[str, Any] = self._scores(head, predictions, probabilities)
        scores["val_before"] = None if before is None else self._block(head, "val", before, decided=False)
        facts = {
            "feature": inputs.feature,
            "takes": head.takes,
            "space": inputs.record["identity"] if inputs.record else None,
            "space_id": inputs.record["space"] if inputs.record else None,
            "encoder": inputs.record["encoder"] if inputs.record else None,
            "train_rows": int(self.split["train"].sum()),
            "views": len(inputs.views),
            "seed": head.get_params().get("random_state"),
            "fit_seconds": round(seconds, 4),
            "stamp": stamp,
            "versions": _versions(),
        }
        with self.run.new_head(inputs.feature, name) as folder:
            lines = "".join(json.dumps(epoch) + "\n" for epoch in head.history_)
            write_file(folder / "history.jsonl", lines.encode())
            write_file(folder / "predictions.parquet", parquet_bytes(predictions))
            write_json(folder / "metrics.json", scores)
            save_head(head, folder, facts=facts)
            description = read_description(folder)
        return _result(inputs.feature, name, description, scores)

    def _prediction_frame(
        self, head: Head, rows: NDArray[np.bool_], probabilities: NDArray[np.float64]
    ) -> pd.DataFrame:
        """row, split, label, predicted, and `prob_<label>` for each class."""
        frame = self.corpus.loc[rows, ["row", "split", "label"]].reset_index(drop=True)
        frame["predicted"] = head.decide(probabilities).astype(object)
        columns = pd.DataFrame(probabilities, columns=[f"prob_{label}" for label in head.classes_.tolist()])
        return pd.concat([frame, columns], axis=1)

    def _scores(self, head: Head, predictions: pd.DataFrame, probabilities: NDArray[np.float64]) -> dict[str, Any]:
        of_split = {split: (predictions["split"] == split).to_numpy() for split in JUDGED}
        return {split: self._block(head, split, probabilities[rows]) for split, rows in of_split.items()}

    def _block(
        self, head: Head, split: str, probabilities: NDArray[np.float64], *, decided: bool = True
    ) -> dict[str, Any] | None:
        predicted = head.decide(probabilities) if decided else None
        labels = self.labels[self.split[split]]
        return score_block(labels, probabilities, head.classes_.tolist(), self.weights, predicted=predicted)


def _result(feature: str, name: str, description: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "feature": feature,
        "head": name,
        "fit_seconds": description["fit_seconds"],
        "best_epoch": description["best_epoch"],
        "val": metrics["val"],
        "val_before": metrics.get("val_before"),
        "temperature": description["temperature"],
        "threshold": description["threshold"],
    }


def _versions() -> dict[str, str]:
    return {library: version(library) for library in LIBRARIES}
