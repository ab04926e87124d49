"""`fit --grid`: chosen by validation alone, kept when stopped, and each candidate the head trained alone."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from frozenhead.commands import search as module
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.search import choose
from frozenhead.commands.voice import Advance, Silence
from frozenhead.errors import DataError, UsageError
from frozenhead.heads import DenseHead, LogisticHead, load_head
from frozenhead.report.metrics import balanced_weights, score_block
from frozenhead.signals import Stopped
from tests.commands.fits import SMALL, Trained, change_corpus, fit_small, folder_of, read, rows_of, timeless

GRID = ("lr=1e-4,1e-2", "dropout=0,0.3")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    return Trained(monkeypatch)


def scored(head: DenseHead | LogisticHead, run: Path) -> dict[str, float]:
    """What the table of a search says of a head."""
    (X, y), train = rows_of(run, "val"), rows_of(run, "train")[1]
    weights = balanced_weights(train, ["ham", "spam"])
    block = score_block(y, head.predict_proba(X), ["ham", "spam"], weights)
    assert block is not None
    return {name: block[name] for name in ("macro_f1", "accuracy", "log_loss")}


def test_each_candidate_is_the_head_trained_alone_with_its_seed(run: Path) -> None:
    fit_small(run, grids=GRID, seeds=2, seed=5)
    rows = read(run, "search.json")["heads"]
    assert [(row["options"], row["seed"]) for row in rows] == [
        ({"lr": lr, "dropout": dropout}, seed) for lr in (1e-4, 1e-2) for dropout in (0.0, 0.3) for seed in (5, 6)
    ]
    for row in rows:
        alone = DenseHead(hidden=8, epochs=3, random_state=row["seed"], **row["options"])
        alone.fit(*rows_of(run, "train"), validation=rows_of(run, "val"))
        assert row["val"] == scored(alone, run)  # to the bit
        assert row["best_epoch"] == alone.best_epoch_


def test_the_winner_is_stored_as_trained_alone(run: Path) -> None:
    fit_small(run, grids=GRID, seeds=2)
    table = read(run, "search.json")
    best = table["heads"][table["best"]]
    alone = DenseHead(hidden=8, epochs=3, random_state=best["seed"], **best["options"])
    alone.fit(*rows_of(run, "train"), validation=rows_of(run, "val"))
    stored = load_head(folder_of(run))
    for name, array in alone.arrays().items():
        np.testing.assert_array_equal(stored.arrays()[name], array)
    assert read(run, "head.json")["params"]["lr"] == best["options"]["lr"]


def test_the_test_split_chooses_nothing(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)

    def swap(corpus: pd.DataFrame) -> None:
        test = corpus["split"] == "test"
        corpus.loc[test, "label"] = corpus.loc[test, "label"].map({"ham": "spam", "spam": "ham"})

    change_corpus(other, swap)
    for folder in (run, other):
        fit_small(folder, grids=GRID, seeds=2)
    assert timeless(read(run, "search.json")) == timeless(read(other, "search.json"))
    weights = [(folder_of(folder) / "weights.safetensors").read_bytes() for folder in (run, other)]
    assert weights[0] == weights[1]
    assert read(run, "metrics.json")["test"] != read(other, "metrics.json")["test"]  # it is scored, once


def row(setting: int, f1: float | None, loss: float = 0.5, dropped: int | None = None) -> dict[str, Any]:
    val = None if f1 is None else {"macro_f1": f1, "accuracy": 0.5, "log_loss": loss}
    return {"setting": setting, "val": val, "dropped_after": dropped}


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row(0, 0.9), row(0, 0.5), row(1, 0.8), row(1, 0.81)], 3),  # the mean of seeds, then the best of them
        ([row(0, 0.8, 0.4), row(1, 0.8, 0.3)], 1),  # lower loss among equals
        ([row(0, 0.8), row(1, 0.8)], 0),  # the first of equals
        ([row(0, 0.9), row(0, None), row(1, 0.7), row(1, 0.7)], 2),  # a setting that fails for a seed is no choice
        ([row(0, 0.9), row(0, None), row(1, 0.7), row(1, None)], 0),  # unless all do
        ([row(0, None), row(1, None)], None),
    ],
)
def test_the_setting_whose_seeds_are_best_on_average_is_chosen(rows: list[dict[str, Any]], best: int | None) -> None:
    assert choose(rows, by_setting=True) == best


def test_of_a_halved_search_only_what_came_to_the_end_is_chosen() -> None:
    rows = [row(0, 0.99, dropped=1), row(0, 0.7), row(1, 0.8), row(1, 0.9, dropped=2)]
    assert choose(rows, by_setting=False) == 2


def test_a_candidate_that_diverges_is_shown_and_does_not_win(run: Path) -> None:
    result = fit_small(run, grids=("lr=1e30,1e-3",))
    bad, good = result["search"]["heads"]
    assert bad["val"] is None
    assert "lower lr" in bad["error"]
    assert (good["error"], result["search"]["best"]) == (None, 1)


def test_a_search_in_which_all_fail_says_so_and_stores_nothing(run: Path) -> None:
    with pytest.raises(DataError, match=r"none of 2 candidates[\s\S]*lower lr"):
        fit_small(run, grids=("lr=1e30,1e31",))
    assert not folder_of(run).exists()


class _Stopping(Silence):
    """Stops a search, as a signal would, when so many of its epochs are done."""

    def __init__(self, stop: Callable[[], None], epochs: int) -> None:
        self.stop, self.epochs = stop, epochs

    @contextmanager
    def bar(self, title: str, *, unit: str) -> Iterator[Advance]:
        def advance(done: int, total: int) -> None:
            if title.startswith("search") and done >= self.epochs:
                self.stop()

        yield advance


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def stop() -> None:
    raise Stopped(signal.SIGTERM)


@pytest.mark.parametrize(("stopping", "error"), [(interrupt, KeyboardInterrupt), (stop, Stopped)])
def test_a_stopped_search_keeps_what_was_scored_and_goes_on_to_the_same_end(
    run: Path, tmp_path: Path, trained: Trained, stopping: Callable[[], None], error: type[BaseException]
) -> None:
    grid, sets = ("epochs=1,2,3", "lr=1e-4,1e-2"), ("hidden=8",)
    other = tmp_path / "undisturbed"
    shutil.copytree(run, other)
    fit_small(other, grids=grid, sets=sets)
    trained.take()
    options = FitOptions(run=run, features=("tiny-bert.mean",), grids=grid, sets=sets)
    with pytest.raises(error):
        fit(options, _Stopping(stopping, 7))  # of 12 epochs
    assert [path.name for path in folder_of(run).parent.iterdir()] == [".search-dense.json"]
    done = {one["stamp"] for one in json.loads((folder_of(run).parent / ".search-dense.json").read_text())["heads"]}
    assert 0 < len(done) < 6
    trained.take()
    result = fit(options)["heads"][0]
    again, winner = trained.take()
    assert len(again) == 6 - len(done)
    assert len(winner) == 1
    assert timeless(result["search"]) == timeless(read(run, "search.json")) == timeless(read(other, "search.json"))
    assert not (folder_of(run).parent / ".search-dense.json").exists()
    files = ("weights.safetensors", "predictions.parquet", "metrics.json")
    assert all((folder_of(run) / f).read_bytes() == (folder_of(other) / f).read_bytes() for f in files)


def test_a_wider_grid_trains_only_what_is_new(run: Path, trained: Trained) -> None:
    fit_small(run, grids=("lr=1e-4,1e-3",), seeds=2)
    trained.take()
    fit_small(run, grids=("lr=1e-4,1e-3,1e-2",), seeds=2)
    new = trained.take()[0]
    assert [(head.get_params()["lr"], head.get_params()["random_state"]) for head in new] == [
        (0.01, 2018),
        (0.01, 2019),
    ]
    assert len(read(run, "search.json")["heads"]) == 6


def test_the_same_search_trains_nothing_again_unless_told_to(run: Path, trained: Trained) -> None:
    first = fit_small(run, grids=GRID)
    trained.take()
    again = fit_small(run, grids=GRID)
    assert trained.take() == []
    assert again == {**first, "known": True}
    fit_small(run, grids=GRID, refit=True)
    assert [len(heads) for heads in trained.take()] == [4, 1]


def test_a_head_in_the_place_of_a_searched_one_says_so_and_the_search_is_not_lost(run: Path, trained: Trained) -> None:
    lines: list[str] = []

    class Listening(Silence):
        def say(self, line: str) -> None:
            lines.append(line)

    first = fit_small(run, grids=GRID)
    fit(FitOptions(run=run, features=("tiny-bert.mean",), sets=SMALL), Listening())
    assert any("takes the place of one that a search found" in line for line in lines)
    assert not (folder_of(run) / "search.json").exists()
    trained.take()
    again = fit_small(run, grids=GRID)
    assert [len(heads) for heads in trained.take()] == [1]  # the winner alone
    assert again["search"] == first["search"]


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', '{"format": 2, "halving": false, "heads": []}',
    '{"format": 1, "halving": false, "heads": [{"stamp": "x", "val": null, "error": null}]}'])  # fmt: skip
@pytest.mark.parametrize("where", ["search.json", "../.search-dense.json"])
def test_spoilt_notes_of_a_search_are_passed_over(run: Path, trained: Trained, content: str, where: str) -> None:
    fit_small(run, grids=GRID)
    shutil.copy(folder_of(run) / "search.json", folder_of(run).parent / ".search-dense.json")
    for file in ("search.json", "../.search-dense.json"):
        (folder_of(run) / file).unlink()
    (folder_of(run) / where).write_text(content)
    trained.take()
    assert len(fit_small(run, grids=GRID)["search"]["heads"]) == 4
    assert [len(heads) for heads in trained.take()] == [4]


def test_a_spoilt_record_is_scored_anew(run: Path, trained: Trained) -> None:
    fit_small(run, grids=GRID)
    table = read(run, "search.json")
    del table["heads"][0]["val"]["log_loss"]
    (folder_of(run) / "search.json").write_text(json.dumps(table))
    fit_small(run, grids=GRID)
    assert "log_loss" in read(run, "search.json")["heads"][0]["val"]


def test_halving_drops_the_worse_half_and_chooses_among_the_rest(run: Path, trained: Trained) -> None:
    given: dict[str, Any] = {"grids": ("lr=1e-2,1e-6,3e-3,1e-7",), "sets": ("epochs=4",), "halving": True}
    table = fit_small(run, **given)["search"]
    assert [one["dropped_after"] for one in table["heads"]][1::2] == [1, 1]
    assert table["heads"][table["best"]]["dropped_after"] is None
    trained.take()
    fit_small(run, **given)
    assert trained.take() == []  # all of it is known
    fit_small(run, **(given | {"grids": ("lr=1e-2,1e-6,3e-3,1e-7,1e-3",)}))
    assert len(trained.take()[0]) == 5  # who is dropped depends on all the others
    fit_small(run, **(given | {"halving": False}))
    assert len(trained.take()[0]) == 4  # what halving dropped was not scored in full


@pytest.mark.parametrize("halving", [False, True])
def test_halving_compares_candidates_and_other_searches_settings(
    run: Path, monkeypatch: pytest.MonkeyPatch, halving: bool
) -> None:
    asked: list[bool] = []
    original = choose

    def listening(rows: Any, *, by_setting: bool) -> int | None:
        asked.append(by_setting)
        return original(rows, by_setting=by_setting)

    monkeypatch.setattr(module, "choose", listening)
    fit_small(run, grids=("lr=1e-2,1e-3",), seeds=2, halving=halving)
    assert asked == [not halving]


def test_the_table_goes_with_the_head_that_it_found(run: Path) -> None:
    fit_small(run, grids=GRID)
    assert fit_small(run)["search"] is None
    assert not (folder_of(run) / "search.json").exists()
    lr = fit_small(run, grids=("lr=1e-2,3e-3",))["search"]
    fit_small(run, sets=(f"lr={lr['heads'][lr['best']]['options']['lr']}",))  # the winner by its own options
    assert read(run, "search.json")["best"] == lr["best"]  # it is the same head, and was found so


def test_heads_without_epochs_and_softmax_paths_are_searched_too(run: Path) -> None:
    result = fit(FitOptions(run=run, heads=("logreg", "softmax", "tfidf"), features=("tiny-bert.mean",),
        grids=("C=0.1,10", "l2=1e-4,1e-2,1"), seeds=3))["heads"]  # fmt: skip
    assert {one["head"]: len(one["search"]["heads"]) for one in result} == {"logreg": 2, "softmax": 3, "tfidf": 2}
    for each in read(run, "search.json", "logreg")["heads"]:
        alone = LogisticHead(**each["options"]).fit(*rows_of(run, "train"))
        assert each["val"] == scored(alone, run)
        assert each["seed"] is None


@pytest.mark.parametrize(("halving", "way"), [(False, "--halving"), (True, "or try fewer values")])
def test_a_search_of_more_than_ten_minutes_asks_first(
    run: Path, monkeypatch: pytest.MonkeyPatch, trained: Trained, halving: bool, way: str
) -> None:
    monkeypatch.setattr(module, "estimate_seconds", lambda heads, *args, **given: 200.0 * len(heads))
    with pytest.raises(UsageError, match=rf"^4 candidates of dense on tiny-bert.mean, about 13 min\n.*--yes.*{way}"):
        fit_small(run, grids=GRID, halving=halving)
    assert trained.take() == []
    fit_small(run, grids=GRID, halving=halving, yes=True)
    fit_small(run, grids=(GRID[0],), halving=halving)  # 400 s are not asked about
    assert len(trained.take()) == 4


def test_a_search_tells_how_many_candidates_it_has_and_how_many_were_scored(run: Path) -> None:
    lines: list[str] = []

    class Listening(Silence):
        def say(self, line: str) -> None:
            lines.append(line)

    for grid in ("lr=1e-3,1e-2", "lr=1e-3,1e-2,1e-1"):
        fit(FitOptions(run=run, features=("tiny-bert.mean",), sets=SMALL, grids=(grid,)), Listening())
    assert [line.split(", about")[0] for line in lines] == [
        "2 candidates of dense on tiny-bert.mean",
        "3 candidates of dense on tiny-bert.mean (2 of them scored before)",
    ]


def test_a_search_without_validation_rows_is_bad_data(run: Path) -> None:
    change_corpus(run, lambda corpus: corpus.update(corpus["split"].replace("val", "test")))
    for given in ({"grids": GRID}, {"curve": True}, {"threshold": "f1"}):
        with pytest.raises(DataError, match="validation rows"):
            fit_small(run, **given)


def test_halving_that_memory_cannot_hold_is_refused(
    run: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "machine_memory", lambda: 1000)
    with pytest.raises(UsageError, match="--halving keeps all 4 candidates in memory"):
        fit_small(run, grids=GRID, halving=True)
    assert trained.take() == []
    fit_small(run, grids=GRID)
