"""Comparisons: against statsmodels, and for false alarms on heads that are equally good."""

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest
from statsmodels.stats.contingency_tables import mcnemar as peer_mcnemar
from statsmodels.stats.multitest import multipletests

from frozenhead.report import score_block
from frozenhead.report.comparisons import beside_copies, compare, holm, mcnemar
from frozenhead.report.resampling import Draws, draw_scores

CLASSES = ["ham", "spam"]
TOLERANCE = 1e-12

counts = st.integers(0, 60) | st.integers(0, 20_000)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(counts, counts)
def test_the_p_value_is_that_of_statsmodels_and_scipy(only_a: int, only_b: int) -> None:
    found = mcnemar(only_a, only_b)
    expected = peer_mcnemar([[7, only_a], [only_b, 9]], exact=True).pvalue if only_a + only_b else 1.0
    assert found == pytest.approx(expected, rel=1e-9, abs=TOLERANCE)
    if only_a + only_b:
        assert found == pytest.approx(binomtest(only_a, only_a + only_b).pvalue, rel=1e-9, abs=TOLERANCE)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1) | st.sampled_from([0.01, 0.02, 0.5]), min_size=1, max_size=12))
def test_the_correction_is_that_of_statsmodels(p_values: list[float]) -> None:
    reject, expected, *_ = multipletests(p_values, alpha=0.05, method="holm")
    found = holm(p_values)
    assert found == pytest.approx(expected.tolist(), rel=TOLERANCE, abs=0)
    clear = np.abs(expected - 0.05) > TOLERANCE
    assert ((np.array(found) <= 0.05) == reject)[clear].all()


def names(heads: int) -> list[dict[str, str]]:
    return [{"feature": "minilm.mean", "head": f"head{h}"} for h in range(heads)]


def compared(
    true: NDArray[np.int64],
    predicted: NDArray[np.int64],
    *,
    best: int = 0,
    baseline: int | None = None,
    draws: int = 200,
    level: float = 0.95,
    titles: list[dict[str, str]] | None = None,
    split: str = "test",
) -> tuple[dict[str, Any] | None, Draws]:
    """Heads that predict these positions (H, n), each row with certainty."""
    heads = [(np.eye(2)[chosen], chosen) for chosen in predicted]
    labels, weights = [CLASSES[c] for c in true], {"ham": 1.0, "spam": 1.0}
    blocks = [score_block(labels, probabilities, CLASSES, weights) for probabilities, _ in heads]
    drawn = draw_scores(true, heads, 2, np.ones(2), draws=draws, seed=0)
    found = compare(
        drawn,
        predicted == true,
        titles or names(len(heads)),
        [block for block in blocks if block is not None],
        best=best,
        baseline=baseline,
        split=split,
        level=level,
    )
    return found, drawn


def wrong_on(true: NDArray[np.int64], *rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Predictions (H, n) that are wrong on just these rows."""
    return np.stack([np.where(wrong, 1 - true, true) for wrong in rows])


def random_rows(n: int = 400, heads: int = 5, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Heads that get worse one by one."""
    rng = np.random.default_rng(seed)
    true = (rng.random(n) < 0.4).astype(np.int64)
    return true, wrong_on(true, *(rng.random(n) < 0.02 + 0.03 * h for h in range(heads)))


def test_every_pair_is_tested_as_statsmodels_tests_it() -> None:
    true, predicted = random_rows()
    found, _ = compared(true, predicted, best=1, baseline=4)
    assert found is not None
    right = predicted == true
    p_values = []
    for pair in found["pairs"]:
        a, b = (int(pair[side]["head"].removeprefix("head")) for side in "ab")
        table = [[int(((right[a] == x) & (right[b] == y)).sum()) for y in (True, False)] for x in (True, False)]
        assert [pair["only_a_right"], pair["only_b_right"]] == [table[0][1], table[1][0]]
        p_values.append(peer_mcnemar(table, exact=True).pvalue)
        for name, score in (("accuracy", right.mean(axis=1)),):
            assert pair[name]["a"] == score[a]
            assert pair[name]["difference"] == pytest.approx(score[a] - score[b], abs=TOLERANCE)
    assert [pair["p_value"] for pair in found["pairs"]] == pytest.approx(p_values, rel=1e-9)
    reject, adjusted, *_ = multipletests(p_values, alpha=0.05, method="holm")
    assert [pair["p_adjusted"] for pair in found["pairs"]] == pytest.approx(adjusted.tolist(), rel=1e-9)
    assert [pair["verdict"] != "no difference" for pair in found["pairs"]] == reject.tolist()
    assert 0 < reject.sum() < len(reject)
    assert found["tests"] == len(p_values) == 7
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("best", "baseline", "expected"),
    [
        (1, 3, ["0 1 best", "2 1 best", "0 3 baseline", "1 3 baseline", "2 3 baseline"]),
        (1, None, ["0 1 best", "2 1 best", "3 1 best"]),
        (1, 1, ["0 1 best", "2 1 best", "3 1 best"]),
    ],
)
def test_every_head_meets_the_best_and_the_baseline_once(best: int, baseline: int | None, expected: list[str]) -> None:
    found, _ = compared(*random_rows(60, heads=4), best=best, baseline=baseline)
    assert found is not None
    pairs = [f"{pair['a']['head'][4:]} {pair['b']['head'][4:]} {pair['against']}" for pair in found["pairs"]]
    assert pairs == expected
    assert found["tests"] == len(expected)


