"""What `fit` stores of a head, when it trains none again, and how it decides."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from frozenhead.cache import Space, VectorCache
from frozenhead.cache.shard import encode_shard, shard_name
from frozenhead.commands import fitting, keeping
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.keeping import Keeper
from frozenhead.commands.predict import PredictOptions
from frozenhead.commands.report import report
from frozenhead.embedder import Embedder
from frozenhead.errors import CacheDamaged, DataError, UsageError
from frozenhead.heads import DenseHead, LogisticHead, ShuffledHead, load_head
from frozenhead.report.metrics import confusion_matrix as table_of
from frozenhead.runs import Run
from tests.commands.conftest import make_table
from tests.commands.fits import (
    FEATURE,
    Trained,
    change_corpus,
    fit_small,
    folder_of,
    predicted,
    read,
    rows_of,
    vectors_of,
)
from tests.test_cli import Command, commands


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    return Trained(monkeypatch)


@pytest.fixture
def frozenhead(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`frozenhead WORDS` in this process."""
    with commands(capfd, monkeypatch) as run:
        yield run


# Which heads are known


def test_a_head_stored_just_so_is_not_trained_again_unless_told_to(run: Path, trained: Trained) -> None:
    options = FitOptions(run=run, heads=("all",), sets=("epochs=2", "dense.hidden=8"))
    first = fit(options)
    assert all(not one["known"] for one in first["heads"])
    trained.take()
    again = fit(options)
    assert trained.take() == []
    assert again["heads"] == [{**one, "known": True} for one in first["heads"]]
    fit_small(run, heads=("logreg",), refit=True)
    assert [len(heads) for heads in trained.take()] == [1]


def test_a_stopped_fit_keeps_the_heads_that_were_finished_and_goes_on_with_the_rest(
    run: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("centroid", "ridge", "softmax")

    def stop_at_softmax(self: Keeper, head: Any, *args: Any, **given: Any) -> Any:
        if given["name"] == "softmax":
            raise KeyboardInterrupt
        return keep(self, head, *args, **given)

    keep = Keeper.keep
    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "keep", stop_at_softmax)
        with pytest.raises(KeyboardInterrupt):
            fit(FitOptions(run=run, heads=names, features=(FEATURE,)))
    trained.take()
    result = fit(FitOptions(run=run, heads=names, features=(FEATURE,)))
    assert [one["known"] for one in result["heads"]] == [True, True, False]
    assert [type(head).__name__ for heads in trained.take() for head in heads] == ["SoftmaxHead"]


def weights_file(run: Path) -> str:
    path = run.parent / "weights.json"
    path.write_text('{"ham": 1, "spam": 9}')
    return str(path)


def reword(corpus: pd.DataFrame) -> None:
    corpus.loc[corpus.index[0], "text"] += "!"


@pytest.mark.parametrize(
    "given",
    [{"sets": ("lr=1e-2",)}, {"seed": 1}, {"class_weight": "none"}, {"calibrate": "none"}, {"threshold": "f1"}],
    ids=str,
)  # fmt: skip
def test_another_option_is_another_head(run: Path, trained: Trained, given: dict[str, Any]) -> None:
    fit_small(run)
    trained.take()
    fit_small(run, **given)
    assert len(trained.take()) == 1
    fit_small(run, **given)
    assert trained.take() == []


def test_other_class_weights_thresholds_and_positives_are_another_head(run: Path, trained: Trained) -> None:
    file = weights_file(run)
    fit_small(run, class_weight=file)
    fit_small(run, class_weight=file)
    assert len(trained.take()) == 1
    Path(file).write_text('{"ham": 1, "spam": 8}')
    fit_small(run, class_weight=file)
    assert len(trained.take()) == 1
    for given in (
        {"threshold": "costs:1:2"},
        {"threshold": "costs:1:3"},
        {"threshold": "costs:1:3", "positive": "ham"},
    ):
        fit_small(run, **given)
        assert len(trained.take()) == 1


