"""Texts that carry more than one label."""

import json

import numpy as np

from frozenhead.report.conflicts import MOST, MOST_ROWS, label_conflicts
from tests.report.examples import HOSTILE, make_corpus


def test_texts_equal_but_for_case_and_space_conflict_if_their_labels_differ() -> None:
    rows = [
        ("Ok lor", "ham", "train"),
        ("alone", "ham", "train"),
        ("win", "spam", "train"),
        ("ok  LOR\n", "spam", "test"),
        ("Win", "ham", "val"),
        ("WIN ", "spam", "test"),
        ("twice", "ham", "train"),
        ("twice", "ham", "test"),
    ]
    found = label_conflicts(make_corpus(*zip(*rows, strict=True)))
    assert found == {
        "texts": 2,
        "rows": 5,
        "shown": 2,
        "examples": [
            {
                "text": "win",
                "labels": {"spam": 2, "ham": 1},
                "splits": {"train": 1, "val": 1, "test": 1},
                "rows": [102, 104, 105],
            },
            {"text": "Ok lor", "labels": {"ham": 1, "spam": 1}, "splits": {"train": 1, "test": 1}, "rows": [100, 103]},
        ],
    }
    assert list(found["examples"][0]["labels"]) == ["spam", "ham"]  # most first


def test_the_order_of_the_rows_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    texts, labels = rng.choice(["a", "A", "b ", "B", "c"], 60).tolist(), rng.choice(["x", "y", "z"], 60).tolist()
    corpus = make_corpus(texts, labels, ["train"] * 60)
    assert label_conflicts(corpus.sample(frac=1, random_state=1)) == label_conflicts(corpus)


def test_no_rows_and_no_conflicts_give_an_empty_block() -> None:
    nothing = {"texts": 0, "rows": 0, "shown": 0, "examples": []}
    assert label_conflicts(make_corpus([], [], [])) == nothing
    assert label_conflicts(make_corpus(["a", "b"], ["x", "y"], ["train", "test"])) == nothing


def test_long_lists_are_cut_and_texts_stay_raw() -> None:
    texts = [f"{text}{i // 2}" for text in HOSTILE for i in range(100)] + ["same"] * 200
    found = label_conflicts(make_corpus(texts, ["a", "b"] * (len(texts) // 2), ["train"] * len(texts)))
    assert found["texts"] == 501
    assert found["shown"] == len(found["examples"]) <= MOST
    assert found["examples"][0]["labels"] == {"a": 100, "b": 100}
    assert len(found["examples"][0]["rows"]) == MOST_ROWS
    assert any(example["text"].startswith("<script>") for example in found["examples"])
    assert len(json.dumps(found)) < 160_000