def test_one_head_is_compared_with_none() -> None:
    assert compared(*random_rows(30, heads=1))[0] is None


def test_the_interval_of_a_difference_is_that_of_the_rows_drawn_for_both() -> None:
    true, predicted = random_rows()
    hard = np.random.default_rng(1).random(len(true)) < 0.2
    predicted = np.where(hard, 1 - true, predicted)  # which all heads have wrong
    found, drawn = compared(true, predicted, draws=2000)
    assert found is not None
    right = (predicted == true).astype(float)
    for h, pair in enumerate(found["pairs"], start=1):
        # The deviation of a mean of paired differences, stratified: closed form.
        gain = right[h] - right[0]
        share = np.bincount(true) / len(true)
        deviation = np.sqrt(sum(share[c] ** 2 * gain[true == c].var() / (true == c).sum() for c in (0, 1)))
        low, high = pair["accuracy"]["interval"]
        assert (high - low) / (2 * 1.96) == pytest.approx(deviation, rel=0.12)  # quantiles of counts come in steps
        both = drawn.scores["macro_f1"]
        quantiles = np.quantile(both[h] - both[0], [0.025, 0.975])
        assert pair["macro_f1"]["interval"] == pytest.approx(quantiles.tolist(), abs=TOLERANCE)
        assert np.std(both[h] - both[0]) < 0.9 * np.std(both[h] - both[0][::-1])  # that is why the draws are shared


def test_twins_never_differ_and_a_swap_turns_every_sign() -> None:
    true, predicted = random_rows(300, heads=2)
    same, _ = compared(true, predicted[[0, 0]])
    assert same is not None
    [twin] = same["pairs"]
    assert (twin["p_value"], twin["verdict"], twin["accuracy"]["interval"]) == (1.0, "no difference", [0.0, 0.0])
    assert "right on the same rows: no difference in accuracy that 300 rows could show (p = 1" in twin["sentence"]
    (one, _), (other, _) = compared(true, predicted), compared(true, predicted[::-1])
    assert one is not None
    assert other is not None
    [a], [b] = one["pairs"], other["pairs"]
    assert a["p_value"] == b["p_value"]
    assert a["macro_f1"]["difference"] == -b["macro_f1"]["difference"]
    assert a["macro_f1"]["interval"] == pytest.approx([-end for end in b["macro_f1"]["interval"][::-1]])


@pytest.mark.parametrize(
    ("only_a", "only_b", "verdict", "words"),
    [
        (
            12,
            20,
            "no difference",
            "no difference in accuracy that 100 rows could show (p = 0.2153, exact McNemar test)",
        ),
        (30, 5, "better", "dense on minilm.mean is the more accurate (p < 0.0001, exact McNemar test)"),
        (1, 9, "worse", "tfidf on text is the more accurate (p = 0.0215, exact McNemar test)"),
    ],
)
def test_the_sentence_says_what_was_tested_and_what_came_out(
    only_a: int, only_b: int, verdict: str, words: str
) -> None:
    true, row = np.arange(100) % 2, np.arange(100)
    predicted = wrong_on(true, (row >= only_a) & (row < only_a + only_b), row < only_a)
    titles = [{"feature": "minilm.mean", "head": "dense"}, {"feature": "text", "head": "tfidf"}]
    found, _ = compared(true, predicted, best=1, titles=titles)
    assert found is not None
    [pair] = found["pairs"]
    assert pair["verdict"] == verdict
    rows = [f"{count} row{'' if count == 1 else 's'}" for count in (only_a, only_b)]
    begin = (
        f"dense on minilm.mean is right on {rows[0]} where tfidf on text is wrong, and wrong on {rows[1]} where "
        "tfidf on text is right"
    )
    assert pair["sentence"].startswith(f"{begin}: {words}")
    end = re.search(r"Macro F1, not tested, differs by (\S+) \(95 % interval (\S+) to (\S+)\)\.$", pair["sentence"])
    assert end is not None
    shown = [pair["macro_f1"]["difference"], *pair["macro_f1"]["interval"]]
    assert [float(number.replace("−", "-")) for number in end.groups()] == pytest.approx(shown, abs=5e-5)


