"""The logistic head learns what scikit-learn's LogisticRegression learns, to the bit, and predicts it in float64."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from frozenhead.heads import LogisticHead
from tests.heads.conftest import MakeRows

FLOAT32 = 1e-6  # scikit-learn computes the probabilities of float32 vectors in float32; they do not sum to 1


@pytest.mark.parametrize("class_weight", ["balanced", None, {"a": 1.0, "b": 3.0, "c": 0.5}])
@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_scikit_learns(make_rows: MakeRows, classes: int, class_weight: Any) -> None:
    X, y = make_rows(200, classes=classes)
    labels = np.array(["a", "b", "c"])[y]
    if isinstance(class_weight, dict):
        class_weight = {k: v for k, v in class_weight.items() if k in labels}
    theirs = LogisticRegression(C=0.3, max_iter=2000, class_weight=class_weight).fit(X, labels)
    ours = LogisticHead(C=0.3, class_weight=class_weight).fit(X, labels)
    assert np.array_equal(ours.coef_, theirs.coef_)
    assert np.array_equal(ours.intercept_, theirs.intercept_)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=FLOAT32)
    np.testing.assert_allclose(ours.predict_proba(X).sum(axis=1), 1, rtol=1e-15)
    assert ours.predict(X).tolist() == theirs.predict(X).tolist()
    assert ours.n_iter_ == theirs.n_iter_.max()


def test_columns_follow_the_natural_order_not_the_alphabet(make_rows: MakeRows) -> None:
    X, y = make_rows(90, classes=3)
    labels = np.array(["2", "9", "10"])[y]
    theirs = LogisticRegression(max_iter=2000, class_weight="balanced").fit(X, labels)
    ours = LogisticHead().fit(X, labels)
    assert theirs.classes_.tolist() == ["10", "2", "9"]
    assert ours.classes_.tolist() == ["2", "9", "10"]
    # Another order of classes is another order of sums: equal to the solver's tolerance only.
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X)[:, [1, 2, 0]], atol=1e-3)


def test_a_wrong_option_is_refused_by_name(make_rows: MakeRows) -> None:
    with pytest.raises(ValueError, match="'C'"):
        LogisticHead(C=-1.0).fit(*make_rows(9))
