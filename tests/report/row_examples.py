"""What evidence of format 2 says of single rows: copies, conflicts, mistakes, doubtful labels, points of the map."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]


def make_copies(classes: Sequence[str], judged: int, texts: Sequence[str], *, feature: str) -> Json:
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
        "within": {"val": {"repeats": 0, "widening": 1.0}, "test": {"repeats": 5, "widening": 1.048}},
        "total": len(rows),
        "shown": len(rows),
        "rows": rows,
    }


def make_conflicts(classes: Sequence[str], texts: Sequence[str]) -> Json:
    labels = dict.fromkeys(classes[:2], 1)
    examples = [{"text": text, "labels": labels, "splits": {"train": 1, "val": 1}, "rows": [3, 9]} for text in texts]
    return {"texts": len(examples), "rows": 2 * len(examples), "shown": len(examples), "examples": examples}


def make_mistakes(
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


def make_label_issues(classes: Sequence[str], texts: Sequence[str], name: Json) -> Json:
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


def make_map(rng: np.random.Generator, classes: Sequence[str], feature: str) -> Json:
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
