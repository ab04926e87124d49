"""Everything the report says, as one value that JSON can hold: the content of `report.json`.

Imports metrics, predictions, truncation and errors. The page, the figures and the terminal table draw from it and
compute no score.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.errors import DataError, HeadNotFound, RunDamaged
from frozenhead.report.advice import advice
from frozenhead.report.metrics import balanced_weights, score_block
from frozenhead.report.predictions import HeadEvidence, aligned_predictions
from frozenhead.report.truncation import in_windows

FORMAT = 1
SPLITS = ("train", "val", "test")

# What the report repeats of run.json; split and sources stand under "dataset".
_RUN_KEYS = ("command", "created", "versions", "columns", "options")


def gather(
    *,
    corpus: pd.DataFrame,
    features: Mapping[str, Mapping[str, Any]],
    heads: Sequence[HeadEvidence],
    run: Mapping[str, Any],
    folder: str = "RUN",
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
    """
    if not heads:
        raise HeadNotFound("The run has no trained head, expected at least one. Run `frozenhead fit` first.")
    corpus = corpus.reset_index(drop=True)  # rows are told apart by position from here on
    judged = corpus[corpus["split"].isin(["val", "test"])]
    if judged.empty:
        raise DataError(
            "The corpus has neither validation nor test rows, so no head can be judged. "
            "Run `frozenhead embed` with --split, --val or --test."
        )
    classes = [str(name) for name in heads[0].info["classes"]]
    weights = _train_weights(corpus, classes)
    in_train = _in_train(corpus)
    entries = [_head_entry(head, judged, in_train[judged.index], classes, weights) for head in heads]
    entries.sort(key=_validation_rank)  # stable: equals stay as given
    evidence = {
        "format": FORMAT,
        "dataset": _dataset(corpus, features, run, classes=classes, weights=weights, in_train=in_train),
        "selected": {"feature": entries[0]["feature"], "head": entries[0]["head"]},
        "heads": entries,
        "advice": advice(run, folder),
        "run": {key: run[key] for key in _RUN_KEYS if key in run},
    }
    plain: dict[str, Any] = _plain(evidence)
    return plain


def _train_weights(corpus: pd.DataFrame, classes: list[str]) -> dict[str, float]:
    unknown = sorted(set(corpus["label"]) - set(classes), key=str)
    if unknown:
        raise RunDamaged(
            f"The corpus has the label {unknown[0]!r}, which the heads do not know. Run `frozenhead fit` again."
        )
    try:
        return balanced_weights(corpus.loc[corpus["split"] == "train", "label"], classes)
    except ValueError as error:
        raise RunDamaged(f"The heads do not fit the corpus: {error}. Run `frozenhead fit` again.") from error


def _in_train(corpus: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a row's text stands, word for word, in the training split."""
    return corpus["key"].isin(set(corpus.loc[corpus["split"] == "train", "key"]))


def _head_entry(
    head: HeadEvidence,
    judged: pd.DataFrame,
    in_train: "pd.Series[bool]",
    classes: list[str],
    weights: dict[str, float],
) -> dict[str, Any]:
    try:
        probabilities, predicted = aligned_predictions(head, judged, classes)  # (n, K), (n,) in the order of `judged`
        is_test = (judged["split"] == "test").to_numpy()
        labels = judged["label"].to_numpy(dtype=object)

        def score(rows: NDArray[np.bool_]) -> dict[str, Any] | None:
            return score_block(labels[rows], probabilities[rows], classes, weights, predicted=predicted[rows])

        scores = {
            "val": score(~is_test),
            "test": score(is_test),
            "test_without_leaks": score(is_test & ~in_train.to_numpy(dtype=bool)),
        }
    except ValueError as error:
        raise RunDamaged(
            f"The predictions of {head.head} on {head.feature} do not belong to this run: {error}. "
            "Run `frozenhead fit` again."
        ) from error
    return {
        "feature": head.feature,
        "head": head.head,
        **scores,
        "fit_seconds": head.info.get("fit_seconds"),
        "best_epoch": head.info.get("best_epoch"),
        "epochs": len(head.history) or None,
        "seed": head.info.get("seed"),
        "params": dict(head.info.get("params") or {}),
        "class_weights": head.info.get("class_weights"),
        "temperature": head.info.get("temperature"),
        "threshold": head.info.get("threshold"),
        "history": [dict(epoch) for epoch in head.history],
    }


def _validation_rank(entry: dict[str, Any]) -> tuple[float, float]:
    val = entry["val"]
    return (-val["macro_f1"], val["log_loss"]) if val else (1.0, 0.0)


def _dataset(
    corpus: pd.DataFrame,
    features: Mapping[str, Mapping[str, Any]],
    run: Mapping[str, Any],
    *,
    classes: list[str],
    weights: dict[str, float],
    in_train: "pd.Series[bool]",
) -> dict[str, Any]:
    counts = corpus.groupby(["label", "split"]).size().to_dict()
    class_counts = {name: {split: int(counts.get((name, split), 0)) for split in SPLITS} for name in classes}
    for per_split in class_counts.values():
        per_split["all"] = sum(per_split.values())
    texts = corpus["key"].nunique()
    return {
        "rows": len(corpus),
        "classes": classes,
        "class_counts": class_counts,
        "split_counts": {split: sum(class_counts[name][split] for name in classes) for split in SPLITS},
        "split_rule": (run.get("split") or {}).get("rule"),
        "judged_split": "test" if (corpus["split"] == "test").any() else "val",
        "class_weights": weights,
        "duplicates": {
            "distinct_texts": texts,
            "duplicate_rows": len(corpus) - texts,
            "conflicting_texts": int((corpus.groupby("key")["label"].nunique() > 1).sum()),
        },
        "leakage": _leakage(corpus, classes, in_train),
        "truncation": {name: feature["truncation"] for name, feature in features.items() if "truncation" in feature},
        "lengths": _lengths(features),
        "sources": list(run.get("sources") or []),
    }


def _leakage(corpus: pd.DataFrame, classes: list[str], in_train: "pd.Series[bool]") -> dict[str, Any]:
    test, val = corpus["split"] == "test", corpus["split"] == "val"
    return {
        "test_rows": int(test.sum()),
        "test_rows_in_train": int((test & in_train).sum()),
        "val_rows": int(val.sum()),
        "val_rows_in_train": int((val & in_train).sum()),
        "per_class": {
            name: {"test_rows": int(of_class.sum()), "in_train": int((of_class & in_train).sum())}
            for name in classes
            for of_class in [test & (corpus["label"] == name)]
        },
    }


def _lengths(features: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Token counts once per encoder, limit and fate: `minilm.pooler` and `minilm.mean` read the same tokens."""
    groups: dict[str, Any] = {}
    for name, feature in features.items():
        if "lengths" not in feature or "truncation" not in feature:
            continue
        encoder, limit = feature["encoder"]["name"], feature["truncation"]["max_length"]
        group = groups.setdefault(
            f"{encoder}@{limit}{' in windows' if in_windows(feature['truncation']) else ''}",
            {
                "encoder": encoder,
                "max_length": limit,
                "features": [],
                "truncation": feature["truncation"],
                "per_class": feature["lengths"],
            },
        )
        group["features"].append(name)
    return groups


def _plain(value: Any) -> Any:
    """Turn numpy scalars into Python's, tuples into lists, and numbers JSON cannot hold into None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
