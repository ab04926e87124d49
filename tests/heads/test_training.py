"""A trainer does what its objective and the reference's table say, step by step, and touches nothing global."""

import inspect
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import kstest

from frozenhead.heads import DenseHead, Trainer, TrainingSettings
from frozenhead.heads.training import initial_parameters
from tests.heads.conftest import MakeRows

Array = NDArray[np.float64]

# float32 keeps 7 digits; a hundred steps at lr 1e-3 let a rounding of 1e-7 grow about tenfold.
TWIN_TOLERANCE = 5e-6
# Central differences in float64 of a loss near 1: rounding 1e-16 / 1e-5, curvature (1e-5)^2; the gradient is float32.
GRADIENT_TOLERANCE = 2e-6


def trainer(dim: int = 3, classes: int = 2, weights: Any = None, **settings: Any) -> Trainer:
    chosen = np.ones(classes) if weights is None else np.asarray(weights, np.float64)
    return Trainer(dim=dim, n_classes=classes, weights=chosen, settings=TrainingSettings(**{"hidden": 7} | settings))


def weighted_loss(z: Array, y: NDArray[np.int64], w: Array) -> float:
    """sum_i w_{y_i} CE(y_i, z_i) / sum_i w_{y_i}"""
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(-(w[y] * log_p[np.arange(len(y)), y]).sum() / w[y].sum())


def scores(parameters: list[Array], x: NDArray[Any]) -> Array:
    first, first_bias, second, second_bias = parameters
    return np.asarray(np.maximum(x @ first + first_bias, 0) @ second + second_bias)


class Twin:
    """The reference's training in float64, one line per formula, the gradients by hand."""

    def __init__(self, parameters: list[NDArray[np.float32]], weights: Array, settings: TrainingSettings) -> None:
        self.parameters = [p.astype(np.float64) for p in parameters]
        self.means = [np.zeros_like(p) for p in self.parameters]
        self.squares = [np.zeros_like(p) for p in self.parameters]
        self.weights, self.settings, self.steps = weights, settings, 0

    def gradients(self, x: Array, y: NDArray[np.int64]) -> list[Array]:
        first, first_bias, second, _ = self.parameters
        before = x @ first + first_bias
        hidden = np.maximum(before, 0)
        z = scores(self.parameters, x)
        residual = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        residual[np.arange(len(y)), y] -= 1
        residual *= (self.weights[y] / self.weights[y].sum())[:, None]
        back = residual @ second.T * (before > 0)
        return [x.T @ back, back.sum(axis=0), hidden.T @ residual, residual.sum(axis=0)]

    def step(self, x: Array, y: NDArray[np.int64]) -> float:
        s = self.settings
        self.steps += 1
        loss = weighted_loss(scores(self.parameters, x), y, self.weights)
        gradients = self.gradients(x, y)
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        scale = min(1.0, s.clip_norm / (norm + 1e-6))
        size = s.lr * math.sqrt(1 - s.beta2**self.steps) / (1 - s.beta1**self.steps)
        for i, g in enumerate(gradients):
            self.means[i] = s.beta1 * self.means[i] + (1 - s.beta1) * scale * g
            self.squares[i] = s.beta2 * self.squares[i] + (1 - s.beta2) * (scale * g) ** 2
            self.parameters[i] = self.parameters[i] - size * self.means[i] / (np.sqrt(self.squares[i]) + s.eps)
            self.parameters[i] = self.parameters[i] * (1 - s.lr * s.weight_decay)
        return loss


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
        assert loss == pytest.approx(twin.step(X[rows].astype(np.float64), y[rows]), abs=TWIN_TOLERANCE)
    for parameter, expected in zip(ours.snapshot(), twin.parameters, strict=True):
        np.testing.assert_allclose(parameter, expected, atol=TWIN_TOLERANCE, rtol=0)


