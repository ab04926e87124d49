"""A trainer does what its objective and the reference's table say, step by step, and touches nothing global."""

import inspect
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from frozenhead.heads import DenseHead, Trainer, TrainingSettings
from frozenhead.heads.learner import Task
from frozenhead.heads.many import train_heads
from frozenhead.heads.network import initial_parameters
from frozenhead.heads.randomness import Streams
from tests.heads.conftest import MakeRows
from tests.heads.twins import Twin, loss_of

# float32 keeps 7 digits; a hundred steps at lr 1e-3 let a rounding of 1e-7 grow about tenfold.
TWIN_TOLERANCE = 5e-6


def trainer(dim: int = 3, classes: int = 2, weights: Any = None, **settings: Any) -> Trainer:
    chosen = np.ones(classes) if weights is None else np.asarray(weights, np.float64)
    return Trainer(dim=dim, n_classes=classes, weights=chosen, settings=TrainingSettings(**{"hidden": 7} | settings))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1, "clip_norm": 0.05},
        {"eps": 1e-2, "beta1": 0.5, "beta2": 0.9},  # an eps so large that its place in the formula shows
        {"clip_norm": 1e6, "lr": 1e-2},
    ],
)
def test_an_epoch_equals_its_float64_twin(make_rows: MakeRows, options: dict[str, Any]) -> None:
    X, y = make_rows(99, classes=3)
    ours = trainer(classes=3, weights=[0.5, 1.0, 4.0], dropout=0.0, **options)
    twin = Twin(ours.snapshot(), np.array([0.5, 1.0, 4.0]), ours.settings)
    batches = list(ours.batches(len(y)))
    assert [len(batch) for batch in batches] == [32, 32, 32, 3]
    for rows in batches:
        loss = ours.step(torch.from_numpy(X)[rows], torch.from_numpy(y)[rows])
        assert loss == pytest.approx(twin.step(X[rows], y[rows]), abs=TWIN_TOLERANCE)
    for parameter, expected in zip(ours.snapshot(), twin.snapshot(), strict=True):
        np.testing.assert_allclose(parameter, expected, atol=TWIN_TOLERANCE, rtol=0)


def test_a_trainer_trains_as_train_heads_does(make_rows: MakeRows) -> None:
    X, y = make_rows(99)
    settings = TrainingSettings(hidden=(7, 5), epochs=3, dropout=0.2, loss="focal", label_smoothing=0.1, seed=4)
    weights = np.array([0.5, 2.0])
    ours = Trainer(dim=3, n_classes=2, weights=weights, settings=settings)
    history = []
    for _ in range(3):
        losses = [ours.step(torch.from_numpy(X[rows]), torch.from_numpy(y[rows])) for rows in ours.batches(99)]
        history.append((np.mean(losses), ours.evaluate(torch.from_numpy(X), torch.from_numpy(y))))
    (outcome,) = train_heads(X, y, [Task(settings=settings, class_weights=weights)], n_classes=2, validation=(X, y))
    assert outcome.best_epoch == 3
    for epoch, (train, val) in zip(outcome.history, history, strict=True):
        assert epoch["train_loss"] == pytest.approx(train, abs=1e-12)
        assert epoch["val_loss"] == pytest.approx(val, abs=1e-12)
    assert all(np.array_equal(a, b) for a, b in zip(ours.snapshot(), outcome.parameters, strict=True))


@pytest.mark.parametrize("options", [{"schedule": "linear"}, {"warmup": 0.1}])
def test_a_trainer_without_an_end_takes_no_schedule(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no last step"):
        trainer(**options)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_with_a_tiny_eps_the_update_is_torchs_adamw(make_rows: MakeRows, weight_decay: float) -> None:
    X, y = map(torch.from_numpy, make_rows(64))
    ours = trainer(dropout=0.0, eps=1e-12, clip_norm=1e9, weight_decay=weight_decay)
    theirs = [torch.from_numpy(p).requires_grad_() for p in ours.snapshot()]
    optimiser = torch.optim.AdamW(theirs, lr=1e-3, eps=1e-12, weight_decay=weight_decay)
    for _ in range(5):
        ours.step(X, y)
        logits = (X @ theirs[0] + theirs[1]).relu() @ theirs[2] + theirs[3]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    # torch decays before the step, the reference after it: they differ by lr^2 times the decay, 1e-7 a step.
    for mine, other in zip(ours.snapshot(), theirs, strict=True):
        np.testing.assert_allclose(mine, other.detach().numpy(), atol=TWIN_TOLERANCE, rtol=0)


def test_a_clipped_gradient_is_as_long_as_torchs(make_rows: MakeRows) -> None:
    X, y = map(torch.from_numpy, make_rows(32))
    free, clipped = trainer(clip_norm=1e6, dropout=0.0), trainer(clip_norm=0.05, dropout=0.0)
    for ours in (free, clipped):
        ours.step(X, y)
    leaf = torch.zeros_like(free._stack.gradients).requires_grad_()
    leaf.grad = free._stack.gradients.clone()
    assert leaf.grad.norm() > 0.1
    torch.nn.utils.clip_grad_norm_([leaf], 0.05)
    torch.testing.assert_close(clipped._stack.gradients, leaf.grad)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_dropout_drops_its_share_and_what_is_kept_is_divided_by_it(share: float) -> None:
    streams, n = Streams(1, share), 400_000
    kept = np.empty(n, np.bool_)
    streams.keep(kept)
    assert streams.share == pytest.approx(1 - share, abs=1 / 65536)
    # Binomial: five deviations; with no dropout all are kept.
    assert abs(kept.mean() - streams.share) <= 5 * math.sqrt(streams.share * (1 - streams.share) / n)
    neighbours = (kept[::4] & kept[1::4]).mean()  # of one number of 64 bits
    assert abs(neighbours - streams.share**2) <= 5 / math.sqrt(n)


def test_masks_do_not_depend_on_how_many_are_drawn_at_a_time() -> None:
    one, two = np.empty((6, 32, 16), np.bool_), np.empty((6, 32, 16), np.bool_)
    Streams(1, 0.3).keep(one)
    streams = Streams(1, 0.3)
    for i in range(0, 6, 2):
        streams.keep(two[i : i + 2])
    assert np.array_equal(one, two)
    assert 0 < one.mean() < 1


def test_each_epoch_is_a_new_permutation() -> None:
    ours = trainer()
    epochs = [torch.cat(list(ours.batches(100))).tolist() for _ in range(3)]
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, list(range(100))]}) == 4


