"""From files to checked rows: order, types, sources, and what is said aloud."""

import hashlib
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenhead.corpus import Corpus, CorpusOptions, load_corpus
from frozenhead.errors import DataError, UsageError
from tests.corpus.conftest import WriteBytes

PLAIN = CorpusOptions()


def rows(count: int, *, label: str = "label", start: int = 0, classes: tuple[str, ...] = ("ham", "spam")) -> bytes:
    lines = [f"text {row},{classes[row % len(classes)]}" for row in range(start, start + count)]
    return "\n".join([f"text,{label}", *lines, ""]).encode()


def test_the_room_opens_without_scikit_learn() -> None:
    code = "import sys, frozenhead.corpus; sys.exit(int('sklearn' in sys.modules or 'torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def check_frame(corpus: Corpus) -> None:
    assert list(corpus.frame.columns) == ["row", "text", "label", "split"]
    assert corpus.frame["row"].dtype == np.int64
    assert corpus.frame["row"].tolist() == list(range(len(corpus.frame)))
    assert {str(corpus.frame[name].dtype) for name in ("text", "label", "split")} == {"object"}


def test_one_file_becomes_rows_in_its_order(write: WriteBytes) -> None:
    path = write("a.csv", rows(100, classes=("9", "10")))
    corpus = load_corpus(path, PLAIN)
    check_frame(corpus)
    assert corpus.frame["text"].tolist() == [f"text {row}" for row in range(100)]
    assert corpus.frame["label"].tolist() == ["9", "10"] * 50
    assert corpus.classes == ["9", "10"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert corpus.sources == [{"path": "a.csv", "sha256": digest, "role": "data", "rows": 100}]
    assert corpus.columns == {"text": "text", "label": "label", "split": None}
    assert corpus.split_rule == "stratified 0.7/0.15/0.15, seed 2018"
    assert corpus.notes == ("text column: 'text', label column: 'label' (guessed from the names)",)


def test_three_files_are_read_in_turn_and_nothing_is_carved(write: WriteBytes) -> None:
    data, val, test = (write(f"{name}.csv", rows(4, start=4 * i)) for i, name in enumerate(("data", "val", "test")))
    corpus = load_corpus(data, replace(PLAIN, val=str(val), test=str(test)))
    check_frame(corpus)
    assert corpus.frame["text"].tolist() == [f"text {row}" for row in range(12)]
    assert corpus.frame["split"].tolist() == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert [source["role"] for source in corpus.sources] == ["data", "val", "test"]
    assert corpus.split_rule == "files"


def test_a_missing_split_is_carved_and_said(write: WriteBytes) -> None:
    data, test = write("data.csv", rows(100)), write("test.csv", rows(10, start=100))
    corpus = load_corpus(data, replace(PLAIN, test=str(test)))
    assert corpus.frame["split"].value_counts().to_dict() == {"train": 82, "val": 18, "test": 10}
    assert corpus.split_rule == "files; val carved out of train, stratified 0.7/0.15/0.15, seed 2018"
    assert "val: 18 rows carved out of train, stratified 0.7/0.15/0.15, seed 2018" in corpus.notes


def test_a_split_column_is_followed(write: WriteBytes) -> None:
    data = b"text,label,fold\na,x,Train\nb,y,train\nc,x,dev\nd,y,test\n"
    corpus = load_corpus(write("a.csv", data), replace(PLAIN, split_column="fold"))
    assert corpus.frame["split"].tolist() == ["train", "train", "val", "test"]
    assert corpus.columns["split"] == "fold"
    assert corpus.split_rule == "column 'fold'"


def test_unlabelled_texts_are_all_train(write: WriteBytes) -> None:
    corpus = load_corpus(write("a.csv", b"text,label\na,x\nb,\n"), replace(PLAIN, labelled=False))
    check_frame(corpus)
    assert corpus.frame["label"].tolist() == [None, None]
    assert corpus.frame["split"].tolist() == ["train", "train"]
    assert (corpus.classes, corpus.columns["label"], corpus.split_rule) == ([], None, "none")


def test_standard_input_is_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(rows(100))))
    assert load_corpus("-", PLAIN).sources[0]["path"] == "standard input"


