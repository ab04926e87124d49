"""Advised commands are whole: a shell gives their words back, and they name the run."""

import shlex

import pytest

from frozenhead.report.advice import advice


def test_baselines_are_fitted_in_the_run() -> None:
    assert advice({}, "runs/pp")["baselines"] == "frozenhead fit runs/pp --head tfidf,majority"
    words = shlex.split(advice({}, "my runs/it's")["baselines"])
    assert words == ["frozenhead", "fit", "my runs/it's", "--head", "tfidf,majority"]


def test_copies_are_grouped_by_the_command_that_made_the_run() -> None:
    made = "frozenhead embed 'my texts.csv' --pooling mean --out run"
    assert advice({"command": made}, "run")["group"] == f"{made} --group-duplicates --overwrite"
    assert advice({"command": f"{made} --overwrite"}, "run")["group"] == f"{made} --overwrite --group-duplicates"


@pytest.mark.parametrize("command", ["frozenhead embed", "python it.py", "frozenhead embed 'open", None])
def test_a_run_that_no_command_made_is_embedded_from_its_source(command: str | None) -> None:
    run = {"command": command, "sources": [{"path": "a b.csv"}, {"path": "test.csv"}]}
    expected = "frozenhead embed 'a b.csv' --out run --group-duplicates --overwrite"
    assert advice(run, "run")["group"] == expected
    assert advice({}, "run")["group"] == expected.replace("'a b.csv'", "DATA")
