"""svm, ridge and centroid: the scores are the library's or a closed form's, and one temperature makes them sure."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import log_loss, pairwise_distances
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight

from frozenhead.heads import CentroidHead, Head, RidgeHead, SvmHead
from frozenhead.heads.base import BLOCK
from frozenhead.heads.calibration import fit_temperature
from frozenhead.heads.margin import FOLDS, folds_by_content
from tests.heads.conftest import MakeRows

TWO_WAYS = 1e-9  # two float64 ways to one closed form, at a condition of a few thousand

KINDS: dict[str, Any] = {
    "svm": lambda: SvmHead(tol=1e-10),
    "ridge": RidgeHead,
    "cosine": CentroidHead,
    "euclidean": lambda: CentroidHead(metric="euclidean"),
}


@pytest.mark.parametrize("class_weight", ["balanced", None])
@pytest.mark.parametrize("classes", [2, 3])
def test_svm_is_scikit_learns_and_decides_as_it_does(make_rows: MakeRows, classes: int, class_weight: Any) -> None:
    X, y = make_rows(200, classes=classes)
    # Its own class_weight weighs, among three classes, only the rows of the class that is told from the rest.
    weights = compute_sample_weight(class_weight, y)
    theirs = LinearSVC(C=0.3, dual=False).fit(X, y, weights)
    ours = SvmHead(C=0.3, class_weight=class_weight).fit(X, y)
    assert np.array_equal(ours.coef_, theirs.coef_)
    assert np.array_equal(ours.intercept_, theirs.intercept_)
    assert ours.predict(X).tolist() == theirs.predict(X).tolist()
    ours.calibrate(*make_rows(50, classes=classes, seed=9))
    assert ours.predict(X).tolist() == theirs.predict(X).tolist()


@pytest.mark.parametrize("rows", [200, BLOCK + 7])
@pytest.mark.parametrize("classes", [2, 3])
def test_ridge_is_scikit_learns_and_decides_as_it_does(make_rows: MakeRows, classes: int, rows: int) -> None:
    X, y = make_rows(rows, classes=classes, dim=6)
    X += 50  # a long mean must cost no digits
    weights = np.random.default_rng(0).random(rows)
    balanced = weights.sum() / (classes * np.bincount(y, weights))
    theirs = RidgeClassifier(alpha=2.0, solver="svd").fit(X.astype(np.float64), y, weights * balanced[y])
    ours = RidgeHead(alpha=2.0).fit(X, y, weights)
    np.testing.assert_allclose(ours.coef_, np.atleast_2d(theirs.coef_), rtol=TWO_WAYS, atol=1e-12)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=TWO_WAYS)
    assert ours.predict(X).tolist() == theirs.predict(X).tolist()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_centroid_names_the_nearest_mean(make_rows: MakeRows, metric: Any) -> None:
    X, y = make_rows(300, classes=4, dim=5)
    head = CentroidHead(metric=metric).fit(X, y)
    long = X.astype(np.float64)
    unit = long / np.linalg.norm(long, axis=1, keepdims=True) if metric == "cosine" else long
    means = np.array([unit[y == k].mean(axis=0) for k in range(4)])
    assert head.predict(X).tolist() == pairwise_distances(unit, means, metric=metric).argmin(axis=1).tolist()
    order = head.predict_proba(X).argsort(axis=1)  # the second nearest is the second most probable, and so on
    assert np.array_equal(order, (-pairwise_distances(unit, means, metric=metric)).argsort(axis=1))


def test_the_length_of_a_vector_says_nothing_to_the_cosine(make_rows: MakeRows) -> None:
    X, y = make_rows(50, classes=3)
    probabilities = CentroidHead().fit(X, y).predict_proba(X)
    np.testing.assert_allclose(CentroidHead().fit(X, y).predict_proba(X * 8), probabilities, rtol=1e-12)
    np.testing.assert_allclose(
        CentroidHead().fit(X * 8, y).predict_proba(X).argmax(axis=1), probabilities.argmax(axis=1)
    )


def test_a_vector_of_zeros_is_as_near_to_every_centroid(make_rows: MakeRows) -> None:
    head = CentroidHead().fit(*make_rows(30, classes=3))
    assert head.predict_proba(np.zeros((1, 3))).tolist() == [[1 / 3] * 3]
    zeros = np.zeros((4, 2), np.float32)
    assert CentroidHead().fit(zeros, [0, 0, 1, 1]).predict_proba(zeros).tolist() == [[0.5, 0.5]] * 4


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_validation_rows_decide_the_temperature_and_nothing_else(make_rows: MakeRows, kind: str, classes: int) -> None:
    X, y = make_rows(100, classes=classes)
    new, new_y = make_rows(80, classes=classes, seed=4)
    head, alone = KINDS[kind]().fit(X, y, validation=(new, new_y)), KINDS[kind]().fit(X, y)
    assert np.array_equal(head.coef_, alone.coef_)
    scores = np.log(head.predict_proba(new))
    assert fit_temperature(scores, new_y) == pytest.approx(1, rel=1e-9)
    assert head.scale_ != alone.scale_
    assert head.predict(X).tolist() == alone.predict(X).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_without_validation_the_probabilities_are_of_rows_not_seen(make_rows: MakeRows, kind: str) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 40)).astype(np.float32), np.arange(60) % 2  # nothing to learn, and room to learn it
    head = KINDS[kind]().fit(X, y)
    assert head.score(X, y) > 0.8
    new, new_y = rng.normal(size=(400, 40)).astype(np.float32), np.arange(400) % 2
    assert log_loss(new_y, head.predict_proba(new)) < 0.75  # log 2 is 0.69; a head as sure as it was right pays more
    seen = KINDS[kind]().fit(X, y, validation=(X, y))
    assert log_loss(new_y, seen.predict_proba(new)) > 0.8


def test_held_out_scores_are_those_of_models_trained_without_them(make_rows: MakeRows) -> None:
    X, y = make_rows(50, classes=3)
    y[:20] = 0
    head, folds = RidgeHead().fit(X, y), folds_by_content(X, y)
    assert folds is not None
    scores, weights = np.empty((50, 3)), head.class_weights_[y]
    for fold in range(FOLDS):
        others = folds != fold
        part = RidgeClassifier(solver="svd").fit(X[others].astype(np.float64), y[others], weights[others])
        scores[folds == fold] = part.decision_function(X[folds == fold].astype(np.float64))
    # The class weights are for learning: the probabilities are of the rows as they are.
    assert head.scale_ == pytest.approx(fit_temperature(scores, y), rel=1e-7)
    assert head.scale_ != pytest.approx(fit_temperature(scores, y, weights), rel=1e-3)


def test_folds_follow_content_not_order_or_number(make_rows: MakeRows) -> None:
    X, y = make_rows(60, classes=3)
    folds = folds_by_content(X, y)
    assert folds is not None
    for k in range(3):
        assert np.bincount(folds[y == k], minlength=FOLDS).tolist() == [4] * FOLDS
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_equal(folds_by_content(X[order], y[order]), folds[order])
    times = np.arange(60) % 3 + 1
    np.testing.assert_equal(folds_by_content(X.repeat(times, axis=0), y.repeat(times)), folds.repeat(times))
    np.testing.assert_equal(folds_by_content(X, 2 - y), folds)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_of_one_row_and_constant_vectors_can_be_learned(kind: str) -> None:
    X = np.array([[0, 1], [0, 2], [1, 1], [3, 0]], np.float32)
    assert folds_by_content(X, np.array([0, 0, 0, 1])) is None
    head = KINDS[kind]().fit(X, [0, 0, 0, 1])
    assert head.predict(X).tolist() == [0, 0, 0, 1]
    assert 0.5 < head.predict_proba(X)[3, 1] < 1
    same = np.full((6, 2), 3, np.float32)
    constant = KINDS[kind]().fit(same, [0, 0, 0, 0, 1, 1]).predict_proba(same)
    assert np.array_equal(constant, constant[[0] * 6])


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (SvmHead(C=0), "'C'"),
        (SvmHead(tol=0), "'tol'"),
        (SvmHead(max_iter=-1), "'max_iter'"),
        (RidgeHead(alpha=0), "alpha must be above 0"),
        (RidgeHead(alpha=float("inf")), "alpha must be above 0"),
        (RidgeHead(alpha="1"), "alpha must be above 0"),  # type: ignore[arg-type]
        (CentroidHead(metric="cosin"), r"metric is 'cosin' \(did you mean 'cosine'\?\); choose"),  # type: ignore[arg-type]
        (SvmHead(class_weight="balance"), "did you mean 'balanced'"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_option_is_refused_by_name(head: Head, says: str, make_rows: MakeRows) -> None:
    with pytest.raises(ValueError, match=says):
        head.fit(*make_rows(9))


def test_a_penalty_that_is_lost_in_rounding_is_refused() -> None:
    X, y = np.array([[1, 1, 2], [-1, -1, -2], [2, 2, 4], [-2, -2, -4]], np.float32) * 2**20, [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"alpha 1e-12 is lost beside numbers of up to .*; raise alpha"):
        RidgeHead(alpha=1e-12).fit(X, y, validation=(X, y))


@pytest.mark.parametrize("kind", KINDS)
def test_seventy_classes_have_probabilities_too(kind: str, make_rows: MakeRows) -> None:
    X, y = make_rows(700, classes=70, dim=20)
    head = KINDS[kind]().fit(X, y)
    p = head.predict_proba(X)
    assert p.shape == (700, 70)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-14)
    assert head.score(X, y) > 0.5