def test_what_deserves_a_look_is_noted(write: WriteBytes) -> None:
    data = rows(100, classes=("ham", "spam", "Spam ")) + b"twice,ham\ntwice,spam\ntwice,ham\n"
    path = write("a.csv", data)
    corpus = load_corpus(path, replace(PLAIN, group_duplicates=True))
    assert "labels that differ only in case or white space: 'Spam ', 'spam'" in corpus.notes
    assert "1 text carries several labels; split under the most common one" in corpus.notes
    assert corpus.split_rule == "stratified 0.7/0.15/0.15, seed 2018, copies of a text kept together"


def test_leaks_between_files_are_noted_even_where_grouping_can_do_nothing(write: WriteBytes) -> None:
    data, val, test = write("a.csv", rows(8)), write("v.csv", rows(4, start=6)), write("t.csv", rows(4, start=20))
    corpus = load_corpus(data, replace(PLAIN, val=str(val), test=str(test), group_duplicates=True))
    assert corpus.notes[1:] == (
        "the data brings every split: copies of a text stay where they are",
        "2 of 4 val rows have a text that also stands in train",
    )


@pytest.mark.parametrize(
    ("files", "options", "facts"),
    [
        ({"a.csv": rows(9, classes=("ham",))}, {}, ["a.csv", "every row has the label 'ham'", "`--label`"]),
        ({"a.csv": rows(50) + b"odd,rare\n"}, {}, ["a.csv: class 'rare' has 1 row,"]),
        ({"a.csv": rows(40), "t.csv": rows(2) + b"odd,new\nodder,new\n"}, {"test": "t.csv"},
         ["t.csv, line 4 (row 3)", "'new' (2 rows", "stands in test but not in train"]),
        ({"a.csv": rows(40), "t.csv": rows(4, label="tag")}, {"test": "t.csv"},
         ["t.csv has no column 'label'", "'text', 'tag'"]),
        ({"a.csv": rows(40), "v.csv": b"text,label\n,ham\n"}, {"val": "v.csv"}, ["v.csv, line 2 (row 1)", "empty"]),
        ({"a.csv": rows(40), }, {"split_column": "labels"}, ["a.csv has no column 'labels'", "Did you mean 'label'"]),
        ({"a.csv": b"text,label,fold\na,x,train\nb,y,holdout\n"}, {"split_column": "fold"},
         ["a.csv, column 'fold'", "'holdout' (1)", "train"]),
        ({"a.csv": b"text,label,fold\na,x,train\nb,y,\n"}, {"split_column": "fold"}, ["a.csv, line 3 (row 2)"]),
        ({"a.csv": b"text,label,fold\na,x,test\nb,y,val\n"}, {"split_column": "fold"}, ["a.csv", "train split"]),
        ({"a.csv": b"text,label\na,x\nb,\n"}, {}, ["a.csv, line 3 (row 2)", "the label", "empty"]),
    ],
)  # fmt: skip
def test_unfit_data_is_refused_with_its_place(
    write: WriteBytes, files: dict[str, bytes], options: dict[str, Any], facts: list[str]
) -> None:
    for name, data in files.items():
        write(name, data)
    with pytest.raises(DataError) as caught:
        load_corpus("a.csv", replace(PLAIN, **options))
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert all(fact in message for fact in facts), message
    assert len(message.splitlines()) <= 3


@pytest.mark.parametrize(
    "options",
    [
        {"split": "0.7/0.3"},
        {"seed": -1},
        {"seed": 2**32},
        {"split_column": "fold", "val": "v.csv"},
        {"split_column": "fold", "test": "t.csv"},
        {"split_column": "label", "label": "label"},
        {"labelled": False, "label": "label"},
        {"labelled": False, "group_duplicates": True},
        {"val": "-", "test": "-"},
        {"format": "xlsx"},
        {"delimiter": ";;"},
        {"format": "parquet", "delimiter": ";"},
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        CorpusOptions(**options)
    assert caught.value.exit_code == 2


def test_standard_input_is_read_once() -> None:
    with pytest.raises(UsageError, match="Standard input"):
        load_corpus("-", replace(PLAIN, test="-"))


def test_banking_intents_load_from_two_files(shared_data: Path) -> None:
    data, test = shared_data / "banking77/train.csv", shared_data / "banking77/test.csv"
    corpus = load_corpus(data, replace(PLAIN, test=str(test)))
    assert len(corpus.classes) == 77
    assert corpus.frame["split"].value_counts().to_dict() == {"train": 8237, "val": 1766, "test": 3080}
