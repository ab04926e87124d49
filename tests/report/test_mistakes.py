"""The rows that a head has wrong."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics.pairwise import cosine_similarity

from frozenhead.report.mistakes import Judgement, error_rows, mistake_rows
from frozenhead.report.texts import room
from tests.report.examples import HOSTILE, make_corpus, random_corpus

CLASSES = ["a", "b", "c"]


def judgement(corpus: pd.DataFrame, classes: list[str], seed: int = 0) -> dict[str, Any]:
    """The arguments of a `Judgement` but for the corpus: random probabilities for the test rows."""
    rng = np.random.default_rng(seed)
    judged = np.flatnonzero(corpus["split"] == "test")
    probabilities = rng.dirichlet(np.ones(len(classes)), len(judged))
    return {
        "judged": judged,
        "true": np.array([classes.index(label) for label in corpus["label"].iloc[judged]], dtype=np.int64),
        "probabilities": probabilities,
        "predicted": probabilities.argmax(axis=1),
        "wrong_heads": rng.integers(1, 5, len(judged)),
        "classes": classes,
    }


def listed(
    corpus: pd.DataFrame, given: dict[str, Any], vectors: NDArray[Any] | None = None, **changed: Any
) -> dict[str, Any]:
    options = {"heads": 4, "kinds": np.full(len(corpus), None, object), "feature": "f", "head": "h", "split": "test"}
    return mistake_rows(Judgement(corpus=corpus, **given), vectors=vectors, **{**options, **changed})


def test_every_error_and_no_other_row_is_listed_the_most_confident_first() -> None:
    corpus = random_corpus(CLASSES, rows=240)
    given = judgement(corpus, CLASSES)
    table = error_rows(Judgement(corpus=corpus, **given))
    expected = {}
    for i, position in enumerate(given["judged"]):
        t, p = given["true"][i], given["predicted"][i]
        if t != p:
            expected[100 + position] = (
                "test", f"text {position}", CLASSES[t], CLASSES[p], given["probabilities"][i, p],
                given["probabilities"][i, t], given["wrong_heads"][i],
            )  # fmt: skip
    assert {row: tuple(rest) for row, *rest in table.itertuples(index=False)} == expected
    assert list(table) == [
        "row", "split", "text", "truth", "predicted", "probability", "of_truth", "wrong_heads",
    ]  # fmt: skip
    assert table["probability"].is_monotonic_decreasing
    assert (table.index + 100 == table["row"]).all()


def test_equal_confidence_is_broken_by_the_row_number() -> None:
    corpus = random_corpus(CLASSES, rows=60).iloc[::-1]
    given = judgement(corpus, CLASSES)
    given["probabilities"] = np.full_like(given["probabilities"], 1 / 3)
    assert error_rows(Judgement(corpus=corpus, **given))["row"].is_monotonic_increasing


def test_a_prediction_below_the_largest_probability_has_its_own_probability() -> None:
    """A threshold can decide for the less probable class."""
    corpus = make_corpus(["x", "y"], ["a", "b"], ["train", "test"])
    given: dict[str, Any] = {
        "judged": np.array([1]), "true": np.array([1]), "predicted": np.array([0]), "wrong_heads": np.array([1]),
        "probabilities": np.array([[0.2, 0.8]]), "classes": ["a", "b"],
    }  # fmt: skip
    (row,) = listed(corpus, given)["rows"]
    assert (row["probability"], row["of_truth"]) == (0.2, 0.8)


def test_the_list_holds_the_same_errors_as_positions_with_their_copies_and_heads() -> None:
    corpus = random_corpus(CLASSES, rows=240)
    given = judgement(corpus, CLASSES)
    kinds = np.full(240, None, object)
    kinds[given["judged"][:20]] = "near"
    block, table = listed(corpus, given, kinds=kinds), error_rows(Judgement(corpus=corpus, **given))
    assert {key: block[key] for key in ("feature", "head", "split", "total", "shown", "heads", "texts")} == {
        "feature": "f", "head": "h", "split": "test", "total": len(table), "shown": len(table), "heads": 4, "texts": {},
    }  # fmt: skip
    for row, at, error in zip(block["rows"], table.index.to_numpy(), table.to_dict("records"), strict=True):
        assert (row["row"], row["text"], row["wrong_heads"]) == (error["row"], error["text"], error["wrong_heads"])
        assert (CLASSES[row["truth"]], CLASSES[row["predicted"]]) == (error["truth"], error["predicted"])
        assert row["probability"] == pytest.approx(error["probability"], rel=1e-5)
        assert row["copy"] == kinds[at]
        assert row["neighbours"] == []
    assert {row["copy"] for row in block["rows"]} == {None, "near"}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_neighbours_are_the_nearest_distinct_training_texts(dtype: str) -> None:
    corpus = random_corpus(CLASSES, rows=240, copies=60)
    texts = corpus["text"].str.removeprefix("text ").astype(int).to_numpy()
    vectors = (np.random.default_rng(1).normal(size=(240, 24)) + 3)[texts].astype(dtype)  # of equal texts the same
    given = judgement(corpus, CLASSES)
    block = listed(corpus, given, vectors)
    train = corpus[corpus["split"] == "train"]
    centre = vectors[train.index].mean(axis=0, dtype=np.float64)
    distinct = train.drop_duplicates(["text", "label"])
    assert len(distinct) < len(train)
    for row in block["rows"]:
        alike = cosine_similarity(vectors[[row["row"] - 100]] - centre, vectors[distinct.index] - centre)[0]
        best = np.argsort(-alike.round(9), kind="stable")[:3]
        assert [one["row"] for one in row["neighbours"]] == distinct["row"].iloc[best].tolist()
        np.testing.assert_allclose([one["cosine"] for one in row["neighbours"]], alike[best], rtol=0, atol=6e-5)
    named = {one["row"] for row in block["rows"] for one in row["neighbours"]}
    assert block["texts"] == {
        str(row): {"text": corpus["text"][row - 100], "label": CLASSES.index(corpus["label"][row - 100])}
        for row in named
    }


def test_the_order_of_the_rows_does_not_matter() -> None:
    corpus = random_corpus(CLASSES, rows=120)
    vectors = np.random.default_rng(1).normal(size=(120, 8))
    given = judgement(corpus, CLASSES)
    order = np.random.default_rng(2).permutation(120)
    moved = {**given, "judged": np.argsort(order)[given["judged"]]}
    assert listed(corpus.iloc[order], moved, vectors[order]) == listed(corpus, given, vectors)


@pytest.mark.parametrize("vectors", [np.zeros((120, 4)), np.full((120, 4), 7.0), None])
def test_vectors_without_a_direction_leave_cosines_at_0(vectors: NDArray[Any] | None) -> None:
    corpus = random_corpus(CLASSES, rows=120)
    for row in listed(corpus, judgement(corpus, CLASSES), vectors)["rows"]:
        assert [one["cosine"] for one in row["neighbours"]] == ([] if vectors is None else [0.0] * 3)


def test_fewer_training_texts_than_neighbours_and_no_errors_are_fine() -> None:
    corpus = make_corpus(["x", "y", "z"], ["a", "a", "b"], ["train", "test", "test"])
    given: dict[str, Any] = {
        "judged": np.array([1, 2]), "true": np.array([0, 1]), "predicted": np.array([0, 0]),
        "wrong_heads": np.array([0, 1]), "probabilities": np.array([[0.9, 0.1], [0.6, 0.4]]), "classes": ["a", "b"],
    }  # fmt: skip
    (row,) = listed(corpus, given, np.eye(3))["rows"]
    assert [one["row"] for one in row["neighbours"]] == [100]
    right = {**given, "predicted": given["true"]}
    assert (listed(corpus, right, np.eye(3))["total"], listed(corpus, right, np.eye(3))["rows"]) == (0, [])


def test_the_list_is_capped_by_rows_and_by_room_and_texts_stay_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 400
    texts = [HOSTILE[i % len(HOSTILE)] + f" {i}" for i in range(n)]
    corpus = make_corpus(texts, ["a", "b"] * (n // 2), ["train"] * (n // 2) + ["test"] * (n // 2))
    given = judgement(corpus, ["a", "b"])
    vectors = np.random.default_rng(0).normal(size=(n, 4))
    assert listed(corpus, given, vectors, most=7)["shown"] == 7
    whole = listed(corpus, given, vectors)
    assert whole["shown"] == whole["total"]
    assert any(row["text"].startswith("<script>") for row in whole["rows"])
    monkeypatch.setattr("frozenhead.report.mistakes.ROOM", 20_000)
    cut = listed(corpus, given, vectors)
    assert 0 < cut["shown"] == len(cut["rows"]) < cut["total"] == whole["total"]
    assert cut["rows"] == whole["rows"][: cut["shown"]]
    assert room(cut["rows"]) + room(cut["texts"]) <= 20_000 + 2 * len(cut["rows"])