def test_many_comparisons_are_named_in_every_sentence() -> None:
    found, _ = compared(*random_rows(60, heads=4))
    assert found is not None
    assert all("corrected for 3 comparisons (Holm)" in pair["sentence"] for pair in found["pairs"])


def test_arguments_of_other_heads_or_rows_are_refused() -> None:
    true, predicted = random_rows(30, heads=2)
    _, drawn = compared(true, predicted)
    blocks: list[dict[str, Any]] = [{"accuracy": 1.0, "macro_f1": 1.0}] * 2
    for right, titles in ((predicted == true, names(3)), ((predicted == true)[:, 1:], names(2))):
        with pytest.raises(ValueError, match="2 heads and 30 rows"):
            compare(drawn, right, titles, blocks, best=0, baseline=None, split="test")


@pytest.mark.parametrize("shared", [0.0, 0.1])  # of the rows every head has wrong
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_heads_that_are_equally_good_are_rarely_told_apart(shared: float, level: float) -> None:
    """In at most 1 - level of all tables is any pair given a verdict, but for a chance of 0.001."""
    rng, alarms, without_correction, tables = np.random.default_rng(7), 0, 0, 150
    for _ in range(tables):
        true = (rng.random(120) < 0.4).astype(np.int64)
        hard = rng.random(120) < shared
        predicted = wrong_on(true, *(hard | (rng.random(120) < 0.2) for _ in range(4)))
        found, _ = compared(true, predicted, baseline=3, draws=1, level=level)
        assert found is not None
        alarms += any(pair["verdict"] != "no difference" for pair in found["pairs"])
        without_correction += any(pair["p_value"] <= 1 - level for pair in found["pairs"])
    most = binom.ppf(0.999, tables, 1 - level)
    assert alarms <= most
    if level == 0.8:  # at 0.95 the exact test is so cautious that 150 tables could not tell
        assert without_correction > most


def test_without_copies_a_sentence_tells_both_verdicts() -> None:
    true, row = np.arange(100) % 2, np.arange(100)
    titles = [{"feature": "minilm.mean", "head": "dense"}, {"feature": "text", "head": "tfidf"}]
    predicted = wrong_on(true, row < 4, (row >= 4) & (row < 40))
    whole, _ = compared(true, predicted, best=1, titles=titles)
    fresh = row < 10
    without, _ = compared(true[fresh], predicted[:, fresh], best=1, titles=titles)
    assert whole is not None
    assert without is not None
    [pair], [before] = beside_copies(whole, without)["pairs"], whole["pairs"]
    assert {**pair, "sentence": before["sentence"]} == before
    assert (before["verdict"], without["pairs"][0]["verdict"]) == ("better", "no difference")
    p = without["pairs"][0]["p_adjusted"]
    end = f"without them: no difference in accuracy that 10 rows could show (p = {p:.4f})."
    assert pair["sentence"] == f"{before['sentence']} 90 of these rows copy a training text; {end}"
    assert beside_copies(whole, whole) == whole
    [lost] = beside_copies(whole, None)["pairs"]
    assert lost["sentence"].endswith("100 of these rows copy a training text; without them: no row is left.")
    one_less, _ = compared(true[1:], predicted[:, 1:], best=1, titles=titles)
    assert "1 of these rows copies a training text;" in beside_copies(whole, one_less)["pairs"][0]["sentence"]


def test_on_the_rows_that_heads_were_chosen_on_no_p_value_is_called_valid() -> None:
    true, predicted = random_rows(60, heads=3)
    for split, valid in (("test", True), ("val", False)):
        found, _ = compared(true, predicted, split=split)
        assert found is not None
        assert (found["p_values_valid"], found["note"] is None) == (valid, valid)
        said = ["no p-value on them is valid" in pair["sentence"] for pair in found["pairs"]]
        assert said == [not valid] * len(said)
