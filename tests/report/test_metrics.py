"""Every score is scikit-learn's, warnings and corner cases apart."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as peer
from sklearn.calibration import calibration_curve
from sklearn.utils.class_weight import compute_class_weight

from frozenhead.report import balanced_weights, score_block
from frozenhead.report.metrics import confusion_matrix, ranking_scores

# Sums of float64 in another order: far above their error, far below a row's worth of any score.
TOLERANCE = 1e-12


Table = tuple[list[str], NDArray[np.float64], list[str], dict[str, float], list[str] | None]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Labels, probabilities with ties, zeros and ones, classes of which some may have no row, weights, and labels
    that a threshold or anything else predicted."""
    K, n = draw(st.integers(2, 7)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = [f"class {c}" for c in range(K)]
    labels = [classes[c] for c in rng.integers(0, draw(st.integers(1, K)), n)]
    coarse = rng.integers(0, 3, (n, K)) + rng.random((n, K)) * draw(st.sampled_from([0.0, 1.0]))
    coarse[coarse.sum(axis=1) == 0, 0] = 1.0
    weights = dict(zip(classes, rng.uniform(0.1, 5.0, K).tolist(), strict=True))
    probabilities = coarse / coarse.sum(axis=1, keepdims=True)
    predicted = None
    if draw(st.booleans()):  # the last class where it reaches a threshold, else the first
        predicted = [classes[-1 if reached else 0] for reached in probabilities[:, -1] >= draw(st.floats(0, 1))]
    return labels, probabilities, classes, weights, predicted


def peer_scores(
    labels: list[str],
    probabilities: NDArray[np.float64],
    classes: list[str],
    weights: dict[str, float],
    predicted: list[str] | None,
) -> dict[str, Any]:
    predicted = predicted or [classes[c] for c in probabilities.argmax(axis=1)]
    row_weights = [weights[label] for label in labels]
    precision, recall, f1, support = peer.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is predicted but has no row, and one class alone
        balanced_accuracy = peer.balanced_accuracy_score(labels, predicted)
        mcc = peer.matthews_corrcoef(labels, predicted)
    ranked = [
        peer_ranking(np.array(labels) == name, probabilities[:, c]) if support[c] else (None, None)
        for c, name in enumerate(classes)
    ]
    average_precision, roc_auc = ([value for value in area if value is not None] for area in zip(*ranked, strict=True))
    return {
        "rows": len(labels),
        "accuracy": peer.accuracy_score(labels, predicted),
        "balanced_accuracy": balanced_accuracy,
        "macro_f1": peer.f1_score(labels, predicted, labels=classes, average="macro", zero_division=0),
        "weighted_f1": peer.f1_score(labels, predicted, labels=classes, average="weighted", zero_division=0),
        "mcc": None if len(set(labels)) == 1 else mcc,
        "log_loss": peer.log_loss(labels, probabilities, labels=classes),
        "weighted_log_loss": peer.log_loss(labels, probabilities, labels=classes, sample_weight=row_weights),
        "brier": peer.brier_score_loss(labels, probabilities, labels=classes),
        "ece": peer_calibration_error(labels, probabilities, classes),
        "average_precision": np.mean(average_precision),
        "roc_auc": np.mean(roc_auc) if roc_auc else None,
        "per_class": {
            name: {
                "precision": precision[c],
                "recall": recall[c],
                "f1": f1[c],
                "support": support[c],
                "average_precision": ranked[c][0],
                "roc_auc": ranked[c][1],
            }
            for c, name in enumerate(classes)
        },
        "confusion": peer.confusion_matrix(labels, predicted, labels=classes).tolist(),
        "intervals": None,
    }


def peer_ranking(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[float, float | None]:
    """Both areas of one class against the rest, which may be empty."""
    return (
        peer.average_precision_score(positive, scores),
        None if positive.all() else peer.roc_auc_score(positive, scores),
    )


def peer_calibration_error(labels: list[str], probabilities: NDArray[np.float64], classes: list[str]) -> float:
    """Of scikit-learn's reliability curve, which leaves out how many rows stand in a bin."""
    sure = probabilities.max(axis=1)
    right = np.array(classes)[probabilities.argmax(axis=1)] == np.array(labels)
    share, confidence = calibration_curve(right, sure, n_bins=15, pos_label=True)
    rows = np.bincount(np.ceil(np.round(sure * 15, 9)).astype(int), minlength=16)  # (a, b]: the upper end belongs
    return float(np.abs(share - confidence) @ rows[rows > 0] / len(labels))


def assert_close(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Equal keys, None at the same, and numbers within the tolerance."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert (ours[name] is None) == (expected is None), name
        if expected is not None:
            assert ours[name] == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE), name


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tables())
def test_scores_agree_with_scikit_learn(table: Table) -> None:
    labels, probabilities, classes, weights, predicted = table
    ours, theirs = score_block(labels, probabilities, classes, weights, predicted=predicted), peer_scores(*table)
    assert ours is not None
    assert ours.keys() == theirs.keys()
    assert ours["intervals"] is None
    assert confusion_matrix(ours, len(classes)).tolist() == theirs.pop("confusion")
    cells = ours.pop("confusion")
    assert all(rows > 0 for _, _, rows in cells)
    assert len({(true, chosen) for true, chosen, _ in cells}) == len(cells)
    ours_per_class, theirs_per_class = ours.pop("per_class"), theirs.pop("per_class")
    assert list(ours_per_class) == list(theirs_per_class)
    for name, scores in theirs_per_class.items():
        assert_close(ours_per_class[name], scores)
    assert_close(ours, theirs)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(tables())
def test_what_a_search_ranks_by_is_what_the_block_says(table: Table) -> None:
    labels, probabilities, classes, weights, _ = table
    block = score_block(labels, probabilities, classes, weights)
    assert block is not None
    scores = ranking_scores(labels, probabilities, classes)
    assert scores == {name: block[name] for name in ("macro_f1", "accuracy", "log_loss")}  # to the bit


def test_two_classes_score_as_scikit_learns_whole_table() -> None:
    rng = np.random.default_rng(1)
    y, scores = rng.integers(0, 2, 200), rng.random(200)
    probabilities = np.stack([1 - scores, scores], axis=1)
    block = score_block([str(c) for c in y], probabilities, ["0", "1"], {"0": 1.0, "1": 1.0})
    assert block is not None
    assert block["roc_auc"] == pytest.approx(peer.roc_auc_score(y, scores), abs=TOLERANCE)
    assert block["brier"] == pytest.approx(peer.brier_score_loss(y, scores), abs=TOLERANCE)
    assert block["per_class"]["1"]["average_precision"] == pytest.approx(
        peer.average_precision_score(y, scores), abs=TOLERANCE
    )


def test_all_classes_score_as_scikit_learns_one_against_rest() -> None:
    rng = np.random.default_rng(2)
    y, probabilities = np.arange(300) % 5, rng.dirichlet(np.ones(5), 300)
    classes = [str(c) for c in range(5)]
    block = score_block([str(c) for c in y], probabilities, classes, dict.fromkeys(classes, 1.0))
    assert block is not None
    assert block["roc_auc"] == pytest.approx(
        peer.roc_auc_score(y, probabilities, multi_class="ovr", average="macro"), abs=TOLERANCE
    )
    assert block["average_precision"] == pytest.approx(peer.average_precision_score(y, probabilities), abs=TOLERANCE)


def test_a_threshold_changes_decisions_and_no_score_of_probabilities() -> None:
    rng = np.random.default_rng(3)
    probabilities, weights = rng.dirichlet(np.ones(2), 80), {"a": 1.0, "b": 2.0}
    labels = ["a", "b"] * 40
    plain, moved = (score_block(labels, probabilities, ["a", "b"], weights, predicted=p) for p in (None, ["b"] * 80))
    assert plain is not None
    assert moved is not None
    differ = {name for name in plain if plain[name] != moved[name]}
    assert differ == {"accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "per_class", "confusion"}
    assert moved["mcc"] == 0.0


def test_one_class_alone_has_no_correlation_and_no_roc_area() -> None:
    block = score_block(["a"] * 3, np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]), ["a", "b"], {"a": 1.0, "b": 1.0})
    assert block is not None
    assert block["mcc"] is None
    assert block["roc_auc"] is None
    assert block["average_precision"] == 1.0
    assert block["per_class"]["b"]["average_precision"] is None
    assert json.loads(json.dumps(block, allow_nan=False)) == block


