"""The text baseline is two lines of scikit-learn, and on the reference's data it beats the reference."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from frozenhead.heads import TfidfHead, load_head, save_head

NOTEBOOK_ACCURACY = 0.9725  # (710 + 103) / 836, the notebook's table

ORDER_OF_SUMS = 1e-12  # the same float64 numbers, added up in another order

TEXTS = ["win a prize now", "free prize call now", "see you at home", "call me at home", "win win win", "Home, now!"]
LABELS = ["spam", "spam", "ham", "ham", "spam", "ham"]


@pytest.mark.parametrize("options", [{}, {"ngrams": 1}, {"ngrams": 3, "min_df": 2}, {"C": 0.1, "class_weight": None}])
def test_it_is_scikit_learns_pipeline(options: dict[str, Any]) -> None:
    given = {"ngrams": 2, "min_df": 1, "C": 10.0, "class_weight": "balanced"} | options
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, given["ngrams"]), min_df=given["min_df"], sublinear_tf=True),
        LogisticRegression(C=given["C"], max_iter=2000, class_weight=given["class_weight"]),
    ).fit(TEXTS, LABELS)
    head = TfidfHead(**options).fit(TEXTS, LABELS)
    new = [*TEXTS, "prize at home", "words never seen", ""]
    np.testing.assert_allclose(head.predict_proba(new), pipeline.predict_proba(new), rtol=ORDER_OF_SUMS)
    assert head.predict(new).tolist() == pipeline.predict(new).tolist()


def test_on_the_references_data_it_beats_the_reference(shared_data: Path, tmp_path: Path) -> None:
    data = pd.read_csv(shared_data / "spamdata_v2.csv")
    X, held, y, held_y = train_test_split(
        data["text"], data["label"], random_state=2018, test_size=0.3, stratify=data["label"]
    )
    _, test, _, test_y = train_test_split(held, held_y, random_state=2018, test_size=0.5, stratify=held_y)
    head = TfidfHead().fit(X, y)
    np.testing.assert_allclose(head.class_weights_, [0.57743559, 3.72848948], atol=5e-9)
    assert head.score(test, test_y) > NOTEBOOK_ACCURACY
    save_head(head, tmp_path)
    assert np.array_equal(load_head(tmp_path).predict_proba(test), head.predict_proba(test))


@pytest.mark.parametrize("column", [pd.Series, np.array, tuple])
def test_any_column_of_texts_will_do(column: Any) -> None:
    head = TfidfHead().fit(TEXTS, LABELS)
    assert np.array_equal(TfidfHead().fit(column(TEXTS), LABELS).coef_, head.coef_)


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (["one", None], "Row 1 of X is None"),
        (["one", float("nan")], "Row 1 of X is nan"),
        ("one text", "not one string"),
        (pd.DataFrame({"text": ["one", "two"]}), "not a table"),
    ],
)
def test_what_is_no_text_is_refused(X: Any, says: str) -> None:
    head = TfidfHead().fit(TEXTS, LABELS)
    with pytest.raises(TypeError, match=says):
        head.predict(X)
    with pytest.raises(TypeError, match=says):
        TfidfHead().fit(X, ["a", "b"])


@pytest.mark.parametrize("labels", [["a"], ["a", "b", "a"], [0.5, 1.5]])
def test_labels_must_fit_the_texts(labels: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"2 rows and y|Unknown label type"):
        TfidfHead().fit(["one", "two"], labels)


def test_copies_of_a_text_count_towards_min_df_as_its_weight_does() -> None:
    weighted = TfidfHead(min_df=3, ngrams=1).fit(TEXTS, LABELS, [3, 1, 1, 1, 2, 1])
    times = [3, 1, 1, 1, 2, 1]
    copies = [text for text, n in zip(TEXTS, times, strict=True) for _ in range(n)]
    theirs = TfidfVectorizer(min_df=3, sublinear_tf=True).fit(copies)
    assert weighted.vocabulary_ == theirs.get_feature_names_out().tolist()
    np.testing.assert_allclose(weighted.idf_, theirs.idf_, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ngrams": 0}, "ngrams must be a whole number of at least 1"),
        ({"min_df": 0.5}, "min_df must be a whole number"),
        ({"min_df": 7}, "No term stands in 7 texts; lower min_df"),
        ({"C": 0}, "'C'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TfidfHead(**options).fit(TEXTS, LABELS)
