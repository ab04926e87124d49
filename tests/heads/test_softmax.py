"""The softmax head finds the optimum that scikit-learn finds, of the objective that its module states."""

import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from frozenhead.heads import SoftmaxHead, blocks, search, softmax, softmax_path
from tests.heads.conftest import MakeRows

# Both solvers stop near the optimum, where the loss is flat: what they leave is far below the one in a million.
LOSS_TOLERANCE = 1e-6


def objective(
    W: NDArray[Any], b: NDArray[Any], X: NDArray[Any], y: NDArray[np.int64], w: NDArray[np.float64], l2: float
) -> float:
    """sum_i w_{y_i} CE(y_i, W x_i + b) / sum_i w_{y_i}  +  (l2/2) ||W||^2, in float64."""
    z = X.astype(np.float64) @ W.T.astype(np.float64) + b
    losses = logsumexp(z, axis=1) - z[np.arange(len(y)), y]
    return float((w[y] * losses).sum() / w[y].sum() + l2 / 2 * (W.astype(np.float64) ** 2).sum())


def full_objective(
    W: NDArray[Any], b: NDArray[Any], X: NDArray[Any], y: NDArray[np.int64], w: NDArray[np.float64], l2: float
) -> float:
    """The same with a weight (N,) for each row."""
    z = X.astype(np.float64) @ W.T.astype(np.float64) + b
    losses = logsumexp(z, axis=1) - z[np.arange(len(y)), y]
    return float((w * losses).sum() / w.sum() + l2 / 2 * (W.astype(np.float64) ** 2).sum())


