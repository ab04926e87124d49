"""Heads trained together are the heads trained alone, bit for bit, and what the formulas say in float64."""

import itertools
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from frozenhead.heads import TrainingSettings
from frozenhead.heads import many as engine
from frozenhead.heads.learner import Learner, Outcome, Task
from frozenhead.heads.many import estimated_seconds, train_heads
from frozenhead.heads.training import Together
from tests.heads.conftest import MakeRows
from tests.heads.twins import trained

# float32 keeps 7 digits; some dozen steps at lr 1e-3 let a rounding of 1e-7 grow about tenfold.
TWIN_TOLERANCE = 5e-6

Rows = tuple[NDArray[Any], NDArray[np.int64]]


def task(weights: Any = (1.0, 2.0), *, settings: dict[str, Any] | None = None, **given: Any) -> Task:
    options: dict[str, Any] = {"hidden": 7, "epochs": 3} | (settings or {})
    return Task(settings=TrainingSettings(**options), class_weights=np.asarray(weights, np.float64), **given)


def run(rows: Rows, tasks: list[Task], *, held: Rows | None = None, **given: Any) -> list[Outcome]:
    """Outcomes in the order of the tasks."""
    K = len(tasks[0].class_weights)
    outcomes = train_heads(*rows, tasks, n_classes=K, validation=held, **given)
    return sorted(outcomes, key=lambda outcome: outcome.index)


def alike(one: Outcome, two: Outcome) -> bool:
    """The same bits, whatever the place among tasks and the time it took."""
    plain = [(o.history, o.best_epoch, o.error, o.dropped_after, len(o.parameters)) for o in (one, two)]
    pairs = zip(one.parameters, two.parameters, strict=True)
    return plain[0] == plain[1] and all(np.array_equal(a, b) for a, b in pairs)


def varied() -> list[Task]:
    """Heads of some shapes, five of each, with everything of their own that heads of a stack may have, on 99 rows."""
    rng = np.random.default_rng(5)
    kinds: list[dict[str, Any]] = [
        {"hidden": (7,), "activation": "relu", "dropout": (0.1, 0.5)},
        {"hidden": (33, 5), "activation": "gelu", "dropout": (0.1, 0.3)},
        {"hidden": (33, 5), "activation": "tanh", "dropout": (0.2, 0.9), "loss": "focal"},
        {"hidden": (16,), "activation": "relu", "dropout": (0.0, 0.0), "loss": "focal"},
        {"hidden": (), "dropout": (0.0, 0.0)},
    ]
    tasks = []
    for i, kind in itertools.product(range(5), kinds):
        settings = kind | {
            "dropout": kind["dropout"][i % 2], "lr": 1e-3 * (i + 1), "seed": i, "weight_decay": 0.1 * (i % 2),
            "label_smoothing": 0.1 * (i % 2), "focal_gamma": 0.5 * i,
            "schedule": ("cosine", "linear", "constant")[i % 3], "clip_norm": 10.0 ** (1 - i), "batch_size": 9,
        }  # fmt: skip
        rows = rng.permutation(99)[: 99 - i % 3] if i % 2 else None
        weights = None if i < 3 else np.append(rng.integers(1, 4, 98), 0).astype(np.float64)
        tasks.append(task(rng.uniform(0.5, 3, 5), settings=settings, rows=rows, row_weights=weights))
    return tasks


def test_stacked_equals_alone_bit_for_bit(make_rows: MakeRows) -> None:
    rows, held, tasks = make_rows(99, dim=5, classes=5), make_rows(30, dim=5, classes=5, seed=1), varied()
    learners = [Learner.of(i, each, rows[0], 5, None) for i, each in enumerate(tasks)]
    assert [len(group) for group in engine.grouped(learners, memory=1 << 30, threads=1)] == [5] * 5
    for outcome, single in zip(run(rows, tasks, held=held, threads=1), tasks, strict=True):
        assert alike(outcome, run(rows, [single], held=held)[0])


