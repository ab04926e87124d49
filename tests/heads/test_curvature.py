"""The preconditioner of the softmax head: exact where the Hessian has its form, measured on rows that stand for all."""

from contextlib import ExitStack

import numpy as np
import pytest
from numpy.typing import NDArray

from frozenhead.heads import curvature
from frozenhead.heads.blocks import block_map
from frozenhead.heads.curvature import Curvature, _axes, _sample
from frozenhead.heads.objective import Objective
from tests.heads.conftest import MakeRows

# Of products and eigenvectors in float64.
ROUNDING = 1e-9
# What keeps the factor definite, 1e-5 of the diagonal, times the condition of these Hessians.
RIDGE = 1e-3


def at_zero(stack: ExitStack, X: NDArray[np.float64], y: NDArray[np.int64], classes: int) -> Objective:
    shares = np.random.default_rng(5).random(len(y))
    mapping = stack.enter_context(block_map(X.shape, classes))
    return Objective(X=X, codes=y, shares=shares / shares.sum(), classes=classes, blocks=mapping)


@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_where_all_classes_are_alike_it_is_the_inverse_hessian(
    make_rows: MakeRows, classes: int, length: float
) -> None:
    X, y = make_rows(200, classes=classes)
    with ExitStack() as stack:
        objective = at_zero(stack, X.astype(np.float64) * length + 3.0 * length, y, classes)
        l2, S = 0.01 * length**2, objective.scores
        # sum_i s_i (I / K - 1 1^T / K^2) (x) x_i x_i^T + l2 on the weights; for one score p (1 - p) = 1/4
        kind = np.array([[0.25]]) if S == 1 else np.eye(S) / S - 1 / S**2
        ones = np.column_stack([objective.X, np.ones(len(y))])
        hessian = np.kron(kind, (ones * objective.shares[:, None]).T @ ones)
        hessian += l2 * np.kron(np.eye(S), np.diag([1.0, 1.0, 1.0, 0.0]))
        v = np.random.default_rng(0).normal(size=(S, 4))
        v -= v.mean(axis=0) if S > 1 else 0  # a gradient sums to 0 over the classes
        slope = (hessian @ v.ravel()).reshape(S, 4)
        found = Curvature(objective).at(objective.zero_margins(), l2)(slope)
        np.testing.assert_allclose(found, v, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("widest", [2, 2048])
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_the_whole_curvature_of_one_score_is_the_inverse_hessian_anywhere(
    make_rows: MakeRows, length: float, widest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curvature, "WIDEST", widest)
    X, y = make_rows(200)
    with ExitStack() as stack:
        objective = at_zero(stack, (X.astype(np.float64) + 3.0) * length, y, 2)
        theta = np.array([[2.0 / length, -1.0 / length, 0.5 / length, 1.0]])
        margins, l2 = objective.zero_margins() + objective.margins(theta), 0.01
        p = 1 / (1 + np.exp(-margins[0]))
        ones = np.column_stack([objective.X, np.ones(200)])
        hessian = (ones * (objective.shares * p * (1 - p))[:, None]).T @ ones
        hessian += l2 * length**2 * np.diag([1.0, 1.0, 1.0, 0.0])
        scale = np.array([length, length, length, 1.0])
        v = np.array([[1.0, -2.0, 3.0, 0.5]]) / scale
        found = Curvature(objective)
        assert found.ask_whole()
        assert not found.ask_whole()
        back = found.at(margins, l2 * length**2)(v @ hessian)
        np.testing.assert_allclose(back * scale, v * scale, atol=RIDGE)


def test_vectors_too_wide_for_eigenvectors_take_their_own_axes(
    make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_rows(200)
    centred = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    axes = np.linalg.svd(centred, full_matrices=False)[0] * [1.0, 2.0, 3.0]  # uncorrelated, mean 0
    with ExitStack() as stack:
        objective = at_zero(stack, axes, y, 2)
        objective.shares[:] = 1 / 200
        slope = np.array([[1.0, -2.0, 3.0, 0.5]])
        rotated = Curvature(objective).at(objective.zero_margins(), 0.01)(slope)
        monkeypatch.setattr(curvature, "WIDEST", 2)
        np.testing.assert_allclose(Curvature(objective).at(objective.zero_margins(), 0.01)(slope), rotated, rtol=1e-6)


def test_the_sample_is_in_proportion_to_the_shares_and_blind_to_their_order() -> None:
    shares = np.tile([1.0, 0.0, 3.0, 4.0], 20_000)  # periodic, and the sample is an eighth
    rows, counts = _sample(shares / shares.sum(), 10_000)
    assert counts.tolist() == [1e-4] * 10_000
    assert (np.diff(rows) >= 0).all()
    # Draws in equal parts of the whole: 5 standard deviations of independent draws are generous.
    found = np.bincount(rows % 4, minlength=4) / 10_000
    np.testing.assert_allclose(found, [1 / 8, 0, 3 / 8, 1 / 2], atol=5 * np.sqrt(0.25 / 10_000))


def test_few_rows_are_all_their_own_sample() -> None:
    shares = np.array([0.2, 0.5, 0.3])
    rows, counts = _sample(shares, 3)
    assert rows.tolist() == [0, 1, 2]
    assert counts is shares


@pytest.mark.parametrize(("n", "dim"), [(40, 6), (6, 40), (6, 6)])
def test_axes_are_orthonormal_and_leave_vectors_uncorrelated(n: int, dim: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(n, dim))
    axes = _axes(vectors)
    np.testing.assert_allclose(axes.T @ axes, np.eye(min(n, dim)), atol=ROUNDING)
    turned = vectors @ axes
    np.testing.assert_allclose((turned**2).sum(), (vectors**2).sum(), rtol=ROUNDING)  # nothing is outside their span
    covariance = turned.T @ turned
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9 * np.trace(covariance))