def test_the_order_does_not_depend_on_the_network() -> None:
    def second_epoch(dim: int, **settings: Any) -> list[int]:
        ours = trainer(dim, **settings)
        for rows in ours.batches(50):
            ours.step(torch.ones(len(rows), dim), torch.zeros(len(rows), dtype=torch.int64))
        return torch.cat(list(ours.batches(50))).tolist()

    assert second_epoch(3, hidden=2, dropout=0.5) == second_epoch(9, hidden=64, classes=5, dropout=0.0)


def test_evaluation_is_the_mean_over_batches_of_weighted_means(make_rows: MakeRows) -> None:
    X, y = make_rows(70)
    w = np.array([1.0, 5.0])
    ours = trainer(weights=w, loss="focal", label_smoothing=0.2)
    twin = Twin(ours.snapshot(), w, ours.settings)

    def loss(i: int, j: int) -> float:  # the cross-entropy, whatever is trained
        z, ones = twin.scores(torch.from_numpy(X[i:j]).double()), torch.ones(j - i).double()
        return float(loss_of(z, torch.from_numpy(y[i:j]), torch.tensor(w), ones, TrainingSettings()).detach())

    value = ours.evaluate(torch.from_numpy(X), torch.from_numpy(y))
    assert value == pytest.approx((loss(0, 32) + loss(32, 64) + loss(64, 70)) / 3, abs=TWIN_TOLERANCE)
    assert abs(value - loss(0, 70)) > 10 * TWIN_TOLERANCE  # the data tell the two definitions apart


def test_the_global_random_state_is_untouched(make_rows: MakeRows) -> None:
    X, y = make_rows(64)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    DenseHead(hidden=7, epochs=2).fit(X, y, validation=(X, y))
    after = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


def test_one_seed_gives_one_run_bit_for_bit(make_rows: MakeRows) -> None:
    X, y = map(torch.from_numpy, make_rows(99))
    one, two, other = trainer(seed=5), trainer(seed=5), trainer(seed=6)
    for ours in (one, two, other):
        for rows in ours.batches(len(y)):
            ours.step(X[rows], y[rows])
    assert all(np.array_equal(a, b) for a, b in zip(one.snapshot(), two.snapshot(), strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one.snapshot(), other.snapshot(), strict=True))


def test_vectors_may_come_out_of_a_graph(make_rows: MakeRows) -> None:
    X, y = make_rows(32)
    encoder = torch.nn.Linear(3, 3).requires_grad_(requires_grad=False)
    inside, outside = trainer(), trainer()
    losses = (
        inside.step(encoder(torch.from_numpy(X)), torch.from_numpy(y)),
        outside.step(encoder(torch.from_numpy(X)).detach(), torch.from_numpy(y)),
    )
    assert losses[0] == losses[1]


def test_a_snapshot_does_not_change_with_training(make_rows: MakeRows) -> None:
    X, y = map(torch.from_numpy, make_rows(32))
    ours = trainer()
    taken = ours.snapshot()
    kept = [p.copy() for p in taken]
    ours.step(X, y)
    assert all(np.array_equal(a, b) for a, b in zip(taken, kept, strict=True))
    assert not np.array_equal(taken[0], ours.snapshot()[0])


def test_the_defaults_are_the_references_table() -> None:
    table = {
        "dropout": 0.1, "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.0, "epochs": 10,
        "batch_size": 32, "clip_norm": 1.0, "activation": "relu", "schedule": "constant", "warmup": 0.0, "patience": 0,
        "loss": "cross_entropy", "focal_gamma": 2.0, "label_smoothing": 0.0,
    }  # fmt: skip
    assert asdict(TrainingSettings()) == table | {"hidden": (512,), "seed": 0}
    head = {k: p.default for k, p in inspect.signature(DenseHead).parameters.items()}
    assert head == table | {"hidden": (512,), "class_weight": "balanced", "random_state": 0}


def test_initial_weights_are_distributed_as_torchs_linear() -> None:
    ours = initial_parameters((64, 300, 50), torch.Generator().manual_seed(1))
    assert [tuple(p.shape) for p in ours] == [(64, 300), (300,), (300, 50), (50,)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = torch.nn.Linear(64, 300), torch.nn.Linear(300, 50)
    theirs = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
    for mine, other, inputs in zip(ours, theirs, (64, 64, 300, 300), strict=True):
        bound = 1 / math.sqrt(inputs)
        values = mine.detach().double().flatten().numpy()
        assert np.abs(values).max() <= bound
        assert float(other.detach().abs().max()) <= bound
        for drawn in (values, other.detach().double().flatten().numpy()):
            assert kstest(drawn, "uniform", (-bound, 2 * bound)).pvalue > 1e-3
