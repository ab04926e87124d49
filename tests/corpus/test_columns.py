"""Columns are guessed only when one name fits; every unusable cell is refused with its place."""

import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from frozenhead.corpus.columns import LABEL_NAMES, TEXT_NAMES, WHITE_SPACE, column_values, find_columns
from frozenhead.corpus.reading import read_table
from frozenhead.corpus.table import Table
from frozenhead.errors import DataError
from tests.corpus.conftest import WriteBytes
from tests.corpus.test_reading import parquet_bytes


@pytest.fixture
def headed(write: WriteBytes) -> Any:
    """A table of one row under the header given."""

    def table(header: str) -> Table:
        return read_table(write("a.csv", f"{header}\n{','.join('x' * (header.count(',') + 1))}\n".encode()))

    return table


@pytest.mark.parametrize("name", sorted(TEXT_NAMES))
def test_each_plain_text_name_is_guessed_in_any_case(headed: Any, name: str) -> None:
    columns = find_columns(headed(f"id, {name.upper()} "), text=None, label=None, labelled=False)
    assert (columns.text, columns.label) == (f" {name.upper()} ", None)
    assert columns.notes == (f"text column: {columns.text!r} (guessed from the name)",)


@pytest.mark.parametrize("name", sorted(LABEL_NAMES))
def test_each_plain_label_name_is_guessed(headed: Any, name: str) -> None:
    columns = find_columns(headed(f"text,{name}"), text=None, label=None, labelled=True)
    assert (columns.text, columns.label) == ("text", name)
    assert columns.notes == (f"text column: 'text', label column: {name!r} (guessed from the names)",)


def test_named_columns_are_taken_without_a_word(headed: Any) -> None:
    columns = find_columns(headed("v1,v2,text,label"), text="v2", label="v1", labelled=True)
    assert (columns.text, columns.label, columns.notes) == ("v2", "v1", ())


def test_no_label_is_looked_for_in_unlabelled_texts(headed: Any) -> None:
    assert find_columns(headed("text,label"), text="text", label="absent", labelled=False).label is None


def test_a_named_column_is_not_guessed_for_the_other_part(headed: Any) -> None:
    assert find_columns(headed("text,message"), text=None, label="message", labelled=True).text == "text"
    assert find_columns(headed("topic,label"), text="topic", label=None, labelled=True).label == "label"


