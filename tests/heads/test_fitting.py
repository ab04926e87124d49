"""Heads fitted together are the heads fitted alone, and one that fails stops no other."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from frozenhead.heads import (
    HEADS,
    DenseHead,
    FittedHead,
    Head,
    RidgeHead,
    SoftmaxHead,
    estimate_seconds,
    fit_many,
    softmax_path,
)
from frozenhead.heads import fitting as module
from frozenhead.heads.fitting import halved_share, halving_bytes
from tests.heads.conftest import MakeRows, Rows, inputs_for, quick_head

# A path stops at `tol` = 1e-7 of the objective, as a head alone does: their minima agree to the sum of both.
OBJECTIVE = 1e-6

VECTOR_HEADS = [name for name, kind in HEADS.items() if kind.takes == "vectors"]
TEXT_HEADS = [name for name in HEADS if name not in VECTOR_HEADS]


@pytest.fixture
def rows(make_rows: MakeRows) -> Rows:
    return make_rows(90, classes=3)


@pytest.fixture
def held(make_rows: MakeRows) -> Rows:
    return make_rows(30, classes=3, seed=1)


def fitted(heads: list[Head], *args: Any, **given: Any) -> list[FittedHead]:
    """What became of the heads, in their order, each once."""
    found = {one.index: one for one in fit_many(heads, *args, **given)}
    assert sorted(found) == list(range(len(heads)))
    return [found[i] for i in range(len(heads))]


def assert_same(one: Head | None, other: Head) -> None:
    assert one is not None
    assert type(one) is type(other)
    assert one.history_ == other.history_
    assert one.best_epoch_ == other.best_epoch_
    for name, array in other.arrays().items():
        np.testing.assert_array_equal(one.arrays()[name], array, err_msg=name)


@pytest.mark.parametrize("names", [VECTOR_HEADS, TEXT_HEADS])
def test_each_head_is_the_one_that_its_own_fit_gives_to_the_bit(names: list[str], rows: Rows, held: Rows) -> None:
    heads = [quick_head(name) for name in names]
    X, own = inputs_for(heads[0], rows[0]), inputs_for(heads[0], held[0])
    for one, head in zip(fitted(heads, X, rows[1], validation=(own, held[1])), heads, strict=True):
        assert one.error is None
        assert_same(one.head, quick_head(names[one.index]).fit(X, rows[1], validation=(own, held[1])))
        assert not hasattr(head, "classes_")  # what was given stays unfitted


def test_dense_heads_of_all_options_are_those_fitted_alone_to_the_bit(rows: Rows, held: Rows) -> None:
    options: list[dict[str, Any]] = [
        {"hidden": 7, "random_state": 1}, {"hidden": 7, "lr": 0.01}, {"hidden": (5, 4), "dropout": 0.0},
        {"hidden": 7, "class_weight": None}, {"hidden": 7, "class_weight": {0: 1, 1: 2, 2: 3}}, {"hidden": ()},
    ]  # fmt: skip
    heads: list[Head] = [DenseHead(epochs=3, **each) for each in options]
    for one, each in zip(fitted(heads, *rows, validation=held), options, strict=True):
        assert_same(one.head, DenseHead(epochs=3, **each).fit(*rows, validation=held))


@pytest.mark.parametrize("name", ["dense", "softmax", "logreg", "knn", "shuffled"])
def test_rows_and_held_rows_of_its_own_are_those_a_head_alone_would_get(name: str, rows: Rows) -> None:
    X, y = rows
    parts = [np.arange(0, 60), np.arange(30, 90), np.arange(0, 90, 2)]
    judged = [np.arange(60, 90), np.arange(0, 30), np.arange(1, 90, 2)]
    for one in fitted([quick_head(name)] * 3, X, y, rows=parts, held=judged):
        part, other = parts[one.index], judged[one.index]
        assert_same(one.head, quick_head(name).fit(X[part], y[part], validation=(X[other], y[other])))


def test_views_take_the_place_of_the_rows_epoch_by_epoch(rows: Rows, held: Rows) -> None:
    X, y = rows
    heads: list[Head] = [DenseHead(hidden=7, epochs=2)]
    [same] = fitted(heads, X + 1, y, validation=held, views=[X])
    assert_same(same.head, DenseHead(hidden=7, epochs=2).fit(X, y, validation=held))
    [mixed] = fitted(heads, X, y, validation=held, views=[X, X * 2])
    assert same.head
    assert mixed.head
    assert mixed.head.history_[0] == same.head.history_[0]
    assert mixed.head.history_[1] != same.head.history_[1]


@pytest.mark.parametrize("classes", [2, 3])
def test_softmax_heads_that_only_l2_tells_apart_are_found_as_a_path(
    make_rows: MakeRows, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_rows(90, classes=classes)
    asked: list[list[float]] = []

    def path(X: Any, y: Any, l2s: list[float], **given: Any) -> list[SoftmaxHead]:
        asked.append(list(l2s))
        return softmax_path(X, y, l2s, **given)

    monkeypatch.setattr(module, "softmax_path", path)
    l2s = [1e-2, 1e-4, 1.0]
    heads: list[Head] = [SoftmaxHead(l2=l2, class_weight=w) for w in ("balanced", None) for l2 in l2s]
    for one, head in zip(fitted(heads, X, y), heads, strict=True):
        assert isinstance(one.head, SoftmaxHead)
        assert one.head.get_params() == head.get_params()
        assert one.head.loss_ == pytest.approx(head.fit(X, y).loss_, rel=OBJECTIVE)
        np.testing.assert_allclose(one.head.arrays()["coef"], head.arrays()["coef"], atol=1e-3)
    assert asked == [l2s, l2s]  # one for each class weight


def test_jobs_change_no_bit(rows: Rows, held: Rows) -> None:
    heads = [quick_head(name) for name in VECTOR_HEADS]
    for one, two in zip(
        fitted(heads, *rows, validation=held), fitted(heads, *rows, validation=held, jobs=3), strict=True
    ):
        assert two.head
        assert_same(one.head, two.head)


def test_one_that_cannot_be_trained_says_why_and_stops_no_other(rows: Rows, held: Rows) -> None:
    heads: list[Head] = [
        DenseHead(hidden=7, epochs=2, class_weight={0: 1, 1: 1}),  # the first: it must not speak for the others
        DenseHead(hidden=7, epochs=2, lr=-1.0),
        DenseHead(hidden=7, epochs=2, lr=1e30),
        SoftmaxHead(l2=-1.0),
        SoftmaxHead(l2=1e-2),
        DenseHead(hidden=7, epochs=2),
    ]
    found = fitted(heads, *rows, validation=held)
    for one, word in zip(
        found, ("without a weight: 2", "lr must be above 0", "lower lr", "l2", None, None), strict=True
    ):
        assert (one.head is None) == (word is not None)
        assert word is None or word in str(one.error)
    assert_same(found[5].head, DenseHead(hidden=7, epochs=2).fit(*rows, validation=held))


def test_what_is_wrong_with_the_rows_is_said_of_every_head(rows: Rows) -> None:
    X, y = rows
    X = X.copy()
    X[4, 0] = np.nan
    for one in fitted([DenseHead(), SoftmaxHead()], X, y):
        assert one.head is None
        assert "Row 4" in str(one.error)
    for one in fitted([quick_head("dense"), quick_head("softmax")], rows[0], y, rows=[np.flatnonzero(y > 0)] * 2):
        assert "No row has the class 0" in str(one.error)


def test_progress_counts_epochs_of_dense_heads_and_other_heads_to_the_end(rows: Rows, held: Rows) -> None:
    told: list[tuple[int, int]] = []
    heads: list[Head] = [
        DenseHead(hidden=7, epochs=4),
        DenseHead(hidden=3, epochs=2),
        *map(quick_head, ("knn", "ridge")),
    ]
    fitted(heads, *rows, validation=held, progress=lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {4 + 2 + 2}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == 8


def test_halving_goes_on_with_the_better_half(rows: Rows, held: Rows) -> None:
    heads: list[Head] = [DenseHead(hidden=7, epochs=4, lr=lr) for lr in (1e-2, 1e-6, 3e-3, 1e-7)]
    found = fitted(heads, *rows, validation=held, halving=True)
    assert [one.dropped_after for one in found][1::2] == [1, 1]
    assert sorted(str(one.dropped_after) for one in found) == ["1", "1", "2", "None"]


@pytest.mark.parametrize(
    ("heads", "epochs", "trained"), [(8, 8, 8 + 4 + 2 * 2 + 4), (1, 10, 10), (3, 3, 3 + 2 + 1), (4, 1, 4)]
)
def test_the_share_that_halving_trains_is_that_of_the_epochs(heads: int, epochs: int, trained: int) -> None:
    assert halved_share(heads, epochs) == pytest.approx(trained / (heads * epochs))


def test_an_estimate_grows_with_the_heads_and_touches_none(
    rows: Rows, held: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "estimated_seconds", lambda *args, **given: 10.0 * len(args[2]))
    heads: list[Head] = [DenseHead(hidden=7, epochs=4, random_state=i) for i in range(6)]
    assert estimate_seconds(heads, *rows, validation=held) == pytest.approx(60)
    # 6 heads for 1 epoch, 3 for 1, 2 for 2 of the 24 epochs
    assert estimate_seconds(heads, *rows, validation=held, halving=True) == pytest.approx(60 * 13 / 24)
    assert estimate_seconds([quick_head("ridge")] * 5, *rows) > 0
    assert not hasattr(heads[0], "classes_")


def test_a_head_of_a_path_that_has_no_optimum_warns_as_it_does_alone(make_rows: MakeRows) -> None:
    X, y = np.array([[0.0], [1.0]], np.float32), np.array([0, 1])
    with pytest.warns(ConvergenceWarning, match="told apart"):
        fitted([SoftmaxHead(l2=0.0), SoftmaxHead(l2=1.0)], X, y)


def test_a_head_that_was_handed_out_is_the_callers_alone(rows: Rows, held: Rows) -> None:
    """A search of ten thousand heads keeps none of them."""
    heads: list[Head] = [DenseHead(hidden=3, epochs=2, random_state=i) for i in range(4)]
    handed, engine = [], fit_many(heads, *rows, validation=held)
    for one in engine:
        assert isinstance(one.head, DenseHead)
        handed.append((weakref.ref(one.head), weakref.ref(one.head.coefs_[0])))
        del one
        gc.collect()
        # The engine still holds the one that it hands out.
        assert [ref() for refs in handed[:-1] for ref in refs] == [None] * 2 * (len(handed) - 1)
    assert len(handed) == 4


def test_what_halving_keeps_is_counted_by_parameter(rows: Rows) -> None:
    D, K = rows[0].shape[1], 3
    heads: list[Head] = [DenseHead(hidden=7), DenseHead(hidden=(5, 4)), quick_head("ridge")]
    parameters = (D + 1) * 7 + 8 * K + (D + 1) * 5 + 6 * 4 + 5 * K
    assert halving_bytes(heads, *rows) == 16 * parameters


def test_a_path_refuses_unknown_validation_labels_as_a_head_alone_does(rows: Rows) -> None:
    X, y = rows
    for one in fitted([SoftmaxHead(l2=0.1), SoftmaxHead(l2=1.0)], X, y, validation=(X, y + 1)):
        assert one.head is None
        assert "do not occur in y" in str(one.error)


def test_both_ends_of_a_grid_are_timed(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[float] = []
    monkeypatch.setattr(RidgeHead, "_fit", lambda self, *args: fits.append(self.alpha))
    estimate_seconds([RidgeHead(alpha=a) for a in (1.0, 2.0, 3.0)], *rows)
    assert fits == [1.0, 3.0]
