"""`report`: from the files of a run to its evidence."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from frozenhead.commands import report as commands_report
from frozenhead.commands.choosing import choose_head
from frozenhead.commands.comparing import compare_runs
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.report import ReportOptions, report
from frozenhead.commands.vectors import run_vectors
from frozenhead.errors import DataError, HeadNotFound, RunDamaged, UsageError
from frozenhead.runs import Run
from tests.commands.conftest import make_table
from tests.commands.fits import FEATURE, change_corpus, fit_small, folder_of, seal
from tests.report.test_schema import SCHEMA, problems

BLOCK = {"accuracy", "balanced_accuracy", "macro_f1", "log_loss", "per_class", "confusion"}


@pytest.fixture
def trained(run: Path) -> Path:
    fit(FitOptions(run=run, heads=("dense", "tfidf"), sets=("epochs=2",)))
    return run


def test_report_json_has_what_the_contract_names(trained: Path) -> None:
    evidence = report(trained)
    assert json.loads((trained / "report.json").read_text()) == evidence
    dataset = {"rows", "classes", "split_counts", "class_weights", "duplicates", "leakage", "truncation"}
    assert dataset <= set(evidence["dataset"])
    assert {"test_rows", "test_rows_in_train", "per_class"} <= set(evidence["dataset"]["leakage"])
    assert len(evidence["heads"]) == 3
    for head in evidence["heads"]:
        assert {"feature", "head", "val", "test", "test_without_leaks", "fit_seconds"} <= set(head)
        assert set(head["test"]) >= BLOCK
        for scores in head["test"]["per_class"].values():
            assert set(scores) >= {"precision", "recall", "f1", "support"}
    assert problems(evidence) == []


def test_scores_are_those_of_the_predictions_with_and_without_leaks(trained: Path) -> None:
    corpus = Run.open(trained).corpus()
    in_train = set(corpus[corpus["split"] == "train"]["text"])
    texts = corpus.set_index("row")["text"]
    for head in report(trained)["heads"]:
        path = trained / "heads" / head["feature"] / head["head"] / "predictions.parquet"
        test = pd.read_parquet(path).query("split == 'test'")
        clean = test[~test["row"].map(texts).isin(in_train).to_numpy()]
        assert 0 < len(clean) < len(test)
        for rows, block in ((test, head["test"]), (clean, head["test_without_leaks"])):
            assert block["rows"] == len(rows)
            assert block["accuracy"] == pytest.approx(accuracy_score(rows["label"], rows["predicted"]), abs=1e-12)
            macro = f1_score(rows["label"], rows["predicted"], average="macro", labels=["ham", "spam"], zero_division=0)
            assert block["macro_f1"] == pytest.approx(macro, abs=1e-12)


def test_the_page_stands_beside_and_asks_for_nothing(trained: Path) -> None:
    report(trained)
    page = (trained / "report.html").read_text()
    assert "tiny-bert.mean" in page
    assert "<svg" in page
    assert 'src="http' not in page


def test_vectors_serve_near_copies_neighbours_and_the_map(trained: Path) -> None:
    evidence = report(ReportOptions(run=trained, near=0.5))
    feature = next(h["feature"] for h in evidence["heads"] if h["feature"] != "text")
    assert evidence["vectors"] == {"feature": feature, "reason": None}
    assert evidence["copies"]["threshold"] == 0.5
    assert evidence["copies"]["splits"]["test"]["near"] >= report(trained)["copies"]["splits"]["test"]["near"]
    assert evidence["map"]["rows"] == evidence["dataset"]["rows"]
    assert all(len(row["neighbours"]) == 3 for row in evidence["mistakes"]["rows"])


def test_without_the_cache_the_report_is_made_and_says_what_to_run(trained: Path) -> None:
    record = next(iter(Run.open(trained).features().values()))
    shutil.rmtree(record["cache"])
    lines: list[str] = []

    class Voice:
        def say(self, line: str) -> None:
            lines.append(line)

        bar = staticmethod(silent_bar)

    evidence = report(trained, Voice())
    assert "frozenhead embed" in evidence["vectors"]["reason"]
    assert any("no near copies" in line for line in lines)
    assert evidence["map"] is None
    assert evidence["copies"]["splits"]["test"]["exact"] > 0
    assert "Near copies were not looked for" in (trained / "report.html").read_text()


def test_vectors_that_are_not_finite_are_left_out_and_their_shard_is_named(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(run: Run, record: Any, corpus: pd.DataFrame, *, name: str, cache_dir: Path | None) -> NDArray[Any]:
        found = run_vectors(run, record, corpus, name=name, cache_dir=cache_dir)
        found[5, 0] = np.nan
        return found

    monkeypatch.setattr(commands_report, "run_vectors", spoilt)
    evidence = report(trained)
    assert "row 5" in evidence["vectors"]["reason"]
    assert ".safetensors" in evidence["vectors"]["reason"]
    assert evidence["map"] is None


def silent_bar(title: str, *, unit: str) -> Any:
    from frozenhead.commands.voice import Silence

    return Silence().bar(title, unit=unit)


def test_folds_curve_and_search_stand_in_the_evidence(run: Path) -> None:
    fit_small(run, grids=("lr=0.01,0.001",), folds=2)
    fit_small(run, heads=("logreg",), curve=True, seeds=1)
    evidence = report(run)
    by_head = {entry["head"]: entry for entry in evidence["heads"]}
    folds = json.loads((folder_of(run) / "folds.json").read_text())
    assert by_head["dense"]["folds"]["scores"]["accuracy"] == folds["all"]["accuracy"]
    assert by_head["dense"]["folds"]["rows"] == 120
    search = json.loads((folder_of(run) / "search.json").read_text())
    assert [row["chosen"] for row in by_head["dense"]["search"]["rows"]].index(True) == search["best"]
    assert [p["share"] for p in by_head["logreg"]["curve"]["points"]] == [0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0]
    assert by_head["logreg"]["folds"] is None
    assert evidence["label_issues"]["head"] == "dense"
    assert problems(evidence) == []


@pytest.mark.parametrize("file", ["search.json", "folds.json", "curve.json", "folds.parquet"])
@pytest.mark.parametrize("damage", ["cut", "other", "empty"])
def test_a_damaged_file_beside_a_head_is_named(run: Path, file: str, damage: str) -> None:
    fit_small(run, grids=("lr=0.01,0.001",), folds=2)
    fit_small(run, heads=("logreg",), curve=True, seeds=1)
    path = folder_of(run, "logreg" if file == "curve.json" else "dense") / file
    spoilt = {"cut": path.read_bytes()[:40], "other": b'{"format": 1}', "empty": b""}
    path.write_bytes(spoilt[damage])
    with pytest.raises(RunDamaged, match=file):
        report(run)


def without(name: str, *path: str | int) -> Callable[[Any], None]:
    """Take a field out of a JSON value."""

    def spoil(content: Any) -> None:
        for step in path:
            content = content[step]
        del content[name]

    return spoil


def other_format(content: Any) -> None:
    content["format"] = 9


def best_of_none(content: Any) -> None:
    content["best"] = 2


@pytest.mark.parametrize(
    ("file", "spoil"),
    [
        ("search.json", without("macro_f1", "heads", 1, "val")),
        ("search.json", without("options", "heads", 1)),
        ("search.json", without("halving")),
        ("search.json", best_of_none),
        ("search.json", other_format),
        ("folds.json", without("log_loss", "all")),
        ("folds.json", without("seed")),
        ("folds.json", other_format),
        ("curve.json", without("accuracy", "points", 3, "val")),
        ("curve.json", without("share", "points", 3)),
        ("curve.json", other_format),
    ],
)
def test_a_file_that_lacks_what_the_report_shows_is_named(
    with_extras: Path, tmp_path: Path, file: str, spoil: Callable[[Any], None]
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(with_extras, run)
    path = folder_of(run, "logreg" if file == "curve.json" else "dense") / file
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RunDamaged, match=rf"{file} is damaged"):
        report(run)


@pytest.fixture
def with_extras(run: Path) -> Path:
    """A run whose heads have a search, folds and a curve."""
    fit_small(run, grids=("lr=0.01,0.001",), folds=2)
    fit_small(run, heads=("logreg",), curve=True, seeds=1)
    return run


def test_folds_of_another_corpus_are_refused(run: Path) -> None:
    pytest.importorskip("cleanlab")
    fit_small(run, folds=2)
    path = folder_of(run) / "folds.parquet"
    table = pd.read_parquet(path)
    table.iloc[1:].to_parquet(path)
    with pytest.raises(RunDamaged, match=rf"folds of dense on {FEATURE}.*119 rows"):
        report(run)


def test_predictions_of_another_corpus_are_refused(trained: Path) -> None:
    path = trained / "heads" / "text" / "tfidf" / "predictions.parquet"
    table = pd.read_parquet(path)
    table["label"] = np.roll(table["label"].to_numpy(), 1)
    table.to_parquet(path)
    seal(path.parent)
    with pytest.raises(RunDamaged, match=f"tfidf.*{path}"):
        report(trained)


def test_predictions_of_another_split_are_refused(trained: Path, make_run: Callable[..., Any], tmp_path: Path) -> None:
    other = Path(make_run(pooling="mean", out=tmp_path / "other", corpus={"seed": 7})["run"])
    fit(FitOptions(run=other, heads=("tfidf",)))
    shutil.copytree(other / "heads" / "text" / "tfidf", trained / "heads" / "text" / "tfidf", dirs_exist_ok=True)
    with pytest.raises(RunDamaged, match=r"predictions\.parquet.*do not belong to this run: row \d+"):
        report(trained)


@pytest.mark.parametrize("value", [0.9, float("nan"), -0.1])
def test_what_is_no_probability_is_refused_with_its_file(trained: Path, value: float) -> None:
    path = folder_of(trained) / "predictions.parquet"
    table = pd.read_parquet(path)
    table.loc[3, ["prob_ham", "prob_spam"]] = value
    table.to_parquet(path)
    seal(path.parent)
    with pytest.raises(RunDamaged, match=rf"{path}\).*row \d+ does not hold probabilities"):
        report(trained)


def test_a_head_of_other_classes_is_refused(trained: Path, make_run: Callable[..., Any], tmp_path: Path) -> None:
    table = make_table().assign(label=lambda t: t["label"].map({"ham": "ham", "spam": "junk"}))
    table.to_csv(tmp_path / "other.csv", index=False)
    other = Path(make_run(data=str(tmp_path / "other.csv"), pooling="mean", out=tmp_path / "other")["run"])
    fit(FitOptions(run=other, heads=("tfidf",)))
    shutil.copytree(other / "heads" / "text" / "tfidf", trained / "heads" / "text" / "tfidf", dirs_exist_ok=True)
    with pytest.raises(RunDamaged, match=r"tfidf holds another head: `classes` is .*junk"):
        report(trained)


def test_an_edited_corpus_is_refused(trained: Path) -> None:
    path = trained / "corpus.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "text"] = "edited"
    table.to_parquet(path)
    with pytest.raises(RunDamaged, match=r"corpus\.parquet is damaged \(its bytes changed\)"):
        report(trained)


def test_three_test_rows_and_a_class_without_any_are_judged(run: Path) -> None:
    def few(corpus: pd.DataFrame) -> None:
        test = corpus.index[corpus["split"] == "test"]
        ham = [row for row in test if corpus["label"][row] == "ham"]
        corpus.loc[[row for row in test if row not in ham[:3]], "split"] = "train"

    change_corpus(run, few)
    fit(FitOptions(run=run, heads=("centroid", "tfidf")))
    evidence = report(run)
    assert evidence["heads"][0]["test"]["rows"] == 3
    assert evidence["heads"][0]["test"]["per_class"]["spam"]["support"] == 0
    assert evidence["heads"][0]["test"]["roc_auc"] is None
    assert problems(evidence) == []


def test_nothing_to_report_says_what_to_do(run: Path, make_run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(HeadNotFound, match=f"Run `frozenhead fit {run}` first"):
        report(run)
    plain = tmp_path / "plain.csv"
    plain.write_text("text\nhello\n")
    unlabelled = make_run(data=str(plain), out=tmp_path / "plain", corpus={"labelled": False})
    with pytest.raises(DataError, match="unlabelled"):
        report(Path(unlabelled["run"]))


def test_errors_are_written_as_a_table_that_no_spreadsheet_runs(run: Path, tmp_path: Path) -> None:
    def formulas(corpus: pd.DataFrame) -> None:
        corpus["text"] = "=1+" + corpus["text"].astype(str)

    change_corpus(run, formulas)
    fit(FitOptions(run=run, heads=("majority",)))
    evidence = report(ReportOptions(run=run, errors=tmp_path / "errors.csv"))
    table = pd.read_csv(tmp_path / "errors.csv")
    assert len(table) == evidence["mistakes"]["total"] > 0
    assert list(table.columns) == [
        "row", "split", "text", "truth", "predicted", "probability", "of_truth", "wrong_heads", "copy",
    ]  # fmt: skip
    assert table["text"].str.startswith("'=1+").all()
    assert set(table["truth"]) == {"spam"}
    report(ReportOptions(run=run, errors=tmp_path / "errors.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == table["row"].tolist()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"near": 0.0}, "expected a cosine above 0"),
        ({"near": float("nan")}, "expected a cosine above 0"),
        ({"errors": Path("no/such/folder/errors.csv")}, "there is no folder no/such/folder"),
        ({"errors": Path("errors.xlsx")}, r"must end in \.csv"),
        ({"errors": Path("-")}, "standard output is for the report"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(given: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        ReportOptions(run=Path("run"), **given)


@pytest.fixture
def two_runs(trained: Path, make_run: Callable[..., Any], tmp_path: Path) -> list[Path]:
    """Two runs of the same rows, with other heads."""
    other = Path(make_run(pooling="mean", out=tmp_path / "other")["run"])
    fit(FitOptions(run=other, heads=("logreg", "centroid")))
    return [trained, other]


def test_runs_of_the_same_rows_are_compared_and_left_as_they_are(two_runs: list[Path], tmp_path: Path) -> None:
    before = [sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) for run in two_runs]
    evidence = compare_runs(two_runs, out=tmp_path / "both")
    assert [sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) for run in two_runs] == before
    assert json.loads((tmp_path / "both" / "report.json").read_text()) == evidence
    assert (tmp_path / "both" / "report.md").read_text().startswith("## 2 runs on the same")
    assert len(evidence["heads"]) == 5
    validator = Draft202012Validator({"$ref": "#/$defs/runs", "$defs": SCHEMA["$defs"]})
    assert [error.message for error in validator.iter_errors(evidence)] == []
    assert evidence["selection"]["by"] == "validation"


def test_runs_of_other_rows_or_named_twice_are_refused(
    two_runs: list[Path], make_run: Callable[..., Any], tmp_path: Path
) -> None:
    other = Path(make_run(pooling="mean", out=tmp_path / "seed", corpus={"seed": 7})["run"])
    fit(FitOptions(run=other, heads=("centroid",)))
    with pytest.raises(DataError, match=r"Row \d+ of .* is not among the test rows of"):
        compare_runs([two_runs[0], other])
    with pytest.raises(UsageError, match="are one run"):
        compare_runs([two_runs[0], two_runs[0].parent / "." / two_runs[0].name])
    with pytest.raises(UsageError, match="is a run"):
        compare_runs(two_runs, out=two_runs[0])
    with pytest.raises(UsageError, match="is a file"):
        compare_runs(two_runs, out=two_runs[0] / "run.json")


@pytest.mark.parametrize("file", ["predictions.parquet", "metrics.json", "history.jsonl"])
@pytest.mark.parametrize("command", [report, lambda run: choose_head(Run.open(run))])
def test_a_file_of_a_head_that_fit_did_not_write_is_refused(
    trained: Path, file: str, command: Callable[[Path], Any]
) -> None:
    path = folder_of(trained) / file
    path.write_bytes(path.read_bytes() + b" ")
    repair = f"Run `frozenhead fit {trained} --features {FEATURE} --head dense --refit`."
    with pytest.raises(RunDamaged) as altered:
        command(trained)
    assert str(altered.value) == f"{path} was altered after it was written. {repair}"
    path.unlink()
    with pytest.raises(RunDamaged) as missing:
        command(trained)
    assert str(missing.value) == f"{path} is missing. {repair}"


@pytest.mark.parametrize("place", [("dense", FEATURE), ("tfidf", "text")])
def test_the_command_that_repairs_a_head_trains_that_head_and_no_other(trained: Path, place: tuple[str, str]) -> None:
    lost = folder_of(trained, *place) / "predictions.parquet"
    lost.unlink()
    with pytest.raises(RunDamaged) as caught:
        report(trained)
    words = shlex.split(str(caught.value).split("`")[1])
    asked = {"--head": place[0]} | ({"--features": place[1]} if place[1] != "text" else {})
    assert words[:3] == ["frozenhead", "fit", str(trained)]
    assert words[-1] == "--refit"
    assert dict(zip(words[3:-1:2], words[4:-1:2], strict=True)) == asked
    before = {path: path.stat().st_mtime_ns for path in trained.glob("heads/*/*/*") if path.parent != lost.parent}
    sets = ("epochs=2",) if place[0] == "dense" else ()
    features = ("all",) if place[1] == "text" else (place[1],)
    fit(FitOptions(run=trained, heads=(place[0],), features=features, refit=True, sets=sets))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(report(trained)["heads"]) == len(list(trained.glob("heads/*/*")))


@pytest.mark.parametrize(
    ("source", "place", "what"),
    [
        (("tfidf", "text"), ("majority", "text"), "another head: `head` is 'tfidf', expected 'majority'"),
        (("dense", FEATURE), ("dense", "tiny-bert.max"), "another head: `feature` is 'tiny-bert.mean'"),
    ],
)
@pytest.mark.parametrize("command", [report, lambda run: choose_head(Run.open(run))])
def test_a_head_in_the_place_of_another_is_refused(
    trained: Path, source: tuple[str, str], place: tuple[str, str], what: str, command: Callable[[Path], Any]
) -> None:
    target = folder_of(trained, *place)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder_of(trained, *source), target)
    with pytest.raises(RunDamaged, match=what):
        command(trained)


def test_a_report_keeps_the_command_line_that_makes_it(trained: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a run; it's odd"
    options = ReportOptions(run=odd, near=0.9, errors=tmp_path / "e.csv", cache_dir=tmp_path / "the cache")
    assert shlex.split(options.command) == [
        "frozenhead", "report", str(odd), "--near", "0.9", "--errors", str(tmp_path / "e.csv"),
        "--cache-dir", str(tmp_path / "the cache"),
    ]  # fmt: skip
    assert ReportOptions(run=Path("run")).command == "frozenhead report run"
    assert report(trained)["run"]["report_command"] == shlex.join(["frozenhead", "report", str(trained)])
