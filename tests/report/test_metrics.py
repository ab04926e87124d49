"""Every score is scikit-learn's, warnings and corner cases apart."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as peer
from sklearn.utils.class_weight import compute_class_weight

from frozenhead.report import balanced_weights, score_block

# Sums of float64 in another order: far above their error, far below a row's worth of any score.
TOLERANCE = 1e-12


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], NDArray[np.float64], list[str], dict[str, float]]:
    """Labels, probabilities with ties, zeros and ones, classes of which some may have no row, weights."""
    K, n = draw(st.integers(2, 7)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = [f"class {c}" for c in range(K)]
    labels = [classes[c] for c in rng.integers(0, draw(st.integers(1, K)), n)]
    coarse = rng.integers(0, 3, (n, K)) + rng.random((n, K)) * draw(st.sampled_from([0.0, 1.0]))
    coarse[coarse.sum(axis=1) == 0, 0] = 1.0
    weights = dict(zip(classes, rng.uniform(0.1, 5.0, K).tolist(), strict=True))
    return labels, coarse / coarse.sum(axis=1, keepdims=True), classes, weights


def peer_scores(
    labels: list[str], probabilities: NDArray[np.float64], classes: list[str], weights: dict[str, float]
) -> dict[str, Any]:
    predicted = [classes[c] for c in probabilities.argmax(axis=1)]
    row_weights = [weights[label] for label in labels]
    precision, recall, f1, support = peer.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is predicted but has no row
        balanced_accuracy = peer.balanced_accuracy_score(labels, predicted)
    return {
        "rows": len(labels),
        "accuracy": peer.accuracy_score(labels, predicted),
        "balanced_accuracy": balanced_accuracy,
        "macro_f1": peer.f1_score(labels, predicted, labels=classes, average="macro", zero_division=0),
        "log_loss": peer.log_loss(labels, probabilities, labels=classes),
        "weighted_log_loss": peer.log_loss(labels, probabilities, labels=classes, sample_weight=row_weights),
        "per_class": {
            name: {"precision": precision[c], "recall": recall[c], "f1": f1[c], "support": support[c]}
            for c, name in enumerate(classes)
        },
        "confusion": peer.confusion_matrix(labels, predicted, labels=classes).tolist(),
    }


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tables())
def test_scores_agree_with_scikit_learn(
    table: tuple[list[str], NDArray[np.float64], list[str], dict[str, float]],
) -> None:
    ours, theirs = score_block(*table), peer_scores(*table)
    assert ours is not None
    assert ours.keys() == theirs.keys()
    assert ours.pop("confusion") == theirs.pop("confusion")
    ours_per_class, theirs_per_class = ours.pop("per_class"), theirs.pop("per_class")
    assert list(ours_per_class) == list(theirs_per_class)
    for name, scores in theirs_per_class.items():
        assert ours_per_class[name] == pytest.approx(scores, rel=0, abs=TOLERANCE)
    assert ours == pytest.approx(theirs, rel=TOLERANCE, abs=TOLERANCE)


def test_scores_are_those_the_reference_printed() -> None:
    labels = ["0"] * 724 + ["1"] * 112
    predicted = [0] * 710 + [1] * 14 + [0] * 9 + [1] * 103
    block = score_block(labels, np.eye(2)[predicted], ["0", "1"], {"0": 0.57743559, "1": 3.72848948})
    assert block is not None
    assert block["confusion"] == [[710, 14], [9, 103]]
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
