"""Intervals: against scipy's Wilson, closed forms, and a bootstrap that draws rows one by one."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, log_loss

from frozenhead.report.intervals import draw_counts, draw_means, score_intervals, wilson

CLASSES = ["ham", "odd", "spam"]

# Two bootstraps differ by chance: a 2.5 % quantile of R draws has a standard error of sqrt(q (1 - q) / R) over the
# density there, 0.042 deviations of the score for R = 4,000 and 0.12 for R = 500; their difference 0.13, times 4.
OF_A_DEVIATION = 0.5


@pytest.mark.parametrize(("hits", "rows"), [(0, 1), (1, 1), (0, 17), (17, 17), (1, 2), (93, 100), (836, 837)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_interval_of_a_share_is_scipys(hits: int, rows: int, level: float) -> None:
    expected = binomtest(hits, rows).proportion_ci(level, method="wilson")
    assert wilson(hits, rows, level=level) == pytest.approx([expected.low, expected.high], abs=1e-12)


@pytest.mark.parametrize(("hits", "rows"), [(0, 0), (-1, 3), (4, 3)])
def test_what_is_no_share_is_refused(hits: int, rows: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(hits, rows)


def predictions(n: int = 240, *, seed: int = 3) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Labels (n,) of three uneven classes and probabilities (n, 3) that are right more often than not."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, size=n, p=[0.6, 0.1, 0.3])
    scores = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[codes]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return np.array(CLASSES, object)[codes], probabilities


def rows_drawn_one_by_one(
    labels: NDArray[Any], probabilities: NDArray[np.float64], draws: int
) -> dict[str, NDArray[np.float64]]:
    """The same bootstrap the long way: row numbers drawn within each class, scores by scikit-learn."""
    rng = np.random.default_rng(11)
    predicted = np.array(CLASSES, object)[probabilities.argmax(axis=1)]
    scores: dict[str, list[float]] = {"balanced_accuracy": [], "macro_f1": [], "log_loss": [], "f1 of odd": []}
    own = [np.flatnonzero(labels == name) for name in CLASSES]
    for _ in range(draws):
        rows = np.concatenate([rng.choice(of_class, size=len(of_class)) for of_class in own])
        y, p = labels[rows].astype(str), predicted[rows].astype(str)
        each = f1_score(y, p, labels=CLASSES, average=None, zero_division=0.0)
        scores["macro_f1"].append(each.mean())
        scores["f1 of odd"].append(each[1])
        scores["balanced_accuracy"].append(balanced_accuracy_score(y, p))
        scores["log_loss"].append(log_loss(y, probabilities[rows], labels=CLASSES))
    return {name: np.array(values) for name, values in scores.items()}


def test_the_bootstrap_gives_the_interval_of_rows_drawn_one_by_one() -> None:
    labels, probabilities = predictions(150)
    found = score_intervals(labels, probabilities, CLASSES, draws=4000)
    assert found is not None
    found["f1 of odd"] = found["per_class"]["odd"]["f1"]
    for name, drawn in rows_drawn_one_by_one(labels, probabilities, 500).items():
        expected = np.quantile(drawn, [0.025, 0.975])
        assert found[name] == pytest.approx(expected, abs=OF_A_DEVIATION * drawn.std()), name


def test_a_drawn_table_has_the_scores_of_its_rows_and_as_many_of_each_class() -> None:
    labels, probabilities = predictions()
    table = confusion_matrix(labels.astype(str), np.array(CLASSES)[probabilities.argmax(axis=1)], labels=CLASSES)
    hits, claimed = draw_counts(table, 50, np.random.default_rng(0))
    assert (claimed.sum(axis=1) == len(labels)).all()
    assert (hits <= np.minimum(claimed, table.sum(axis=1))).all()
    assert len(np.unique(hits[:, 0])) > 5


def test_drawn_counts_have_the_mean_and_variance_of_the_binomial() -> None:
    table = np.array([[60, 40, 0], [0, 0, 0], [5, 0, 45]])
    hits, claimed = draw_counts(table, 20_000, np.random.default_rng(1))
    np.testing.assert_allclose(hits.mean(axis=0), [60, 0, 45], atol=0.15)  # 4 standard errors of 4.9 / sqrt(20,000)
    np.testing.assert_allclose(hits.var(axis=0), [100 * 0.6 * 0.4, 0, 50 * 0.9 * 0.1], rtol=0.05)
    np.testing.assert_allclose(claimed.mean(axis=0), table.sum(axis=0), atol=0.15)


def test_drawn_means_have_the_variance_of_a_stratified_mean() -> None:
    rng = np.random.default_rng(2)
    strata = np.repeat([0, 2], [300, 100])  # stratum 1 is empty
    values = rng.normal(size=400) + 10 * (strata == 2)
    means = draw_means(values, strata, 20_000, rng)
    # Var = sum_c (n_c / n)² var_c / n_c: what lies between the strata does not count.
    expected = sum((n / 400) ** 2 * values[strata == c].var() / n for c, n in ((0, 300), (2, 100)))
    assert means.var() == pytest.approx(expected, rel=0.05)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * (expected / 20_000) ** 0.5)


def test_draws_in_pieces_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    values, strata = np.ones(30), np.zeros(30, np.int64)
    monkeypatch.setattr("frozenhead.report.intervals._AT_ONCE", 70)  # two draws of 30 rows at a time
    np.testing.assert_array_equal(draw_means(values, strata, 7, np.random.default_rng(0)), np.ones(7))


def test_scores_lie_in_their_intervals_and_a_seed_repeats_them() -> None:
    labels, probabilities = predictions()
    first, again = (score_intervals(labels, probabilities, CLASSES, seed=4) for _ in range(2))
    assert first == again
    assert first != score_intervals(labels, probabilities, CLASSES, seed=5)
    assert first is not None
    predicted = np.array(CLASSES)[probabilities.argmax(axis=1)]
    for name, score in {
        "accuracy": (predicted == labels).mean(),
        "macro_f1": f1_score(labels.astype(str), predicted, average="macro"),
        "log_loss": log_loss(labels.astype(str), probabilities, labels=CLASSES),
    }.items():
        low, high = first[name]
        assert low < score < high, name


def test_a_class_without_rows_has_no_interval_and_no_rows_have_none() -> None:
    labels, probabilities = np.array(["ham", "ham"], object), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    found = score_intervals(labels, probabilities, CLASSES)
    assert found is not None
    assert found["per_class"]["spam"] == {"recall": None, "f1": None}
    assert score_intervals([], np.empty((0, 3)), CLASSES) is None


def test_probabilities_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="probabilities"):
        score_intervals(["ham"], np.array([[0.5, 0.5, 0.5]]), CLASSES)
