"""`frozenhead report` as a user types it: formats, options, several runs, exit codes."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from frozenhead.commands.embed import embed
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.options import embed_options
from tests.commands.conftest import make_table
from tests.commands.fits import seal
from tests.test_cli import Command, commands


@pytest.fixture
def report(made: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`frozenhead report WORDS` in this process, among the runs."""
    monkeypatch.chdir(made)
    with commands(capfd, monkeypatch) as run:
        yield lambda *words: run("report", *words)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder of runs: `one` and `two` hold the same rows, `other` is split by another seed, `bare` has no head."""
    folder = tmp_path_factory.mktemp("runs")
    make_table().to_csv(folder / "texts.csv", index=False)
    for name, seed in (("one", None), ("two", None), ("other", 7), ("bare", None)):
        embed(
            embed_options(
                data=str(folder / "texts.csv"), out=folder / name, recipe=None, model=str(tiny_folder), pooling="mean",
                max_length=None, precision=None, backend="auto", device="cpu", cache_dir=folder / "cache",
                corpus={"split": None, "seed": seed},
            )
        )  # fmt: skip
        if name != "bare":
            fit(FitOptions(run=folder / name, heads=("centroid", "tfidf") if name == "one" else ("centroid",)))
    return folder


def test_every_format_goes_to_standard_output_and_nothing_else_does(report: Command, made: Path) -> None:
    table, as_json, again, markdown = (
        report("one", *words, "--quiet") for words in ((), ("--json",), ("--format", "json"), ("--markdown",))
    )
    for done in (table, as_json, again, markdown):
        assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(as_json.stdout) == json.loads(again.stdout) == json.loads((made / "one/report.json").read_text())
    assert markdown.stdout.startswith("## ")
    assert "Selected by macro F1" in table.stdout
    spoken = report("one", "--format", "markdown")
    assert spoken.stdout == markdown.stdout
    assert "wrote one/report.html and one/report.json" in spoken.stderr


@pytest.mark.parametrize(
    ("words", "code", "found"),
    [
        (("one", "--format", "klingon"), 2, r"--format is 'klingon'; expected table, json, markdown"),
        (("one", "--format", "markdwn"), 2, r"did you mean 'markdown'\?"),
        (("one", "--json", "--markdown"), 2, "one format; json and markdown were asked for"),
        (("one", "--near", "2"), 2, "threshold of near copies is 2.0; expected a cosine above 0"),
        (("one", "--near", "close"), 2, "near"),
        (("one", "--errors", "no/where/errors.csv"), 2, "there is no folder no/where"),
        (("one", "--out", "both"), 2, "--out is for several runs"),
        (("one", "two", "--errors", "errors.csv"), 2, "--errors is for the report of one run"),
        (("one", "two", "--near", "0.9"), 2, "--near is for the report of one run"),
        (("one", "one"), 2, "one and one are one run"),
        (("nowhere",), 2, "nowhere is not a run"),
        (("one", "other"), 3, r"Row \d+ of one .* is not\s+among the test rows of other"),
        (("bare",), 4, r"no trained head.*frozenhead fit"),
        (("one", "bare"), 4, "bare has no trained head. Run `frozenhead fit bare` first"),
    ],
)
def test_what_cannot_be_is_told_in_three_lines(report: Command, words: tuple[str, ...], code: int, found: str) -> None:
    done = report(*words)
    assert done.returncode == code, done.stderr
    assert re.search(found, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if code != 2:
        assert len(done.stderr.splitlines()) <= 3


def test_damage_is_exit_5_and_names_the_file(
    report: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / "one", tmp_path / "one")
    path = tmp_path / "one" / "heads" / "text" / "tfidf" / "predictions.parquet"
    table = pd.read_parquet(path)
    table.assign(prob_ham=0.9, prob_spam=0.9).to_parquet(path)
    seal(path.parent)
    done = report("one")
    assert done.returncode == 5
    assert "one/heads/text/tfidf/predictions.parquet" in done.stderr
    assert "they add up to 1.8" in done.stderr
    (tmp_path / "one" / "corpus.parquet").write_bytes(b"other")
    done = report("one")
    assert (done.returncode, "corpus.parquet" in done.stderr) == (5, True)


def test_an_edited_corpus_and_predictions_of_another_split_are_exit_5(
    report: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copytree(made / "other/heads", tmp_path / "two/heads", dirs_exist_ok=True)
    corpus = pd.read_parquet("one/corpus.parquet")
    corpus.loc[0, "label"] = "spam" if corpus.loc[0, "label"] == "ham" else "ham"
    corpus.to_parquet("one/corpus.parquet", index=False)
    for name, found in (
        ("one", r"one/corpus\.parquet is damaged \(its bytes changed\)"),
        ("two", r"centroid/predictions\.parquet\)? do(es)? not belong to this run: row \d+"),
    ):
        before = sorted(Path(name).rglob("*"))
        done = report(name)
        assert (done.returncode, done.stdout) == (5, "")
        assert re.search(found, " ".join(done.stderr.split())), done.stderr
        assert len(done.stderr.splitlines()) <= 3
        assert sorted(Path(name).rglob("*")) == before  # no report of what cannot be believed


def test_several_runs_are_compared_in_every_format(report: Command, made: Path) -> None:
    table = report("one", "two", "--quiet")
    assert (table.returncode, table.stderr) == (0, "")
    assert "Selected by macro F1 on the validation rows, which are the same too" in " ".join(table.stdout.split())
    assert "of two" in table.stdout
    found = json.loads(report("one", "two", "--json", "--out", "both").stdout)
    assert found == json.loads((made / "both" / "report.json").read_text())
    markdown = report("one", "two", "--markdown").stdout
    assert markdown == (made / "both" / "report.md").read_text()


def test_errors_are_written_beside(report: Command, made: Path) -> None:
    done = report("one", "--errors", "errors.csv")
    assert done.returncode == 0, done.stderr
    total = json.loads((made / "one" / "report.json").read_text())["mistakes"]["total"]
    assert len(pd.read_csv(made / "errors.csv")) == total
    assert f"wrote the {total} errors of the selected head to errors.csv" in done.stderr
