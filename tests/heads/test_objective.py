"""The sums over rows that the softmax head minimises: a float64 twin, finite differences, and rows that are certain."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from threadpoolctl import threadpool_info, threadpool_limits

from frozenhead.heads import blocks
from frozenhead.heads.blocks import block_map
from frozenhead.heads.objective import Objective, other_classes
from tests.heads.conftest import MakeRows

# Of sums in float64 of about 100 terms, and of central differences over a step of 1e-5.
ROUNDING = 1e-12
DIFFERENCES = 1e-8
# Products and logarithms in float32 have 7 digits.
FLOAT32 = 1e-5


def make_objective(stack: ExitStack, X: NDArray[Any], y: NDArray[np.int64], classes: int) -> Objective:
    shares = np.random.default_rng(5).random(len(y))
    mapping = stack.enter_context(block_map(X.shape, classes))
    return Objective(X=X, codes=y, shares=shares / shares.sum(), classes=classes, blocks=mapping)


def twin(W: NDArray[Any], b: NDArray[Any], objective: Objective) -> float:
    """The loss as it is written down, in float64."""
    z = objective.X.astype(np.float64) @ W.T + b
    return float(objective.shares @ (logsumexp(z, axis=1) - z[np.arange(len(z)), objective.codes]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, ROUNDING), (np.float32, FLOAT32)])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_loss_is_the_shared_cross_entropy(make_rows: MakeRows, classes: int, dtype: Any, tolerance: float) -> None:
    X, y = make_rows(90, classes=classes)
    theta = np.random.default_rng(0).normal(size=(1 if classes == 2 else classes, 4))
    both = np.concatenate([-theta, theta]) / 2 if classes == 2 else theta  # one score z stands for -z/2 and z/2
    with ExitStack() as stack:
        objective = make_objective(stack, X.astype(dtype), y, classes)
        margins = objective.zero_margins() + objective.margins(theta)
        expected = twin(both[:, :-1], both[:, -1], objective)
        assert objective.gradient(margins)[0] == pytest.approx(expected, rel=tolerance)
        assert objective.along(margins, margins * 0, 1.0)[0] == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_gradient_is_the_slope_of_the_loss(make_rows: MakeRows, classes: int) -> None:
    X, y = make_rows(90, classes=classes)
    theta = np.random.default_rng(0).normal(size=(1 if classes == 2 else classes, 4))
    with ExitStack() as stack:
        objective = make_objective(stack, X.astype(np.float64), y, classes)

        def loss(theta: NDArray[np.float64]) -> float:
            return objective.gradient(objective.zero_margins() + objective.margins(theta))[0]

        slope = objective.gradient(objective.zero_margins() + objective.margins(theta))[1]
        for place in np.ndindex(theta.shape):
            step = np.zeros_like(theta)
            step[place] = 1e-5
            assert slope[place] == pytest.approx((loss(theta + step) - loss(theta - step)) / 2e-5, abs=DIFFERENCES)


@pytest.mark.parametrize("classes", [2, 4])
def test_slope_and_curvature_along_a_line_are_those_of_the_loss(make_rows: MakeRows, classes: int) -> None:
    X, y = make_rows(90, classes=classes)
    rng, scores = np.random.default_rng(0), 1 if classes == 2 else classes
    theta, direction = rng.normal(size=(scores, 4)), rng.normal(size=(scores, 4))
    with ExitStack() as stack:
        objective = make_objective(stack, X.astype(np.float64), y, classes)
        margins, change = objective.zero_margins() + objective.margins(theta), objective.margins(direction)
        before, at, after = (objective.along(margins, change, step) for step in (0.3 - 1e-5, 0.3, 0.3 + 1e-5))
        assert at[1] == pytest.approx((after[0] - before[0]) / 2e-5, abs=DIFFERENCES)
        assert at[2] == pytest.approx((after[1] - before[1]) / 2e-5, abs=DIFFERENCES)
        there = objective.gradient(objective.zero_margins() + objective.margins(theta + 0.3 * direction))
        assert at[0] == pytest.approx(there[0], rel=ROUNDING)
        assert at[1] == pytest.approx((there[1] * direction).sum(), rel=1e-9)


@pytest.mark.parametrize("margin", [-80.0, -40.0, -20.0, 0.0, 50.0])
def test_a_row_that_is_almost_certain_keeps_its_digits_in_float32(margin: float) -> None:
    loss, p = other_classes(np.array([[margin], [-1e30]], np.float32))
    assert loss[0] == pytest.approx(np.log1p(np.exp(margin)), rel=FLOAT32)
    assert p[0, 0] == pytest.approx(1 / (1 + np.exp(-margin)), rel=FLOAT32)
    assert p[1, 0] == 0


@pytest.mark.parametrize("classes", [2, 3])
def test_the_bits_do_not_depend_on_the_number_of_threads(
    make_rows: MakeRows, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_rows(500, classes=classes)
    theta = np.random.default_rng(0).normal(size=(1 if classes == 2 else classes, 4))
    monkeypatch.setattr(blocks, "NUMBERS", 100)  # 16 blocks
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(blocks, "WORTH_THREADS", 0)
        with threadpool_limits(threads, user_api="blas"), ExitStack() as stack:
            objective = make_objective(stack, X, y, classes)
            margins = objective.zero_margins() + objective.margins(theta)
            found.append((*objective.gradient(margins), objective.along(margins, margins, 0.5)))
    assert found[0][0] == found[1][0]
    assert np.array_equal(found[0][1], found[1][1])
    assert found[0][2] == found[1][2]


@pytest.mark.parametrize("n", [1, 7, 33, 34, 500])
def test_blocks_hold_every_row_once_and_no_more_than_they_may(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "NUMBERS", 100)
    with block_map((n, 3), 1) as mapping:
        sizes = [np.arange(n)[block] for block in mapping(lambda block: block)]
    assert np.concatenate(sizes).tolist() == list(range(n))
    assert max(map(len, sizes)) <= 33


def test_overlapping_blocks_leave_blas_its_threads() -> None:
    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        first, second = block_map((10, 2), 1), block_map((10, 2), 1)
        found = [threads()]
        for step in (first.__enter__, second.__enter__):
            step()
            found.append(threads())
        for end in (first, second):
            end.__exit__(None, None, None)
            found.append(threads())
    assert found == [{2}, {1}, {1}, {1}, {2}]
