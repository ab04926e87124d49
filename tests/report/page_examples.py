"""Evidence of format 2 with every block filled, made from a seed: what the page's tests draw from.

The numbers need not be right, only complete and told apart: the page scores nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from frozenhead.report import Figures
from frozenhead.report.svg import house_style, to_svg
from tests.report.examples import HOSTILE

SCORES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "mcc",
    "log_loss",
    "weighted_log_loss",
    "brier",
    "ece",
    "average_precision",
    "roc_auc",
)
HEADS = ("logreg", "dense", "tfidf", "majority")

Json = dict[str, Any]


def make_evidence(
    classes: Sequence[str] = ("ham", "spam"),
    *,
    heads: Sequence[str] = HEADS,
    rows: int = 400,
    mistakes: int = 60,
    texts: Sequence[str] = ("win a prize now", "see you at ten", "call me back please"),
    name: str = "minilm.pooler",
    source: str = "messages.csv",
    seed: int = 0,
) -> Json:
    """A whole report.json: `rows` rows, of which a quarter is the test split, and `mistakes` rows to look through."""
    rng = np.random.default_rng(seed)
    counts = {label: rows // len(classes) for label in classes}
    judged = sum(max(n // 4, 1) for n in counts.values())
    features = [name if head not in {"tfidf", "majority"} else "text" for head in heads]
    entries = [
        _entry(rng, classes, judged, head=head, feature=feature, rank=rank)
        for rank, (head, feature) in enumerate(zip(heads, features, strict=True))
    ]
    names = [{"feature": entry["feature"], "head": entry["head"]} for entry in entries]
    baseline = next((one for one in names if one["head"] == "tfidf"), None)
    return {
        "format": 2,
        "dataset": _dataset(rng, classes, counts, judged, feature=name, source=source),
        "selected": names[0],
        "baseline": baseline,
        "heads": entries,
        "comparisons": _comparisons(rng, names, baseline, judged),
        "copies": _copies(classes, judged, texts, feature=name),
        "conflicts": _conflicts(classes, texts),
        "mistakes": _mistakes(rng, classes, texts, mistakes, name=names[0], heads=len(heads)),
        "label_issues": _label_issues(classes, texts, names[0]),
        "map": _map(rng, classes, name),
        "advice": {
            "baselines": "frozenhead fit run --head tfidf,majority",
            "group": f"frozenhead embed '{source}' --out run --group-duplicates --overwrite",
        },
        "run": {
            "command": f"frozenhead embed '{source}' --out run",
            "created": "2026-05-04T10:11:12Z",
            "versions": {"python": "3.11.9", "frozenhead": "0.1.0"},
            "columns": {"text": texts[0], "label": classes[0]},
            "options": {"precision": "fp32", "max_length": 25},
        },
        "vectors": {"feature": name, "reason": None},
    }


@dataclass(frozen=True, kw_only=True)
class AllFigures(Figures):
    """Every figure that the page has a place for."""

    forest: str | None
    differences: str | None
    reliability: Sequence[str | None]
    roc: str | None
    precision_recall: str | None
    efficiency: str | None
    map: str | None


def make_figures(evidence: Json) -> AllFigures:
    """One small drawing for every place on the page that has one."""
    heads = evidence["heads"]
    return AllFigures(
        balance=_drawing("balance"),
        lengths={key: _drawing(f"lengths{number}") for number, key in enumerate(evidence["dataset"]["lengths"])},
        confusion=[_drawing(f"confusion{number}") for number in range(len(heads))],
        curves=[_drawing(f"curves{n}") if entry["history"] else None for n, entry in enumerate(heads)],
        forest=_drawing("forest"),
        differences=_drawing("differences"),
        reliability=[_drawing("reliability"), *[None] * (len(heads) - 1)],
        roc=_drawing("roc"),
        precision_recall=_drawing("precision"),
        efficiency=_drawing("efficiency"),
        map=_drawing("map"),
    )


def mistake_rows(count: int) -> list[Json]:
    """Rows for the browser alone, in two classes: row i is told apart by its text and its probability."""
    return [
        {
            "row": 7 * i,
            "text": f"message number {i} {'win' if i % 3 == 0 else 'see you'}",
            "truth": i % 2,
            "predicted": 1 - i % 2,
            "probability": 0.5 + 0.5 * ((i * 7919) % count) / count,
            "of_truth": 0.2,
            "wrong_heads": 1 + i % 4,
            "copy": "near" if i % 10 == 0 else None,
            "neighbours": [{"row": 10**6 + i % 5, "cosine": 0.9}],
        }
        for i in range(count)
    ]


@cache
def _drawing(name: str) -> str:
    with house_style():
        figure = Figure(figsize=(4.4, 2.7), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="#0072B2", label="<b>bold</b>")
        axes.imshow(np.eye(2), extent=(0.0, 0.4, 0.6, 1.0))
        axes.legend()
        return to_svg(figure, name=name, alt=f"The drawing {name}.")


def _interval(value: float) -> list[float]:
    return [max(value - 0.02, 0.0), min(value + 0.015, 1.0)]


def _block(rng: np.random.Generator, classes: Sequence[str], rows: int, level: float) -> Json:
    scores = {name: float(level - 0.01 * rng.random()) for name in SCORES}
    K = len(classes)
    confusion = np.diag(np.full(K, max(rows // K - 1, 1)))
    for true in range(K):
        confusion[true, (true + 1) % K] += 1 + int(true == 0)
    support = confusion.sum(axis=1)
    per_class: dict[str, Json] = {
        label: {
            **{key: float(level - 0.02 * rng.random()) for key in ("precision", "recall", "f1")},
            "support": int(support[k]),
            "average_precision": float(rng.random()),
            "roc_auc": None if k == K - 1 else float(rng.random()),
        }
        for k, label in enumerate(classes)
    }
    return {
        "rows": rows,
        **scores,
        "per_class": per_class,
        "confusion": [[int(t), int(p), int(confusion[t, p])] for t, p in np.argwhere(confusion)],
        "intervals": {
            "level": 0.95,
            "draws": 2000,
            "seed": 2018,
            **{name: _interval(value) for name, value in scores.items()},
            "roc_auc": None,
            "methods": {"accuracy": "wilson", "macro_f1": "bootstrap"},
            "per_class": {
                label: {key: _interval(row[key]) for key in ("precision", "recall", "f1")}
                if k
                else {"precision": None, "recall": _interval(row["recall"]), "f1": _interval(row["f1"])}
                for k, (label, row) in enumerate(per_class.items())
            },
        },
    }


def _entry(rng: np.random.Generator, classes: Sequence[str], rows: int, *, head: str, feature: str, rank: int) -> Json:
    level = 0.97 - 0.02 * rank
    line = {"label": classes[-1], "x": [0.0, 0.1, 1.0], "y": [0.0, 0.9, 1.0], "area": 0.95}
    bins = {"confidence": [0.6, 0.95], "accuracy": [0.5, 0.97], "rows": [10, 90], "ece": 0.031}
    dense = head == "dense"
    return {
        "feature": feature,
        "head": head,
        "val": {**_block(rng, classes, rows, level), "intervals": None},
        "test": _block(rng, classes, rows, level - 0.01),
        "test_without_leaks": _block(rng, classes, rows - 4, level - 0.02),
        "test_without_copies": _block(rng, classes, rows - 9, level - 0.03),
        "fit_seconds": 1.25 + rank,
        "best_epoch": 2 if dense else None,
        "epochs": 4 if dense else None,
        "seed": 2018,
        "params": {"C": 1.0},
        "class_weights": None,
        "temperature": 1.25 if dense else None,
        "threshold": {"positive": classes[-1], "value": 0.41, "rule": "f1"} if dense else None,
        "history": [{"epoch": e, "train_loss": 1 / e, "val_loss": 1 / e + 0.1} for e in range(1, 5)] if dense else [],
        "curves": {
            "roc": [line],
            "precision_recall": [line],
            "reliability": {"before": {**bins, "ece": 0.052} if dense else None, "after": bins},
        },
        "folds": {"folds": 5, "seed": 2018, "rows": 4 * rows, "scores": dict.fromkeys(SCORES, level)}
        if dense
        else None,
        "curve": _curve() if dense else None,
        "search": _search(classes[0]) if dense else None,
    }


def _curve() -> Json:
    points: list[Json] = [
        {
            "share": share,
            "rows": int(300 * share),
            "seed": seed,
            "error": None,
            "val": {"macro_f1": share + 0.001 * seed},
        }
        for share in (0.1, 0.5)
        for seed in (1, 2)
    ]
    points.append({"share": 0.01, "rows": 3, "seed": 1, "error": "too few rows", "val": None})
    return {"seed": 1, "seeds": 2, "points": points}


def _search(word: str) -> Json:
    rows = [
        {
            "stamp": str(i),
            "setting": i,
            "options": {"lr": 0.001 * (i + 1), "note": word},
            "seed": 2018,
            "val": {"macro_f1": [0.91, 0.95, 0.93][i], "accuracy": 0.9, "log_loss": 0.1 * (i + 1)},
            "error": None,
            "best_epoch": 3,
            "seconds": 0.5,
            "dropped_after": None if i < 2 else 4,
            "chosen": i == 1,
        }
        for i in range(3)
    ]
    failed = {**rows[0], "val": None, "error": f"loss is not finite: {word}", "best_epoch": None}
    failed["chosen"] = False
    return {"halving": False, "total": 4, "shown": 4, "rows": [*rows, failed]}


def _dataset(
    rng: np.random.Generator,
    classes: Sequence[str],
    counts: dict[str, int],
    judged: int,
    *,
    feature: str,
    source: str,
) -> Json:
    per_split = {
        label: {"train": n // 2, "val": n // 4, "test": max(n // 4, 1), "all": n} for label, n in counts.items()
    }
    cut = {
        label: {"rows": n, "truncated": n // (2 + k), "share": 1 / (2 + k)}
        for k, (label, n) in enumerate(counts.items())
    }
    total = sum(counts.values())
    truncation = {"max_length": 25, "rows": total, "truncated": total // 3, "share": 1 / 3, "per_class": cut}
    return {
        "rows": total,
        "classes": list(classes),
        "class_counts": per_split,
        "split_counts": {split: sum(n[split] for n in per_split.values()) for split in ("train", "val", "test")},
        "split_rule": "two stratified draws, 0.7/0.15/0.15, seed 2018",
        "judged_split": "test",
        "class_weights": {label: float(0.5 + rng.random()) for label in classes},
        "duplicates": {"distinct_texts": total - 12, "duplicate_rows": 12, "conflicting_texts": 1},
        "leakage": {
            "test_rows": judged,
            "test_rows_in_train": 4,
            "val_rows": judged,
            "val_rows_in_train": 3,
            "per_class": {label: {"test_rows": n["test"], "in_train": 1} for label, n in per_split.items()},
        },
        "truncation": {feature: truncation},
        "lengths": {
            f"{source}@25": {
                "encoder": feature,
                "max_length": 25,
                "features": [feature],
                "truncation": truncation,
                "per_class": {label: {"10": n // 2, "30": n - n // 2} for label, n in counts.items()},
            }
        },
        "sources": [{"path": source, "sha256": "5f" * 32, "role": "data", "rows": total}],
    }


def _comparisons(rng: np.random.Generator, names: Sequence[Json], baseline: Json | None, rows: int) -> Json | None:
    if len(names) < 2:
        return None

    def pair(a: Json, b: Json, against: str) -> Json:
        difference = -0.004 - 0.01 * float(rng.random())
        scores = {"a": 0.95, "b": 0.95 - difference, "difference": difference, "interval": [difference - 0.01, 0.002]}
        said = f"No difference between {a['head']} on {a['feature']} and {b['head']} that {rows} rows could show."
        return {
            "a": a,
            "b": b,
            "against": against,
            "accuracy": scores,
            "macro_f1": scores,
            "only_a_right": 4,
            "only_b_right": 9,
            "p_value": 0.27,
            "p_adjusted": 0.81,
            "verdict": "no difference",
            "sentence": said,
        }

    pairs = [pair(other, names[0], "best") for other in names[1:]]
    if baseline is not None:
        pairs += [pair(other, baseline, "baseline") for other in names if other not in (baseline, names[0])]
    settings = {"split": "test", "rows": rows, "level": 0.95, "draws": 2000, "seed": 2018, "correction": "holm"}
    return {**settings, "tests": len(pairs), "pairs": pairs}


def _copies(classes: Sequence[str], judged: int, texts: Sequence[str], *, feature: str) -> Json:
    rest = {label: {"rows": 12, "exact": 0, "folded": 0, "near": 0} for label in classes[1:]}
    first = {"rows": judged - 12 * len(rest), "exact": 4, "folded": 2, "near": 3}
    split = {"rows": judged, "exact": 4, "folded": 2, "near": 3, "per_class": {classes[0]: first, **rest}}
    kinds = [("exact", None), ("folded", None), ("near", 0.973)]
    rows = [
        {
            "kind": kind,
            "split": "test",
            "row": 1000 + i,
            "label": classes[i % len(classes)],
            "text": texts[i % len(texts)],
            "of_row": i,
            "of_label": classes[0],
            "of_text": texts[(i + 1) % len(texts)],
            "cosine": cosine,
        }
        for i, (kind, cosine) in enumerate(kinds * 3)
    ]
    splits = {"val": {"rows": judged, "exact": 0, "folded": 0, "near": 0, "per_class": {}}, "test": split}
    return {
        "threshold": 0.95,
        "feature": feature,
        "centred": False,
        "splits": splits,
        "total": len(rows),
        "shown": len(rows),
        "rows": rows,
    }


def _conflicts(classes: Sequence[str], texts: Sequence[str]) -> Json:
    labels = dict.fromkeys(classes[:2], 1)
    examples = [{"text": text, "labels": labels, "splits": {"train": 1, "val": 1}, "rows": [3, 9]} for text in texts]
    return {"texts": len(examples), "rows": 2 * len(examples), "shown": len(examples), "examples": examples}


def _mistakes(
    rng: np.random.Generator, classes: Sequence[str], texts: Sequence[str], count: int, *, name: Json, heads: int
) -> Json:
    K = len(classes)
    train = {str(10_000 + i): {"text": texts[i % len(texts)], "label": i % K} for i in range(12)}

    def row(i: int) -> Json:
        truth, probability = int(rng.integers(K)), float(rng.uniform(0.5, 1))
        return {
            "row": 100 + 3 * i,
            "text": f"{texts[i % len(texts)]} ({i})",
            "truth": truth,
            "predicted": (truth + 1 + int(rng.integers(K - 1))) % K if K > 1 else 0,
            "probability": probability,
            "of_truth": float(1 - probability),
            "wrong_heads": int(rng.integers(1, heads + 1)),
            "copy": "near" if i % 9 == 0 else None,
            "neighbours": [{"row": 10_000 + (i + j) % 12, "cosine": 0.9 - 0.1 * j} for j in range(3)],
        }

    rows = [row(i) for i in range(count)]
    return {**name, "split": "test", "total": count, "shown": count, "heads": heads, "rows": rows, "texts": train}


def _label_issues(classes: Sequence[str], texts: Sequence[str], name: Json) -> Json:
    rows = [
        {
            "row": i,
            "split": "val",
            "text": text,
            "label": classes[0],
            "suggested": classes[-1],
            "confidence": 0.01 * (i + 1),
        }
        for i, text in enumerate(texts)
    ]
    return {"rows": rows, "total": len(rows), "shown": len(rows), **name, "reason": None, "command": None}


def _map(rng: np.random.Generator, classes: Sequence[str], feature: str) -> Json:
    points: NDArray[np.float64] = rng.normal(size=(30, 2))
    return {
        "feature": feature,
        "variance": [0.3, 0.2],
        "rows": 60,
        "shown": 30,
        "x": points[:, 0].tolist(),
        "y": points[:, 1].tolist(),
        "label": [i % len(classes) for i in range(30)],
        "row": list(range(30)),
        "split": ["test"] * 30,
        "wrong": [i % 2 for i in range(30)],
    }


def hostile_page_evidence() -> Json:
    """Evidence in which every string that comes from outside is out to do harm."""
    bad = HOSTILE[0]
    evidence = make_evidence(
        HOSTILE, heads=(bad, "dense", "tfidf", "majority"), rows=400, texts=HOSTILE, name=HOSTILE[4], source=HOSTILE[5]
    )
    evidence["run"] = {"command": bad, "created": bad, "versions": {bad: bad}, "options": {bad: [bad]}}
    evidence["dataset"].update(split_rule=bad)
    evidence["dataset"]["sources"] = [{"path": f"{bad}\udcff", "sha256": bad, "role": bad, "rows": 1}]
    evidence["advice"] = {"baselines": bad, "group": bad}
    return evidence