def test_another_corpus_space_or_version_is_another_head(
    run: Path, make_run: Callable[..., Any], trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_small(run, heads=("centroid",))
    change_corpus(run, reword)
    fit_small(run, heads=("centroid",))
    assert len(trained.take()) == 2
    monkeypatch.setattr(keeping, "_versions", lambda: {"torch": "99"})
    fit_small(run, heads=("centroid",))
    assert len(trained.take()) == 1
    record = Run.open(run).features()["tiny-bert.pooler"]
    Run.open(run).write_feature(FEATURE, record)  # another space under the same name
    fit_small(run, heads=("centroid",))
    assert len(trained.take()) == 1


def test_views_make_another_head_than_eval_mode_vectors(make_run: Callable[..., Any], trained: Trained) -> None:
    run = Path(make_run(pooling="mean", views=2)["run"])
    plain = fit_small(run)
    viewed = fit_small(run, views=True)
    assert viewed["val_before"] != plain["val_before"]
    assert read(run, "head.json")["views"] == 2
    assert len(trained.take()) == 2
    fit_small(run, views=True)
    assert trained.take() == []
    searched = fit_small(run, views=True, grids=("lr=1e-3,1e-2",))["search"]
    assert searched["heads"][0]["val"]["log_loss"] == pytest.approx(viewed["val_before"]["log_loss"], rel=1e-6)


def test_views_without_views_say_how_to_make_them(run: Path) -> None:
    with pytest.raises(UsageError, match=r"has no dropout views[\s\S]*--views"):
        fit_small(run, views=True)
    for given in ({"heads": ("dense", "logreg")}, {"curve": True}):
        with pytest.raises(UsageError, match="--views"):
            FitOptions(run=run, views=True, **given)


@pytest.mark.parametrize(
    "file", ["head.json", "weights.safetensors", "history.jsonl", "predictions.parquet", "metrics.json"]
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_head_is_trained_anew(run: Path, trained: Trained, file: str, damage: str) -> None:
    fit_small(run)
    path = folder_of(run) / file
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-3])
    else:
        path.unlink()
    trained.take()
    assert not fit_small(run)["known"]
    assert len(trained.take()) == 1
    load_head(folder_of(run))
    if file != "head.json":  # which holds the seconds
        assert path.read_bytes() == whole


# Calibration and thresholds


def test_the_temperature_is_fitted_on_validation_stored_and_shown_beside_what_was_before(run: Path) -> None:
    result = fit_small(run)
    X, y = rows_of(run, "val")
    head = DenseHead(hidden=8, epochs=3, random_state=2018).fit(*rows_of(run, "train"), validation=(X, y))
    before = head.predict_proba(X)
    head.calibrate(X, y)
    assert result["temperature"] == read(run, "head.json")["temperature"] == head.temperature_ != 1
    metrics = read(run, "metrics.json")
    assert metrics["val_before"]["log_loss"] == pytest.approx(log_loss(y, before), rel=1e-12)
    assert metrics["val"]["log_loss"] == pytest.approx(log_loss(y, head.predict_proba(X)), rel=1e-12)
    assert metrics["val"]["log_loss"] <= metrics["val_before"]["log_loss"]
    assert fit_small(run, calibrate="none")["temperature"] == 1


@pytest.mark.parametrize("given", [{"threshold": "f1"}, {"threshold": "recall:0.99", "positive": "ham"}], ids=str)
def test_what_is_stored_and_reported_of_a_threshold_is_what_scikit_learn_says(run: Path, given: dict[str, Any]) -> None:
    result = fit_small(run, heads=("logreg",), **given)
    head = LogisticHead().fit(*rows_of(run, "train")).calibrate(*rows_of(run, "val"))
    rule = {"by": "f1"} if given["threshold"] == "f1" else {"by": "recall", "floor": 0.99, "positive": "ham"}
    head.set_threshold(*rows_of(run, "val"), **rule)
    assert head.threshold_
    assert result["threshold"]["value"] == head.threshold_.value
    assert result["threshold"]["positive"] == given.get("positive", "spam")
    table = pd.read_parquet(folder_of(run, "logreg") / "predictions.parquet")
    assert table["predicted"].tolist() == head.predict(vectors_of(run)[table["row"]]).tolist()
    [entry] = report(run)["heads"]
    assert entry["threshold"] == result["threshold"]
    for split in ("val", "test"):
        part = table[table["split"] == split]
        for block in (entry[split], read(run, "metrics.json", "logreg")[split]):
            assert block["accuracy"] == pytest.approx(accuracy_score(part["label"], part["predicted"]))
            assert block["macro_f1"] == pytest.approx(f1_score(part["label"], part["predicted"], average="macro"))
            assert table_of(block, 2).tolist() == confusion_matrix(part["label"], part["predicted"]).tolist()


