"""Evidence as figures and displays read it, of heads that guess with some skill: any number of classes and heads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from frozenhead.report.curves import curve_block
from tests.report.examples import make_feature, random_corpus

SHARES = (0.01, 0.1, 1.0)


def make_evidence(
    classes: Sequence[str], *, heads: int = 3, rows: int = 60, absent: int = 0, points: int = 50, names: str = "head"
) -> dict[str, Any]:
    """Format 2. `rows` of the judged split, of which the last `absent` classes have none; the last head is TF-IDF."""
    K, rng = len(classes), np.random.default_rng(0)
    true = np.arange(rows) % (K - absent)
    entries = [_entry(rng, true, classes, number, names) for number in range(heads)]
    if heads > 1:
        entries[-1] |= {"feature": "text", "head": "tfidf"}
    counts = {
        name: {"train": 3 * K, "val": 2, "test": int((true == c).sum()), "all": 3 * K + 2 + int((true == c).sum())}
        for c, name in enumerate(classes)
    }
    feature = make_feature(random_corpus(classes, rows=2 * K), classes)
    comparisons = {"rows": rows, "pairs": [_pair(entry, entries[0]) for entry in entries[1:]]} if heads > 1 else None
    return {
        "format": 2,
        "dataset": {
            "classes": list(classes),
            "class_counts": counts,
            "class_weights": dict.fromkeys(classes, 1.0),
            "judged_split": "test",
            "lengths": {"e@25": {**feature, "encoder": "e", "per_class": feature["lengths"]}},
        },
        "selected": _name(entries[0]),
        "baseline": _name(entries[-1]) if heads > 1 else None,
        "heads": entries,
        "comparisons": comparisons,
        "comparisons_without_copies": comparisons,
        "map": make_map(rng, K, points),
    }


def _name(entry: dict[str, Any]) -> dict[str, str]:
    return {"feature": entry["feature"], "head": entry["head"]}


def _entry(
    rng: np.random.Generator, true: NDArray[np.int64], classes: Sequence[str], number: int, names: str
) -> dict[str, Any]:
    K = len(classes)
    scores = rng.normal(size=(len(true), K))
    scores[np.arange(len(true)), true] += 4 / (1 + number)
    probabilities = softmax(scores, axis=1)
    temperature = None if number % 2 else 0.5
    return {
        "feature": "minilm.pooler" if number % 2 else "minilm.mean",
        "head": f"{names}{number}",
        "test": make_block(true, probabilities, classes),
        "test_without_copies": make_block(true[1:], probabilities[1:], classes) if len(true) > 1 else None,
        "best_epoch": 2,
        "history": [{"epoch": e, "train_loss": 1 / e, "val_loss": 1 / e + 0.1 * e} for e in (1, 2, 3)],
        "temperature": temperature,
        "curves": curve_block(true, probabilities, classes, temperature),
        "curve": {
            "seeds": 2,
            "points": [
                {
                    "share": share,
                    "rows": round(1000 * share),
                    "seed": seed,
                    "val": {"macro_f1": share**0.1 - 0.1 * seed},
                }
                for seed in (0, 1)
                for share in SHARES
            ],
        },
    }


def make_block(true: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]) -> dict[str, Any]:
    """What figures read of a score block; the interval is made up."""
    table = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(table, (true, probabilities.argmax(axis=1)), 1)
    share = float(table.trace() / len(true))
    interval = [max(share - 0.05, 0.0), min(share + 0.05, 1.0)]
    return {
        "rows": len(true),
        "macro_f1": share,
        "per_class": {name: {"support": int((true == c).sum())} for c, name in enumerate(classes)},
        "confusion": [[int(t), int(p), int(table[t, p])] for t, p in zip(*np.nonzero(table), strict=True)],
        "intervals": {"level": 0.95, "macro_f1": interval},
    }


def _pair(one: dict[str, Any], best: dict[str, Any]) -> dict[str, Any]:
    difference = one["test"]["macro_f1"] - best["test"]["macro_f1"]
    return {
        "a": _name(one),
        "b": _name(best),
        "against": "best",
        "macro_f1": {"difference": difference, "interval": [difference - 0.02, difference + 0.02]},
        "verdict": "worse" if difference < -0.02 else "no difference",
    }


def make_map(rng: np.random.Generator, K: int, points: int) -> dict[str, Any]:
    """Clouds, one for each class; every tenth text was not judged, every eleventh is wrong."""
    label = np.arange(points) % K
    place = rng.normal(size=(points, 2)) + 3 * np.column_stack([np.cos(label), np.sin(label)])
    return {
        "feature": "minilm.mean",
        "variance": [0.2, 0.1],
        "rows": 2 * points,
        "shown": points,
        "x": place[:, 0].tolist(),
        "y": place[:, 1].tolist(),
        "label": label.tolist(),
        "wrong": [None if i % 10 == 0 else int(i % 11 == 0) for i in range(points)],
    }
