"""Lines are scikit-learn's, thinned unseen; areas are exact; scaling is undone as it was done."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from frozenhead.report.curves import BINS, MOST_CLASSES, curve_block

# Shares of the same whole numbers, added in another order.
CLOSE = 1e-12

Case = tuple[NDArray[np.int64], NDArray[np.float64], list[str]]


def guesses(n: int, K: int, *, seed: int = 0, ties: bool = False, skill: float = 1.0) -> Case:
    """True classes (n,), probabilities (n, K) with some skill, and the classes."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, K, n)
    scores = rng.normal(size=(n, K))
    scores[np.arange(n), true] += skill
    probabilities = softmax(np.round(scores) if ties else scores, axis=1)
    return true, probabilities, [f"class {c}" for c in range(K)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few or many rows, ties or none, classes of which some may have no row."""
    K, n = draw(st.integers(2, 12)), draw(st.integers(1, 400))
    true, probabilities, classes = guesses(n, K, seed=draw(st.integers(0, 2**32 - 1)), ties=draw(st.booleans()))
    return true % draw(st.integers(1, K)), probabilities, classes


def told(true: NDArray[np.int64], classes: list[str]) -> list[int]:
    found = [c for c in range(len(classes)) if 0 < (true == c).sum() < len(true)]
    return [c for c in found if c == 1] if len(classes) == 2 else found


def peer_line(kind: str, positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """All points of scikit-learn's line (m, 2), x rising."""
    if kind == "roc":
        x, y, _ = roc_curve(positive, scores, drop_intermediate=False)
        return np.column_stack([x, y])
    precision, recall, _ = precision_recall_curve(positive, scores)
    return np.column_stack([recall, precision])[::-1]


@given(cases())
@settings(max_examples=60, deadline=None)
def test_lines_are_points_of_scikit_learns_and_areas_are_its_scores(case: Case) -> None:
    true, probabilities, classes = case
    block = curve_block(true, probabilities, classes, None)
    for kind, score in (("roc", roc_auc_score), ("precision_recall", average_precision_score)):
        areas = [score(true == c, probabilities[:, c]) for c in told(true, classes)]
        assert len(block[kind]) == min(len(areas), MOST_CLASSES)
        for line in block[kind]:
            c = classes.index(line["label"])
            whole = peer_line(kind, true == c, probabilities[:, c])
            points = np.column_stack([line["x"], line["y"]])
            nearest = np.abs(points[:, None] - whole[None]).max(axis=2).min(axis=1)
            assert nearest.max() < CLOSE
            assert np.abs(points[[0, -1]] - whole[[0, -1]]).max() < CLOSE
            assert (np.diff(points[:, 0]) >= 0).all()
            assert abs(line["area"] - score(true == c, probabilities[:, c])) < CLOSE


@pytest.mark.parametrize("n", [30, 3_000, 100_000])
@pytest.mark.parametrize("skill", [0.3, 3.0])
@pytest.mark.parametrize("kind", ["roc", "precision_recall"])
def test_a_thinned_line_draws_the_same_picture(kind: str, skill: float, n: int) -> None:
    true, probabilities, classes = guesses(n, 2, seed=n, skill=skill)
    (line,) = curve_block(true, probabilities, classes, None)[kind]
    whole = peer_line(kind, true == 1, probabilities[:, 1])
    assert len(line["x"]) <= min(200, len(whole))
    x, y = np.array(line["x"]), np.array(line["y"])
    if kind == "precision_recall":  # drawn in steps: up or down, then level
        x, y = np.repeat(x, 2)[:-1], np.repeat(y, 2)[1:]
    # Each point of the whole line lies on the drawn one, to an eighth of a pixel of a plot 250 pixels wide; where that
    # would take more than 200 points, to a pixel.
    limit = 1 / 2000 if len(line["x"]) < 200 else 1 / 250
    assert distance(whole, x, y).max() <= limit + CLOSE


def distance(points: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each point (m, 2) from the nearest of the straight pieces through x, y."""
    best = np.full(len(points), np.inf)
    for x0, y0, x1, y1 in zip(x, y, x[1:], y[1:], strict=False):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((points[:, 0] - x0) * dx + (points[:, 1] - y0) * dy) / max(dx**2 + dy**2, 1e-300), 0, 1)
        best = np.minimum(best, np.hypot(points[:, 0] - x0 - along * dx, points[:, 1] - y0 - along * dy))
    return best


def test_of_many_classes_the_worst_and_the_best_have_lines() -> None:
    true, probabilities, classes = guesses(2_000, 30, skill=2.0)
    block = curve_block(true, probabilities, classes, None)
    areas = sorted((roc_auc_score(true == c, probabilities[:, c]), classes[c]) for c in range(30))
    half = MOST_CLASSES // 2
    assert [line["label"] for line in block["roc"]] == [label for _, label in areas[:half] + areas[-half:]]


@pytest.mark.parametrize("K", [2, 3])
def test_a_split_of_one_class_has_no_lines_and_has_bins(K: int) -> None:
    _, probabilities, classes = guesses(3, K)
    block = curve_block(np.ones(3, np.int64), probabilities, classes, None)
    assert block["roc"] == block["precision_recall"] == []
    assert sum(block["reliability"]["after"]["rows"]) == 3


@given(cases())
@settings(max_examples=40, deadline=None)
def test_bins_are_scikit_learns_calibration_curve(case: Case) -> None:
    true, probabilities, classes = case
    bins = curve_block(true, probabilities, classes, None)["reliability"]["after"]
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    share, mean = calibration_curve(right, confidence, n_bins=BINS, strategy="uniform")
    np.testing.assert_allclose(bins["accuracy"], share, rtol=0, atol=CLOSE)
    np.testing.assert_allclose(bins["confidence"], mean, rtol=0, atol=CLOSE)
    assert sum(bins["rows"]) == len(true)
    ece = sum(n * abs(a - c) for n, a, c in zip(bins["rows"], share, mean, strict=True)) / len(true)
    assert bins["ece"] == pytest.approx(ece, abs=CLOSE)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 3.0, 1684.0])
def test_undoing_the_temperature_gives_the_bins_of_the_unscaled_probabilities(temperature: float) -> None:
    rng = np.random.default_rng(0)
    true, logits = rng.integers(0, 4, 500), rng.normal(size=(500, 4)) * 0.3
    scaled = softmax(logits / temperature, axis=1)
    block = curve_block(true, scaled, list("abcd"), temperature)["reliability"]
    plain = curve_block(true, softmax(logits, axis=1), list("abcd"), None)["reliability"]
    assert plain["before"] is None
    assert block["before"]["rows"] == plain["after"]["rows"]
    # At T = 1684 the probabilities differ from each other in their fourth digit, so T loses four digits.
    np.testing.assert_allclose(block["before"]["confidence"], plain["after"]["confidence"], rtol=0, atol=1e-11)
    assert curve_block(true, scaled, list("abcd"), 1.0)["reliability"]["before"] is None


def test_probabilities_of_0_and_1_are_believed_before_scaling_too() -> None:
    certain = np.eye(3)
    block = curve_block(np.arange(3), certain, list("abc"), 0.5)["reliability"]
    assert block["before"] == block["after"] == {"confidence": [1.0], "accuracy": [1.0], "rows": [3], "ece": 0.0}


def test_memory_does_not_grow_with_the_classes() -> None:
    true, probabilities, classes = guesses(20_000, 400)
    tracemalloc.start()
    curve_block(true, probabilities, classes, 2.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < probabilities.nbytes / 2  # 64 MB; blocks of 8 MiB and columns of 160 kB are held at a time