def test_scores_are_those_the_reference_printed() -> None:
    labels = ["0"] * 724 + ["1"] * 112
    predicted = [0] * 710 + [1] * 14 + [0] * 9 + [1] * 103
    block = score_block(labels, np.eye(2)[predicted], ["0", "1"], {"0": 0.57743559, "1": 3.72848948})
    assert block is not None
    assert block["confusion"] == [[0, 0, 710], [0, 1, 14], [1, 0, 9], [1, 1, 103]]
    rounded = {
        name: [round(row[key], 2) for key in ("precision", "recall", "f1")] for name, row in block["per_class"].items()
    }
    assert rounded == {"0": [0.99, 0.98, 0.98], "1": [0.88, 0.92, 0.90]}
    assert round(block["accuracy"], 4) == 0.9725


def test_balanced_weights_agree_with_scikit_learn_and_the_reference() -> None:
    labels = ["0"] * 3377 + ["1"] * 523
    weights = balanced_weights(labels, ["0", "1"])
    assert list(weights.values()) == pytest.approx(
        compute_class_weight("balanced", classes=np.array(["0", "1"]), y=labels).tolist(), abs=TOLERANCE
    )
    assert [round(weight, 8) for weight in weights.values()] == [0.57743559, 3.72848948]


def test_no_rows_have_no_scores() -> None:
    assert score_block([], np.empty((0, 2)), ["a", "b"], {"a": 1.0, "b": 1.0}) is None
    with pytest.raises(ValueError, match="no rows"):
        ranking_scores([], np.empty((0, 2)), ["a", "b"])


def test_renaming_labels_changes_no_score() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 50)
    truth = rng.integers(0, 3, 50)

    def scores(classes: list[str]) -> list[Any]:
        block = score_block([classes[c] for c in truth], probabilities, classes, dict.fromkeys(classes, 1.0))
        assert block is not None
        block["per_class"] = list(block["per_class"].values())
        return list(block.values())

    assert scores(["a", "b", "c"]) == scores(["10", "9", "a\0"])


@pytest.mark.parametrize(
    ("row", "reason"),
    [([0.5, 0.4], "add up"), ([1.5, -0.5], "add up"), ([np.nan, 1.0], "row 1"), ([0.2, 0.3, 0.5], "shape")],
)
def test_numbers_that_are_no_probabilities_are_refused(row: list[float], reason: str) -> None:
    first = [1.0] + [0.0] * (len(row) - 1)
    with pytest.raises(ValueError, match=reason):
        score_block(["a", "b"], np.array([first, row]), ["a", "b"], {"a": 1.0, "b": 1.0})


def test_labels_outside_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="'c'"):
        score_block(["c"], np.array([[0.5, 0.5]]), ["a", "b"], {"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match="'b'"):
        balanced_weights(["a", "a"], ["a", "b"])
