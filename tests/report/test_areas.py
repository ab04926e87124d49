"""Areas under curves are scikit-learn's, with ties and with rows that count more than once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from frozenhead.report.areas import areas, slots

TOLERANCE = 1e-12


@st.composite
def weighted_rows(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Scores (n,) with none, some or only ties, at least one row of each kind that weighs, weights (n, 3)."""
    n, values = draw(st.integers(2, 40)), draw(st.sampled_from([1, 2, 5, 10**9]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positive = rng.random(n) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    positive[:2] = True, False
    weights = rng.integers(0, 4, (n, 3))
    weights[:2] += 1
    return rng.integers(0, values, n) / values, positive, weights


@settings(max_examples=200, deadline=None, derandomize=True)
@given(weighted_rows())
def test_areas_are_scikit_learns(rows: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]) -> None:
    scores, positive, weights = rows
    slot, G = slots(scores, positive)
    sums = np.zeros((3 * G + 1, weights.shape[1]))
    np.add.at(sums, slot, weights)
    average_precision, roc_auc = areas(sums)
    for b, weight in enumerate(weights.T):
        expected = average_precision_score(positive, scores, sample_weight=weight)
        assert average_precision[b] == pytest.approx(expected, rel=0, abs=TOLERANCE)
        assert roc_auc[b] == pytest.approx(roc_auc_score(positive, scores, sample_weight=weight), rel=0, abs=TOLERANCE)


def test_without_a_negative_row_there_is_no_roc_area() -> None:
    slot, G = slots(np.array([0.5, 0.5, 0.2]), np.array([True, True, True]))
    average_precision, roc_auc = areas(np.bincount(slot, minlength=3 * G + 1)[:, None].astype(np.float64))
    assert average_precision.tolist() == [1.0]
    assert np.isnan(roc_auc).all()
