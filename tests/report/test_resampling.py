"""The bootstrap of products: against rows drawn one by one, scipy, and what the draws must keep."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap, ks_2samp

from frozenhead.report import score_block
from frozenhead.report.resampling import Draws, draw_scores, row_weights

K = 4
WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0])
SCORES = {
    "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc",
    "ece",
}  # fmt: skip

# The sums of a draw are float32: of the order of 1e-7 for each of them, and a score is a sum of a few.
TOLERANCE = 1e-5

Head = tuple[NDArray[np.float64], NDArray[np.int64]]


def judged(n: int = 90, *, heads: int = 2, seed: int = 0, classes: int = 3) -> tuple[NDArray[np.int64], list[Head]]:
    """True positions (n,), the last of K classes without a row, and heads with ties; the second decides otherwise."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    found: list[Head] = []
    for h in range(heads):
        scores = rng.integers(0, 4, (n, K)) + 1.5 * np.eye(K)[true]
        probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        chosen = probabilities.argmax(axis=1)
        found.append((probabilities, np.where(probabilities[:, 1] > 0.2, 1, chosen) if h % 2 else chosen))
    return true, found


def drawn_rows(true: NDArray[np.int64], draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The rows of each draw, written out."""
    order = np.argsort(true, kind="stable")
    for weights in row_weights(np.bincount(true, minlength=K), draws=draws, seed=seed):
        for column in weights.T.astype(int):
            yield np.repeat(order, column)


def names_of(codes: NDArray[np.int64]) -> list[str]:
    return [f"c{c}" for c in codes]


@pytest.mark.parametrize("classes", [3, 1])
def test_each_draw_scores_as_its_rows_do(classes: int) -> None:
    true, heads = judged(classes=classes)
    draws = draw_scores(true, heads, K, WEIGHTS, draws=70, seed=5)  # two blocks
    names, weights = names_of(np.arange(K)), dict(zip(names_of(np.arange(K)), WEIGHTS.tolist(), strict=True))
    for r, rows in enumerate(drawn_rows(true, 70, 5)):
        for h, (probabilities, predicted) in enumerate(heads):
            block = score_block(
                names_of(true[rows]), probabilities[rows], names, weights, predicted=names_of(predicted[rows])
            )
            assert block is not None
            expected = {name: block[name] for name in draws.scores if block[name] is not None}
            assert {name: draws.scores[name][h, r] for name in expected} == pytest.approx(expected, abs=TOLERANCE)
    assert {*draws.scores} == SCORES


def test_a_draw_holds_as_many_rows_of_each_class() -> None:
    support = np.array([5, 0, 300, 1])
    blocks = list(row_weights(support, draws=130, seed=1))
    assert sum(block.shape[1] for block in blocks) == 130
    weights = np.concatenate(blocks, axis=1)
    classes = np.repeat(np.arange(4), support)
    for c, rows in enumerate(support):
        assert (weights[classes == c].sum(axis=0) == rows).all()
    assert weights[5:305].mean() == 1.0
    # Binomial(300, 1/300) each: variance 1 - 1/300; 39,000 counts give it to 1.5 %, times 4
    assert weights[5:305].var() == pytest.approx(1 - 1 / 300, rel=0.06)


def test_equal_seeds_draw_equally_and_others_do_not() -> None:
    true, heads = judged()
    first, again, other = (draw_scores(true, heads, K, WEIGHTS, draws=20, seed=s) for s in (3, 3, 4))
    for name, values in first.scores.items():
        np.testing.assert_array_equal(values, again.scores[name])
    assert (first.scores["ece"] != other.scores["ece"]).any()


def test_a_head_is_drawn_alike_beside_others_and_in_any_order_of_rows() -> None:
    true, heads = judged()
    both, alone = (draw_scores(true, some, K, WEIGHTS, draws=20, seed=3) for some in (heads, heads[1:]))
    for name, values in alone.scores.items():
        np.testing.assert_array_equal(values[0], both.scores[name][1])
    twins = draw_scores(true, [heads[0], heads[0]], K, WEIGHTS, draws=20, seed=3)
    assert all((values[0] == values[1]).all() for values in twins.scores.values())


def test_draws_of_a_mean_have_the_law_of_scipys_bootstrap() -> None:
    true, heads = judged(400, classes=1)
    draws = draw_scores(true, heads[:1], K, WEIGHTS, draws=2000, seed=0)
    right = (heads[0][1] == true).astype(float)
    theirs = bootstrap((right,), np.mean, n_resamples=2000, method="percentile", rng=1, batch=500)
    assert ks_2samp(draws.scores["accuracy"][0], theirs.bootstrap_distribution).pvalue > 1e-3
    low, high = np.quantile(draws.scores["accuracy"][0], [0.025, 0.975])
    # A 2.5 % quantile of 2,000 draws has a standard error of 0.06 deviations; of two, times 4.
    assert [low, high] == pytest.approx([*theirs.confidence_interval], abs=0.34 * float(theirs.standard_error))


@pytest.mark.parametrize("n", [1, 3])
def test_a_few_rows_can_be_drawn(n: int) -> None:
    true, heads = judged(3)
    draws = draw_scores(true[:n], [(p[:n], c[:n]) for p, c in heads], K, WEIGHTS, draws=10, seed=0)
    assert isinstance(draws, Draws)
    assert draws.rows == n
    assert all(values.shape == (2, 10) for values in draws.scores.values())


def test_a_thousand_classes_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 1000, 1500)
    probabilities = rng.dirichlet(np.ones(1000), 1500)
    head = probabilities, np.where(rng.random(1500) < 0.5, true, probabilities.argmax(axis=1))
    draws = draw_scores(true, [head], 1000, np.ones(1000), draws=10, seed=0)
    assert draws.scores["accuracy"].mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("n", "draws"), [(0, 10), (3, 0)])
def test_nothing_cannot_be_drawn(n: int, draws: int) -> None:
    true, heads = judged(3)
    with pytest.raises(ValueError, match="at least one"):
        draw_scores(true[:n], [(p[:n], c[:n]) for p, c in heads], K, WEIGHTS, draws=draws, seed=0)
