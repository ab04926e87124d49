"""The map of the vectors, beside scikit-learn's PCA."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from frozenhead.report import projection
from frozenhead.report.projection import plane
from tests.report.examples import random_corpus

AB = ["a", "b"]


def mapped(corpus: pd.DataFrame, vectors: NDArray[Any], classes: list[str] | None = None, **options: Any) -> Any:
    wrong = np.full(len(corpus), -1)
    return plane(corpus, vectors, classes or AB, wrong, feature="minilm.mean", **options)


def points(found: dict[str, Any]) -> NDArray[np.float64]:
    return np.array([found["x"], found["y"]]).T


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("D", [2, 3, 40])
def test_points_and_shares_are_those_of_scikit_learn(dtype: str, D: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "_BLOCK", 37)
    rng = np.random.default_rng(0)
    vectors = (
        rng.normal(size=(300, D)) * np.geomspace(2, 0.1, D) @ np.linalg.qr(rng.normal(size=(D, D)))[0] + 9
    ).astype(dtype)
    corpus = random_corpus(AB, rows=300)
    found = mapped(corpus, vectors)
    pca = PCA(2, svd_solver="full").fit(vectors.astype(np.float64))
    np.testing.assert_allclose(found["variance"], pca.explained_variance_ratio_, rtol=0, atol=1e-6)
    largest = pca.components_[[0, 1], np.abs(pca.components_).argmax(axis=1)]
    expected = pca.transform(vectors.astype(np.float64)) * np.sign(largest)
    np.testing.assert_allclose(points(found), expected, rtol=0, atol=5e-4 * np.ptp(expected, axis=0).max())
    assert found["row"] == corpus["row"].tolist()


def test_each_point_tells_its_row_label_split_and_whether_the_head_erred() -> None:
    corpus = random_corpus(["x", "a", "m"], rows=50)
    wrong = np.where(corpus["split"] == "test", np.arange(50) % 2, -1)
    found = plane(corpus, np.random.default_rng(0).normal(size=(50, 5)), ["x", "a", "m"], wrong, feature="f")
    assert found is not None
    assert [["x", "a", "m"][c] for c in found["label"]] == corpus["label"].tolist()
    assert found["split"] == corpus["split"].tolist()
    assert found["wrong"] == [None if one < 0 else one for one in wrong.tolist()]
    assert (found["rows"], found["shown"], found["feature"]) == (50, 50, "f")


def test_the_order_of_the_rows_and_the_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = random_corpus(AB, rows=400)
    vectors = np.random.default_rng(0).normal(size=(400, 6)) * [3, 2, 1, 1, 1, 1]
    before = mapped(corpus, vectors, most=100)
    order = np.random.default_rng(1).permutation(400)
    monkeypatch.setattr(projection, "_BLOCK", 11)
    assert mapped(corpus.iloc[order], vectors[order], most=100) == before


@pytest.mark.parametrize(("K", "rows"), [(3, 900), (200, 4000)])
def test_a_sample_has_every_class_and_keeps_their_proportions(K: int, rows: int) -> None:
    classes = [f"c{c:03}" for c in range(K)]
    corpus = random_corpus(classes, rows=rows)
    corpus.loc[corpus.index[2 * K :], "label"] = classes[0]  # of all others there are two rows
    found = mapped(corpus, np.random.default_rng(0).normal(size=(rows, 4)), classes, most=300)
    counts = np.bincount(found["label"], minlength=K)
    assert found["shown"] == len(found["row"]) == counts.sum() == 300
    assert counts.min() >= 1
    assert abs(counts[0] / 300 - (rows - 2 * K + 2) / rows) <= K / 300
    assert found["row"] == sorted(found["row"])


def test_more_classes_than_points_are_as_many_as_there_is_room_for() -> None:
    classes = [f"c{c:04}" for c in range(1000)]
    found = mapped(
        random_corpus(classes, rows=4000), np.random.default_rng(0).normal(size=(4000, 4)), classes, most=300
    )
    assert found["shown"] == len(set(found["label"])) == 300


def test_a_large_corpus_is_fitted_on_a_sample_and_5000_points_take_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(6000, 8)) * [5, 3, 1, 1, 1, 1, 1, 1]
    corpus = random_corpus(AB, rows=6000)
    whole = mapped(corpus, vectors)
    assert whole["shown"] == 5000
    assert len(json.dumps(whole)) < 300_000
    monkeypatch.setattr(projection, "FITTED", 3000)
    sampled = mapped(corpus, vectors)
    assert sampled["variance"] != whole["variance"]
    np.testing.assert_allclose(sampled["variance"], whole["variance"], atol=0.03)


@pytest.mark.parametrize("vector", [np.zeros(8), np.full(8, 0.1), np.arange(8) / 7])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_constant_vectors_have_no_map(vector: NDArray[np.float64], dtype: str) -> None:
    assert mapped(random_corpus(AB, rows=33), np.tile(vector, (33, 1)).astype(dtype)) is None


def test_vectors_of_one_number_lie_on_a_line() -> None:
    found = mapped(random_corpus(AB, rows=30), np.arange(30.0)[:, None])
    assert found["variance"] == [1.0, 0.0]
    assert found["y"] == [0.0] * 30
    assert found["x"] == (np.arange(30.0) - 14.5).tolist()


def test_a_vector_that_is_not_finite_is_refused() -> None:
    vectors = np.ones((30, 4), np.float32)
    vectors[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        mapped(random_corpus(AB, rows=30), vectors)
