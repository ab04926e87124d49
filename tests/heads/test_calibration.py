"""One temperature is the minimum of the log loss, and a threshold is the best there is by its rule."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import f1_score, log_loss, precision_score, recall_score

from frozenhead.heads.calibration import FURTHEST, ThresholdRule, choose_threshold, fit_temperature, log_softmax

AT_A_MINIMUM = 1e-6  # a loss is flat at its minimum: comparing losses finds T to the root of a float's precision


def drawn(n: int, classes: int, temperature: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits (n, K), and classes drawn with the probabilities that those have at a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 3
    p = np.exp(log_softmax(logits / temperature))
    return logits, (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_is_where_the_log_loss_is_lowest(classes: int, true: float) -> None:
    logits, codes = drawn(300, classes, true)
    weights = np.random.default_rng(1).random(300)

    def loss(log_t: float) -> float:
        p = np.exp(log_softmax(logits / np.exp(log_t)))
        return float(log_loss(codes, p, sample_weight=weights, labels=range(classes)))

    lowest = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-12}).x
    assert np.log(fit_temperature(logits, codes, weights)) == pytest.approx(lowest, abs=AT_A_MINIMUM)


def test_a_temperature_that_was_applied_is_found() -> None:
    assert fit_temperature(*drawn(50_000, 4, 2.5)) == pytest.approx(2.5, rel=0.02)  # sampling: 1/sqrt(n), and some


@given(st.floats(1e-5, 1e5), st.integers(0, 50))
def test_scores_in_another_unit_have_their_temperature_in_it(unit: float, seed: int) -> None:
    logits, codes = drawn(40, 3, 1.5, seed)
    assert fit_temperature(logits * unit, codes) == pytest.approx(unit * fit_temperature(logits, codes), rel=1e-9)
    moved = logits + np.arange(40)[:, None]  # what is added to all scores of a row says nothing
    assert fit_temperature(moved, codes) == pytest.approx(fit_temperature(logits, codes), rel=1e-9)


def test_a_weight_is_a_number_of_copies() -> None:
    logits, codes = drawn(60, 3, 2.0)
    times = np.random.default_rng(0).integers(0, 4, 60)
    copied = fit_temperature(logits.repeat(times, axis=0), codes.repeat(times))
    assert fit_temperature(logits, codes, times.astype(float)) == pytest.approx(copied, rel=1e-12)


@pytest.mark.parametrize("gap", [1e-3, 7.0, 1e6])
def test_rows_that_are_all_right_are_not_made_certain(gap: float) -> None:
    n = 20
    logits = np.zeros((n, 2))
    codes = np.arange(n) % 2
    logits[np.arange(n), codes] = gap
    # sigmoid(gap / T) = 1 - 1/(n + 2)
    assert fit_temperature(logits, codes) == pytest.approx(gap / np.log(n + 1), rel=1e-9)


def test_a_row_whose_own_class_is_impossible_has_no_say() -> None:
    logits, codes = drawn(50, 3, 2.0)
    hopeless = np.vstack([logits, [[0.0, 1.0, -np.inf]]])
    assert fit_temperature(hopeless, np.append(codes, 2)) == fit_temperature(logits, codes)
    others = np.vstack([logits, [[0.0, 0.0, -np.inf]]])  # impossible for another class: the rest of the row speaks
    assert np.isfinite(fit_temperature(others, np.append(codes, 1)))
    assert fit_temperature(np.full((2, 2), [0.0, -np.inf]), np.array([1, 1])) == 1.0


def test_equal_scores_decide_nothing_and_wrong_ones_flatten_up_to_the_bound() -> None:
    assert fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 2])) == 1.0
    wrong = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert fit_temperature(wrong, np.array([1, 0])) == pytest.approx(2.0 * FURTHEST)


def test_log_softmax_keeps_what_is_far_and_what_is_impossible() -> None:
    assert log_softmax(np.array([[0.0, -2000.0, -np.inf]])).tolist() == [[0.0, -2000.0, -np.inf]]
    logits = np.random.default_rng(0).normal(size=(5, 3))
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-13)


Rows = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0]), st.booleans()), min_size=1)


def scores(p: NDArray[Any], truth: NDArray[Any], threshold: float) -> tuple[float, float, float, float]:
    """F1, precision, recall, and cost at 1 : 3, by scikit-learn."""
    said = p >= threshold
    none = {"zero_division": 0}
    cost = (said & ~truth).sum() + 3 * (~said & truth).sum()
    return (
        f1_score(truth, said, **none),
        precision_score(truth, said, **none),
        recall_score(truth, said, **none),
        float(cost),
    )


@given(Rows)
def test_no_cut_between_the_rows_does_better(rows: list[tuple[float, bool]]) -> None:
    p, truth = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    every = [scores(p, truth, t) for t in [*np.unique(p), 2.0]]

    def at(**rule: Any) -> tuple[float, float, float, float]:
        return scores(p, truth, choose_threshold(p, truth, ThresholdRule(**rule)))

    assert at(by="costs", costs=(1, 3))[3] == min(cost for *_, cost in every)
    if not truth.any():
        with pytest.raises(ValueError, match="No row is positive"):
            at(by="f1")
        return
    assert at(by="f1")[0] == pytest.approx(max(f1 for f1, *_ in every), rel=1e-12)
    best = max(precision for _, precision, _, _ in every)
    _, precision, recall, _ = at(by="precision", floor=best)
    assert precision == best
    assert recall == max(r for _, p, r, _ in every if p >= best)
    _, precision, recall, _ = at(by="recall", floor=0.6)
    assert recall >= 0.6
    assert precision == max(p for _, p, r, _ in every if r >= 0.6)


def test_a_threshold_stands_half_way_between_two_rows() -> None:
    p, truth = np.array([0.9, 0.6, 0.2]), np.array([True, True, False])
    assert choose_threshold(p, truth, ThresholdRule()) == pytest.approx(0.4)
    beside = np.array([np.nextafter(0.5, 1), 0.5])  # no float is between these
    assert choose_threshold(beside, np.array([True, False]), ThresholdRule()) == beside[0]


def test_of_equal_thresholds_the_rule_says_which() -> None:
    p = np.array([0.9, 0.8, 0.7, 0.6])
    truth = np.array([True, False, False, True])
    # One row at 0.9: precision 1, recall 1/2. All four: precision 1/2, recall 1. Both have F1 2/3: the higher stands.
    assert choose_threshold(p, truth, ThresholdRule()) == pytest.approx(0.85)
    # A cost of 1 : 1 is 1 at 0.9 only. At 2 : 4, one missed and two false alarms cost the same.
    assert choose_threshold(p, truth, ThresholdRule(by="costs", costs=(2, 4))) == pytest.approx(0.85)
    # All right at 0.9 and at 0.8: the higher recall of equal precisions.
    both = np.array([True, True, False, False])
    assert choose_threshold(p, both, ThresholdRule(by="recall", floor=0.5)) == pytest.approx(0.75)
    # Every row found from 0.6 down, and at 0.8 as well: the higher precision of equal recalls.
    assert choose_threshold(p, both, ThresholdRule(by="precision", floor=0.5)) == pytest.approx(0.75)


def test_costs_may_call_nobody_positive_and_nobody_is() -> None:
    p, truth = np.array([1.0, 0.5]), np.array([False, True])
    value = choose_threshold(p, truth, ThresholdRule(by="costs", costs=(100, 1)))
    assert value > 1
    assert value == np.nextafter(1.0, 2.0)
    assert choose_threshold(p, truth, ThresholdRule(by="costs", costs=(0, 1))) == pytest.approx(0.25)


def test_weights_count_rows_of_a_threshold() -> None:
    rng = np.random.default_rng(0)
    p, truth, times = rng.random(40), rng.random(40) < 0.4, rng.integers(0, 4, 40)
    for rule in (ThresholdRule(), ThresholdRule(by="precision", floor=0.4), ThresholdRule(by="costs", costs=(1, 2))):
        weighted = choose_threshold(p[times > 0], truth[times > 0], rule, times[times > 0].astype(float))
        assert weighted == choose_threshold(p.repeat(times), truth.repeat(times), rule)


def test_a_floor_that_nobody_reaches_names_the_best() -> None:
    p, truth = np.array([0.9, 0.8, 0.7]), np.array([False, True, True])
    with pytest.raises(ValueError, match=r"No threshold reaches precision >= 0.95: the best precision .* is 0.6667"):
        choose_threshold(p, truth, ThresholdRule(by="precision", floor=0.95))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"by": "f2"}, "by is 'f2'; choose 'f1', 'precision'"),
        ({"by": "precison", "floor": 0.9}, r"did you mean 'precision'"),
        ({"by": "precision"}, "needs floor"),
        ({"by": "recall", "floor": 0.0}, "needs floor"),
        ({"by": "recall", "floor": 1.5}, "needs floor"),
        ({"by": "recall", "floor": float("nan")}, "needs floor"),
        ({"by": "f1", "floor": 0.5}, "floor is for"),
        ({"by": "f1", "costs": (1, 2)}, "costs are for"),
        ({"by": "costs"}, "needs costs"),
        ({"by": "costs", "costs": (1,)}, "needs costs"),
        ({"by": "costs", "costs": (0, 0)}, "needs costs"),
        ({"by": "costs", "costs": (-1, 1)}, "needs costs"),
        ({"by": "costs", "costs": "15"}, "needs costs"),
        ({"by": "costs", "costs": (1, float("inf"))}, "needs costs"),
    ],
)
def test_a_wrong_rule_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ThresholdRule(**given)


def test_a_rule_says_itself() -> None:
    rules = [{}, {"by": "precision", "floor": 0.9}, {"by": "costs", "costs": [1, 5.5]}]
    assert [str(ThresholdRule(**rule)) for rule in rules] == ["f1", "precision >= 0.9", "costs 1 : 5.5"]  # type: ignore[arg-type]
