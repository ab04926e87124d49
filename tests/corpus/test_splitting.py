"""The split is the reference's; it is disjoint, repeatable, keeps proportions, and never loses a class in silence."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight

from frozenhead.corpus import CorpusOptions, load_corpus
from frozenhead.corpus.classes import encode_labels
from frozenhead.corpus.duplicates import text_codes
from frozenhead.corpus.splitting import (
    SPLITS,
    Shares,
    complete_splits,
    parse_split,
    split_column,
    split_rows,
    unseen_label,
)
from frozenhead.errors import DataError, UsageError

SHARES: Shares = (0.7, 0.15, 0.15)

# Up to four classes, each with rows enough for three splits.
LABELS = st.lists(st.integers(20, 60), min_size=2, max_size=4).map(
    lambda counts: [str(code) for code, count in enumerate(counts) for _ in range(count)]
)
CUTS = st.sampled_from([SHARES, (0.6, 0.2, 0.2), (0.5, 0.3, 0.2), (1 / 3, 1 / 3, 1 / 3)])
SEEDS = st.integers(0, 2**32 - 1)


def as_codes(splits: Sequence[str] | NDArray[np.object_]) -> NDArray[np.int8]:
    return np.array([SPLITS.index(split) for split in splits], np.int8)


def complete(
    splits: NDArray[np.object_], labels: list[str], *, shares: Shares, seed: int, groups: list[str] | None = None
) -> tuple[NDArray[np.object_], str]:
    """`complete_splits`, with names for numbers."""
    codes = None if groups is None else text_codes(groups)
    completed, carved = complete_splits(as_codes(splits), encode_labels(labels), shares=shares, seed=seed, groups=codes)
    return np.array(SPLITS, object)[completed], carved


def test_the_split_is_the_notebooks(shared_data: Path) -> None:
    path = shared_data / "spamdata_v2.csv"
    data = pd.read_csv(path)
    train_text, held_text, _, held_label = train_test_split(
        data["text"], data["label"], random_state=2018, test_size=0.3, stratify=data["label"]
    )
    val_text, test_text = train_test_split(held_text, random_state=2018, test_size=0.5, stratify=held_label)

    frame = load_corpus(path, CorpusOptions()).frame
    for split, expected in (("train", train_text), ("val", val_text), ("test", test_text)):
        assert frame.index[frame["split"] == split].tolist() == sorted(expected.index)
    assert frame["split"].value_counts().to_dict() == {"train": 3900, "val": 836, "test": 836}


def test_the_notebooks_weights_and_leaks_come_out(shared_data: Path) -> None:
    corpus = load_corpus(shared_data / "spamdata_v2.csv", CorpusOptions())
    train, test = (corpus.frame[corpus.frame["split"] == split] for split in ("train", "test"))
    weights = compute_class_weight("balanced", classes=np.array(corpus.classes), y=train["label"])
    assert weights.round(8).tolist() == [0.57743559, 3.72848948]
    copied = test["text"].isin(train["text"])
    assert (copied.sum(), len(test)) == (92, 836)
    assert (copied[test["label"] == "1"].sum(), (test["label"] == "1").sum()) == (25, 112)
    assert "92 of 836 test rows have a text that also stands in train" in corpus.notes


def test_no_copy_crosses_the_notebooks_split_when_grouped(shared_data: Path) -> None:
    corpus = load_corpus(shared_data / "spamdata_v2.csv", CorpusOptions(group_duplicates=True))
    assert corpus.frame.groupby("text")["split"].nunique().max() == 1
    assert not [note for note in corpus.notes if "stands in train" in note]


@given(labels=LABELS, shares=CUTS, seed=SEEDS)
def test_every_class_keeps_its_proportions(labels: list[str], shares: Shares, seed: int) -> None:
    splits = split_rows(labels, shares=shares, seed=seed)
    assert set(splits) == set(SPLITS)
    for label, count in Counter(labels).items():
        for split, share in zip(SPLITS, shares, strict=True):
            rows = sum(a == label and b == split for a, b in zip(labels, splits, strict=True))
            assert abs(rows - share * count) < 3  # two cuts, each off by a row and the class's part of another


@given(labels=LABELS, shares=CUTS, seed=SEEDS)
def test_a_seed_gives_one_split_whatever_the_classes_are_called(labels: list[str], shares: Shares, seed: int) -> None:
    splits = split_rows(labels, shares=shares, seed=seed)
    renamed = ["class " + label for label in labels]  # the same order by code point
    assert (split_rows(renamed, shares=shares, seed=seed) == splits).all()
    assert (split_rows(labels, shares=shares, seed=(seed + 1) % 2**32) != splits).any()


def test_noise_in_the_shares_moves_no_row() -> None:
    # 0.14 + 0.14 is 0.28, and 0.28 * 25 is 7.000000000000001; 0.2 / (0.1 + 0.2) is not quite 2 / 3.
    for rows, shares, sizes in ((50, (0.72, 0.14, 0.14), (36, 7, 7)), (100, (0.7, 0.1, 0.2), (70, 10, 20))):
        counts = Counter(split_rows(["a", "b"] * (rows // 2), shares=shares, seed=0))
        assert tuple(counts[split] for split in SPLITS) == sizes
    assert 0.28 * 25 > 7
    splits = split_rows(["a", "b", "a", "a", "b"] * 5, shares=(0.72, 0.14, 0.14), seed=0)
    assert (splits == "train").sum() == 18


@given(
    rows=st.lists(st.tuples(st.integers(0, 80), st.sampled_from("ab")), min_size=120, max_size=200),
    seed=st.integers(0, 99),
)
@settings(max_examples=30)
def test_copies_stay_in_one_split(rows: list[tuple[int, str]], seed: int) -> None:
    texts = [str(text) for text, _ in rows] + [f"only {row}" for row in range(60)]
    labels = [label for _, label in rows] + ["a", "b"] * 30
    splits = split_rows(labels, shares=SHARES, seed=seed, groups=texts)
    assert pd.Series(splits).groupby(texts).nunique().max() == 1
    sizes = Counter(dict(zip(texts, splits, strict=True)).values())
    assert sizes["val"] + sizes["test"] == -(-len(set(texts)) * 3 // 10)  # 0.3 of the texts, rounded up


@given(labels=LABELS, seed=SEEDS)
def test_grouping_changes_nothing_without_copies(labels: list[str], seed: int) -> None:
    texts = [f"text {-row}" for row in range(len(labels))]
    grouped = split_rows(labels, shares=SHARES, seed=seed, groups=texts)
    assert (grouped == split_rows(labels, shares=SHARES, seed=seed)).all()


@given(labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), shares=CUTS, seed=SEEDS)
def test_few_rows_are_split_well_or_refused(labels: list[str], shares: Shares, seed: int) -> None:
    try:
        splits = split_rows(labels, shares=shares, seed=seed)
    except DataError:
        return
    assert set(zip(labels, splits, strict=True)) == {(label, split) for label in labels for split in SPLITS}


@pytest.mark.parametrize(
    ("labels", "facts"),
    [
        (["a"] * 50 + ["b"], ["'b' has 1 row,", "every split.\n"]),
        (["a"] * 50 + ["b"] * 2, ["'b' has 2 rows", "every split.\n", "about 7 or more", "`--split-column`"]),
        (["a"] * 50 + ["b"] * 2 + ["c"], ["'c' has 1 row,"]),
        (["a"] * 3 + ["b"] * 3 + ["c"] * 3, ["'a' has 3 rows", "2 more classes are too small"]),
    ],
)
def test_a_class_too_small_for_the_splits_is_named(labels: list[str], facts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        split_rows(labels, shares=SHARES, seed=0)
    assert all(fact in str(caught.value) for fact in facts), caught.value


def test_a_class_of_copies_is_too_small_when_grouped() -> None:
    labels = ["a"] * 50 + ["b"] * 20
    texts = [f"text {row}" for row in range(50)] + ["copy"] * 20
    assert split_rows(labels, shares=SHARES, seed=0).shape == (70,)
    with pytest.raises(DataError, match=r"'b' has 20 rows \(1 distinct text\)"):
        split_rows(labels, shares=SHARES, seed=0, groups=texts)


def test_a_class_that_lives_only_beside_others_is_missed_when_grouped() -> None:
    # Every text of class c is mostly of class a: c has no text of its own, and may be absent from a split.
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 2
    texts = [str(row % 30) for row in range(60)] + [f"b {row}" for row in range(30)] + ["0", "1"]
    with pytest.raises(DataError, match="'c' has 2 rows"):
        split_rows(labels, shares=SHARES, seed=0, groups=texts)


@pytest.mark.parametrize(("missing", "rows"), [("val", 18), ("test", 18)])  # 0.15 / 0.85 of 100, rounded up
def test_a_missing_split_is_carved_out_of_train_in_its_ratio(missing: str, rows: int) -> None:
    given_split = "test" if missing == "val" else "val"
    splits = np.array(["train"] * 100 + [given_split] * 20, dtype=object)
    labels = ["a", "b"] * 60
    completed, carved = complete(splits, labels, shares=SHARES, seed=3)
    assert carved == missing
    assert Counter(completed) == {"train": 100 - rows, missing: rows, given_split: 20}
    assert (completed[100:] == given_split).all()
    assert (splits[:100] == "train").all()  # the array given is left as it was
    assert Counter(np.array(labels)[completed == missing]) == {"a": rows // 2, "b": rows // 2}
    aside = train_test_split(np.arange(100), test_size=0.15 / 0.85, random_state=3, stratify=labels[:100])[1]
    assert np.flatnonzero(completed == missing).tolist() == sorted(aside)


def test_val_and_test_missing_are_the_plain_split() -> None:
    labels = ["a", "b"] * 50
    completed, carved = complete(np.array(["train"] * 100, dtype=object), labels, shares=SHARES, seed=5)
    assert carved == "val and test"
    assert (completed == split_rows(labels, shares=SHARES, seed=5)).all()


def test_splits_that_are_all_there_stay() -> None:
    splits = np.array(["test", "train", "val"], dtype=object)
    completed, carved = complete(splits, ["a", "b", "a"], shares=SHARES, seed=0)
    assert (completed.tolist(), carved) == (splits.tolist(), "")


@pytest.mark.parametrize(("rest", "carved"), [("test", {"train", "val"}), ("train", {"train", "val", "test"})])
def test_copies_stay_together_when_a_split_is_carved(rest: str, carved: set[str]) -> None:
    texts = [f"text {row // 3}" for row in range(120)]
    labels = [("a", "b")[row // 3 % 2] for row in range(120)]
    splits = np.array(["train"] * 90 + [rest] * 30, dtype=object)
    completed, _ = complete(splits, labels, shares=SHARES, seed=0, groups=texts)
    assert set(completed[:90]) == carved
    assert pd.Series(completed[:90]).groupby(texts[:90]).nunique().max() == 1


@given(labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), shares=CUTS, seed=SEEDS)
def test_few_rows_are_carved_well_or_refused(labels: list[str], shares: Shares, seed: int) -> None:
    splits = np.array(["train"] * len(labels) + ["test"], dtype=object)
    try:
        completed, _ = complete(splits, [*labels, "a"], shares=shares, seed=seed)
    except DataError:
        return
    expected = {(label, split) for label in labels for split in ("train", "val")}
    assert set(zip(labels, completed[:-1], strict=True)) == expected


def test_a_class_too_small_to_be_carved_is_named() -> None:
    splits = np.array(["train"] * 41 + ["test"] * 2, dtype=object)
    with pytest.raises(DataError, match=r"'b' has 1 row,(.|\n)*about 6 or more"):
        complete(splits, ["a"] * 40 + ["b", "a", "b"], shares=SHARES, seed=0)


def test_splits_without_train_are_refused() -> None:
    with pytest.raises(DataError, match="no row is in the train split"):
        complete(np.array(["val", "test"], dtype=object), ["a", "b"], shares=SHARES, seed=0)


def test_split_names_are_read_in_their_usual_forms() -> None:
    forms = {"train": "train Training", "val": "val Valid VALIDATION dev", "test": "test testing Eval"}
    for split, names in forms.items():
        assert set(split_column([*names.split(), f" {split} "]).tolist()) == {SPLITS.index(split)}


def test_another_split_name_is_refused_with_those_allowed() -> None:
    with pytest.raises(DataError, match=r"'train' \(2\), 'holdout' \(1\).*Expected only train, .*, test, "):
        split_column(["train", "holdout", "train"])


def test_a_label_that_train_lacks_is_found() -> None:
    splits = as_codes(["train", "test", "val"])
    assert unseen_label(encode_labels(["a", "a", "b"]), splits) == 2
    assert unseen_label(encode_labels(["a", "a", "a"]), splits) is None


def test_a_split_is_three_shares() -> None:
    assert parse_split("0.7/0.15/0.15") == (0.7, 0.15, 0.15)
    assert parse_split("0.8/0.1/0.1") == (0.8, 0.1, 0.1)


@pytest.mark.parametrize(
    "split",
    ["", "0.7/0.3", "0.7/0.15/0.14", "70/15/15", "1/0/0", "1.2/-0.1/-0.1", "a/b/c", "nan/nan/nan", "0.7,0.15,0.15"],
)
def test_a_wrong_split_is_refused_with_an_example(split: str) -> None:
    with pytest.raises(UsageError, match=r"0\.7/0\.15/0\.15"):
        parse_split(split)
