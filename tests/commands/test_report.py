"""`report`: from the files of a run to its evidence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.report import report
from frozenhead.errors import DataError, HeadNotFound, RunDamaged
from frozenhead.runs import Run

BLOCK = {"accuracy", "balanced_accuracy", "macro_f1", "log_loss", "per_class", "confusion"}


@pytest.fixture
def trained(run: Path) -> Path:
    fit(FitOptions(run=run, heads=("dense", "tfidf"), sets=("epochs=2",)))
    return run


def test_report_json_has_what_the_contract_names(trained: Path) -> None:
    evidence = report(trained)
    assert json.loads((trained / "report.json").read_text()) == evidence
    dataset = {"rows", "classes", "split_counts", "class_weights", "duplicates", "leakage", "truncation"}
    assert dataset <= set(evidence["dataset"])
    assert {"test_rows", "test_rows_in_train", "per_class"} <= set(evidence["dataset"]["leakage"])
    assert len(evidence["heads"]) == 3
    for head in evidence["heads"]:
        assert {"feature", "head", "val", "test", "test_without_leaks", "fit_seconds"} <= set(head)
        assert set(head["test"]) >= BLOCK
        for scores in head["test"]["per_class"].values():
            assert set(scores) == {"precision", "recall", "f1", "support", "average_precision", "roc_auc"}


def test_scores_are_those_of_the_predictions_with_and_without_leaks(trained: Path) -> None:
    corpus = Run.open(trained).corpus()
    in_train = set(corpus[corpus["split"] == "train"]["text"])
    texts = corpus.set_index("row")["text"]
    for head in report(trained)["heads"]:
        path = trained / "heads" / head["feature"] / head["head"] / "predictions.parquet"
        test = pd.read_parquet(path).query("split == 'test'")
        clean = test[~test["row"].map(texts).isin(in_train).to_numpy()]
        assert 0 < len(clean) < len(test)
        for rows, block in ((test, head["test"]), (clean, head["test_without_leaks"])):
            assert block["rows"] == len(rows)
            assert block["accuracy"] == pytest.approx(accuracy_score(rows["label"], rows["predicted"]), abs=1e-12)
            macro = f1_score(rows["label"], rows["predicted"], average="macro", labels=["ham", "spam"], zero_division=0)
            assert block["macro_f1"] == pytest.approx(macro, abs=1e-12)


def test_the_page_stands_beside_and_asks_for_nothing(trained: Path) -> None:
    report(trained)
    page = (trained / "report.html").read_text()
    assert "tiny-bert.mean" in page
    assert "<svg" in page
    assert 'src="http' not in page


def test_predictions_of_another_corpus_are_refused(trained: Path) -> None:
    path = trained / "heads" / "text" / "tfidf" / "predictions.parquet"
    table = pd.read_parquet(path)
    table["label"] = np.roll(table["label"].to_numpy(), 1)
    table.to_parquet(path)
    with pytest.raises(RunDamaged, match="tfidf"):
        report(trained)


def test_nothing_to_report_says_what_to_do(run: Path, make_run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(HeadNotFound, match="frozenhead fit"):
        report(run)
    plain = tmp_path / "plain.csv"
    plain.write_text("text\nhello\n")
    unlabelled = make_run(data=str(plain), out=tmp_path / "plain", corpus={"labelled": False})
    with pytest.raises(DataError, match="unlabelled"):
        report(Path(unlabelled["run"]))
