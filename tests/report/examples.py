"""Small runs with known answers, made by hand or from a seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.report import HeadEvidence

HOSTILE = (
    "<script>alert(1)</script>",
    "{{7*7}}",
    "[bold]markup[/bold]",
    "$\\frac{1}{0}$",
    '"><img src=http://evil.example/x.png>',
    "\u202egnp.exe\u202c",
    "\x1b[31mred\x00",
    "😀 שלום ไทย 中文",
    "",
    "&amp; #010203 " + "long " * 100,
)

RUN: dict[str, Any] = {
    "command": "frozenhead embed messages.csv --max-length 25 --out run",
    "created": "2026-05-04T10:11:12Z",
    "versions": {"python": "3.11.9", "frozenhead": "0.1.0"},
    "columns": {"text": "text", "label": "label"},
    "options": {"precision": "fp32", "max_length": 25},
    "split": {"rule": "two stratified draws, 0.7/0.15/0.15, seed 2018", "counts": {}},
    "sources": [{"path": "messages.csv", "sha256": "5f" * 32, "role": "data", "rows": 200}],
}


def make_corpus(texts: Sequence[str], labels: Sequence[str], splits: Sequence[str]) -> pd.DataFrame:
    """A corpus whose rows are numbered from 100, so that no row number is a position."""
    columns = {
        "text": texts,
        "label": labels,
        "split": splits,
        "key": [text.encode("utf-8", "replace") for text in texts],
    }
    table = pd.DataFrame(columns, dtype=object)
    table.insert(0, "row", np.arange(100, 100 + len(table), dtype=np.int64))
    return table


def random_corpus(classes: Sequence[str], *, rows: int, copies: int = 0, seed: int = 0) -> pd.DataFrame:
    """`rows` rows of which the last `copies` repeat the first, each class in each split."""
    rng = np.random.default_rng(seed)
    labels = [classes[i % len(classes)] for i in range(rows)]
    splits = rng.permutation(np.array(["train", "train", "val", "test"])[np.arange(rows) // len(classes) % 4])
    splits[: len(classes)] = "train"
    texts = [f"text {i if i < rows - copies else i - (rows - copies)}" for i in range(rows)]
    return make_corpus(texts, labels, splits.tolist())


def make_head(
    corpus: pd.DataFrame,
    classes: Sequence[str],
    *,
    head: str = "dense",
    feature: str = "minilm.pooler",
    skill: float = 2.0,
    epochs: int = 0,
    seed: int = 0,
    probabilities: NDArray[np.float64] | None = None,
) -> HeadEvidence:
    """A head that gives these probabilities (n, K) for the judged rows, or guesses with some skill."""
    judged = corpus[corpus["split"] != "train"]
    if probabilities is None:
        rng = np.random.default_rng(seed)
        truth = np.array([list(classes).index(label) for label in judged["label"]], dtype=np.int64)
        scores = rng.normal(size=(len(judged), len(classes)))
        scores[np.arange(len(judged)), truth] += skill
        probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    predicted = [classes[c] for c in probabilities.argmax(axis=1)]
    table = (
        judged[["row", "split", "label"]].reset_index(drop=True).assign(predicted=pd.Series(predicted, dtype=object))
    )
    columns = pd.DataFrame(probabilities, columns=[f"prob_{name}" for name in classes])
    history = [
        {"epoch": epoch, "train_loss": 1 / epoch, "val_loss": 1 / epoch + 0.01 * epoch}
        for epoch in range(1, epochs + 1)
    ]
    info: Mapping[str, Any] = {
        "classes": list(classes),
        "params": {"lr": 1e-3},
        "class_weights": None,
        "best_epoch": epochs or None,
        "fit_seconds": 1.25,
        "seed": 2018,
    }
    return HeadEvidence(
        feature=feature, head=head, info=info, history=history, predictions=pd.concat([table, columns], axis=1)
    )


def make_feature(
    corpus: pd.DataFrame, classes: Sequence[str], *, encoder: str = "minilm", limit: int = 25, windows: bool = False
) -> dict[str, Any]:
    """features/<name>.json with 10 to 40 tokens per text; of longer texts each has 2 windows, or is cut."""
    tokens = 10 + np.arange(len(corpus)) % 31
    lengths = {}
    per_class = {}

    def count(some: NDArray[np.int64]) -> dict[str, Any]:
        longer = int((some > limit).sum())
        share = longer / max(len(some), 1)
        if windows:
            read = {"windowed": longer, "windowed_share": share, "windows": 2 * longer}
            return {"rows": len(some), "truncated": 0, "share": 0.0, **read}
        return {"rows": len(some), "truncated": longer, "share": share}

    for name in classes:
        of_class = tokens[(corpus["label"] == name).to_numpy()]
        lengths[name] = {str(n): int(rows) for n, rows in zip(*np.unique(of_class, return_counts=True), strict=True)}
        per_class[name] = count(of_class)
    return {
        "encoder": {"name": encoder, "model": encoder},
        "pooling": "pooler",
        "max_length": limit,
        "truncation": {"max_length": limit, **count(tokens), "per_class": per_class},
        "lengths": lengths,
    }
