"""The softmax head finds the optimum that scikit-learn finds, of the objective that its module states."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from frozenhead.heads import SoftmaxHead
from frozenhead.heads.softmax import _objective
from tests.heads.conftest import MakeRows

# Both solvers stop near the optimum, where the loss is flat: what they leave is far below the one in a million.
LOSS_TOLERANCE = 1e-6
# The products of the objective are float32: 7 digits of a loss near 1, over a step of 1e-2.
GRADIENT_TOLERANCE = 1e-4


def objective(
    W: NDArray[Any], b: NDArray[Any], X: NDArray[Any], y: NDArray[np.int64], w: NDArray[np.float64], l2: float
) -> float:
    """sum_i w_{y_i} CE(y_i, W x_i + b) / sum_i w_{y_i}  +  (l2/2) ||W||^2, in float64."""
    z = X.astype(np.float64) @ W.T.astype(np.float64) + b
    losses = logsumexp(z, axis=1) - z[np.arange(len(y)), y]
    return float((w[y] * losses).sum() / w[y].sum() + l2 / 2 * (W.astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("class_weight", ["balanced", None])
@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("classes", [3, 5])
def test_the_optimum_is_scikit_learns_at_matched_penalty(
    make_rows: MakeRows, classes: int, l2: float, class_weight: Any
) -> None:
    X, y = make_rows(400, dim=8, classes=classes)
    rows = (y > 0) | (np.arange(400) % 3 == 0)  # class 0 is rarer
    X, y = X[rows], y[rows]
    head = SoftmaxHead(l2=l2, class_weight=class_weight).fit(X, y)
    w = head.class_weights_
    theirs = LogisticRegression(C=1 / (l2 * w[y].sum()), class_weight=class_weight, tol=1e-10, max_iter=10_000)
    theirs.fit(X.astype(np.float64), y)
    ours = objective(head.coef_, head.intercept_, X, y, w, l2)
    assert ours == pytest.approx(objective(theirs.coef_, theirs.intercept_, X, y, w, l2), rel=LOSS_TOLERANCE)
    assert head.loss_ == pytest.approx(ours, rel=LOSS_TOLERANCE)


def test_two_classes_share_what_one_sigmoid_has(make_rows: MakeRows) -> None:
    # W1 = -W0 at the optimum: ||W||^2 is half of ||W1 - W0||^2, so one sigmoid has half the penalty.
    X, y = make_rows(200)
    head = SoftmaxHead(l2=1e-2).fit(X, y)
    sigmoid = LogisticRegression(C=2 / (1e-2 * 200), class_weight="balanced", tol=1e-10).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(head.predict_proba(X), sigmoid.predict_proba(X.astype(np.float64)), atol=1e-3)


def test_the_gradient_is_the_slope_of_the_objective(make_rows: MakeRows) -> None:
    X, y = make_rows(50, classes=3)
    w, rng = np.array([0.5, 1.0, 4.0]), np.random.default_rng(0)
    evaluate, theta = _objective(X, y, w[y] / w[y].sum(), 3, 0.3), rng.normal(size=12)
    loss, gradient = evaluate(theta)
    W, b = theta.reshape(3, 4)[:, :3], theta.reshape(3, 4)[:, 3]
    assert loss == pytest.approx(objective(W, b, X, y, w, 0.3), rel=LOSS_TOLERANCE)
    for i in range(12):
        step = np.zeros(12)
        step[i] = 1e-2
        ends = [evaluate(theta + sign * step)[0] for sign in (1, -1)]
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=GRADIENT_TOLERANCE)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_probabilities_are_the_softmax_and_sum_to_one(make_rows: MakeRows, classes: int) -> None:
    X, y = make_rows(100, classes=classes)
    head = SoftmaxHead(l2=1e-2).fit(X, y)
    probabilities = head.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    z = X.astype(np.float64) @ head.coef_.T + head.intercept_
    np.testing.assert_allclose(np.log(probabilities), z - logsumexp(z, axis=1, keepdims=True), atol=1e-9)
    assert head.predict(X).tolist() == head.classes_[z.argmax(axis=1)].tolist()


def test_a_row_predicts_alone_as_among_others(make_rows: MakeRows) -> None:
    X, y = make_rows(30)
    head = SoftmaxHead(l2=1e-2).fit(X, y)
    alone = np.concatenate([head.predict_proba(row[None]) for row in X])
    np.testing.assert_allclose(alone, head.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("max_iter", [1, 4])
def test_stopping_before_the_optimum_warns(make_rows: MakeRows, max_iter: int) -> None:
    X, y = make_rows(100)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        SoftmaxHead(max_iter=max_iter).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SoftmaxHead().fit(X, y)


@pytest.mark.parametrize("length", [1e8, 1e20, 1e37])
def test_a_line_search_that_fails_far_from_the_optimum_warns(make_rows: MakeRows, length: float) -> None:
    X, y = make_rows(100)
    with pytest.warns(ConvergenceWarning, match="scale the vectors"):
        SoftmaxHead().fit(X * np.float32(length), y)


def test_a_read_only_memory_map_fits_as_an_array(make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(60)
    np.save(tmp_path / "x.npy", X)
    mapped = SoftmaxHead().fit(np.load(tmp_path / "x.npy", mmap_mode="r"), y)
    assert np.array_equal(mapped.coef_, SoftmaxHead().fit(X, y).coef_)


def test_the_number_of_threads_comes_back(make_rows: MakeRows) -> None:
    before = torch.get_num_threads()
    SoftmaxHead().fit(*make_rows(60))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("name", "value"), [("l2", -1.0), ("max_iter", 0), ("tol", 0.0), ("l2", np.nan)])
def test_a_wrong_option_is_refused_by_name(make_rows: MakeRows, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        SoftmaxHead(**{name: value}).fit(*make_rows(9))  # type: ignore[arg-type]
