"""Score intervals: Wilson's for one share, Mee's for two, and the likeliest shares found by a general optimiser."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef

from frozenhead.report.intervals import wilson
from frozenhead.report.score_intervals import NAMES, gradient, score_intervals

Table = NDArray[np.int64]
Z = 1.959963984540054
TOLERANCE = 2e-6  # of a score: the ends are followed until they move by less than 1e-6

SPAM = [[720, 4], [4, 108]]
RIGHT = [[724, 0], [0, 112]]
CONSTANT = [[724, 0], [112, 0]]
THREE = [[50, 3, 0], [2, 20, 4], [0, 0, 9]]


def intervals(table: Table | list[list[int]], level: float = 0.95) -> dict[str, list[float]]:
    table = np.asarray(table)
    rows, columns = np.nonzero(table)
    cells = np.stack([rows, columns, table[rows, columns]], axis=1)
    return score_intervals(cells, table.sum(axis=1), level=level)


def scores(table: Table | list[list[int]]) -> dict[str, float]:
    """By scikit-learn, of the rows written out."""
    table = np.asarray(table)
    true, chosen = (np.repeat(index.ravel(), table.ravel()) for index in np.indices(table.shape))
    classes = range(len(table))
    return {
        "balanced_accuracy": balanced_accuracy_score(true, chosen),
        "macro_f1": f1_score(true, chosen, labels=classes, average="macro", zero_division=0),
        "weighted_f1": f1_score(true, chosen, labels=classes, average="weighted", zero_division=0),
        "mcc": matthews_corrcoef(true, chosen),
    }


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Heads good and bad, of rows few and many; every class has rows."""
    K, most = draw(st.integers(2, 6)), draw(st.sampled_from([1, 3, 40, 5000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = rng.integers(0, most + 1, (K, K)) * (rng.random((K, K)) < 0.5)
    return table + np.diag(rng.integers(1, 2 + most * draw(st.sampled_from([1, 30])), K))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tables())
def test_intervals_hold_the_score_are_never_empty_and_lie_in_its_range(table: Table) -> None:
    found, seen = intervals(table), scores(table)
    for name in NAMES:
        low, high = found[name]
        assert (-1 if name == "mcc" else 0) <= low <= seen[name] + 1e-12 <= high + 2e-12 <= 1 + 3e-12
        assert high - low > 1 / (table.sum() + 4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(tables(), st.integers(0, 1000))
def test_the_order_of_the_classes_does_not_matter(table: Table, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(table))
    found, other = intervals(table), intervals(table[np.ix_(order, order)])
    for name in NAMES:
        assert found[name] == pytest.approx(other[name], rel=0, abs=1e-3)  # of equals another may be let in


@pytest.mark.parametrize("table", [SPAM, RIGHT, CONSTANT, THREE])
def test_more_rows_and_a_lower_level_give_narrower_intervals(table: list[list[int]]) -> None:
    found, more, lower = intervals(table), intervals(9 * np.array(table)), intervals(table, level=0.8)
    for name in NAMES:
        width = np.diff(found[name])
        assert 0 < np.diff(more[name]) < width / 2
        assert 0 < np.diff(lower[name]) < width


@pytest.mark.parametrize("hits", [0, 1, 37, 40])
def test_of_one_class_with_rows_it_is_wilsons(hits: int) -> None:
    found = intervals([[hits, 40 - hits], [0, 0]])
    assert found["balanced_accuracy"] == pytest.approx(wilson(hits, 40), rel=0, abs=TOLERANCE)


def test_of_equal_classes_without_a_wrong_row_it_is_wilsons_of_all_rows() -> None:
    found = intervals(np.diag([40] * 77))
    assert found["balanced_accuracy"] == pytest.approx(wilson(3080, 3080), rel=0, abs=TOLERANCE)


@pytest.mark.parametrize("table", [SPAM, [[50, 50], [20, 80]], [[9, 1], [0, 7]]])
def test_of_two_classes_it_is_mees_by_a_general_optimiser(table: list[list[int]]) -> None:
    (a, b), (c, d) = table
    n, m = a + b, c + d

    def deviations(balanced: float) -> float:
        """How far the balanced accuracy seen is from one, in deviations under the likeliest recalls that have it."""

        def unlikely(p: float) -> float:
            q = 2 * balanced - p
            return -float(a * np.log(p) + b * np.log(1 - p) + c * np.log(1 - q) + d * np.log(q))

        ends = max(0, 2 * balanced - 1) + 1e-12, min(1, 2 * balanced) - 1e-12
        p = minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-13}).x
        q = 2 * balanced - p
        return float(((a / n + d / m) / 2 - balanced) / np.sqrt((p * (1 - p) / n + q * (1 - q) / m) / 4))

    low, high = intervals(table)["balanced_accuracy"]
    assert low == pytest.approx(brentq(lambda s: deviations(s) - Z, low - 0.01, low + 0.01), rel=0, abs=1e-5)
    if b and c:
        assert high == pytest.approx(brentq(lambda s: deviations(s) + Z, high - 0.005, high + 0.005), rel=0, abs=1e-5)


def test_without_a_wrong_row_one_may_be_missing_and_a_constant_head_may_know_a_little() -> None:
    right, constant = intervals(RIGHT), intervals(CONSTANT)
    # All that may be wrong is wrong in the smaller class: 3.84 of 112 rows, as Wilson has it.
    assert right["balanced_accuracy"] == pytest.approx([(1 + wilson(112, 112)[0]) / 2, 1.0], rel=0, abs=TOLERANCE)
    assert constant["balanced_accuracy"][1] == pytest.approx((1 + wilson(0, 112)[1]) / 2, rel=0, abs=TOLERANCE)
    assert constant["mcc"][0] < 0 < constant["mcc"][1] < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    rows, step = 1000 * np.array(THREE), 1  # of 90,000 rows: an error of a millionth of the slope
    base = scores(rows)[name]
    by_hits, by_claimed = gradient(name, np.diag(rows).astype(float), rows.sum(axis=0).astype(float), rows.sum(axis=1))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        moved = rows.copy()
        moved[i, i] -= step
        moved[i, j] += step
        expected = -by_hits[i] - by_claimed[i] + by_claimed[j]
        assert scores(moved)[name] - base == pytest.approx(expected, rel=1e-3)
