"""Intervals: against scipy's Wilson, a bootstrap that draws rows one by one, and the true score of a population."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from frozenhead.report import resampling, score_block
from frozenhead.report.intervals import f1_interval, interval_block, wilson
from frozenhead.report.metrics import positions
from frozenhead.report.resampling import draw_scores

CLASSES = ["ham", "odd", "spam"]
WEIGHTS = dict.fromkeys(CLASSES, 1.0)

# Two bootstraps differ by chance: a 2.5 % quantile of R draws has a standard error of sqrt(q (1 - q) / R) over the
# density there, 0.042 deviations of the score for R = 4,000 and 0.12 for R = 500; their difference 0.13, times 4.
OF_A_DEVIATION = 0.5

# Of 200 intervals of 95 % so many hold the true score, but for a chance of 0.001 (binomial); a bootstrap of 300 rows
# misses its level by a hundredth or two, which the second number leaves it.
SAMPLES, LEAST_HELD = 200, 0.95 - 3.1 * (0.95 * 0.05 / 200) ** 0.5 - 0.02


@pytest.mark.parametrize(("hits", "rows"), [(0, 1), (1, 1), (0, 17), (17, 17), (1, 2), (93, 100), (836, 837)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_interval_of_a_share_is_scipys(hits: int, rows: int, level: float) -> None:
    expected = binomtest(hits, rows).proportion_ci(level, method="wilson")
    assert wilson(hits, rows, level=level) == pytest.approx([expected.low, expected.high], abs=1e-12)


@pytest.mark.parametrize(("hits", "rows"), [(0, 0), (-1, 3), (4, 3)])
def test_what_is_no_share_is_refused(hits: int, rows: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(hits, rows)


@pytest.mark.parametrize(("hits", "claimed", "support"), [(0, 4, 9), (3, 3, 3), (50, 60, 70), (1, 1, 2)])
def test_the_interval_of_f1_is_that_of_the_share_it_is_made_of(hits: int, claimed: int, support: int) -> None:
    low, high = f1_interval(hits, claimed, support)
    f1 = 2 * hits / (claimed + support)
    assert low <= f1 <= high
    assert low < high
    share = binomtest(hits, claimed + support - hits).proportion_ci(0.95, method="wilson")
    assert [low / (2 - low), high / (2 - high)] == pytest.approx([share.low, share.high], abs=1e-12)  # F = 2J / (1 + J)


def predictions(n: int = 240, *, seed: int = 3, sharp: float = 1.0) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Labels (n,) of three uneven classes and probabilities (n, 3) that are right more often than not."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, size=n, p=[0.6, 0.1, 0.3])
    scores = sharp * (rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[codes])
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return np.array(CLASSES, object)[codes], probabilities


def intervals_of(
    labels: NDArray[Any],
    probabilities: NDArray[np.float64],
    predicted: NDArray[Any] | None = None,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A block of the three classes and its intervals."""
    block = score_block(labels, probabilities, CLASSES, WEIGHTS, predicted=predicted)
    assert block is not None
    chosen = probabilities.argmax(axis=1) if predicted is None else positions(predicted, CLASSES)
    drawn = draw_scores(positions(labels, CLASSES), [(probabilities, chosen)], 3, np.ones(3), draws=draws, seed=seed)
    return block, interval_block(block, drawn, 0, CLASSES, level=level)


def rows_drawn_one_by_one(
    labels: NDArray[Any], probabilities: NDArray[np.float64], draws: int
) -> dict[str, NDArray[np.float64]]:
    """The same bootstrap the long way: row numbers drawn within each class, scores by scikit-learn."""
    rng = np.random.default_rng(11)
    predicted = np.array(CLASSES, object)[probabilities.argmax(axis=1)]
    scores: dict[str, list[float]] = {"macro_f1": [], "log_loss": [], "roc_auc": []}
    own = [np.flatnonzero(labels == name) for name in CLASSES]
    for _ in range(draws):
        rows = np.concatenate([rng.choice(of_class, size=len(of_class)) for of_class in own])
        y, p = labels[rows].astype(str), predicted[rows].astype(str)
        scores["macro_f1"].append(f1_score(y, p, labels=CLASSES, average="macro", zero_division=0.0))
        scores["log_loss"].append(log_loss(y, probabilities[rows], labels=CLASSES))
        scores["roc_auc"].append(roc_auc_score(y, probabilities[rows], multi_class="ovr"))
    return {name: np.array(values) for name, values in scores.items()}


