"""`predict`: new texts, the same space, and output that a spreadsheet does not run."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.outputs import encode_table
from frozenhead.commands.predict import PredictOptions
from frozenhead.embedder import Embedder
from frozenhead.errors import DataError, HeadNotFound, RunDamaged, SpaceMismatch, UsageError
from frozenhead.files import canonical_json
from frozenhead.heads import load_head
from frozenhead.runs import Run
from tests.commands.fits import predicted

NEW = pd.DataFrame({"id": ["007", "NA", "3"], "text": ["win a prize", "the cat sat", "free call now"]})


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    NEW.to_csv(path, index=False)
    return path


@pytest.fixture
def trained(run: Path) -> Path:
    fit(FitOptions(run=run, heads=("dense", "logreg", "tfidf", "majority"), sets=("epochs=3",)))
    return run


def read(output: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(output), dtype={"id": str}, keep_default_na=False)


def edit_head(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change `head.json` as another version might have written it, its digest included."""
    content = json.loads((folder / "head.json").read_text())
    del content["digest"]
    change(content)
    content["digest"] = hashlib.sha256(canonical_json(content)).hexdigest()
    (folder / "head.json").write_text(json.dumps(content))


def test_predictions_are_those_of_the_loaded_head_on_embedded_texts(
    trained: Path, new: Path, tiny_folder: Path
) -> None:
    options = PredictOptions(run=trained, data=str(new), head="dense", feature="tiny-bert.mean", device="cpu")
    summary, output = predicted(options)
    table = read(output)
    head = load_head(trained / "heads" / "tiny-bert.mean" / "dense")
    vectors = Embedder(tiny_folder, pooling="mean", device="cpu").transform(NEW["text"])
    assert table["id"].tolist() == ["007", "NA", "3"]
    assert list(table.columns) == ["id", "text", "predicted", "prob_ham", "prob_spam"]
    np.testing.assert_allclose(table[["prob_ham", "prob_spam"]], head.predict_proba(vectors), rtol=1e-12)
    assert table["predicted"].tolist() == head.predict(vectors).tolist()
    assert summary["rows"] == 3


def test_layer_prefix_and_normalisation_of_the_run_are_those_of_new_texts(
    make_run: Callable[..., Any], new: Path, tiny_folder: Path
) -> None:
    given: dict[str, Any] = {"layer": -2, "prefix": "call now: ", "normalize": True}
    run = Path(make_run(pooling="mean", **given)["run"])
    fit(FitOptions(run=run, heads=("logreg",)))
    output = pd.read_csv(io.BytesIO(predicted(PredictOptions(run=run, data=str(new), device="cpu"))[1]))
    (stored,) = Run.open(run).heads()
    vectors = Embedder(tiny_folder, pooling="mean", device="cpu", **given).transform(output["text"])
    expected = load_head(stored.folder).predict_proba(vectors)
    np.testing.assert_allclose(output.filter(like="prob_").to_numpy(), expected, atol=1e-6)


def test_new_vectors_go_through_the_cache(trained: Path, new: Path) -> None:
    options = PredictOptions(run=trained, data=str(new), head="dense", feature="tiny-bert.mean", device="cpu")
    first, second = predicted(options)[0], predicted(options)[0]
    assert (first["computed"], second["computed"], second["cached"]) == (3, 0, 3)


def test_the_default_head_is_the_best_on_validation(trained: Path, new: Path) -> None:
    heads = Run.open(trained).heads()
    best = max(heads, key=lambda h: (h.metrics()["val"]["macro_f1"], -h.metrics()["val"]["log_loss"]))
    summary, _ = predicted(PredictOptions(run=trained, data=str(new), device="cpu"))
    assert (summary["head"], summary["feature"]) == (best.head, best.feature)


def test_a_head_folder_alone_is_enough(trained: Path, new: Path, tmp_path: Path) -> None:
    inside = PredictOptions(run=trained, data=str(new), head="dense", feature="tiny-bert.mean", device="cpu")
    shipped = Path(shutil.copytree(trained / "heads" / "tiny-bert.mean" / "dense", tmp_path / "shipped"))
    alone = PredictOptions(run=shipped, data=str(new), device="cpu")
    assert predicted(alone)[1] == predicted(inside)[1]


def test_a_head_refuses_vectors_of_another_checkpoint(
    trained: Path, new: Path, tmp_path: Path, make_checkpoint: Callable[..., Path]
) -> None:
    other = make_checkpoint(tmp_path / "other" / "tiny-bert", seed=1)
    edit_head(
        trained / "heads" / "tiny-bert.mean" / "dense", lambda content: content["encoder"].update(model=str(other))
    )
    with pytest.raises(SpaceMismatch, match=r"model\.safetensors"):
        predicted(PredictOptions(run=trained, data=str(new), head="dense", feature="tiny-bert.mean", device="cpu"))


