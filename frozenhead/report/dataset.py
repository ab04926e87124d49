"""The corpus as the report describes it: counts, weights, exact copies, lengths.

Imports truncation only.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from frozenhead.report.truncation import in_windows

SPLITS = ("train", "val", "test")


def describe(
    corpus: pd.DataFrame,
    features: Mapping[str, Mapping[str, Any]],
    run: Mapping[str, Any],
    *,
    classes: list[str],
    weights: Mapping[str, float],
) -> dict[str, Any]:
    """The block `dataset` of the evidence.

    Parameters
    ----------
    corpus : DataFrame
        `label`, `split`, `key`.
    features : mapping of name to mapping
        features/<name>.json.
    run : mapping
        run.json.
    classes : list of str, length K
    weights : mapping of str to float
        Balanced weights of the training labels.
    """
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
        "judged_split": judged_split(corpus),
        "class_weights": dict(weights),
        "duplicates": {
            "distinct_texts": texts,
            "duplicate_rows": len(corpus) - texts,
            "conflicting_texts": int((corpus.groupby("key")["label"].nunique() > 1).sum()),
        },
        "leakage": _leakage(corpus, classes),
        "truncation": {name: feature["truncation"] for name, feature in features.items() if "truncation" in feature},
        "lengths": _lengths(features),
        "sources": list(run.get("sources") or []),
    }


def judged_split(corpus: pd.DataFrame) -> str:
    """`test`, or `val` where there is no test row."""
    return "test" if (corpus["split"] == "test").any() else "val"


def in_train(corpus: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a row's text stands, word for word, in the training split."""
    return corpus["key"].isin(set(corpus.loc[corpus["split"] == "train", "key"]))


def _leakage(corpus: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    leaked = in_train(corpus)
    test, val = corpus["split"] == "test", corpus["split"] == "val"
    return {
        "test_rows": int(test.sum()),
        "test_rows_in_train": int((test & leaked).sum()),
        "val_rows": int(val.sum()),
        "val_rows_in_train": int((val & leaked).sum()),
        "per_class": {
            name: {"test_rows": int(of_class.sum()), "in_train": int((of_class & leaked).sum())}
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
