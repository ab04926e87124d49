"""What calibrating and a threshold do to a head, whichever head it is."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, precision_score

from frozenhead.heads import HEADS, LogisticHead, MajorityHead, ThresholdRule
from frozenhead.heads.calibration import choose_threshold
from tests.heads.conftest import MakeRows, inputs_for, quick_head

MINIMA = 1e-9  # scikit-learn compares losses, which are flat at the minimum; probabilities of less are their noise


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_calibrating_lowers_the_log_loss_and_changes_no_label(name: str, classes: int, make_rows: MakeRows) -> None:
    X, y = make_rows(60, classes=classes)
    new, new_y = make_rows(80, classes=classes, seed=5)
    head = quick_head(name)
    head.fit(inputs_for(head, X), y)
    assert (head.temperature_, head.threshold_) == (1.0, None)
    inputs = inputs_for(head, new)
    before, labels = head.predict_proba(inputs), head.predict(inputs)
    assert head.calibrate(inputs, new_y) is head
    after = head.predict_proba(inputs)
    assert log_loss(new_y, after) <= log_loss(new_y, before) + 1e-15
    assert head.temperature_ > 0
    if name != "majority":  # its shares of these rows are those of the others
        assert head.temperature_ != 1
    powers = before ** (1 / head.temperature_)
    np.testing.assert_allclose(after, powers / powers.sum(axis=1, keepdims=True), atol=1e-12)
    assert head.predict(inputs).tolist() == labels.tolist()


def test_the_temperature_is_that_of_scikit_learn(make_rows: MakeRows) -> None:
    X, y = make_rows(60, classes=3)
    new, new_y = make_rows(80, classes=3, seed=5)
    head = LogisticHead(C=100.0, precision="float64").fit(X, y)
    theirs = CalibratedClassifierCV(FrozenEstimator(head), method="temperature").fit(new, new_y)
    expected = theirs.predict_proba(new)
    np.testing.assert_allclose(head.calibrate(new, new_y).predict_proba(new), expected, rtol=1e-6, atol=MINIMA)


def test_a_head_that_is_right_everywhere_keeps_its_temperature_or_is_made_surer(make_rows: MakeRows) -> None:
    X, y = make_rows(40)
    X[:, 0] = np.where(y == 1, 5, -5)
    for C in (1e-4, 1e4):
        head = LogisticHead(C=C).fit(X, y)
        before = log_loss(y, head.predict_proba(X))
        head.calibrate(X, y)
        assert log_loss(y, head.predict_proba(X)) <= before
        assert 0 < head.temperature_ <= 1


@pytest.mark.parametrize("name", HEADS)
def test_predict_is_the_positive_label_iff_its_probability_reaches_the_threshold(
    name: str, make_rows: MakeRows
) -> None:
    X, y = make_rows(60)
    labels = np.array(["ham", "spam"])[y]
    head = quick_head(name)
    inputs = inputs_for(head, X)
    head.fit(inputs, labels)
    argmax = head.predict(inputs)
    for positive in (None, "ham"):
        assert head.set_threshold(inputs, labels, by="recall", floor=1.0, positive=positive) is head
        assert head.threshold_ is not None
        k = 1 if positive is None else 0
        assert head.threshold_.positive == ("spam" if positive is None else "ham")
        assert head.threshold_.rule == "recall >= 1"
        reached = head.predict_proba(inputs)[:, k] >= head.threshold_.value
        assert (head.predict(inputs) == ["ham", "spam"][k]).tolist() == reached.tolist()
        assert reached[labels == ["ham", "spam"][k]].all()
        rule = ThresholdRule(by="recall", floor=1.0)
        assert head.threshold_.value == choose_threshold(head.predict_proba(inputs)[:, k], y == k, rule)
    assert clone(head).fit(inputs, labels).predict(inputs).tolist() == argmax.tolist()


def test_a_new_fit_forgets_temperature_and_threshold_and_calibrating_forgets_the_threshold(
    make_rows: MakeRows,
) -> None:
    X, y = make_rows(60)
    fresh = LogisticHead().fit(X, y).predict_proba(X)
    head = LogisticHead().fit(X, y).calibrate(X, y).set_threshold(X, y)
    assert head.temperature_ != 1
    assert head.threshold_ is not None
    assert head.calibrate(X, y).threshold_ is None
    forgotten = vars(head.set_threshold(X, y).fit(X, y))
    assert (forgotten["temperature_"], forgotten["threshold_"]) == (1.0, None)
    assert np.array_equal(head.predict_proba(X), fresh)


def test_a_precision_floor_is_kept_on_the_rows_it_was_set_on(make_rows: MakeRows) -> None:
    X, y = make_rows(200, seed=3)
    X += np.random.default_rng(0).normal(size=X.shape).astype(np.float32) * 2
    head = LogisticHead().fit(X, y)
    assert precision_score(y, head.predict(X)) < 0.93
    head.calibrate(X, y).set_threshold(X, y, by="precision", floor=0.93)
    assert precision_score(y, head.predict(X)) >= 0.93
    with pytest.raises(ValueError, match=r"the best precision on these rows is 0\.5"):
        MajorityHead().fit(X, y).set_threshold(X, y, by="precision", floor=0.93)


def test_weights_and_copies_of_rows_calibrate_alike(make_rows: MakeRows) -> None:
    X, y = make_rows(60)
    times = np.random.default_rng(0).integers(0, 4, 60)
    head = LogisticHead(C=100.0).fit(X, y)
    weighted = head.calibrate(X, y, times).temperature_
    value = head.set_threshold(X, y, times, by="costs", costs=(1, 3)).threshold_
    assert head.calibrate(X.repeat(times, axis=0), y.repeat(times)).temperature_ == pytest.approx(weighted, rel=1e-9)
    other = head.set_threshold(X[times > 0], y[times > 0], times[times > 0], by="costs", costs=(1, 3)).threshold_
    assert value is not None
    assert other is not None
    assert value.rule == other.rule == "costs 1 : 3"
    with pytest.raises(ValueError, match="Negative"):
        head.calibrate(X, y, -times)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"by": "F1"}, "did you mean 'f1'"),
        ({"positive": "spma"}, r"positive is 'spma' \(did you mean 'spam'\?\)"),
        ({"by": "precision"}, "needs floor"),
    ],
)
def test_a_wrong_threshold_is_refused(given: dict[str, Any], says: str, make_rows: MakeRows) -> None:
    X, y = make_rows(30)
    labels = np.array(["ham", "spam"])[y]
    with pytest.raises(ValueError, match=says):
        LogisticHead().fit(X, labels).set_threshold(X, labels, **given)


def test_what_cannot_be_calibrated_is_refused(make_rows: MakeRows) -> None:
    X, y = make_rows(30, classes=3)
    with pytest.raises(NotFittedError):
        LogisticHead().calibrate(X, y)
    with pytest.raises(NotFittedError):
        LogisticHead().set_threshold(X, y)
    head = LogisticHead().fit(X, y)
    with pytest.raises(ValueError, match="two classes apart; this head has 3"):
        head.set_threshold(X, y)
    with pytest.raises(ValueError, match="The validation labels 7 do not occur in y"):
        head.calibrate(X, np.where(y == 0, 7, y))
    with pytest.raises(ValueError, match=r"mixes labels .* 1 \(number\) in row 0, '1' \(str\) in row 1"):
        head.calibrate(X[:2], np.array([1, "1"], object))
    X[4, 1] = np.nan
    with pytest.raises(ValueError, match="Row 4"):
        head.calibrate(X, y)