def test_a_head_refuses_vectors_that_this_version_computes_otherwise(trained: Path, new: Path) -> None:
    edit_head(trained / "heads" / "tiny-bert.mean" / "dense", lambda content: content["space"].update(numbers_format=0))
    with pytest.raises(SpaceMismatch, match="numbers_format 0 instead of 1"):
        predicted(PredictOptions(run=trained, data=str(new), head="dense", feature="tiny-bert.mean", device="cpu"))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_holds_the_same_table(trained: Path, new: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    predicted(PredictOptions(run=trained, data=str(new), out=str(out), head="tfidf"))
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        "csv": lambda p: pd.read_csv(p, dtype={"id": str}, keep_default_na=False),
        "tsv": lambda p: pd.read_csv(p, sep="\t", dtype={"id": str}, keep_default_na=False),
        "jsonl": lambda p: pd.read_json(p, lines=True, dtype={"id": str}),
        "parquet": pd.read_parquet,
    }
    table = readers[suffix](out)
    assert table["id"].tolist() == ["007", "NA", "3"]
    np.testing.assert_allclose(table[["prob_ham", "prob_spam"]].sum(axis=1), 1, atol=1e-12)


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]
PLAIN = ["-5", "+3.5", "1=1", "", "text", "-1e-3"]


def test_cells_that_look_like_formulas_are_written_as_data() -> None:
    frame = pd.DataFrame({"=head": FORMULAS + PLAIN, "n": [-1.5] * 12})
    written = pd.read_csv(io.BytesIO(encode_table(frame, "csv", raw=False)), dtype=str, keep_default_na=False)
    assert list(written.columns) == ["'=head", "n"]
    assert written["'=head"].tolist() == [f"'{cell}" for cell in FORMULAS] + PLAIN
    assert set(written["n"]) == {"-1.5"}


@pytest.mark.parametrize(("kind", "raw"), [("csv", True), ("jsonl", False), ("parquet", False)])
def test_raw_output_and_other_formats_leave_them_be(kind: Any, raw: bool) -> None:
    data = io.BytesIO(encode_table(pd.DataFrame({"cell": FORMULAS}), kind, raw=raw))
    readers: dict[str, Callable[[Any], pd.DataFrame]] = {
        "csv": lambda d: pd.read_csv(d, lineterminator="\n"),
        "jsonl": lambda d: pd.read_json(d, lines=True),
        "parquet": pd.read_parquet,
    }
    assert readers[kind](data)["cell"].tolist() == FORMULAS


def test_a_label_that_is_a_formula_is_written_as_data(make_run: Callable[..., Any], tmp_path: Path, new: Path) -> None:
    path = tmp_path / "hostile.csv"
    rows = pd.DataFrame({"text": [f"win {i}" for i in range(20)] + [f"cat {i}" for i in range(20)]})
    rows["label"] = ["=HYPERLINK(1)"] * 20 + ["ok"] * 20
    rows.to_csv(path, index=False)
    run = Path(make_run(data=str(path))["run"])
    fit(FitOptions(run=run, heads=("tfidf",)))
    table = read(predicted(PredictOptions(run=run, data=str(new)))[1])
    assert set(table["predicted"]) <= {"'=HYPERLINK(1)", "ok"}


def test_what_would_be_overwritten_is_refused(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.csv"
    NEW.assign(predicted="x").to_csv(path, index=False)
    with pytest.raises(DataError, match="'predicted'"):
        predicted(PredictOptions(run=trained, data=str(path), head="tfidf"))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"head": "svm"}, HeadNotFound),
        ({"head": "tfidf", "feature": "tiny-bert.mean"}, HeadNotFound),
        ({"out": "table.xlsx"}, UsageError),
        ({"format": "xlsx"}, UsageError),
        ({"text": "body"}, DataError),
    ],
)
def test_a_wrong_choice_is_refused(trained: Path, new: Path, given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        predicted(PredictOptions(run=trained, data=str(new), **given))


def test_a_run_without_heads_says_how_to_train_one(run: Path, new: Path) -> None:
    with pytest.raises(HeadNotFound, match="frozenhead fit"):
        predicted(PredictOptions(run=run, data=str(new)))


def test_a_spoilt_head_is_noticed(trained: Path, new: Path) -> None:
    (trained / "heads" / "text" / "tfidf" / "weights.safetensors").write_bytes(b"spoilt")
    with pytest.raises(RunDamaged, match="frozenhead fit"):
        predicted(PredictOptions(run=trained, data=str(new), head="tfidf"))


def test_what_was_changed_for_spreadsheets_is_counted(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "formulas.csv"
    pd.DataFrame({"text": ["=1+1", "the cat", "-5", "@bob"]}).to_csv(path, index=False)
    assert predicted(PredictOptions(run=trained, data=str(path), head="tfidf"))[0]["escaped_cells"] == 2
    assert predicted(PredictOptions(run=trained, data=str(path), head="tfidf", raw=True))[0]["escaped_cells"] == 0


def test_jsonl_keeps_every_digit(trained: Path, new: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "out.jsonl", tmp_path / "out.parquet"]
    for out in outs:
        predicted(PredictOptions(run=trained, data=str(new), out=str(out), head="tfidf"))
    lines = [json.loads(line)["prob_spam"] for line in outs[0].read_text().splitlines()]
    assert lines == pd.read_parquet(outs[1])["prob_spam"].tolist()


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_columns_that_a_format_cannot_hold_are_bad_data(kind: Any) -> None:
    frame = pd.DataFrame([["a", "b"]], columns=["", ""])
    with pytest.raises(DataError, match=kind):
        encode_table(frame, kind, raw=False)


def test_stray_files_among_the_heads_are_passed_over(trained: Path, new: Path) -> None:
    (trained / "heads" / "text" / ".DS_Store").write_text("")
    (trained / "heads" / "junk" / "x").mkdir(parents=True)
    assert "junk" not in {h.feature for h in Run.open(trained).heads()}
    assert predicted(PredictOptions(run=trained, data=str(new), head="tfidf"))[0]["rows"] == 3
