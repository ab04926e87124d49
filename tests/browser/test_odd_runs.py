"""Runs at the edge of what can be judged: the command does what it says, and the page that it leaves opens."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.browser.conftest import CHROMIUM, Opener, open_details
from tests.commands.conftest import make_table
from tests.test_cli import Command, commands

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome in PATH"),
]

MOST_BYTES = 3_000_000
Maker = Callable[..., Path]


@pytest.fixture
def frozenhead(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    with commands(capfd, monkeypatch) as run:
        yield run


@pytest.fixture
def make_run(frozenhead: Command, tiny_folder: Path, tmp_path: Path) -> Maker:
    """Embed and fit a table with a column `split`, by the commands."""

    def make(table: pd.DataFrame, heads: str) -> Path:
        table.to_csv(tmp_path / "texts.csv", index=False)
        words = ("--model", tiny_folder, "--pooling", "mean", "--device", "cpu", "--split-column", "split")
        run = tmp_path / "run"
        done = frozenhead("embed", tmp_path / "texts.csv", "--out", run, *words)
        assert done.returncode == 0, done.stderr
        done = frozenhead("fit", run, "--head", heads)
        assert done.returncode == 0, done.stderr
        return run

    return make


def judged_on(test: list[str]) -> pd.DataFrame:
    """Two classes for training and validation, and a test split of these labels."""
    table = make_table(60).assign(split=["train", "train", "val"] * 20)
    table.loc[::7, "split"] = "train"
    own = [f"{'win a free prize' if label == 'spam' else 'the cat sat'} {i} red" for i, label in enumerate(test)]
    return pd.concat([table, pd.DataFrame({"text": own, "label": test, "split": "test"})])


@pytest.mark.parametrize(
    "test", [["ham", "spam", "ham"], ["ham", "ham", "ham"], ["spam"], ["ham"] * 12], ids=lambda test: "-".join(test[:3])
)
def test_few_test_rows_and_absent_classes_are_reported_and_the_page_opens(
    opened: Opener, frozenhead: Command, make_run: Maker, test: list[str]
) -> None:
    run = make_run(judged_on(test), "centroid,tfidf,majority")
    done = frozenhead("report", run)
    assert (done.returncode, "warning" in done.stderr.lower()) == (0, False), done.stderr
    assert f"wrote {run}/report.html" in done.stderr
    absent = sorted({"ham", "spam"} - set(test))
    evidence = json.loads((run / "report.json").read_text())
    for head in evidence["heads"]:
        assert head["test"]["rows"] == len(test)
        assert [name for name, row in head["test"]["per_class"].items() if not row["support"]] == absent
        assert (head["test"]["roc_auc"] is None) is bool(absent)
    page = opened(run / "report.html")
    open_details(page)
    said = page.locator("main").inner_text()
    for word in ("NaN", "None", "null", "undefined", "inf"):
        assert f" {word} " not in " ".join(said.split())
    assert f"Accuracy, {len(test)} test rows" in said
    boxes = page.locator("figure svg").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
    assert len(boxes) >= 5
    assert min(boxes) > 50
    for word in ("--markdown", "--json"):
        assert frozenhead("report", run, word).returncode == 0


def test_a_thousand_classes_from_the_texts_to_a_small_page_that_opens(
    opened: Opener, frozenhead: Command, make_run: Maker
) -> None:
    names = [f"class_{c:03}" for c in range(1000)]
    splits = ("train", "train", "val", "test")
    # Class c is told by its word, but that every tenth test row holds the word of the class after it.
    words = ["".join("abcdefghij"[int(digit)] for digit in f"{c:03}") for c in range(1000)]
    rows = [
        (f"{words[c + (split == 'test' and c % 10 == 0)]} cat {['sat', 'ran', 'on', 'mat'][i]}", names[c], split)
        for c in range(1000)
        for i, split in enumerate(splits)
    ]
    run = make_run(pd.DataFrame(rows, columns=["text", "label", "split"]), "centroid,tfidf,majority")
    done = frozenhead("report", run)
    assert done.returncode == 0, done.stderr
    assert "--per-class and report.json have all 1,000" in done.stdout
    assert len(done.stdout.splitlines()) < 60
    assert (run / "report.html").stat().st_size < MOST_BYTES
    page = opened(run / "report.html")
    confused = page.locator("#confusion table").first.locator("tbody tr")
    assert confused.count() == 12  # the most frequent, in place of a table of a million cells
    first = confused.first.locator("bdi").all_inner_texts()
    assert names.index(first[1]) == names.index(first[0]) + 1
    words_in_pictures = page.locator("#confusion figure svg text").evaluate_all(
        "all => all.map(one => one.textContent)"
    )
    assert words_in_pictures == ["predicted", "true"] * 3
    classes = page.locator("#classes table").first
    assert classes.locator("tbody tr").count() == 100
    assert page.locator("#mistakes-status").inner_text() == "100 of 100 mistakes. Showing 1 to 20."
    page.locator("#mistakes-truth").select_option(label="class_990 (1)")
    assert page.locator("#mistakes-list > li").count() == 1
    markdown = frozenhead("report", run, "--markdown").stdout
    assert "The 20 of lowest F1 among 1,000." in markdown
