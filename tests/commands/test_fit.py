"""`fit`: heads on pinned vectors, stored whole."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from frozenhead.cache import VectorCache
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.vectors import run_vectors
from frozenhead.embedder.encoder import Encoder
from frozenhead.errors import CacheDamaged, DataError, RunDamaged, RunNotFound, UsageError
from frozenhead.heads import HEADS, DenseHead, load_head
from frozenhead.runs import Run

QUICK = ("dense.epochs=3", "dense.hidden=8")


def head_folder(run: Path, head: str, feature: str = "tiny-bert.mean") -> Path:
    return run / "heads" / feature / head


def test_all_heads_are_trained_on_all_feature_sets(run: Path) -> None:
    result = fit(FitOptions(run=run, heads=("all",), sets=QUICK))
    trained = {(r["feature"], r["head"]) for r in result["heads"]}
    on_vectors = [name for name, kind in HEADS.items() if kind.takes == "vectors"]
    vectors = {(f"tiny-bert.{p}", h) for p in ("pooler", "mean") for h in on_vectors}
    assert trained == vectors | {("text", "tfidf"), ("text", "majority")}
    assert {(h.feature, h.head) for h in Run.open(run).heads()} == trained


def test_a_head_folder_holds_what_the_contract_says(run: Path) -> None:
    fit(FitOptions(run=run, heads=("dense",), sets=QUICK))
    folder = head_folder(run, "dense")
    names = {"head.json", "weights.safetensors", "history.jsonl", "predictions.parquet", "metrics.json"}
    assert {p.name for p in folder.iterdir()} == names
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    assert all(epoch["val_loss"] > 0 for epoch in history)


def test_the_head_is_the_estimator_trained_by_hand(run: Path) -> None:
    fit(FitOptions(run=run, heads=("dense",), features=("tiny-bert.mean",), sets=QUICK, seed=7))
    stored = Run.open(run)
    corpus = stored.corpus()
    record = stored.features()["tiny-bert.mean"]
    vectors = run_vectors(stored, record, corpus, name="tiny-bert.mean", cache_dir=None)

    def rows(split: str) -> tuple[NDArray[Any], NDArray[Any]]:
        chosen = (corpus["split"] == split).to_numpy()
        return vectors[chosen], corpus["label"].to_numpy()[chosen]

    by_hand = DenseHead(epochs=3, hidden=8, random_state=7).fit(*rows("train"), validation=rows("val"))
    by_hand.calibrate(*rows("val"))
    loaded = load_head(head_folder(run, "dense"))
    np.testing.assert_array_equal(loaded.predict_proba(vectors), by_hand.predict_proba(vectors))


def test_predictions_are_of_validation_and_test_rows_and_are_probabilities(run: Path) -> None:
    fit(FitOptions(run=run, heads=("logreg", "tfidf")))
    corpus = Run.open(run).corpus()
    judged = corpus[corpus["split"] != "train"]
    for folder in (head_folder(run, "logreg"), head_folder(run, "tfidf", "text")):
        table = pd.read_parquet(folder / "predictions.parquet")
        assert table["row"].tolist() == judged["row"].tolist()
        assert table["split"].tolist() == judged["split"].tolist()
        probabilities = table[["prob_ham", "prob_spam"]].to_numpy()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
        assert table["predicted"].tolist() == np.array(["ham", "spam"])[probabilities.argmax(axis=1)].tolist()


def test_fit_runs_no_encoder_and_repeats_bit_for_bit_while_others_write(
    run: Path, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = FitOptions(run=run, heads=("dense",), sets=QUICK)
    fit(options)
    first = (head_folder(run, "dense") / "weights.safetensors").read_bytes()
    other = tmp_path / "other.csv"
    pd.DataFrame({"text": [f"blue mat {i}" for i in range(20)]}).to_csv(other, index=False)
    make_run(data=str(other), out=tmp_path / "other", pooling="mean", corpus={"labelled": False})

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an encoder was about to be loaded")

    monkeypatch.setattr(Encoder, "__init__", refuse)
    assert not any(one["known"] for one in fit(replace(options, refit=True))["heads"])
    assert (head_folder(run, "dense") / "weights.safetensors").read_bytes() == first


def test_class_weights_are_balanced_unless_told(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text('{"ham": 1, "spam": 9}')
    corpus = Run.open(run).corpus()
    counts = corpus[corpus["split"] == "train"]["label"].value_counts()
    balanced = [counts.sum() / (2 * counts[label]) for label in ("ham", "spam")]
    for given, expected in (("balanced", balanced), ("none", [1.0, 1.0]), (str(path), [1.0, 9.0])):
        fit(FitOptions(run=run, heads=("logreg",), class_weight=given))
        found = json.loads((head_folder(run, "logreg") / "head.json").read_text())["class_weights"]
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"heads": ("dnse",)}, "'dense'"),
        ({"sets": ("lrr=1",)}, "'lr'"),
        ({"sets": ("lr",)}, "NAME=VALUE"),
        ({"sets": ("lr=quick",)}, "a number"),
        ({"sets": ("epochs=2.5",)}, "a whole number"),
        ({"sets": ("lr=-1",)}, "lr must be above 0"),
        ({"sets": ("tfidf.C=1",)}, "none of the heads to train"),
        ({"sets": ("dense.C=1",)}, "no option"),
        ({"sets": ("lr=inf",)}, "a number"),
        ({"features": ("tiny-bert.men",)}, "'tiny-bert.mean'"),
        ({"class_weight": "heavy"}, "nor a file"),
        ({"seed": -1}, "--seed"),
        ({"jobs": 0}, "--jobs"),
    ],
)
def test_a_wrong_option_is_refused_with_the_right_one(run: Path, given: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        fit(FitOptions(run=run, **given))
    assert Run.open(run).heads() == []


@pytest.mark.parametrize("content", ["{", "[1, 2]", '{"ham": "heavy"}'])
def test_class_weights_that_are_no_numbers_are_bad_data(run: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"weights\.json"):
        fit(FitOptions(run=run, class_weight=str(path)))


def test_class_weights_must_name_the_classes(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text('{"ham": 1, "eggs": 2}')
    with pytest.raises(UsageError, match=r"eggs[\s\S]*spam"):
        fit(FitOptions(run=run, class_weight=str(path)))


def test_a_pinned_shard_that_is_gone_or_damaged_stops_fit_and_embed_heals_it(
    run: Path, make_run: Callable[..., Any]
) -> None:
    record = Run.open(run).features()["tiny-bert.mean"]
    shard = VectorCache().folder / "v1" / record["space"] / "shards" / f"{record['shards'][0]}.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    options = FitOptions(run=run, heads=("logreg",))
    with pytest.raises(CacheDamaged, match="frozenhead embed"):
        fit(options)
    with pytest.raises(CacheDamaged, match="is gone"):  # it went to quarantine
        fit(options)
    make_run(pooling="pooler,mean")
    assert len(fit(options)["heads"]) == 2


def test_unlabelled_runs_and_folders_that_are_no_run_are_refused(make_run: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("text\nhello\n")
    make_run(data=str(path), corpus={"labelled": False})
    with pytest.raises(DataError, match="--label"):
        fit(FitOptions(run=tmp_path / "run"))
    with pytest.raises(RunNotFound, match="frozenhead embed"):
        fit(FitOptions(run=tmp_path / "nowhere"))


def test_a_head_is_replaced_whole_or_not_at_all(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = FitOptions(run=run, heads=("logreg",), features=("tiny-bert.mean",))
    fit(options)
    before = {p.name: p.read_bytes() for p in head_folder(run, "logreg").iterdir()}

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("frozenhead.commands.keeping.save_head", fail)
    with pytest.raises(KeyboardInterrupt):
        fit(FitOptions(run=run, heads=("logreg",), class_weight="none"))
    assert {p.name: p.read_bytes() for p in head_folder(run, "logreg").iterdir()} == before
    assert [p.name for p in head_folder(run, "logreg").parent.iterdir()] == ["logreg"]


def test_a_kill_between_the_two_renames_leaves_the_old_head(run: Path) -> None:
    fit(FitOptions(run=run, heads=("logreg",), features=("tiny-bert.mean",)))
    folder = head_folder(run, "logreg")
    shutil.move(folder, folder.parent / ".old-logreg")
    (stored,) = Run.open(run).heads()
    assert (stored.head, stored.feature) == ("logreg", "tiny-bert.mean")
    assert stored.metrics()["val"]["rows"] > 0


def test_a_spoilt_head_file_is_noticed(run: Path) -> None:
    fit(FitOptions(run=run, heads=("logreg",), features=("tiny-bert.mean",)))
    (head_folder(run, "logreg") / "metrics.json").write_text("{")
    with pytest.raises(RunDamaged, match="frozenhead fit"):
        Run.open(run).heads()[0].metrics()


def test_jobs_change_nothing_but_time(run: Path) -> None:
    one = fit(FitOptions(run=run, heads=("dense", "logreg"), sets=QUICK))
    two = fit(FitOptions(run=run, heads=("dense", "logreg"), sets=QUICK, jobs=2, refit=True))
    for a, b in zip(one["heads"], two["heads"], strict=True):
        assert {**a, "fit_seconds": 0} == {**b, "fit_seconds": 0}