def test_a_threshold_goes_through_the_command_line_into_predict(
    run: Path, tmp_path: Path, tiny_folder: Path, frozenhead: Command
) -> None:
    def mostly_spam(corpus: pd.DataFrame) -> None:
        corpus.loc[corpus.index[corpus["split"] == "val"][1:], "label"] = "spam"

    change_corpus(run, mostly_spam)  # so that the threshold is far from a half
    words = ("fit", run, "--head", "logreg", "--features", FEATURE, "--threshold", "costs:1:1000", "--positive", "spam")
    done = frozenhead(*words)
    assert done.returncode == 0, done.stderr
    assert "threshold" in done.stdout
    assert "->" in done.stdout  # before and after
    told = json.loads(frozenhead(*words, "--json").stdout)["heads"][0]
    assert told["known"]
    cut = told["threshold"]["value"]
    new = make_table(60, seed=5).drop(columns="label")
    new.to_csv(tmp_path / "new.csv", index=False)
    done = frozenhead("predict", run, tmp_path / "new.csv", "--device", "cpu", "-o", tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    out = pd.read_csv(tmp_path / "out.csv")
    head = load_head(folder_of(run, "logreg"))
    vectors = Embedder(tiny_folder, pooling="mean", device="cpu").transform(new["text"])
    np.testing.assert_allclose(out["prob_spam"], head.predict_proba(vectors)[:, 1], atol=1e-6)
    assert out["predicted"].tolist() == np.where(out["prob_spam"] >= cut, "spam", "ham").tolist()
    assert cut < 0.5
    assert out["predicted"].tolist() != np.where(out["prob_spam"] >= 0.5, "spam", "ham").tolist()


def test_floors_stay_as_they_are_trained(run: Path) -> None:
    result = fit(
        FitOptions(run=run, heads=("majority", "shuffled"), features=(FEATURE,), sets=("epochs=2",), threshold="f1")
    )
    for one in result["heads"]:
        assert (one["temperature"], one["threshold"]) == (1.0, None)
        assert one["val"] == one["val_before"]
    X, y = rows_of(run, "train")
    alone = ShuffledHead(epochs=2, random_state=2018).fit(X, y, validation=rows_of(run, "val"))
    np.testing.assert_array_equal(load_head(folder_of(run, "shuffled")).predict_proba(X), alone.predict_proba(X))


def test_a_floor_that_no_threshold_reaches_is_told_of_and_other_heads_are_kept(run: Path, frozenhead: Command) -> None:
    def swap(corpus: pd.DataFrame) -> None:
        """Labels of validation that no head can tell apart: each text once as ham and once as spam."""
        val = corpus.index[corpus["split"] == "val"]
        corpus.loc[val, "label"] = ["ham", "spam"] * (len(val) // 2) + ["ham"] * (len(val) % 2)

    change_corpus(run, swap)
    result = fit(FitOptions(run=run, heads=("centroid", "majority"), features=(FEATURE,), threshold="precision:1"))
    assert [one["head"] for one in result["heads"]] == ["majority"]
    assert "No threshold reaches precision >= 1" in result["failed"][0]["error"]
    done = frozenhead("fit", run, "--head", "centroid", "--features", FEATURE, "--threshold", "precision:1")
    assert done.returncode == 3
    assert "the best precision on these rows" in done.stderr


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"threshold": "precison:0.9"}, r"did you mean 'precision'"),
        ({"threshold": "precision"}, r"precision:0\.95"),
        ({"threshold": "precision:high"}, r"precision:0\.95"),
        ({"threshold": "precision:1.5"}, "at most 1"),
        ({"threshold": "costs:1"}, "costs:1:10"),
        ({"threshold": "costs:-1:2"}, "not negative"),
        ({"threshold": "f1:0.5"}, "such as f1"),
        ({"positive": "spam"}, "--threshold"),
        ({"calibrate": "platt"}, "temperature or none"),
        ({"seeds": 0}, "--seeds is 0"),
        ({"halving": True}, "--grid or --seeds"),
        ({"halving": True, "seeds": 4, "heads": ("dense", "logreg")}, "leave out logreg"),
    ],
)
def test_wrong_options_are_wrong_usage_before_anything_is_read(given: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        FitOptions(run=Path("nowhere"), **given)


def test_a_threshold_for_a_wrong_class_or_for_three_is_refused_before_training(
    run: Path, make_run: Callable[..., Any], tmp_path: Path, trained: Trained
) -> None:
    with pytest.raises(UsageError, match=r"--positive is 'spm' \(did you mean 'spam'\?\); the classes are ham, spam"):
        fit_small(run, threshold="f1", positive="spm")
    three = make_table()
    three.loc[three.index % 4 == 0, "label"] = "eggs"
    three.to_csv(tmp_path / "three.csv", index=False)
    other = Path(make_run(data=str(tmp_path / "three.csv"), out=tmp_path / "three", pooling="mean")["run"])
    with pytest.raises(UsageError, match="two classes apart; this run has 3"):
        fit_small(other, threshold="f1")
    assert trained.take() == []


# Bad input


def poisoned(run: Path, value: float, row: int) -> Path:
    """Put a shard with a vector that is not finite into the place of the run's; its path."""
    opened = Run.open(run)
    record = opened.features()[FEATURE]
    store = VectorCache().space(Space.from_dict(record["identity"]))
    [(keys, vectors, tokens)] = list(store.rows(record["shards"]))
    vectors = vectors.copy()
    key = np.frombuffer(opened.corpus()["key"][row], np.uint8)
    vectors[(keys == key).all(axis=1), 3] = value
    parts = encode_shard(store.space, keys, vectors, tokens)
    path = store.shard(shard_name(*parts))
    path.write_bytes(b"".join(bytes(part) for part in parts))
    store.shard(record["shards"][0]).unlink()
    opened.write_feature(FEATURE, {**record, "shards": [path.stem]})
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_named_by_row_and_shard_and_embed_heals_it(
    run: Path, make_run: Callable[..., Any], frozenhead: Command, value: float
) -> None:
    keys = Run.open(run).corpus()["key"].tolist()
    row = next(i for i in range(100, 0, -1) if keys.index(keys[i]) == i)  # no copy stands before it
    path = poisoned(run, value, row)
    done = frozenhead("fit", run, "--features", FEATURE)
    assert done.returncode == CacheDamaged.exit_code == 5
    assert f"row {row} in {FEATURE} holds NaN or infinity" in done.stderr
    assert str(path) in done.stderr
    path.unlink()
    make_run(pooling="pooler,mean")
    assert fit_small(run)["val"]


def test_a_class_without_a_training_row_is_bad_data(run: Path, trained: Trained) -> None:
    change_corpus(run, lambda corpus: corpus.update(corpus["split"].where(corpus["label"] != "spam", "test")))
    with pytest.raises(DataError, match=r"training split lacks a class[\s\S]*'spam'"):
        fit_small(run)
    assert trained.take() == []


def test_a_class_of_one_row_trains_every_head_or_says_why_not(run: Path) -> None:
    def one_spam(corpus: pd.DataFrame) -> None:
        spam = corpus.index[(corpus["label"] == "spam") & (corpus["split"] == "train")]
        corpus.loc[spam[1:], "split"] = "test"

    change_corpus(run, one_spam)
    result = fit(FitOptions(run=run, heads=("all",), features=(FEATURE,), sets=("epochs=2", "dense.hidden=8", "k=3")))
    assert len(result["heads"]) + len(result["failed"]) == 10
    assert {"dense", "softmax", "logreg", "majority"} <= {one["head"] for one in result["heads"]}


def test_constant_vectors_are_trained_on_and_predict_one_thing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = vectors_of(run).shape
    monkeypatch.setattr("frozenhead.commands.gathering.FeatureRows.vectors", lambda _: np.ones(shape, np.float32))
    result = fit(FitOptions(run=run, heads=("dense", "softmax", "centroid", "ridge", "logreg", "knn"),
        features=(FEATURE,), sets=("epochs=2", "dense.hidden=8")))  # fmt: skip
    assert result["failed"] == []
    for one in result["heads"]:
        table = pd.read_parquet(folder_of(run, one["head"]) / "predictions.parquet")
        assert table["predicted"].nunique() == 1
        assert np.ptp(table["prob_spam"]) < 1e-12


def test_without_validation_rows_nothing_is_fitted_on_them(run: Path) -> None:
    change_corpus(run, lambda corpus: corpus.update(corpus["split"].replace("val", "test")))
    result = fit_small(run)
    assert (result["val"], result["val_before"], result["temperature"]) == (None, None, 1.0)
    assert result["best_epoch"] == 3


# What is printed


def test_json_is_complete_and_the_table_shows_every_setting(run: Path, frozenhead: Command) -> None:
    small = ("--features", FEATURE, "--set", "hidden=8")
    grids = ("--grid", "lr=1e-4,1e-3,1e30", "--grid", "epochs=1,2")
    words = ("fit", run, *small, *grids, "--seeds", "2", "--folds", "3")
    done = frozenhead(*words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"dense on {FEATURE}: 6 settings x 2 seeds, chosen by validation"
    assert lines[1].split()[:2] == ["lr", "epochs"]
    settings = [tuple(line.split()[:2]) for line in lines[2:] if line.strip()[:1] in "01" and "e" not in line[:1]]
    assert sorted(settings) == sorted((lr, n) for lr in ("0.0001", "0.001", "1e+30") for n in ("1", "2"))
    assert "chosen, seed" in lines[2]
    assert sum("2 failed: The loss is no longer finite" in line for line in lines) == 2
    assert "3 folds: accuracy" in done.stdout
    told = json.loads(frozenhead(*words, "--curve", "--json", "--set", "dropout=0").stdout)
    [one] = told["heads"]
    assert set(told) == {"run", "heads", "failed"}
    assert {
        "feature",
        "head",
        "known",
        "val",
        "val_before",
        "temperature",
        "threshold",
        "best_epoch",
        "fit_seconds",
    } < set(one)
    assert len(one["search"]["heads"]) == 6  # with a curve --seeds are those of its points
    assert len(one["folds"]["each"]) == 3
    assert len(one["curve"]["points"]) == 14


def test_a_long_search_is_refused_with_exit_code_2(
    run: Path, frozenhead: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "LONGEST_UNASKED", 0.0)
    done = frozenhead("fit", run, "--features", FEATURE, "--set", "hidden=8", "--set", "epochs=1", "--grid", "lr=1,2,3")
    assert done.returncode == 2
    assert "3 candidates of dense on tiny-bert.mean, about 1 s" in done.stderr
    assert "--yes" in done.stderr


def test_predict_takes_the_head_that_is_best_after_calibration(run: Path, tmp_path: Path) -> None:
    fit(FitOptions(run=run, heads=("logreg", "majority"), features=(FEATURE,), threshold="f1"))
    (tmp_path / "new.csv").write_text("text\nfree prize\n")
    assert predicted(PredictOptions(run=run, data=str(tmp_path / "new.csv"), device="cpu"))[0]["head"] == "logreg"
