"""Advised commands are whole: a shell gives their words back, they name the run, and they destroy nothing."""

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from frozenhead.report.advice import advice


def group(run: Mapping[str, object], folder: str = "run") -> str:
    command = advice(run, folder)["group"]
    assert command is not None
    return command


def test_baselines_are_fitted_in_the_run() -> None:
    assert advice({}, "runs/pp")["baselines"] == "frozenhead fit runs/pp --head tfidf,majority"
    words = shlex.split(advice({}, "my runs/it's")["baselines"] or "")
    assert words == ["frozenhead", "fit", "my runs/it's", "--head", "tfidf,majority"]


@pytest.mark.parametrize("out", ["", " --out old", " --out=old"])
@pytest.mark.parametrize("folder", ["run", "moved/to/run", "moved/to/run/"])
def test_copies_are_grouped_in_a_new_run_beside_this_one_wherever_it_was_moved(out: str, folder: str) -> None:
    made = "frozenhead embed 'my texts.csv' --pooling mean"
    expected = f"{made} --out {folder.rstrip('/')}-grouped --group-duplicates"
    assert group({"command": f"{made}{out}"}, folder) == expected


@pytest.mark.parametrize("flag", ["--overwrite", "--dry-run", "--json", "--quiet", "-q", "--group-duplicates"])
def test_the_advised_command_replaces_nothing_and_is_not_silent(flag: str) -> None:
    made = group({"command": f"frozenhead embed a.csv {flag} --out run"})
    assert made == "frozenhead embed a.csv --out run-grouped --group-duplicates"


@pytest.mark.parametrize("folder", [".", ".."])
def test_a_folder_without_a_name_is_named_whole(folder: str) -> None:
    words = shlex.split(group({}, folder))
    assert words[words.index("--out") + 1] == f"{Path(folder).resolve()}-grouped"


@pytest.mark.parametrize("option", ["split_column", "val", "test"])
def test_rows_that_the_data_itself_puts_into_a_split_cannot_be_moved(option: str) -> None:
    made = "frozenhead embed a.csv"
    assert advice({"command": made, "options": {option: "it"}}, "run")["group"] is None
    assert advice({"command": made, "options": {option: None}}, "run")["group"] is not None


@pytest.mark.parametrize("command", ["frozenhead embed", "python it.py", "frozenhead embed 'open", None])
def test_a_run_that_no_command_made_is_embedded_from_its_source(command: str | None) -> None:
    run = {"command": command, "sources": [{"path": "a b.csv"}, {"path": "test.csv"}]}
    expected = "frozenhead embed 'a b.csv' --out run-grouped --group-duplicates"
    assert group(run) == expected
    assert group({}) == expected.replace("'a b.csv'", "DATA")
