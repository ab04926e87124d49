"""`fit --curve`: shares of the training rows, each holding the smaller ones."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from frozenhead.commands.curve import SHARES, stratified_order, subsets
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.heads import DenseHead
from tests.commands.fits import FEATURE, Trained, fit_small, folder_of, read, rows_of


@settings(max_examples=60, deadline=None)
@drawn(seed=st.integers(0, 10**6), classes=st.integers(2, 5), n=st.integers(10, 400), skew=st.floats(0.1, 5))
def test_each_share_holds_the_smaller_ones_and_each_class(seed: int, classes: int, n: int, skew: float) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.random(classes) ** skew + 1e-9
    codes = np.append(np.arange(classes), rng.choice(classes, n, p=shares / shares.sum()))
    parts = subsets(codes, seed=seed)
    for smaller, larger in itertools.pairwise(parts):
        assert set(smaller) <= set(larger)
    for share, part in zip(SHARES, parts, strict=True):
        assert len(part) == len(set(part)) == max(classes, round(share * len(codes)))
        assert set(codes[part]) == set(range(classes))
    assert parts[-1].tolist() == list(range(len(codes)))


def test_a_share_has_the_classes_in_their_shares() -> None:
    codes = np.repeat([0, 1], [900, 100])
    order = stratified_order(codes, np.random.default_rng(0))
    for count in (100, 250, 500):
        assert codes[order[:count]].sum() == pytest.approx(count / 10, abs=3)
    assert sorted(order) == list(range(1000))
    assert order.tolist() != stratified_order(codes, np.random.default_rng(1)).tolist()


def test_the_last_point_is_the_stored_head_and_each_point_a_head_trained_by_hand(run: Path) -> None:
    result = fit_small(run, curve=True, seeds=2, seed=5)
    curve = read(run, "curve.json")
    assert curve == result["curve"]
    assert (curve["seed"], curve["seeds"]) == (5, 2)
    assert [(point["seed"], point["share"]) for point in curve["points"]] == [(s, p) for s in (5, 6) for p in SHARES]
    before = result["val_before"]
    whole = curve["points"][len(SHARES) - 1]["val"]
    for name, score in whole.items():  # predicted once beside the test rows: float32 sums may differ in the last digit
        assert score == pytest.approx(before[name], rel=1e-6)
    X, y = rows_of(run, "train")
    held = rows_of(run, "val")
    codes = (y == "spam").astype(np.int64)
    for point in curve["points"]:
        part = subsets(codes, seed=point["seed"])[SHARES.index(point["share"])]
        assert point["rows"] == len(part)
        head = DenseHead(hidden=8, epochs=3, random_state=point["seed"]).fit(X[part], y[part], validation=held)
        assert point["val"]["accuracy"] == np.mean(head.predict(held[0]) == held[1])


def test_a_curve_has_three_seeds_and_the_head_one_unless_told(run: Path, trained: Trained) -> None:
    result = fit_small(run, curve=True)
    assert {point["seed"] for point in result["curve"]["points"]} == {2018, 2019, 2020}
    assert result["search"] is None
    assert [len(heads) for heads in trained.take()] == [1, 3 * len(SHARES)]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    return Trained(monkeypatch)


def test_a_curve_that_stands_beside_a_known_head_is_not_drawn_again(run: Path, trained: Trained) -> None:
    first = fit_small(run, curve=True, seeds=1)
    trained.take()
    assert fit_small(run, curve=True, seeds=1) == {**first, "known": True}
    assert trained.take() == []
    fit_small(run, curve=True, seeds=2)
    assert [len(heads) for heads in trained.take()] == [2 * len(SHARES)]
    (folder_of(run) / "curve.json").write_text("[]")
    fit_small(run, curve=True, seeds=2)
    assert [len(heads) for heads in trained.take()] == [2 * len(SHARES)]
    fit_small(run, sets=("lr=1e-2",))
    assert not (folder_of(run) / "curve.json").exists()


def test_heads_of_all_kinds_have_a_curve_and_a_share_too_small_for_one_says_so(run: Path) -> None:
    result: dict[str, Any] = fit(
        FitOptions(run=run, heads=("knn", "softmax", "tfidf"), features=(FEATURE,), curve=True, seeds=1, sets=("k=9",))
    )
    curves = {one["head"]: one["curve"]["points"] for one in result["heads"]}
    assert all(point["val"] for name in ("softmax", "tfidf") for point in curves[name])
    assert curves["knn"][0]["val"] is None
    assert curves["knn"][0]["error"]
    assert curves["knn"][-1]["val"]
    assert result["failed"] == []
