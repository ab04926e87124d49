"""The commands of a card: run again, they make the same rows, splits and space, and they tell no places."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from frozenhead.commands.reproduce import embed_command, file_name, fit_command
from frozenhead.runs import Run
from tests.commands.conftest import make_table
from tests.commands.shipping import EXECUTABLE, fresh_process, make_trained_run

CASES: dict[str, dict[str, Any]] = {
    "vectors": {
        "pooling": "max", "layer": -2, "prefix": "query: '", "normalize": True, "max_length": 16, "long": "windows",
        "name": "mine", "corpus": {"group_duplicates": True, "seed": 7, "split": "0.6/0.2/0.2"},
    },
    "split column": {"corpus": {"split_column": "part", "seed": 3}},
    "by text": {"corpus": {"split_by": "text", "seed": 3}},
    "folder": {"data": "parts"},
    "files": {"corpus": {"val": "val.csv", "delimiter": ",", "seed": 3}},
    "auto": {"pooling": "auto", "max_length": "auto"},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_commands_make_the_same_run(tmp_path: Path, tiny_folder: Path, case: str) -> None:
    table = make_table()
    table["part"] = ["train", "train", "train", "valid"] * 30
    (tmp_path / "data").mkdir()
    table.to_csv(tmp_path / "data" / "texts.csv", index=False)
    make_table(40, seed=5).to_csv(tmp_path / "data" / "val.csv", index=False)
    (tmp_path / "data" / "parts").mkdir()
    for name, rows in (("a", table[:50]), ("b", table[50:])):
        rows.to_csv(tmp_path / "data" / "parts" / f"{name}.csv", index=False)
    given = {"data": "texts.csv", **CASES[case]}
    given["data"] = str(tmp_path / "data" / given["data"])
    given["corpus"] = dict(given.get("corpus", {}))
    if "val" in given["corpus"]:
        given["corpus"]["val"] = str(tmp_path / "data" / "val.csv")
    first = Run.open(make_trained_run(tmp_path, tiny_folder, heads=("majority",), **given))
    ((name, record),) = first.features().items()

    command = embed_command(first.info, record)

    assert str(tmp_path) not in command
    again = Path(shutil.copytree(tmp_path / "data", tmp_path / "again"))
    shutil.copytree(tiny_folder, again / "tiny-bert")
    fresh_process([*EXECUTABLE, *shlex.split(command)[1:]], cwd=again, cache=tmp_path / "cache")
    second = Run.open(again / "run")
    assert second.features()[name]["space"] == record["space"]
    assert second.info["corpus_sha256"] == first.info["corpus_sha256"]


def description(**given: Any) -> dict[str, Any]:
    params = {"hidden": [512], "lr": 1e-3, "class_weight": "balanced", "random_state": 3}
    return {"head": "dense", "feature": "a b.mean", "takes": "vectors", "seed": 3, "params": params | given}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "--class-weight balanced --seed 3"),
        ({"class_weight": None}, "--class-weight none --seed 3"),
        ({"class_weight": {"ham": 1, "spam": 2}}, "--class-weight weights.json --seed 3"),
        ({"hidden": [64, 8], "lr": 3e-4}, "--class-weight balanced --seed 3 --set hidden=64x8 --set lr=0.0003"),
        ({"hidden": []}, "--class-weight balanced --seed 3 --set hidden=0"),
    ],
)
def test_a_fit_is_told_with_every_option_that_is_not_the_default(given: dict[str, Any], expected: str) -> None:
    command = fit_command(description(**given))
    assert command == f"frozenhead fit run --head dense --features 'a b.mean' {expected}"


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        ({"temperature": True, "threshold": None}, ""),
        ({"temperature": False, "threshold": None}, " --calibrate none"),
        ({"threshold": {"by": "f1", "positive": None}}, " --threshold f1"),
        ({"threshold": {"by": "recall", "floor": 0.9, "positive": "no"}}, " --threshold recall:0.9 --positive no"),
        ({"threshold": {"by": "costs", "costs": [1.0, 10.0], "positive": None}}, " --threshold costs:1:10"),
    ],
)
def test_a_fit_is_told_with_its_calibration_and_threshold(decision: dict[str, Any], expected: str) -> None:
    command = fit_command(description() | {"decision": decision, "views": 2})
    assert command.endswith(f"--seed 3 --views{expected}")


@pytest.mark.parametrize(
    ("path", "name"),
    [("/home/me/texts.csv", "texts.csv"), ("C:\\me\\texts.csv", "texts.csv"), ("../a b.csv", "a b.csv"), ("-", "-")],
)
def test_a_file_is_named_without_its_place(path: str, name: str) -> None:
    assert file_name(path) == name