def exact_optimum(
    X: NDArray[Any], y: NDArray[np.int64], w: NDArray[np.float64], l2: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """W (K, D), b (K,) of scikit-learn's Newton's method with the whole Hessian in float64; and the weights."""
    binary = y.max() == 1
    model = LogisticRegression(C=(2 if binary else 1) / (l2 * w.sum()), solver="newton-cholesky", tol=1e-12)
    model.fit(X.astype(np.float64), y, w)
    if binary:
        return np.r_[-model.coef_, model.coef_] / 2, np.r_[-model.intercept_, model.intercept_] / 2, w
    return model.coef_, model.intercept_, w


def bert_like(n: int, *, dim: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors with a large common mean and variances over 6 decades, turned; classes overlap."""
    rng = np.random.default_rng(classes)
    turn: NDArray[np.float64]
    lengths, turn = np.logspace(0, -3, dim), np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    codes = rng.permutation(np.arange(n) % classes)
    centres = rng.normal(size=(classes, dim)) * 0.7
    X = (centres[codes] + rng.normal(size=(n, dim))) * lengths + rng.normal(size=dim) * 5
    return (X @ turn).astype(np.float32), codes


@pytest.fixture(params=["float32", "float64"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small problems are solved in float64; here also as large ones are."""
    if request.param == "float32":
        monkeypatch.setattr(softmax, "SMALL", 0)
    return str(request.param)


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


@pytest.mark.parametrize("l2", [1e-5, 1e-3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 20])
def test_vectors_like_those_of_bert_reach_the_optimum(classes: int, weighted: bool, l2: float, precision: str) -> None:
    X, y = bert_like(2000, dim=24, classes=classes)
    counts = np.random.default_rng(1).integers(0, 4, len(y)).astype(np.float64) if weighted else np.ones(len(y))
    head = SoftmaxHead(l2=l2).fit(X, y, counts)
    W, b, w = exact_optimum(X, y, counts * head.class_weights_[y], l2)
    ours = full_objective(head.coef_, head.intercept_, X, y, w, l2)
    assert ours == pytest.approx(full_objective(W, b, X, y, w, l2), rel=LOSS_TOLERANCE)
    assert head.loss_ == pytest.approx(ours, rel=LOSS_TOLERANCE)


@pytest.mark.parametrize("classes", [2, 20])
def test_ill_conditioned_vectors_take_few_steps(classes: int, precision: str) -> None:
    X, y = bert_like(2000, dim=24, classes=classes)
    # L-BFGS as it is in scikit-learn takes thousands, and with 20 classes gives up after 14,000.
    assert SoftmaxHead(l2=1e-5).fit(X, y).n_iter_ < 100


def test_a_tolerance_below_rounding_ends_with_a_warning(precision: str) -> None:
    X, y = bert_like(2000, dim=24, classes=3)
    with pytest.warns(ConvergenceWarning, match="Not at the optimum"):
        head = SoftmaxHead(tol=1e-30, max_iter=10_000).fit(X, y)
    assert head.n_iter_ < 1000
    assert head.loss_ == pytest.approx(SoftmaxHead().fit(X, y).loss_, rel=LOSS_TOLERANCE)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_small_problem_is_solved_to_the_last_digit(classes: int) -> None:
    X, y = bert_like(400, dim=12, classes=classes)
    head = SoftmaxHead(l2=1e-3, tol=1e-2).fit(X, y)
    W, b, w = exact_optimum(X, y, head.class_weights_[y], 1e-3)
    # What is left is the rounding of the coefficients to float32, squared.
    assert head.loss_ == pytest.approx(full_objective(W, b, X, y, w, 1e-3), rel=1e-11)


def test_two_classes_share_what_one_sigmoid_has(make_rows: MakeRows) -> None:
    # W1 = -W0 at the optimum: ||W||^2 is half of ||W1 - W0||^2, so one sigmoid has half the penalty.
    X, y = make_rows(200)
    head = SoftmaxHead(l2=1e-2).fit(X, y)
    sigmoid = LogisticRegression(C=2 / (1e-2 * 200), class_weight="balanced", tol=1e-10).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(head.predict_proba(X), sigmoid.predict_proba(X.astype(np.float64)), atol=1e-3)


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
    with pytest.warns(ConvergenceWarning, match="raise max_iter") as warned:
        SoftmaxHead(max_iter=max_iter).fit(X, y)
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SoftmaxHead().fit(X, y)


@pytest.mark.parametrize("length", [1e-8, 1e8, 1e15])
def test_the_scale_of_the_vectors_changes_nothing_but_the_scale_of_the_weights(
    make_rows: MakeRows, length: float, precision: str
) -> None:
    X, y = make_rows(400, dim=8, classes=3)
    plain, scaled = SoftmaxHead(l2=1e-2).fit(X, y), SoftmaxHead(l2=1e-2 * length**2).fit(X * np.float32(length), y)
    assert scaled.loss_ == pytest.approx(plain.loss_, rel=LOSS_TOLERANCE)
    assert scaled.n_iter_ == pytest.approx(plain.n_iter_, abs=3)


@pytest.mark.parametrize("length", [1e35, 1e37])
def test_vectors_whose_products_overflow_warn(
    make_rows: MakeRows, length: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax, "SMALL", 0)
    X, y = make_rows(4000, dim=8)
    with pytest.warns(ConvergenceWarning, match="scale the vectors"):
        SoftmaxHead().fit(X * np.float32(length), y)


@pytest.mark.parametrize("classes", [2, 3])
def test_separable_classes_without_a_penalty_end_with_a_warning(classes: int, precision: str) -> None:
    X = np.eye(classes, dtype=np.float32).repeat(20, axis=0)
    with pytest.warns(ConvergenceWarning, match="raise l2"):
        head = SoftmaxHead(l2=0.0).fit(X, np.arange(classes).repeat(20))
    assert head.score(X, np.arange(classes).repeat(20)) == 1
    assert np.isfinite(head.coef_).all()


@pytest.mark.parametrize(
    "kind", ["constant", "one-hot", "duplicates", "wide", "a class of one row", "a dead dimension"]
)
@pytest.mark.parametrize("classes", [2, 3])
def test_degenerate_vectors_have_an_optimum_too(make_rows: MakeRows, kind: str, classes: int, precision: str) -> None:
    X, y = make_rows(60, dim=4, classes=classes)
    if kind == "constant":
        X = np.ones_like(X)
    elif kind == "one-hot":
        X = np.eye(5, dtype=np.float32)[np.arange(60) * 7 % 5]
    elif kind == "duplicates":
        X = np.repeat(X[:6], 10, axis=0)
    elif kind == "wide":
        X = np.random.default_rng(0).normal(size=(60, 200)).astype(np.float32)
    elif kind == "a class of one row":
        y = np.where(np.arange(60) == 0, 0, np.maximum(y, 1))
        y[1:3] = classes - 1
    else:
        X[:, 0] = 0
    head = SoftmaxHead(l2=1e-3).fit(X, y)
    if kind == "constant":  # nothing to tell the classes apart by, and they weigh alike
        assert head.loss_ == pytest.approx(np.log(classes), rel=LOSS_TOLERANCE)
        return
    W, b, w = exact_optimum(X, y, head.class_weights_[y], 1e-3)
    assert full_objective(head.coef_, head.intercept_, X, y, w, 1e-3) == pytest.approx(
        full_objective(W, b, X, y, w, 1e-3), rel=LOSS_TOLERANCE
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_the_number_of_cores_changes_no_bit(classes: int, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "WORTH_THREADS", 0)
    monkeypatch.setattr(blocks, "NUMBERS", 5000)
    X, y = bert_like(2000, dim=24, classes=classes)
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads, user_api="blas"):
            head = SoftmaxHead(l2=1e-4).fit(X, y)
        found.append((head.coef_.tobytes(), head.intercept_.tobytes(), head.loss_))
    assert found[0] == found[1] == found[2]


def test_the_vectors_are_not_copied(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(200_000, 32)).astype(np.float32))
    X, y = np.load(tmp_path / "x.npy", mmap_mode="r"), rng.integers(0, 2, 200_000)
    tracemalloc.start()
    try:
        SoftmaxHead(l2=1e-2).fit(X, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes * 0.8


def test_a_read_only_memory_map_fits_as_an_array(make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(60)
    np.save(tmp_path / "x.npy", X)
    mapped = SoftmaxHead().fit(np.load(tmp_path / "x.npy", mmap_mode="r"), y)
    assert np.array_equal(mapped.coef_, SoftmaxHead().fit(X, y).coef_)


@pytest.mark.parametrize("classes", [2, 4])
def test_each_head_of_a_path_is_the_head_alone(classes: int, precision: str) -> None:
    X, y = bert_like(1000, dim=12, classes=classes)
    l2s, counts = [1e-4, 10.0, 1e-2, 1e-6, 1e-2], np.random.default_rng(1).integers(0, 4, len(y)).astype(np.float64)
    names = np.array(["ten", "two", "one", "six"])[y]
    heads = softmax_path(X, names, l2s, sample_weight=counts, class_weight=None)
    assert [head.l2 for head in heads] == l2s
    for head in heads:
        alone = SoftmaxHead(l2=head.l2, class_weight=None).fit(X, names, counts)
        assert head.get_params() == alone.get_params()
        assert set(vars(head)) == set(vars(alone))
        assert head.classes_.tolist() == alone.classes_.tolist()
        assert head.loss_ == pytest.approx(alone.loss_, rel=LOSS_TOLERANCE)
        codes, ones = np.unique(names, return_inverse=True)[1], counts
        order = [head.classes_.tolist().index(name) for name in np.unique(names)]
        found = full_objective(head.coef_[order], head.intercept_[order], X, codes, ones, head.l2)
        assert found == pytest.approx(alone.loss_, rel=LOSS_TOLERANCE)


def test_a_path_takes_fewer_steps_than_its_heads_alone(precision: str) -> None:
    X, y = bert_like(2000, dim=24, classes=3)
    l2s = np.logspace(-6, 2, 17).tolist()
    together = sum(head.n_iter_ for head in softmax_path(X, y, l2s))
    assert together < 0.9 * sum(SoftmaxHead(l2=l2).fit(X, y).n_iter_ for l2 in l2s)


def separable(n: int, *, dim: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Classes that few rows keep apart, in pairs that are near to each other."""
    rng = np.random.default_rng(0)
    codes = np.arange(n) % classes
    centres = rng.normal(size=(classes // 2, dim)).repeat(2, axis=0) + 0.3 * rng.normal(size=(classes, dim))
    lengths = np.logspace(0, -1.5, dim)
    return ((centres[codes] + 0.5 * rng.normal(size=(n, dim))) * lengths).astype(np.float32), codes


def test_a_long_path_over_classes_that_can_be_told_apart_takes_few_steps_to_the_optimum(precision: str) -> None:
    X, y = separable(1200, dim=40, classes=12)
    l2s = np.logspace(-2, -8, 19).tolist()
    heads = softmax_path(X, y, l2s, class_weight=None)
    # 328 in float32; without whole blocks 682, without going on as the path went 625.
    assert precision == "float64" or sum(head.n_iter_ for head in heads) < 450
    for head in heads[::6]:
        W, b, w = exact_optimum(X, y, np.ones(len(y)), head.l2)
        assert head.loss_ == pytest.approx(full_objective(W, b, X, y, w, head.l2), rel=LOSS_TOLERANCE)


def test_a_search_that_is_lost_comes_by_way_of_stronger_penalties(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = separable(1200, dim=40, classes=12)
    W, b, w = exact_optimum(X, y, np.ones(len(y)), 1e-7)
    exact = full_objective(W, b, X, y, w, 1e-7)
    monkeypatch.setattr(search, "HARD", 8)
    head = SoftmaxHead(l2=1e-7, class_weight=None).fit(X, y)
    assert head.loss_ == pytest.approx(exact, rel=LOSS_TOLERANCE)
    for most in (4, 8, 9, 20):
        with pytest.warns(ConvergenceWarning, match=f"after {most} iterations"):
            assert SoftmaxHead(l2=1e-7, max_iter=most).fit(X, y).n_iter_ == most


def test_a_path_that_stops_early_warns_for_its_heads(make_rows: MakeRows) -> None:
    X, y = make_rows(100)
    with pytest.warns(ConvergenceWarning, match="raise max_iter") as warned:
        softmax_path(X, y, [1e-4], max_iter=1)
    assert warned[0].filename == __file__


def test_a_path_refuses_what_a_head_refuses(make_rows: MakeRows) -> None:
    X, y = make_rows(9)
    with pytest.raises(ValueError, match="l2 must be at least 0"):
        softmax_path(X, y, [1.0, -1.0])
    with pytest.raises(ValueError, match="one class"):
        softmax_path(X, y * 0, [1.0])
    assert softmax_path(X, y, []) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("l2", -1.0), ("l2", np.nan), ("l2", np.inf), ("l2", "abc"), ("l2", None), ("l2", True), ("max_iter", 0),
        ("max_iter", 2.5), ("tol", 0.0), ("tol", np.inf), ("tol", "1"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_by_name(make_rows: MakeRows, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        SoftmaxHead(**{name: value}).fit(*make_rows(9))  # type: ignore[arg-type]
