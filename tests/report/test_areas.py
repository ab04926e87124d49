"""Areas under curves are scikit-learn's, and what rows add to them varies as DeLong's and the jackknife's sums do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from frozenhead.report.areas import area_parts, areas

TOLERANCE = 1e-12

Rows = tuple[NDArray[np.float64], NDArray[np.bool_]]


@st.composite
def ranked_rows(draw: st.DrawFn) -> Rows:
    """Scores (n,) with none, some or only ties, and at least one row of each kind."""
    n, values = draw(st.integers(2, 40)), draw(st.sampled_from([1, 2, 5, 10**9]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positive = rng.random(n) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    positive[:2] = True, False
    return rng.integers(0, values, n) / values, positive


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ranked_rows())
def test_areas_are_scikit_learns(rows: Rows) -> None:
    scores, positive = rows
    average_precision, roc_auc = areas(scores, positive)
    assert average_precision == pytest.approx(average_precision_score(positive, scores), rel=0, abs=TOLERANCE)
    assert roc_auc == pytest.approx(roc_auc_score(positive, scores), rel=0, abs=TOLERANCE)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ranked_rows())
def test_parts_of_the_roc_area_are_delongs_placements(rows: Rows) -> None:
    scores, positive = rows
    own, rest = scores[positive], scores[~positive]
    won = (own[:, None] > rest) + 0.5 * (own[:, None] == rest)  # (positives, negatives)
    expected = np.empty(len(scores))
    expected[positive], expected[~positive] = won.mean(axis=1) / len(own), won.mean(axis=0) / len(rest)
    np.testing.assert_allclose(area_parts(scores, positive)[1], expected, rtol=0, atol=TOLERANCE)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ranked_rows())
def test_parts_of_average_precision_are_what_it_loses_without_the_row(rows: Rows) -> None:
    scores, positive = rows
    found, m, whole = area_parts(scores, positive)[0], positive.sum(), average_precision_score(positive, scores)
    for i in np.flatnonzero(~positive if m == 1 else np.ones(len(scores), bool)):
        rest = np.delete(np.arange(len(scores)), i)
        without = average_precision_score(positive[rest], scores[rest])
        # of m precisions one leaves, and the mean of the others is what is left
        lost = m * whole - (m - 1) * without if positive[i] else m * (whole - without)
        assert found[i] == pytest.approx(lost / m, rel=0, abs=TOLERANCE)


def test_without_a_negative_row_there_is_no_roc_area() -> None:
    average_precision, roc_auc = areas(np.array([0.5, 0.5, 0.2]), np.array([True, True, True]))
    assert average_precision == 1.0
    assert np.isnan(roc_auc)