def test_the_twins_gradient_is_the_slope_of_the_loss(make_rows: MakeRows) -> None:
    X, y = make_rows(20, classes=3)
    w, x = np.array([0.5, 1.0, 4.0]), X.astype(np.float64)
    twin = Twin(trainer(classes=3).snapshot(), w, TrainingSettings())
    for parameter, gradient in zip(twin.parameters, twin.gradients(x, y), strict=True):
        for i in np.ndindex(parameter.shape):
            kept, ends = parameter[i], []
            for h in (1e-5, -1e-5):
                parameter[i] = kept + h
                ends.append(weighted_loss(scores(twin.parameters, x), y, w))
            parameter[i] = kept
            assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=GRADIENT_TOLERANCE)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_with_a_tiny_eps_the_update_is_torchs_adamw(make_rows: MakeRows, weight_decay: float) -> None:
    X, y = map(torch.from_numpy, make_rows(64))
    ours = trainer(dropout=0.0, eps=1e-12, clip_norm=1e9, weight_decay=weight_decay)
    theirs = [p.detach().clone().requires_grad_() for p in ours.parameters]
    optimiser = torch.optim.AdamW(theirs, lr=1e-3, eps=1e-12, weight_decay=weight_decay)
    for _ in range(5):
        ours.step(X, y)
        logits = (X @ theirs[0] + theirs[1]).relu() @ theirs[2] + theirs[3]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    # torch decays before the step, the reference after it: they differ by lr^2 times the decay, 1e-7 a step.
    for mine, other in zip(ours.parameters, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=TWIN_TOLERANCE, rtol=0)


def test_the_clipped_gradient_is_torchs() -> None:
    gradients = [torch.full((3, 7), 2.0), torch.ones(7)]
    clipped = trainer(clip_norm=0.5)._clipped([g.clone() for g in gradients])
    leaves = [torch.zeros_like(g).requires_grad_() for g in gradients]
    for leaf, gradient in zip(leaves, gradients, strict=True):
        leaf.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(leaves, 0.5)
    for mine, leaf in zip(clipped, leaves, strict=True):
        torch.testing.assert_close(mine, leaf.grad)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_expectation(share: float) -> None:
    ours = trainer(hidden=512, dropout=share)
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours.parameters[0].zero_()
        ours.parameters[1].fill_(1.0)  # every hidden unit is 1
        ours.parameters[2].fill_(1 / 512)  # so a score is the mean of the hidden units after dropout
        ours.parameters[3].zero_()
        dropped = ours._forward(x, training=True)[:, 0].double()  # (400,)
        assert ours._forward(x, training=False).sub(1).abs().max() < 1e-5
    # A score is Binomial(512, 1 - share) / (512 (1 - share)): mean 1, this deviation; five deviations of 400 draws.
    deviation = math.sqrt(share / (1 - share) / 512)
    assert abs(float(dropped.mean()) - 1) < 5 * deviation / 20
    assert float(dropped.std()) == pytest.approx(deviation, rel=0.2)


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
    ours = trainer(weights=w)
    parameters = [p.astype(np.float64) for p in ours.snapshot()]
    by_hand = [weighted_loss(scores(parameters, X[i:j]), y[i:j], w) for i, j in ((0, 32), (32, 64), (64, 70))]
    value = ours.evaluate(torch.from_numpy(X), torch.from_numpy(y))
    assert value == pytest.approx(sum(by_hand) / 3, abs=TWIN_TOLERANCE)
    whole = weighted_loss(scores(parameters, X.astype(np.float64)), y, w)
    assert abs(value - whole) > 10 * TWIN_TOLERANCE  # the data tell the two definitions apart


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
        "hidden": 512, "dropout": 0.1, "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.0,
        "epochs": 10, "batch_size": 32, "clip_norm": 1.0,
    }  # fmt: skip
    assert asdict(TrainingSettings()) == table | {"seed": 0}
    head = {k: p.default for k, p in inspect.signature(DenseHead).parameters.items()}
    assert head == table | {"class_weight": "balanced", "random_state": 0}


def test_initial_weights_are_distributed_as_torchs_linear() -> None:
    ours = initial_parameters(64, 300, 50, torch.Generator().manual_seed(1))
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", 0), ("hidden", 2.0), ("hidden", True), ("epochs", 0), ("epochs", "3"), ("batch_size", -1),
        ("lr", 0.0), ("lr", math.nan), ("lr", math.inf), ("lr", "fast"), ("eps", 0.0), ("clip_norm", -1.0),
        ("clip_norm", math.inf), ("dropout", 1.0), ("dropout", -0.1), ("beta1", 1.0), ("beta2", 1.5),
        ("beta2", math.nan), ("weight_decay", -1e-9), ("weight_decay", math.nan), ("seed", -1), ("seed", None),
        ("seed", 1.0),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        TrainingSettings(**{name: value})  # type: ignore[arg-type]


def test_numpys_numbers_are_numbers() -> None:
    assert TrainingSettings(hidden=np.int64(3), lr=np.float32(0.5), seed=np.int64(1)).hidden == 3  # type: ignore[arg-type]