@pytest.mark.parametrize(
    ("header", "options", "facts"),
    [
        ("text,message,label", {}, ["'text', 'message'", "`--text COL`"]),
        ("text,label,class", {}, ["'label', 'class'", "`--label COL`"]),
        ("v1,v2", {}, ["text column", "`--text COL`", "'v1', 'v2'"]),
        ("text,v2", {}, ["label column", "`--label COL`", "`--no-label`", "'text', 'v2'"]),
        ("text,label", {"text": "txet"}, ["no column 'txet'", "Did you mean 'text'?", "'text', 'label'"]),
        ("text,Label", {"label": "label"}, ["no column 'label'", "Did you mean 'Label'?"]),
        ("text,label", {"text": "zzz"}, ["no column 'zzz'.\n"]),
        ("text,label", {"text": "label", "label": "label"}, ["both text and label"]),
        ("text,,label", {"text": ""}, ["`--text` needs the name", "'text', 'label'"]),
        ("text;label", {}, ["'text;label'", "`--delimiter ';'`"]),
        ("text\tlabel", {"text": "text"}, [r"`--delimiter '\t'`"]),
        ("text|label", {"label": "label"}, ["`--delimiter '|'`"]),
        (",".join(f"c{i}" for i in range(30)), {}, ["'c19', and 10 more"]),
    ],
)
def test_a_column_that_cannot_be_found_is_refused_with_the_way_out(
    headed: Any, header: str, options: dict[str, str], facts: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        find_columns(headed(header), text=options.get("text"), label=options.get("label"), labelled=True)
    message = str(caught.value)
    assert message.startswith("a.csv")
    assert all(fact in message for fact in facts), message
    assert len(message.splitlines()) <= 3


def test_no_delimiter_is_suggested_for_a_plain_header(headed: Any) -> None:
    with pytest.raises(DataError) as caught:
        find_columns(headed("v1;v2,v3"), text=None, label=None, labelled=True)
    assert "--delimiter" not in str(caught.value)


def test_stored_values_become_the_strings_a_person_expects(write: WriteBytes) -> None:
    columns = {
        "whole": [2**60 + 1, -7],
        "half": [0.5, 1.0],
        "truth": [True, False],
        "word": ["007", " x "],
        "class": pa.array(["b", "a"]).dictionary_encode(),
    }
    table = read_table(write("a.parquet", parquet_bytes(columns)))
    assert {name: list(column_values(table, name, what="label")) for name in columns} == {
        "whole": ["1152921504606846977", "-7"],
        "half": ["0.5", "1.0"],
        "truth": ["true", "false"],
        "word": ["007", " x "],
        "class": ["b", "a"],
    }


@pytest.mark.parametrize(
    ("name", "data", "facts"),
    [
        ("a.csv", b'text,y\n"a\nb",x\n,y\nc,z\n,y\n', ["a.csv, line 4 (row 2)", "is empty", "2 such rows in all"]),
        ("a.csv", b"text,y\na,x\n \t ,y\n", ["a.csv, line 3 (row 2)", "only white space", "this row"]),
        ("a.csv", "text,y\n\u00a0\u2003,y\n".encode(), ["a.csv, line 2 (row 1)", "only white space"]),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": null}\n{"y": "b"}\n', ["line 3 (row 2)", "is missing", "2 such rows"]),
        ("a.jsonl", b'{"text": "a\\ud800b"}\n', ["line 1 (row 1)", "surrogate", "character 2"]),
        ("a.jsonl", b'{"text": ["a"]}\n', ["line 1 (row 1)", "type list"]),
        ("a.parquet", parquet_bytes({"text": ["a", None]}), ["a.parquet, row 2", "is missing"]),
        ("a.parquet", parquet_bytes({"text": [1.0, float("nan")]}), ["a.parquet, row 2", "is missing"]),
        ("a.parquet", parquet_bytes({"text": [3, None]}), ["a.parquet, row 2", "is missing"]),
        ("a.parquet", parquet_bytes({"text": pa.array(["a", None]).dictionary_encode()}), ["row 2", "is missing"]),
        ("a.parquet", parquet_bytes({"text": ["a", "b\0"]}), ["a.parquet, row 2", "a NUL character at character 2"]),
        ("a.parquet", parquet_bytes({"text": ["a", ""]}), ["a.parquet, row 2", "is empty"]),
        ("a.parquet", parquet_bytes({"text": pa.array(["\x85 \u3000"], pa.large_string())}), ["row 1", "only white"]),
        ("a.parquet", parquet_bytes({"text": [b"a"]}), ["a.parquet, row 1", "type bytes"]),
        ("a.parquet", parquet_bytes({"text": [["a"]]}), ["a.parquet, row 1", "type ndarray"]),
    ],
)
@pytest.mark.parametrize("what", ["text", "label", "split"])
def test_a_cell_that_is_no_text_is_refused_with_its_place(
    write: WriteBytes, name: str, data: bytes, facts: list[str], what: Any
) -> None:
    with pytest.raises(DataError) as caught:
        column_values(read_table(write(name, data)), "text", what=what)
    message = str(caught.value)
    assert message.startswith(name)
    assert all(fact in message for fact in [*facts, f"the {what} in column 'text'"]), message


def test_a_nul_that_json_can_spell_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "nul.jsonl"
    path.write_text('{"text": "fine", "label": "a"}\n{"text": "not\\u0000fine", "label": "a\\u0000"}\n')
    table = read_table(path)
    for column, what in (("text", "text"), ("label", "label")):
        with pytest.raises(DataError, match=r"(?s)nul\.jsonl.*line 2.*NUL"):
            column_values(table, column, what=what)  # type: ignore[arg-type]


def test_white_space_is_what_python_calls_so() -> None:
    spaces = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
    assert re.findall(f"[{WHITE_SPACE}]", "".join(map(chr, range(sys.maxunicode + 1)))) == spaces


@pytest.mark.parametrize("stored", ["string", "large_string", "string_view", "dictionary"])
def test_strings_of_parquet_are_read_however_they_are_stored(write: WriteBytes, stored: str) -> None:
    texts = pa.array(["a", "b", "a", "\x1b \U0001f600"])
    column = texts.dictionary_encode() if stored == "dictionary" else texts.cast(getattr(pa, stored)())
    table = read_table(write("a.parquet", parquet_bytes({"text": column})))
    assert list(column_values(table, "text", what="text")) == texts.to_pylist()


@pytest.mark.parametrize("twins", ['1, "1"', 'true, "true"', "1, 1.0", '"0", 0'])
def test_labels_that_only_their_type_tells_apart_are_refused(tmp_path: Path, twins: str) -> None:
    first, second = twins.split(", ")
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "a", "label": {first}}}\n{{"text": "b", "label": {second}}}\n')
    with pytest.raises(DataError, match="differ only in their type"):
        column_values(read_table(path), "label", what="label")


def test_labels_of_several_types_that_no_other_resembles_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": "other"}\n{"text": "c", "label": 1.5}\n')
    assert list(column_values(read_table(path), "label", what="label")) == ["1", "other", "1.5"]
    path.write_text('{"text": "a", "label": "1"}\n{"text": "b", "label": "1.0"}\n')
    assert list(column_values(read_table(path), "label", what="label")) == ["1", "1.0"]
