"""The preconditioner of the softmax head: exact where the Hessian has its form, measured on rows that stand for all."""

from contextlib import ExitStack

import numpy as np
import pytest
from numpy.typing import NDArray

from frozenhead.heads import curvature
from frozenhead.heads.blocks import block_map
from frozenhead.heads.curvature import Blocks, Curvature, _axes, _drawn, _sample
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
    monkeypatch.setattr(curvature, "ROWS", 1000)  # all rows
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
        assert found.ask_more()
        back = found.at(margins, l2 * length**2)(v @ hessian)
        np.testing.assert_allclose(back * scale, v * scale, atol=RIDGE)


@pytest.mark.parametrize("widest", [2, 2048])
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_blocks_are_the_inverse_of_each_classs_own_part_of_the_hessian(
    make_rows: MakeRows, length: float, widest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curvature, "WIDEST", widest)
    monkeypatch.setattr(curvature, "ROWS", 1000)  # all rows
    X, y = make_rows(200, classes=5)
    rng = np.random.default_rng(3)
    with ExitStack() as stack:
        objective = at_zero(stack, (X.astype(np.float64) + 3.0) * length, y, 5)
        theta, l2 = rng.normal(size=(5, 4)) / [length, length, length, 1.0], 0.01 * length**2
        z = objective.X @ theta[:, :-1].T + theta[:, -1]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        ones = np.column_stack([objective.X, np.ones(200)])
        parts = [(ones * (objective.shares * q * (1 - q))[:, None]).T @ ones for q in p.T]
        penalty = l2 * np.diag([1.0, 1.0, 1.0, 0.0])
        slope = rng.normal(size=(5, 4)) * [length, length, length, 1.0]
        centred = slope - slope.mean(axis=0)
        expected = np.array([np.linalg.solve(part + penalty, row) for part, row in zip(parts, centred, strict=True)])
        expected -= expected.mean(axis=0)
        measured = Curvature(objective)
        assert measured.ask_more()
        found = measured.at(objective.zero_margins() + objective.margins(theta), l2)(slope)
        scale = np.array([length, length, length, 1.0])
        np.testing.assert_allclose(found * scale, expected * scale, atol=RIDGE * np.abs(expected * scale).max())
        same = measured.at(objective.zero_margins() + objective.margins(theta), l2)
        np.testing.assert_array_equal(same(slope), found)


def test_blocks_serve_a_penalty_that_is_alike_in_scale_and_no_other(make_rows: MakeRows) -> None:
    X, y = make_rows(200, classes=4)
    with ExitStack() as stack:
        objective = at_zero(stack, X.astype(np.float64), y, 4)
        measured, margins = Curvature(objective), objective.zero_margins()
        assert measured.ask_more()
        first, near, far = (measured.at(margins, l2) for l2 in (1.0, 0.25, 0.01))
        assert isinstance(first, Blocks)
        assert isinstance(near, Blocks)
        assert isinstance(far, Blocks)
        assert near.inverse is first.inverse
        np.testing.assert_allclose(near.scale, first.scale * 2**0.5)  # half of it, for the loss is the same
        assert far.inverse is not first.inverse
        assert measured.ask_more()
        anew = measured.at(margins, 0.01)
        assert isinstance(anew, Blocks)
        assert anew.inverse is not far.inverse
        np.testing.assert_array_equal(anew.inverse, far.inverse)


def test_blocks_that_would_be_too_large_are_not_asked_for(make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_rows(200, classes=4)
    with ExitStack() as stack:
        objective = at_zero(stack, X.astype(np.float64), y, 4)
        for bytes_, fits in ((4 * 3 * 3 * 8, True), (4 * 3 * 3 * 8 - 1, False)):
            monkeypatch.setattr(curvature, "WHOLE", bytes_)
            measured = Curvature(objective)
            assert measured.ask_more() is fits
            assert isinstance(measured.at(objective.zero_margins(), 0.1), Blocks) is fits


def test_rows_drawn_are_the_heaviest_and_the_rest_in_proportion() -> None:
    rng = np.random.default_rng(0)
    weights, order = rng.random(10_000) ** 8, rng.permutation(10_000)
    rows, counts = _drawn(weights, 500, order)
    assert len(rows) == pytest.approx(500, abs=1)
    assert len(set(rows.tolist())) == len(rows)
    certain = weights[rows] >= counts
    assert set(np.flatnonzero(weights > counts.min()).tolist()) == set(rows[weights[rows] > counts.min()].tolist())
    np.testing.assert_allclose(counts[~certain], counts.min())
    # A row drawn by chance stands for its like: sums are kept, within what one row more or less makes.
    assert counts.sum() == pytest.approx(weights.sum(), abs=2 * counts.min())
    values = rng.normal(size=10_000)
    assert counts @ values[rows] == pytest.approx(weights @ values, abs=5 * counts.min() * 500**0.5)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_no_rows_are_drawn_by_weights_that_say_nothing(bad: float) -> None:
    rows, counts = _drawn(np.full(100, bad), 10, np.arange(100))
    assert len(rows) == len(counts) == 0


def test_few_rows_are_all_drawn() -> None:
    weights = np.array([0.2, 0.0, 0.3])
    rows, counts = _drawn(weights, 3, np.arange(3))
    assert rows.tolist() == [0, 1, 2]
    assert counts is weights


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
