"""Copies of training rows: each kind, the strictest first, and what is said of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from frozenhead.report.copies import MOST, Copies, find_copies, repeats
from tests.report.examples import HOSTILE, make_corpus, random_corpus

# text, label, split, and the direction of its vector in degrees
HAND_MADE = [
    ("Call now", "spam", "train", 0),
    ("Call now", "ham", "train", 0),  # a second one, which is not named
    ("Hello", "ham", "train", 90),
    ("good night", "ham", "train", 180),
    ("see you", "ham", "train", 270),
    ("Call now", "spam", "test", 0),  # exact
    (" call\\tNOW ", "spam", "test", 45),  # folded, though its vector is far
    ("Call now!", "spam", "test", 10),  # near
    ("Hello there", "ham", "test", 50),
    ("HELLO", "ham", "val", 90),  # folded
    ("hello", "spam", "val", 90),  # folded
    ("hello.", "ham", "val", 88),  # near
]


@pytest.fixture
def corpus() -> pd.DataFrame:
    texts, labels, splits, _ = zip(*HAND_MADE, strict=True)
    return make_corpus([text.replace("\\t", "\t") for text in texts], labels, splits)


@pytest.fixture
def vectors() -> NDArray[np.float32]:
    angles = np.deg2rad([angle for *_, angle in HAND_MADE])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def found(corpus: pd.DataFrame, vectors: NDArray[Any] | None = None, threshold: float = 0.95) -> Copies:
    return find_copies(corpus, vectors, threshold=threshold, feature="minilm.mean")


def test_a_row_counts_under_the_strictest_kind(corpus: pd.DataFrame, vectors: NDArray[np.float32]) -> None:
    copies = found(corpus, vectors)
    assert copies.kind.tolist() == [None] * 5 + ["exact", "folded", "near", None, "folded", "folded", "near"]
    assert (copies.kind == "exact").tolist() == [False] * 5 + [True] + [False] * 6
    assert copies.any.tolist() == [kind is not None for kind in copies.kind]
    splits = copies.block["splits"]
    assert {name: splits["test"][name] for name in ("rows", "exact", "folded", "near")} == {
        "rows": 4, "exact": 1, "folded": 1, "near": 1,
    }  # fmt: skip
    assert splits["val"]["per_class"] == {
        "ham": {"rows": 2, "exact": 0, "folded": 1, "near": 1},
        "spam": {"rows": 1, "exact": 0, "folded": 1, "near": 0},
    }


def test_the_strictest_are_listed_first_and_near_ones_by_cosine(
    corpus: pd.DataFrame, vectors: NDArray[np.float32]
) -> None:
    block = found(corpus, vectors).block
    assert [(row["kind"], row["row"], row["of_row"]) for row in block["rows"]] == [
        ("exact", 105, 100),
        ("folded", 106, 100),
        ("folded", 109, 102),
        ("folded", 110, 102),
        ("near", 111, 102),
        ("near", 107, 100),
    ]
    last = block["rows"][-1]
    assert last["of_label"] == "spam"
    assert (block["total"], block["shown"], block["threshold"], block["feature"]) == (6, 6, 0.95, "minilm.mean")
    train = vectors[:5].astype(np.float64)
    a, b = vectors[7] - train.mean(axis=0), train[0] - train.mean(axis=0)
    assert block["centred"]
    assert last["cosine"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-8)
    assert [row["cosine"] for row in block["rows"][:4]] == [None] * 4


def test_without_vectors_no_near_copy_is_looked_for(corpus: pd.DataFrame) -> None:
    block = found(corpus).block
    assert (block["feature"], block["centred"], block["total"]) == (None, False, 4)


def test_the_order_of_the_rows_does_not_matter(corpus: pd.DataFrame, vectors: NDArray[np.float32]) -> None:
    order = np.random.default_rng(0).permutation(len(corpus))
    before, after = found(corpus, vectors), found(corpus.iloc[order], vectors[order])
    assert after.block == before.block
    assert after.kind.tolist() == before.kind[order].tolist()


def test_a_common_direction_does_not_make_texts_copies() -> None:
    """Without the centre every pair here has a cosine above 0.99; of the planted one nothing changes."""
    rng = np.random.default_rng(0)
    corpus = random_corpus(["a", "b"], rows=200)
    vectors = (rng.normal(size=(200, 32)) + 50).astype(np.float16)
    test, train = (int(np.flatnonzero(corpus["split"] == split)[0]) for split in ("test", "train"))
    vectors[test] = vectors[train]
    block = found(corpus, vectors).block
    assert [(row["row"], row["of_row"], row["cosine"]) for row in block["rows"]] == [(100 + test, 100 + train, 1.0)]


@pytest.mark.parametrize("vector", [np.zeros(8), np.full(8, 2.0)])
def test_constant_vectors_make_no_copies(vector: NDArray[np.float64]) -> None:
    corpus = random_corpus(["a", "b"], rows=40)
    assert not found(corpus, np.tile(vector, (40, 1)).astype(np.float16)).any.any()


@pytest.mark.parametrize("missing", ["train", "test", "val"])
def test_a_split_without_rows_gives_counts_of_none(missing: str) -> None:
    corpus = random_corpus(["a", "b"], rows=60, copies=30)
    corpus = corpus[corpus["split"] != missing]
    copies = found(corpus, np.random.default_rng(0).normal(size=(len(corpus), 4)))
    if missing == "train":
        assert copies.block["total"] == 0
    else:
        assert copies.block["splits"][missing]["rows"] == 0
        assert copies.block["splits"][missing]["per_class"]["a"] == {"rows": 0, "exact": 0, "folded": 0, "near": 0}
        assert copies.block["total"] > 0


def test_a_thousand_classes_are_counted_each() -> None:
    classes = [f"class {c:04}" for c in range(1000)]
    corpus = random_corpus(classes, rows=4000, copies=1000)
    splits = found(corpus).block["splits"]
    for name in ("val", "test"):
        assert list(splits[name]["per_class"]) == classes
        for kind in ("rows", "exact"):
            assert splits[name][kind] == sum(one[kind] for one in splits[name]["per_class"].values())
        train = set(corpus.loc[corpus["split"] == "train", "text"])
        rows = corpus[corpus["split"] == name]
        assert splits[name]["exact"] == rows["text"].isin(train).sum() > 0


def test_the_list_is_cut_and_says_so_and_texts_stay_raw() -> None:
    texts = list(HOSTILE) * 200
    corpus = make_corpus(texts, ["a", "b"] * 1000, ["train"] * 10 + ["test"] * 1990)
    block = found(corpus).block
    assert block["total"] == 1990
    assert block["shown"] == len(block["rows"]) <= MOST
    assert len(json.dumps(block["rows"])) < 400_000
    assert {row["text"] for row in block["rows"]} >= set(HOSTILE[:9])
    assert max(len(row["text"]) for row in block["rows"]) == 300


def test_long_texts_take_no_more_than_their_room() -> None:
    texts = ["\u05d0" * 400] * 600  # six characters each in JSON
    block = found(make_corpus(texts, ["a", "b"] * 300, ["train"] * 2 + ["test"] * 598)).block
    assert 0 < block["shown"] == len(block["rows"]) < MOST
    assert 390_000 < len(json.dumps(block["rows"])) <= 400_000


def test_vectors_of_another_corpus_are_refused(corpus: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="3 vectors for 12 rows"):
        found(corpus, np.ones((3, 4)))


def test_the_spam_collection_has_the_copies_that_are_known(shared_data: Path) -> None:
    """Counted by pandas alone, on the first 70 % against the rest."""
    table = pd.read_csv(shared_data / "spamdata_v2.csv", encoding="utf-8")
    texts, labels = table["text"].astype(str).tolist(), table["label"].astype(str).tolist()
    cut = int(0.7 * len(texts))
    corpus = make_corpus(texts, labels, ["train"] * cut + ["test"] * (len(texts) - cut))
    counts = found(corpus).block["splits"]["test"]
    plain = pd.Series(texts).str.lower().str.split().str.join(" ")
    exact = pd.Series(texts[cut:]).isin(set(texts[:cut])).sum()
    assert counts["exact"] == exact > 100
    assert counts["exact"] + counts["folded"] == plain[cut:].isin(set(plain[:cut])).sum() > exact


def test_rows_that_repeat_one_another_are_counted_in_their_split() -> None:
    texts = ["one", "two", "a b", "A  b", "a B", "c", "two", "c", "c"]
    splits = ["train", "train", "test", "test", "test", "test", "test", "val", "val"]
    within = found(make_corpus(texts, list("xyxyxyxyx"), splits)).block["within"]
    assert (within["val"]["repeats"], within["test"]["repeats"]) == (1, 2)
    assert within["test"]["widening"] == pytest.approx((11 / 5) ** 0.5)  # texts of 3, 1 and 1 rows: (9 + 1 + 1) / 5
    assert within["val"]["widening"] == pytest.approx(2**0.5)
    nothing = found(make_corpus(["x"], ["a"], ["train"])).block["within"]
    assert nothing == {name: {"repeats": 0, "widening": 1.0} for name in ("val", "test")}


def test_intervals_should_widen_as_means_of_rows_that_are_right_together_spread() -> None:
    sizes = np.array([1] * 40 + [2] * 10 + [7, 13])
    rows = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    right = np.random.default_rng(0).random((40_000, len(sizes))) < 0.8
    spread = (right @ sizes / sizes.sum()).std()
    independent = (0.8 * 0.2 / sizes.sum()) ** 0.5
    assert repeats(rows)["widening"] == pytest.approx(spread / independent, rel=0.02)  # 40,000 draws: 0.35 % deviation