@pytest.mark.parametrize(("dim", "hidden", "classes"), [(384, 512, 2), (100, 64, 77), (1, 1, 2)])
def test_stacked_equals_alone_at_the_sizes_in_use(make_rows: MakeRows, dim: int, hidden: int, classes: int) -> None:
    rows = make_rows(170, dim=dim, classes=classes)
    settings = [{"hidden": hidden, "seed": i, "lr": 1e-3 / (i + 1), "dropout": 0.1 + 0.1 * i} for i in range(3)]
    tasks = [task(np.ones(classes), settings=s) for s in settings]
    stacked = Together([Learner.of(i, t, rows[0], classes, None) for i, t in enumerate(tasks)], *rows)
    for _ in range(3):
        stacked.epoch(lambda: False)
    for learner, single in zip(stacked.learners, tasks, strict=True):
        assert alike(learner.outcome(), run(rows, [single])[0])


def test_neither_order_nor_threads_nor_memory_changes_a_bit(make_rows: MakeRows) -> None:
    rows, tasks = make_rows(99, dim=5, classes=5), varied()
    plain = run(rows, tasks, threads=1)
    turned = run(rows, tasks[::-1], threads=3)[::-1]
    narrow = run(rows, tasks, threads=2, memory=1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        many = run(rows, tasks)
    finally:
        torch.set_num_threads(before)
    for outcomes in (turned, narrow, many):
        assert all(alike(a, b) for a, b in zip(plain, outcomes, strict=True))


TWINS: list[dict[str, Any]] = [
    {},
    {"dropout": 0.3},
    {"hidden": (7, 5), "dropout": 0.3, "activation": "tanh"},
    {"hidden": (7, 5), "dropout": 0.3, "activation": "gelu"},
    {"hidden": (20, 18, 3), "activation": "relu", "dropout": 0.0},
    {"hidden": ()},
    {"weight_decay": 0.1, "clip_norm": 0.05, "schedule": "linear", "warmup": 0.3},
    {"schedule": "cosine", "warmup": 0.25},
    {"schedule": "cosine"},
    {"label_smoothing": 0.2},
    {"loss": "focal", "label_smoothing": 0.1},
    {"loss": "focal", "focal_gamma": 0.5, "dropout": 0.0},
    {"eps": 1e-2, "beta1": 0.5, "beta2": 0.9},
]


@pytest.mark.parametrize("settings", TWINS)
def test_a_head_is_its_float64_twin(make_rows: MakeRows, settings: dict[str, Any]) -> None:
    X, y = make_rows(75, dim=5, classes=3)
    rng = np.random.default_rng(2)
    single = task(
        [0.5, 1.0, 4.0],
        settings={"epochs": 2, "seed": 3} | settings,
        rows=rng.permutation(75)[:70],
        row_weights=rng.integers(0, 4, 75) / 2,
        views=[X, X[::-1]],
    )
    (outcome,) = run((X, y), [single])
    losses, parameters = trained(X, y, single, 3)
    assert [epoch["train_loss"] for epoch in outcome.history] == pytest.approx(losses, abs=TWIN_TOLERANCE)
    for mine, twins in zip(outcome.parameters, parameters, strict=True):
        np.testing.assert_allclose(mine, twins, atol=TWIN_TOLERANCE, rtol=0)


def test_what_rounding_up_adds_stays_nothing(make_rows: MakeRows) -> None:
    X, y = make_rows(50, dim=5, classes=3)
    for activation in ("relu", "gelu", "tanh"):
        settings = {"hidden": (7, 5), "activation": activation, "weight_decay": 0.1, "dropout": 0.1}
        single = task(np.ones(3), settings=settings)
        together = Together([Learner.of(0, single, X, 3, None)], X, y)
        together.epoch(lambda: False)
        network = together.learners[0].network
        row = together.stack.state[0, 0].clone()
        unpacked = [torch.from_numpy(p) for p in network.unpacked(row)]
        last = network.places[-1][1]
        assert (row[last][3:] < -1e29).all()
        row[last][3:] = network.packed(unpacked)[last][3:]
        assert torch.equal(row, network.packed(unpacked))


def test_rows_of_weight_zero_are_absent(make_rows: MakeRows) -> None:
    X, y = make_rows(80)
    weights = np.random.default_rng(1).integers(0, 2, 80).astype(np.float64)
    weighted, chosen = task(row_weights=weights), task(rows=np.flatnonzero(weights))
    assert alike(*run((X, y), [weighted, chosen]))
    noise = X.copy()
    noise[weights == 0] = np.nan
    assert alike(run((noise, y), [weighted])[0], run((X, y), [chosen])[0])


def test_a_weight_counts_as_repetition(make_rows: MakeRows) -> None:
    X, y = make_rows(40)
    counts = np.random.default_rng(1).integers(0, 4, 40)
    settings = {"batch_size": 500, "dropout": 0.0, "epochs": 20}
    weighted = task(settings=settings, row_weights=counts.astype(np.float64))
    repeated = task(settings=settings, rows=np.repeat(np.arange(40), counts))
    one, two = run((X, y), [weighted, repeated])
    for a, b in zip(one.parameters, two.parameters, strict=True):
        np.testing.assert_allclose(a, b, atol=TWIN_TOLERANCE, rtol=0)


def test_views_are_used_in_turn_and_validation_is_not_one(make_rows: MakeRows) -> None:
    X, y = make_rows(60)
    other = X[:, ::-1].copy()
    same, turns, wrong = run((X, y), [task(views=[X, X]), task(views=[X, other]), task(views=[other])], held=(X, y))
    (plain,) = run((X, y), [task()], held=(X, y))
    assert alike(same, plain)
    assert turns.history[0] == plain.history[0]
    assert turns.history[1] != plain.history[1]
    assert alike(wrong, run((other, y), [task()], held=(X, y))[0])


def test_a_tasks_own_validation_rows_judge_it(make_rows: MakeRows) -> None:
    rows, held, own = make_rows(60), make_rows(20, seed=1), make_rows(31, seed=2)
    mine, shared = run(rows, [task(validation=own), task()], held=held)
    assert alike(mine, run(rows, [task()], held=own)[0])
    assert alike(shared, run(rows, [task()], held=held)[0])


def test_a_head_that_diverges_hurts_no_other(make_rows: MakeRows) -> None:
    rows, held = make_rows(60), make_rows(20, seed=1)
    tasks = [task(settings={"lr": lr, "seed": 4}) for lr in (1e-3, 1e30, 2e-3)]
    well, ill, other = run(rows, tasks, held=held)
    assert ill.error is not None
    assert ill.error.endswith("lower lr (now 1e+30).")
    assert ill.error.startswith("The loss is no longer finite in epoch ")
    assert (ill.parameters, ill.best_epoch) == ([], None)
    assert alike(well, run(rows, tasks[:1], held=held)[0])
    assert alike(other, run(rows, tasks[2:], held=held)[0])


def test_patience_stops_a_head_and_not_its_neighbours(make_rows: MakeRows) -> None:
    rows, (V, v) = make_rows(60), make_rows(60, seed=2)
    v = np.where(np.arange(60) % 4 == 0, 1 - v, v)  # wrong labels: whoever grows sure of itself loses
    settings = {"epochs": 30, "lr": 2e-2, "hidden": 32}
    patient = [task(settings=settings | {"patience": p}) for p in (0, 1, 3)]
    never, one, three = run(rows, patient, held=(V, v))
    losses = [epoch["val_loss"] for epoch in never.history]
    assert len(losses) == 30
    for outcome, patience in ((one, 1), (three, 3)):
        stopped = next(e for e in range(1, 31) if e - (1 + int(np.argmin(losses[:e]))) == patience)
        assert stopped < 30
        assert outcome.history == never.history[:stopped]
        assert outcome.best_epoch == 1 + int(np.argmin(losses[:stopped]))
    assert alike(one, run(rows, patient[1:2], held=(V, v))[0])


def test_patience_without_validation_rows_stops_nothing(make_rows: MakeRows) -> None:
    (outcome,) = run(make_rows(60), [task(settings={"patience": 1, "epochs": 6})])
    assert outcome.best_epoch == 6


def test_halving_keeps_the_better_half_of_all_shapes(make_rows: MakeRows) -> None:
    rows, held = make_rows(60), make_rows(40, seed=1)
    tasks = [
        task(settings={"hidden": hidden, "lr": lr, "epochs": 6, "seed": i})
        for i, (hidden, lr) in enumerate(itertools.product((3, 40), (1e-5, 1e-2, 1e-4, 3e-3, 1e-3)))
    ]
    whole, halved = run(rows, tasks, held=held), run(rows, tasks, held=held, halving=True, threads=2)
    going = list(range(10))
    expected: dict[int, int | None] = {}
    for rung in (1, 2, 4):
        ranked = sorted(going, key=lambda i: min(epoch["val_loss"] for epoch in whole[i].history[:rung]))
        kept = ranked[: -(-len(ranked) // 2)]
        expected |= dict.fromkeys(set(going) - set(kept), rung)
        going = sorted(kept)
    assert {o.index: o.dropped_after for o in halved} == expected | dict.fromkeys(going)
    assert [list(expected.values()).count(rung) for rung in (1, 2, 4)] == [5, 2, 1]
    for outcome in halved:
        rung = outcome.dropped_after or 6
        assert outcome.history == whole[outcome.index].history[:rung]
        if outcome.dropped_after is None:
            assert alike(outcome, whole[outcome.index])


def test_halving_without_validation_rows_is_refused(make_rows: MakeRows) -> None:
    with pytest.raises(ValueError, match="give validation rows"):
        run(make_rows(20), [task()], halving=True)


def test_equal_heads_are_dropped_from_the_end(make_rows: MakeRows) -> None:
    outcomes = run(make_rows(40), [task(settings={"epochs": 2}) for _ in range(4)], held=make_rows(9), halving=True)
    assert [o.dropped_after for o in outcomes] == [None, None, 1, 1]


def test_progress_rises_to_all_epochs_of_all_heads(make_rows: MakeRows) -> None:
    rows = make_rows(60)
    seen: list[tuple[int, int]] = []
    tasks = [task(settings={"epochs": e, "lr": lr}) for e, lr in ((2, 1e-3), (5, 1e30), (4, 1e-3))]
    for options in ({}, {"halving": True}):
        seen.clear()
        run(rows, tasks, held=rows, progress=lambda done, total: seen.append((done, total)), **options)
        assert {total for _, total in seen} == {11}
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert seen[-1] == (11, 11)


def test_an_interrupt_ends_training_and_what_was_finished_was_given(make_rows: MakeRows) -> None:
    given: list[int] = []
    tasks = [task(settings={"seed": i, "epochs": 2}) for i in range(4)] + [task(settings={"epochs": 10**6})]

    def interrupt(done: int, total: int) -> None:
        if len(given) == 4:
            raise KeyboardInterrupt

    outcomes = train_heads(*make_rows(60), tasks, n_classes=2, progress=interrupt, threads=2)
    with pytest.raises(KeyboardInterrupt):
        given.extend(outcome.index for outcome in outcomes)
    assert sorted(given) == [0, 1, 2, 3]
    assert not [t for t in threading.enumerate() if t.name.startswith("heads-")]


def test_who_stops_listening_ends_training(make_rows: MakeRows) -> None:
    tasks = [task(settings={"epochs": 1}), task(settings={"epochs": 10**6})]
    outcomes = train_heads(*make_rows(60), tasks, n_classes=2, threads=2)
    assert next(iter(outcomes)).index == 0
    del outcomes
    assert not [t for t in threading.enumerate() if t.name.startswith("heads-")]


def test_an_error_on_a_thread_reaches_the_caller(make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Together, stop: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Together, "epoch", full)
    with pytest.raises(MemoryError, match="no room"):
        run(make_rows(20), [task()])


def test_training_runs_on_one_thread_and_leaves_torchs_threads_alone(
    make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, epoch, before = [], Together.epoch, torch.get_num_threads()

    def watched(self: Together, stop: Any) -> None:
        seen.append(torch.get_num_threads())
        epoch(self, stop)

    monkeypatch.setattr(Together, "epoch", watched)
    later: list[int] = []
    try:
        torch.set_num_threads(3)
        run(make_rows(60), [task()])
        assert torch.get_num_threads() == 3
        born = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        born.start()
        born.join()
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}
    assert later == [3]


def test_vectors_stay_where_they_lie(tmp_path: Path, make_rows: MakeRows) -> None:
    X, y = make_rows(60_000, dim=64)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    chosen = task(settings={"epochs": 1, "batch_size": 256}, rows=np.arange(0, 60_000, 7))
    tracemalloc.start()
    (outcome,) = run((mapped, y), [chosen], held=(mapped[:2000], y[:2000]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.nbytes / 4
    assert alike(outcome, run((X, y), [chosen], held=(X[:2000], y[:2000]))[0])


def test_matrices_in_another_order_or_type_train_the_same(make_rows: MakeRows) -> None:
    X, y = make_rows(60, dim=16)
    X = X.astype(np.float16).astype(np.float32)
    (plain,) = run((X, y), [task()], held=(X, y))
    for other in (np.asfortranarray(X), X.astype(np.float16), X.astype(np.float64)):
        assert alike(run((other, y), [task()], held=(other, y))[0], plain)


def test_an_estimate_counts_heads_and_changes_nothing(make_rows: MakeRows) -> None:
    rows, tasks = make_rows(60), [task(settings={"seed": i}) for i in range(3)]
    before = run(rows, tasks, held=rows)
    assert 0 < estimated_seconds(*rows, tasks, n_classes=2, validation=rows) < 60
    assert estimated_seconds(*rows, [], n_classes=2) == 0
    assert all(alike(a, b) for a, b in zip(before, run(rows, tasks, held=rows), strict=True))


def test_no_tasks_give_no_outcomes(make_rows: MakeRows) -> None:
    assert list(train_heads(*make_rows(20), [], n_classes=2)) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"rows": np.array([0, 60])}, "0 to 59"),
        ({"rows": np.array([-1, 3])}, "-1 to 3"),
        ({"rows": np.array([], np.int64)}, "not empty"),
        ({"rows": np.array([0.5])}, "whole numbers"),
        ({"row_weights": np.full(60, -1.0)}, "at least 0"),
        ({"row_weights": np.full(59, 1.0)}, "60 finite numbers"),
        ({"row_weights": np.zeros(60)}, "no row of weight above 0"),
        ({"views": [np.ones((60, 4), np.float32)]}, "must be alike"),
        ({"validation": (np.ones((2, 4), np.float32), np.array([0, 1]))}, r"expected \(n, 3\)"),
        ({"validation": (np.ones((2, 3), np.float32), np.array([0, 2]))}, "from 0 to 1"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(make_rows: MakeRows, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        run(make_rows(60), [task(**given)])


@pytest.mark.parametrize("weights", [(1.0, 0.0), (1.0, np.nan), (1.0, np.inf)])
def test_class_weights_are_finite_and_above_zero(make_rows: MakeRows, weights: Any) -> None:
    with pytest.raises(ValueError, match="class_weights must be 2 finite"):
        run(make_rows(60), [task(weights)])


def test_codes_must_be_classes(make_rows: MakeRows) -> None:
    X, y = make_rows(60, classes=3)
    with pytest.raises(ValueError, match="from 0 to 1"):
        run((X, y), [task()])
    with pytest.raises(ValueError, match="expected"):
        run((X, y[:9]), [task(np.ones(3))])
