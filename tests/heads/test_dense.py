"""The dense head keeps the best epoch, weighs classes, repeats bit for bit, and says when training fails."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from frozenhead.heads import DenseHead, load_head, save_head
from tests.heads.conftest import MakeRows

# Probabilities from float32 scores near 1, against the same network in float64.
TOLERANCE = 1e-5


def dense(**options: Any) -> DenseHead:
    return DenseHead(**{"hidden": 7, "epochs": 4} | options)


def same_weights(one: DenseHead, two: DenseHead) -> bool:
    pairs = zip(one.arrays().values(), two.arrays().values(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_the_epoch_with_the_lowest_validation_loss_is_kept(make_rows: MakeRows) -> None:
    X, y = make_rows(60, seed=1)
    V, v = make_rows(60, seed=2)
    v = np.where(np.arange(60) % 4 == 0, 1 - v, v)  # wrong labels: whoever grows sure of itself loses
    options: dict[str, Any] = {"hidden": 32, "lr": 5e-3, "random_state": 1}
    head = dense(epochs=12, **options).fit(X, y, validation=(V, v))
    losses = [epoch["val_loss"] for epoch in head.history_]
    best = int(np.argmin(losses)) + 1
    assert [epoch["epoch"] for epoch in head.history_] == list(range(1, 13))
    assert head.best_epoch_ == best
    assert 1 < best < 12
    assert losses[-1] > 1.05 * min(losses)
    assert same_weights(head, dense(epochs=best, **options).fit(X, y))
    assert not same_weights(head, dense(epochs=12, **options).fit(X, y))


def test_without_validation_the_last_epoch_is_kept(make_rows: MakeRows) -> None:
    X, y = make_rows(60)
    head = dense().fit(X, y)
    assert head.best_epoch_ == 4
    assert [epoch["val_loss"] for epoch in head.history_] == [None] * 4


def test_validation_does_not_change_training(make_rows: MakeRows) -> None:
    X, y = make_rows(60)
    with_rows, without = dense().fit(X, y, validation=(X[:9], y[:9])), dense().fit(X, y)
    assert [e["train_loss"] for e in with_rows.history_] == [e["train_loss"] for e in without.history_]


@pytest.mark.parametrize(("classes", "dim"), [(2, 3), (5, 3), (2, 1), (5, 8)])
def test_predict_is_the_argmax_label_of_the_network(make_rows: MakeRows, classes: int, dim: int) -> None:
    X, y = make_rows(100, classes=classes, dim=dim)
    head = dense().fit(X, y * 10)
    assert [w.shape for w in head.coefs_] == [(dim, 7), (7, classes)]
    assert [b.shape for b in head.intercepts_] == [(7,), (classes,)]
    hidden = np.maximum(X.astype(np.float64) @ head.coefs_[0] + head.intercepts_[0], 0)
    odds = np.exp(hidden @ head.coefs_[1] + head.intercepts_[1])
    probabilities = head.predict_proba(X)
    np.testing.assert_allclose(probabilities, odds / odds.sum(axis=1, keepdims=True), atol=TOLERANCE)
    assert head.predict(X).tolist() == head.classes_[probabilities.argmax(axis=1)].tolist()


@pytest.mark.parametrize("hidden", [(), (5,), (6, 4, 3)])
@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_layers_and_activations_predict_as_torch_computes_them(
    make_rows: MakeRows, hidden: tuple[int, ...], activation: str
) -> None:
    X, y = make_rows(100, classes=3)
    head = dense(hidden=hidden, activation=activation, lr=3e-2, epochs=20).fit(X, y)
    sizes = (3, *hidden, 3)
    assert [w.shape for w in head.coefs_] == list(itertools.pairwise(sizes))
    a = torch.from_numpy(X).double()
    function = {"relu": torch.relu, "gelu": torch.nn.functional.gelu, "tanh": torch.tanh}[activation]
    for i, (W, b) in enumerate(zip(head.coefs_, head.intercepts_, strict=True)):
        a = a @ torch.from_numpy(W).double() + torch.from_numpy(b).double()
        a = function(a) if i < len(hidden) else a
    np.testing.assert_allclose(head.predict_proba(X), torch.softmax(a, 1).numpy(), atol=TOLERANCE)
    assert head.score(X, y) > 0.5


@pytest.mark.parametrize("hidden", [6, (6,), [6, 4], ()])
def test_a_saved_head_has_its_layers_and_predicts_the_same_bits(
    make_rows: MakeRows, tmp_path: Path, hidden: Any
) -> None:
    X, y = make_rows(60)
    head = dense(hidden=hidden, activation="gelu", loss="focal", label_smoothing=0.1).fit(X, y)
    save_head(head, tmp_path)
    loaded = load_head(tmp_path)
    assert np.array_equal(loaded.predict_proba(X), head.predict_proba(X))
    assert loaded.get_params() == clone(loaded).get_params()
    assert json.dumps(loaded.get_params()) == json.dumps(head.get_params())  # a list comes back as a tuple


def test_every_option_reaches_training(make_rows: MakeRows) -> None:
    X, y = make_rows(120)
    plain = dense(weight_decay=1e-3).fit(X, y)
    options: dict[str, Any] = {
        "hidden": (7, 7), "activation": "tanh", "dropout": 0.2, "lr": 2e-3, "epochs": 3, "batch_size": 16,
        "weight_decay": 0.1, "eps": 1e-2, "beta1": 0.5, "beta2": 0.5, "clip_norm": 0.1, "schedule": "linear",
        "warmup": 0.5, "loss": "focal", "label_smoothing": 0.1, "random_state": 1, "class_weight": {0: 1.0, 1: 9.0},
    }  # fmt: skip
    assert set(options) | {"patience", "focal_gamma"} == set(plain.get_params())
    for name, value in options.items():
        other = dense(**({"weight_decay": 1e-3} | {name: value})).fit(X, y)
        assert len(other.coefs_) != len(plain.coefs_) or not same_weights(other, plain), name
    focal = [dense(loss="focal", focal_gamma=gamma).fit(X, y) for gamma in (1.0, 3.0)]
    assert not same_weights(*focal)


def test_patience_stops_training(make_rows: MakeRows) -> None:
    X, y = make_rows(60)
    head = dense(epochs=100, patience=2, lr=2e-2).fit(X, y, validation=(X[:9], 1 - y[:9]))
    assert head.best_epoch_ == len(head.history_) - 2 < 98


def test_at_full_batch_without_dropout_a_weight_is_so_many_copies(make_rows: MakeRows) -> None:
    # scikit-learn's own check of this asks for 1e-7, which is float32's rounding: some processors pass it, some do not.
    X, y = make_rows(60, classes=3)
    counts = np.random.default_rng(0).integers(0, 4, 60)
    head = DenseHead(hidden=8, epochs=10, batch_size=256, dropout=0.0)
    weighted = clone(head).fit(X, y, counts).predict_proba(X)
    copies = clone(head).fit(X.repeat(counts, axis=0), y.repeat(counts)).predict_proba(X)
    np.testing.assert_allclose(weighted, copies, atol=TOLERANCE)
    assert np.abs(clone(head).fit(X, y).predict_proba(X) - copies).max() > 100 * TOLERANCE


def test_more_rows_than_a_block_predict_as_alone(make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_rows(50)
    head = dense().fit(X, y)
    whole = head.predict_proba(X)
    monkeypatch.setattr("frozenhead.heads.dense.BLOCK", 7)
    np.testing.assert_allclose(head.predict_proba(X), whole, atol=TOLERANCE)


def test_class_weights_reach_the_loss(make_rows: MakeRows) -> None:
    X, y = make_rows(200)
    rows = (y == 0) | (np.arange(200) % 8 == 0)  # class 1 is rare
    X, y = X[rows], y[rows]
    recalls = [
        float((dense(lr=1e-2, class_weight=weight).fit(X, y).predict(X)[y == 1] == 1).mean())
        for weight in ({0: 100.0, 1: 1.0}, None, "balanced", {0: 1.0, 1: 100.0})
    ]
    assert recalls == sorted(recalls)
    assert (recalls[0], recalls[-1]) == (0.0, 1.0)
    balanced = dense().fit(X, y)
    named = dense(class_weight=dict(enumerate(balanced.class_weights_.tolist()))).fit(X, y)
    assert same_weights(balanced, named)


def test_renaming_labels_permutes_nothing_else(make_rows: MakeRows) -> None:
    X, y = make_rows(60, classes=3)
    numbers = dense().fit(X, y, validation=(X, y))
    names = np.array(["ant", "bee", "cow"])
    named = dense().fit(X, names[y], validation=(X, names[y]))
    assert same_weights(numbers, named)
    assert named.history_ == numbers.history_
    assert named.predict(X).tolist() == names[numbers.predict(X)].tolist()


def test_numbers_as_strings_stand_by_value(make_rows: MakeRows) -> None:
    X, y = make_rows(60, classes=3)
    numbers, strings = np.array([2, 9, 10]), np.array(["2", "9", "10"])
    by_number, by_string = dense().fit(X, numbers[y]), dense().fit(X, strings[y], validation=(X, strings[y]))
    assert by_string.classes_.tolist() == ["2", "9", "10"]
    assert same_weights(dense().fit(X, numbers[y], validation=(X, numbers[y])), by_string)
    assert [int(label) for label in dense().fit(X, strings[y]).predict(X)] == by_number.predict(X).tolist()


def test_a_read_only_memory_map_fits_as_an_array(make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(60)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    head = dense().fit(mapped, y, validation=(mapped, y))
    assert same_weights(head, dense().fit(X, y, validation=(X, y)))
    assert np.array_equal(head.predict_proba(mapped), head.predict_proba(X))


def test_fitting_leaves_the_vectors_as_they_were(make_rows: MakeRows) -> None:
    X, y = make_rows(60)
    before = X.tobytes()
    dense().fit(X, y, validation=(X, y)).predict(X)
    assert X.tobytes() == before


def test_one_seed_gives_one_head_and_another_seed_another(make_rows: MakeRows) -> None:
    X, y = make_rows(60)
    one, two, other = (dense(random_state=seed).fit(X, y) for seed in (4, 4, 5))
    assert same_weights(one, two)
    assert not same_weights(one, other)


def test_the_number_of_threads_changes_no_bit_and_comes_back(make_rows: MakeRows) -> None:
    X, y = make_rows(60)
    before = torch.get_num_threads()
    try:
        heads = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            heads.append(dense().fit(X, y))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert same_weights(*heads)


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("lr", [1e20, 1e38])
def test_training_that_diverges_says_so_and_names_lr(make_rows: MakeRows, lr: float, validated: bool) -> None:
    X, y = make_rows(60)
    with pytest.raises(ValueError, match="lower lr"):
        dense(lr=lr).fit(X, y, validation=(X, y) if validated else None)


@pytest.mark.parametrize(("lr", "validated"), [(1e37, True), (1e39, False)])
def test_a_last_step_that_diverges_is_noticed(make_rows: MakeRows, lr: float, validated: bool) -> None:
    X, y = make_rows(30)  # one step: its own loss is finite, what it leaves is not
    with pytest.raises(ValueError, match="lower lr"):
        dense(lr=lr, epochs=1).fit(X, y, validation=(X, y) if validated else None)


@pytest.mark.parametrize(
    ("validation", "says"),
    [
        ((np.ones((2, 3)), [0, 7]), "validation labels 7 do not occur"),
        ((np.ones((2, 3)), [0, 1, 0]), "2 rows and y 3 labels"),
        ((np.ones((2, 4)), [0, 1]), "4 features"),
        ((np.array([[1, 1, 1], [1, np.nan, 1]]), [0, 1]), "Row 1 holds NaN"),
    ],
)
def test_wrong_validation_rows_are_refused(make_rows: MakeRows, validation: Any, says: str) -> None:
    X, y = make_rows(60)
    with pytest.raises(ValueError, match=says):
        dense().fit(X, y, validation=validation)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(make_rows: MakeRows, bad: float) -> None:
    X, y = make_rows(60)
    head = dense().fit(X, y)
    X[41, 2] = bad
    with pytest.raises(ValueError, match="Row 41"):
        dense().fit(X, y)
    with pytest.raises(ValueError, match="Row 41"):
        head.predict(X)


def test_one_class_is_refused(make_rows: MakeRows) -> None:
    X, _ = make_rows(9)
    with pytest.raises(ValueError, match="one class, 4"):
        dense().fit(X, [4] * 9)


@pytest.mark.parametrize(("name", "value"), [("lr", -1.0), ("hidden", 0), ("dropout", 1.0), ("eps", 0)])
def test_a_wrong_option_is_refused_by_name(make_rows: MakeRows, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        DenseHead(**{name: value}).fit(*make_rows(9))  # type: ignore[arg-type]