def test_the_bootstrap_gives_the_interval_of_rows_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probabilities = predictions(150)
    _, found = intervals_of(labels, probabilities, draws=4000)
    monkeypatch.setattr(resampling, "_AREA_WORK", 1000 * 150 * 3)
    _, normal = intervals_of(labels, probabilities, draws=4000)
    assert normal["methods"]["roc_auc"] == normal["methods"]["average_precision"] == "normal, from 1024 draws"
    assert found["methods"]["roc_auc"] == normal["methods"]["mcc"] == "bootstrap"
    for name, drawn in rows_drawn_one_by_one(labels, probabilities, 500).items():
        expected = np.quantile(drawn, [0.025, 0.975])
        assert found[name] == pytest.approx(expected, abs=OF_A_DEVIATION * drawn.std()), name
        assert normal[name] == pytest.approx(expected, abs=OF_A_DEVIATION * drawn.std()), name


def test_scores_lie_in_their_intervals_and_a_seed_repeats_them() -> None:
    labels, probabilities = predictions()
    (block, first), (_, again), (_, other) = (intervals_of(labels, probabilities, seed=s) for s in (4, 4, 5))
    assert first == again
    assert first != other
    scores = {name for name, value in block.items() if isinstance(value, float)}
    assert len(scores) == 11
    for name in scores:
        low, high = first[name]
        assert low < block[name] < high, name
    assert first.keys() == scores | {"level", "draws", "seed", "methods", "per_class"}
    assert first["methods"].keys() == scores | {"precision", "recall", "f1"}
    for name, row in first["per_class"].items():
        for key, (low, high) in row.items():
            assert low < block["per_class"][name][key] < high
    assert json.loads(json.dumps(first, allow_nan=False)) == first


def test_intervals_are_of_what_was_predicted_and_not_of_the_most_probable() -> None:
    labels, probabilities = predictions()
    predicted = np.where(probabilities[:, 1] > 0.1, "odd", "ham").astype(object)
    block, found = intervals_of(labels, probabilities, predicted)
    _, plain = intervals_of(labels, probabilities)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc"):
        low, high = found[name]
        assert low < block[name] < high
        assert found[name] != plain[name]
    assert found["log_loss"] == plain["log_loss"]
    assert found["accuracy"] == wilson(round(block["accuracy"] * len(labels)), len(labels))


def test_a_wider_level_gives_wider_intervals() -> None:
    labels, probabilities = predictions()
    (_, narrow), (_, wide) = (intervals_of(labels, probabilities, level=level) for level in (0.8, 0.99))
    for name in narrow["methods"].keys() - {"precision", "recall", "f1"}:
        assert wide[name][0] <= narrow[name][0] < narrow[name][1] < wide[name][1]  # 0 is the least there is


def test_a_class_without_rows_has_no_interval_but_that_of_its_precision() -> None:
    labels, probabilities = np.array(["ham", "ham", "odd"], object), np.eye(3)[[0, 2, 1]]
    _, found = intervals_of(labels, probabilities)
    assert found["per_class"]["spam"] == {"precision": wilson(0, 1), "recall": None, "f1": None}
    _, found = intervals_of(labels, np.eye(3)[[0, 0, 0]])
    assert found["per_class"]["odd"]["precision"] is None


def test_what_is_undefined_has_no_interval() -> None:
    _, found = intervals_of(np.array(["ham", "ham"], object), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]))
    assert found["mcc"] is None
    assert found["roc_auc"] is None
    assert found["accuracy"] == wilson(1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("sharp", [0.5, 1.5])  # of probabilities: too low, nearly right
def test_intervals_hold_the_true_score_as_often_as_they_say(sharp: float) -> None:
    truth = score_block(*predictions(200_000, seed=1, sharp=sharp), CLASSES, WEIGHTS)
    assert truth is not None
    held = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "mcc", "log_loss", "roc_auc", "ece", "odd"), 0)
    for seed in range(SAMPLES):
        _, found = intervals_of(*predictions(300, seed=100 + seed, sharp=sharp), draws=400)
        found["odd"] = found["per_class"]["odd"]["f1"]
        for name in held:
            low, high = found[name]
            held[name] += low <= (truth["per_class"]["odd"]["f1"] if name == "odd" else truth[name]) <= high
    assert min(held.values()) >= LEAST_HELD * SAMPLES, held
