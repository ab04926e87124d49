"""`fit --folds`: every row predicted once, by a head that never saw it nor a copy of its text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from frozenhead.commands import folds as module
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.folds import assign_folds
from frozenhead.errors import DataError, UsageError
from frozenhead.heads import DenseHead, LogisticHead
from frozenhead.runs import Run
from tests.commands.fits import FEATURE, Trained, fit_small, folder_of, read, vectors_of


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    return Trained(monkeypatch)


@settings(max_examples=60, deadline=None)
@drawn(seed=st.integers(0, 1000), folds=st.integers(2, 6), classes=st.integers(2, 4), rows=st.integers(60, 150))
def test_folds_are_whole_groups_of_every_class(seed: int, folds: int, classes: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([f"c{c}" for c in np.arange(rows) % classes], object)
    groups = np.where(rng.random(rows) < 0.3, rng.integers(0, 5, rows), 100 + np.arange(rows))
    fold = assign_folds(labels, groups, folds, seed=seed)
    assert set(fold) == set(range(folds))
    for group in set(groups):
        assert len(set(fold[groups == group])) == 1


def test_folds_have_the_classes_in_their_shares_where_no_text_is_copied() -> None:
    labels = np.array(["ham"] * 80 + ["spam"] * 20, object)
    fold = assign_folds(labels, np.arange(100), 5, seed=0)
    assert [int((labels[fold == k] == "spam").sum()) for k in range(5)] == [4] * 5
    assert np.bincount(fold).tolist() == [20] * 5
    assert fold.tolist() == assign_folds(labels, np.arange(100), 5, seed=0).tolist()
    assert fold.tolist() != assign_folds(labels, np.arange(100), 5, seed=1).tolist()


def table_of(run: Path, head: str = "dense", feature: str = FEATURE) -> pd.DataFrame:
    return pd.read_parquet(folder_of(run, head, feature) / "folds.parquet")


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_row_is_predicted_by_a_head_that_saw_no_copy_of_its_text(run: Path, folds: int) -> None:
    """The heads are fitted by hand here, on rows chosen here from the folds that are stored."""
    fit_small(run, folds=folds)
    table, corpus = table_of(run), Run.open(run).corpus()
    assert table["row"].tolist() == corpus["row"].tolist()
    assert corpus["key"].nunique() < len(corpus)  # some texts stand twice
    assert (corpus.assign(fold=table["fold"]).groupby("key")["fold"].nunique() == 1).all()
    X, y = vectors_of(run), corpus["label"].to_numpy(object)
    for k in range(folds):
        judged = (table["fold"] == k).to_numpy()
        chooses = (table["fold"] == (k + 1) % folds).to_numpy() if folds > 2 else np.zeros(len(y), bool)
        trains = ~judged & ~chooses
        assert not set(corpus["key"][judged]) & set(corpus["key"][~judged])
        head = DenseHead(hidden=8, epochs=3, random_state=2018)
        if folds == 2:
            head.fit(X[trains], y[trains])
        else:
            head.fit(X[trains], y[trains], validation=(X[chooses], y[chooses])).calibrate(X[chooses], y[chooses])
        found = table.loc[judged, ["prob_ham", "prob_spam"]].to_numpy()
        np.testing.assert_array_equal(found, head.predict_proba(X[judged]))
        assert table.loc[judged, "predicted"].tolist() == head.predict(X[judged]).tolist()


def test_a_threshold_is_chosen_and_applied_in_each_fold(run: Path) -> None:
    fit_small(run, heads=("logreg",), folds=3, threshold="recall:0.99")
    table, corpus, X = table_of(run, "logreg"), Run.open(run).corpus(), vectors_of(run)
    y, fold = corpus["label"].to_numpy(object), table["fold"].to_numpy()
    for k in range(3):
        chooses, trains = fold == (k + 1) % 3, fold == (k + 2) % 3
        head = LogisticHead().fit(X[trains], y[trains]).calibrate(X[chooses], y[chooses])
        head.set_threshold(X[chooses], y[chooses], by="recall", floor=0.99)
        assert table["predicted"][fold == k].tolist() == head.predict(X[fold == k]).tolist()


def test_scores_of_folds_are_those_of_their_predictions(run: Path) -> None:
    folds = fit_small(run, folds=3)["folds"]
    table = table_of(run)
    assert folds == read(run, "folds.json")
    assert (folds["folds"], folds["seed"]) == (3, 2018)
    for block, part in [(folds["all"], table), *((folds["each"][k], table[table["fold"] == k]) for k in range(3))]:
        assert block["rows"] == len(part)
        assert block["accuracy"] == pytest.approx(accuracy_score(part["label"], part["predicted"]), abs=1e-12)
        assert block["macro_f1"] == pytest.approx(
            f1_score(part["label"], part["predicted"], average="macro"), abs=1e-12
        )


def test_texts_and_several_heads_are_judged_in_the_same_folds(run: Path) -> None:
    fit(FitOptions(run=run, heads=("logreg", "tfidf", "majority"), features=(FEATURE,), folds=3))
    tables = [table_of(run, "logreg"), table_of(run, "tfidf", "text"), table_of(run, "majority", "text")]
    assert all(table["fold"].tolist() == tables[0]["fold"].tolist() for table in tables)


def test_folds_that_stand_beside_a_known_head_are_not_trained_again(run: Path, trained: Trained) -> None:
    first = fit_small(run, folds=3)
    assert [len(heads) for heads in trained.take()] == [1, 3]
    assert fit_small(run, folds=3) == {**first, "known": True}
    assert trained.take() == []
    fit_small(run, folds=4)
    assert [len(heads) for heads in trained.take()] == [4]
    fit_small(run, folds=4, seed=1)  # another head
    assert [len(heads) for heads in trained.take()] == [1, 4]
    (folder_of(run) / "folds.parquet").unlink()
    fit_small(run, folds=4, seed=1)
    assert [len(heads) for heads in trained.take()] == [4]
    (folder_of(run) / "folds.json").write_text("{")
    fit_small(run, folds=4, seed=1)
    assert [len(heads) for heads in trained.take()] == [4]


def test_folds_of_another_head_do_not_stay_beside_a_new_one(run: Path) -> None:
    fit_small(run, folds=3)
    assert fit_small(run, seed=1)["folds"] is None
    assert not list(folder_of(run).glob("folds.*"))


def test_more_folds_than_texts_of_a_class_is_bad_data_before_anything_is_trained(run: Path, trained: Trained) -> None:
    corpus = Run.open(run).corpus()
    texts = min(corpus.groupby("label")["key"].nunique())
    with pytest.raises(
        DataError, match=rf"has {texts} distinct texts; {texts + 1} folds[\s\S]*--folds {texts} or fewer"
    ):
        fit_small(run, folds=texts + 1)
    assert trained.take() == []
    assert not folder_of(run).exists()


def test_a_class_of_one_text_is_in_no_folds() -> None:
    labels = np.array(["ham"] * 9 + ["spam"] * 3, object)
    with pytest.raises(
        DataError, match=r"spam has 1 distinct text; 2 folds need 2 of each class.\nGive the class more"
    ):
        assign_folds(labels, np.array([*range(9), 99, 99, 99]), 2, seed=0)


def test_a_class_that_no_training_part_has_is_bad_data(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three folds one trains: fold 1 is judged by heads that fold 3 trained, and it has no spam here."""

    def without_spam(labels: Any, groups: Any, folds: int, *, seed: int) -> Any:
        return np.where(labels == "spam", np.arange(len(labels)) % 2, np.arange(len(labels)) % 3)

    monkeypatch.setattr(module, "assign_folds", without_spam)
    with pytest.raises(DataError, match="For fold 1 of 3 no row of the class spam is left to train on"):
        fit_small(run, folds=3)
    assert not folder_of(run).exists()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"folds": 1}, "at least 2"),
        ({"folds": -1}, "at least 2"),
        ({"folds": 2, "threshold": "f1"}, "at least 3"),
        ({"folds": 3, "views": True}, "leave out --folds"),
    ],
)
def test_wrong_folds_are_wrong_usage(given: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        FitOptions(run=Path("run"), **given)


def test_a_head_that_fails_in_folds_is_kept_and_told_of(run: Path, make_run: Callable[..., Any]) -> None:
    result = fit(FitOptions(run=run, heads=("knn",), features=(FEATURE,), folds=3, sets=("k=60",)))
    assert [one["head"] for one in result["heads"]] == ["knn"]
    assert result["heads"][0]["folds"] is None
    assert "in folds: fold" in result["failed"][0]["error"]
    assert json.loads((folder_of(run, "knn") / "head.json").read_text())["head"] == "knn"
