"""Intervals: against scipy's Wilson, DeLong the long way, bootstraps by scipy, and the true score of a population."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap, norm

from frozenhead.report import score_block
from frozenhead.report.intervals import area_interval, f1_interval, interval_block, mean_interval, wilson
from frozenhead.report.metrics import positions
from frozenhead.report.resampling import draw_scores
from frozenhead.report.spread import spread

CLASSES = ["ham", "odd", "spam"]
WEIGHTS = dict.fromkeys(CLASSES, 1.0)

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


def test_the_variance_of_the_roc_area_is_delongs() -> None:
    labels, probabilities = predictions(150)
    true = positions(labels, CLASSES)
    found = spread(probabilities, true, np.ones(3)).areas[1]
    for c in range(3):
        own, rest = probabilities[true == c, c], probabilities[true != c, c]
        won = (own[:, None] > rest) + 0.5 * (own[:, None] == rest)
        expected = won.mean(axis=1).var(ddof=1) / len(own) + won.mean(axis=0).var(ddof=1) / len(rest)
        assert found[c] == pytest.approx(expected, rel=1e-12)


def test_the_variance_of_mean_areas_and_losses_is_that_of_rows_drawn_again() -> None:
    labels, probabilities = predictions(600)
    true = positions(labels, CLASSES)
    shape = spread(probabilities, true, np.ones(3))
    rng = np.random.default_rng(11)
    own, drawn = [np.flatnonzero(true == c) for c in range(3)], []
    for _ in range(400):
        rows = np.concatenate([rng.choice(of_class, size=len(of_class)) for of_class in own])
        block = score_block(labels[rows], probabilities[rows], CLASSES, WEIGHTS)
        assert block is not None
        drawn.append([block["average_precision"], block["roc_auc"], block["log_loss"], block["brier"]])
    errors = [*np.sqrt(shape.areas[:, 3]), shape.losses["log_loss"][0], shape.losses["brier"][0]]
    # A deviation of 400 draws is right to 1 / sqrt(800), times 4
    assert errors == pytest.approx(np.std(drawn, axis=0), rel=0.15)


def test_two_classes_have_one_roc_area_and_one_interval() -> None:
    labels, probabilities = predictions(150)
    two, true = np.stack([1 - probabilities[:, 2], probabilities[:, 2]], axis=1), (labels == "spam").astype(np.int64)
    variances = spread(two, true, np.ones(2)).areas[1]
    assert variances == pytest.approx([variances[0]] * 3, rel=1e-9)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_an_interval_of_an_area_is_wilsons_with_the_rows_that_vary_alike(level: float) -> None:
    # 90 of 100 rows; the row that is added weighs nothing
    assert area_interval(0.9, 0.09 / 100, 1e-12, level=level) == pytest.approx(wilson(90, 100, level=level), abs=1e-9)
    # No row is wrong: as Wilson has it, of as many rows as weigh like the worst.
    assert area_interval(1.0, 0.0, 1 / 112, level=level) == pytest.approx(wilson(112, 112, level=level), abs=1e-9)


def test_a_mean_without_skewness_has_the_normal_interval_and_with_it_a_longer_upper_half() -> None:
    assert mean_interval(5.0, 0.1, 0.0) == pytest.approx(norm.interval(0.95, 5, 0.1), abs=1e-9)
    assert mean_interval(5.0, 0.1, 1.01e-6) == pytest.approx(mean_interval(5.0, 0.1, 0.99e-6), abs=1e-6)
    low, high = mean_interval(5.0, 0.1, 0.5) or [0.0, 0.0]
    assert 5 - norm.ppf(0.975) * 0.1 < low < 5 < 5 + norm.ppf(0.975) * 0.1 < high
    assert mean_interval(0.01, 0.1, 0.5) == [0.0, pytest.approx(high - 5 + 0.01)]
    assert mean_interval(0.3, 0.0, 0.0) is None


def test_skewed_means_have_the_interval_of_a_bootstrap_that_knows_it() -> None:
    costs = np.random.default_rng(2).gamma(0.3, size=400)
    away = costs - costs.mean()
    error = (away @ away / 399 / 400) ** 0.5
    found = mean_interval(costs.mean(), error, (away**3).sum() / 400**3 / error**3)
    theirs = bootstrap((costs,), np.mean, n_resamples=9999, method="BCa", rng=1).confidence_interval
    assert found == pytest.approx([theirs.low, theirs.high], abs=0.15 * error)  # the normal ends lie 0.22 and 0.29 away


@pytest.mark.parametrize("head", ["right", "constant", "nearly right"])
def test_no_interval_is_of_width_0_and_a_head_may_be_right_or_constant(head: str) -> None:
    labels = np.repeat(np.array(["ham", "odd", "spam"], object), [60, 12, 30])
    sure = np.eye(3)[positions(labels, CLASSES)]
    probabilities = {"right": sure, "constant": np.tile([0.6, 0.1, 0.3], (102, 1)), "nearly right": 0.9 * sure + 1 / 30}
    block, found = intervals_of(labels, probabilities[head])
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "average_precision", "roc_auc"):
        low, high = found[name]
        assert low <= block[name] + 1e-12
        assert block[name] - 1e-12 <= high
        assert high - low > 0.01, name
    for row in found["per_class"].values():
        assert all(pair is None or pair[1] - pair[0] > 0.01 for pair in row.values())
    assert found["log_loss"] is found["brier"] is None  # every row of a class costs the same


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
    assert found["per_class"]["spam"] == {
        "precision": wilson(0, 1), "recall": None, "f1": None, "average_precision": None, "roc_auc": None,
    }  # fmt: skip
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


# Rows of a spam filter that is right on 99 of 100, ham and spam alike: 836 test rows, 112 of them spam, as the SMS
# corpus has. A few rows look like the other class, and how many of them a sample has is chance.
SPAM_ROWS = (724, 112)


def filtered(rows: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.float64]]:
    true = np.repeat([0, 1], rows)
    like = np.where(rng.random(len(true)) < 0.0025, 1 - true, true)
    logit = 10.4 * (rng.normal(size=len(true)) + 4.74 * (like - 0.5)) / 2
    spam = 1 / (1 + np.exp(-logit))
    return np.array(["ham", "spam"], object)[true], np.stack([1 - spam, spam], axis=1)


@pytest.mark.slow
def test_of_a_head_with_a_handful_of_mistakes_intervals_hold_the_true_score_too() -> None:
    names, weights = ["ham", "spam"], {"ham": 1.0, "spam": 1.0}
    truth = score_block(*filtered((724_000, 112_000), np.random.default_rng(1)), names, weights)
    assert truth is not None
    assert truth["accuracy"] == pytest.approx(0.99, abs=0.002)
    held = dict.fromkeys(
        ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "average_precision", "roc_auc", "brier"), 0
    )
    samples, rng = 500, np.random.default_rng(2)
    for _ in range(samples):
        labels, probabilities = filtered(SPAM_ROWS, rng)
        block = score_block(labels, probabilities, names, weights)
        assert block is not None
        chosen = probabilities.argmax(axis=1)
        drawn = draw_scores(positions(labels, names), [(probabilities, chosen)], 2, np.ones(2), draws=20, seed=0)
        found = interval_block(block, drawn, 0, names)
        for name in held:
            held[name] += found[name][0] <= truth[name] <= found[name][1]
    # But for a chance of 0.001 (binomial); the bootstrap's 80 % and 93 % fail it.
    assert min(held.values()) >= samples * (0.95 - 3.1 * (0.95 * 0.05 / samples) ** 0.5), held
