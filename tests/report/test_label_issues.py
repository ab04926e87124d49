"""Labels that heads which never saw the row do not believe."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from frozenhead.report.label_issues import INSTALL, label_issues
from tests.report.examples import HOSTILE, make_corpus, random_corpus

AB = ["a", "b"]
OF = {"feature": "minilm.mean", "head": "logreg", "folder": "my run"}


@pytest.fixture
def _cleanlab() -> None:
    pytest.importorskip("cleanlab", reason="cleanlab, the extra `labels`, is not installed")


def make_folds(corpus: pd.DataFrame, classes: list[str], probabilities: NDArray[np.float64]) -> pd.DataFrame:
    folds = corpus[["row", "split", "label"]].assign(fold=0)
    return pd.concat([folds, pd.DataFrame(probabilities, corpus.index, [f"prob_{name}" for name in classes])], axis=1)


def planted(
    classes: list[str], rows: int, every: int, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame, dict[int, str]]:
    """A corpus in which every so many-th row has the label of the next class, folds that know better, and the truth."""
    corpus = random_corpus(classes, rows=rows)
    truth = np.array([classes.index(label) for label in corpus["label"]])
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(len(classes)), rows) * 0.3
    probabilities[np.arange(rows), truth] += 0.7
    flipped = np.arange(0, rows, every)
    for at in flipped:
        corpus.loc[at, "label"] = classes[(truth[at] + 1) % len(classes)]
    return corpus, make_folds(corpus, classes, probabilities), {100 + int(at): classes[truth[at]] for at in flipped}


@pytest.mark.usefixtures("_cleanlab")
@pytest.mark.parametrize("classes", [AB, ["a", "b", "c", "d"]])
def test_planted_label_errors_are_found_with_the_true_label(classes: list[str]) -> None:
    corpus, folds, flipped = planted(classes, 400, every=13)
    block = label_issues(folds, corpus, classes, **OF)
    found = {row["row"]: row["suggested"] for row in block["rows"]}
    assert found.items() <= flipped.items()  # none but the planted ones
    assert len(found) == block["total"] == block["shown"] >= 0.9 * len(flipped)
    assert (block["feature"], block["head"], block["reason"], block["command"]) == ("minilm.mean", "logreg", None, None)
    confidences = [row["confidence"] for row in block["rows"]]
    assert confidences == sorted(confidences)
    for row in block["rows"]:
        stored = corpus.loc[row["row"] - 100]
        assert (row["split"], row["text"], row["label"]) == (stored["split"], stored["text"], stored["label"])
        assert row["confidence"] == pytest.approx(folds.loc[row["row"] - 100, f"prob_{row['label']}"], rel=1e-5)


@pytest.mark.usefixtures("_cleanlab")
def test_the_order_of_the_rows_does_not_matter() -> None:
    corpus, folds, _ = planted(AB, 200, every=11)
    shuffled = label_issues(folds.sample(frac=1, random_state=1), corpus.sample(frac=1, random_state=2), AB, **OF)
    assert shuffled == label_issues(folds, corpus, AB, **OF)


@pytest.mark.usefixtures("_cleanlab")
def test_nothing_is_said_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    corpus, folds, _ = planted([f"c{c:02}" for c in range(40)], 200, every=7)
    label_issues(folds, corpus, [f"c{c:02}" for c in range(40)], **OF)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("_cleanlab")
def test_a_thousand_classes_and_labels_without_errors_are_fine() -> None:
    classes = [f"c{c:04}" for c in range(1000)]
    corpus, folds, flipped = planted(classes, 3000, every=100)
    found = {row["row"] for row in label_issues(folds, corpus, classes, **OF)["rows"]}
    assert found <= set(flipped)
    corpus, folds, _ = planted(AB, 60, every=61)
    folds["prob_a"] = np.where(corpus["label"] == "a", 0.9, 0.1)
    folds["prob_b"] = 1 - folds["prob_a"]
    assert label_issues(folds, corpus, AB, **OF)["rows"] == []


@pytest.mark.usefixtures("_cleanlab")
def test_labels_swapped_in_the_spam_collection_are_found(shared_data: Path) -> None:
    """Out-of-fold probabilities of TF-IDF with logistic regression; 60 labels are turned."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline

    table = pd.read_csv(shared_data / "spamdata_v2.csv")
    texts, labels = table["text"].astype(str).tolist(), table["label"].astype(str).to_numpy(dtype=object)
    turned = np.random.default_rng(0).choice(len(labels), 60, replace=False)
    labels[turned] = np.where(labels[turned] == "0", "1", "0")
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, class_weight="balanced"))
    probabilities = cross_val_predict(model, texts, labels, cv=5, method="predict_proba")
    corpus = make_corpus(texts, labels.tolist(), ["train"] * len(labels))
    block = label_issues(make_folds(corpus, ["0", "1"], probabilities), corpus, ["0", "1"], **OF)
    found = [row["row"] - 100 for row in block["rows"]]
    assert len(set(turned) & set(found)) >= 50
    assert len(set(turned) & set(found[:50])) >= 40  # the planted ones lead the list


def test_without_folds_the_block_says_what_to_run() -> None:
    block = label_issues(None, random_corpus(AB, rows=8), AB, **OF)
    assert block["rows"] == []
    assert block["command"] == "frozenhead fit 'my run' --features minilm.mean --head logreg --folds 5"
    assert block["reason"]
    block = label_issues(None, random_corpus(AB, rows=8), AB, feature="text", head="tfidf", folder="RUN")
    assert block["command"] == "frozenhead fit RUN --head tfidf --folds 5"


def test_without_cleanlab_the_block_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, folds, _ = planted(AB, 60, every=7)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "cleanlab" else find_spec(name, *rest)
    )
    block = label_issues(folds, corpus, AB, **OF)
    assert (block["rows"], block["total"], block["command"]) == ([], 0, INSTALL)
    assert "cleanlab" in block["reason"]


def test_cleanlab_is_imported_only_when_it_is_called() -> None:
    program = "import sys, frozenhead.report.label_issues as i; assert 'cleanlab' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.usefixtures("_cleanlab")
def test_the_list_is_cut_and_says_so_and_texts_stay_raw() -> None:
    n = 3000
    labels = ["a", "b"] * (n // 2)
    corpus = make_corpus([HOSTILE[i % 9] for i in range(n)], labels, ["train"] * n)
    own = np.where(np.arange(n) % 3 == 0, 0.05, 0.95)  # a third is wrong
    first = np.where(np.array(labels) == "a", own, 1 - own)
    block = label_issues(make_folds(corpus, AB, np.stack([first, 1 - first], axis=1)), corpus, AB, **OF)
    assert block["total"] > block["shown"] == len(block["rows"])
    assert {row["text"] for row in block["rows"]} <= set(HOSTILE)
    assert len(json.dumps(block)) < 310_000


def test_folds_of_another_corpus_are_refused() -> None:
    corpus, folds, _ = planted(AB, 60, every=7)
    wrong: list[tuple[pd.DataFrame, str]] = [
        (folds.drop(columns="prob_b"), "no column 'prob_b'"),
        (folds.iloc[1:], "59 rows that are not the 60"),
        (folds.assign(row=folds["row"] + 1), "are not the 60 rows"),
        (folds.assign(label=folds["label"].where(folds["row"] != 105, "z")), "row 105 has another label"),
        (folds.assign(prob_a=0.9, prob_b=0.9), "does not hold probabilities"),
    ]
    for broken, message in wrong:
        with pytest.raises(ValueError, match=message):
            label_issues(broken, corpus, AB, **OF)
