"""Cells come exactly as written, rows know their line, and what cannot be read is refused with its place."""

import csv
import gzip
import hashlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.corpus.reading import read_table
from frozenhead.corpus.table import Format, Table
from frozenhead.errors import DataError, UsageError
from tests.corpus.conftest import WriteBytes

# Every character a UTF-8 file can hold, line breaks, quotes and delimiters more often than chance would give.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from(
    "\r\n\",;\t' \u2028\ufeff"
)
TEXTS = st.text(CHARACTERS, max_size=20)


def parquet_bytes(columns: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def cells(table: Table) -> list[list[Any]]:
    return [list(row) for row in table.frame.itertuples(index=False, name=None)]


def read_bytes(data: bytes, **options: Any) -> Table:
    """Read as if `data` came through a pipe."""
    stdin = sys.stdin
    try:
        sys.stdin = io.TextIOWrapper(io.BytesIO(data))
        return read_table("-", **options)
    finally:
        sys.stdin = stdin


def line_of(text: str) -> int:
    """The line that comes after `text`, by a way of counting that shares nothing with the code."""
    return len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_what_csv_writes_is_read_back_with_its_lines(
    rows: list[tuple[str, str]], quoting: Any, kind: Format, delimiter: str
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
    writer.writerow(["text", "label"])
    lines = []
    for row in rows:
        lines.append(line_of(file.getvalue()))
        writer.writerow(row)
    table = read_bytes(file.getvalue().encode(), format=kind, delimiter=delimiter)
    assert cells(table) == [list(row) for row in rows]
    assert table.lines is not None
    assert list(table.lines) == lines


@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS | st.none()), min_size=1, max_size=8),
    ascii_only=st.booleans(),
)
def test_what_json_writes_is_read_back(rows: list[tuple[str, str | None]], ascii_only: bool) -> None:
    data = "".join(
        json.dumps({"text": text, "label": label}, ensure_ascii=ascii_only) + "\n" for text, label in rows
    ).encode()
    table = read_bytes(data)
    assert table.format == "jsonl"
    assert cells(table) == [list(row) for row in rows]
    assert table.lines is not None
    assert list(table.lines) == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("name", ["spamdata_v2.csv", "banking77/train.csv"])
def test_real_data_is_read_as_pandas_reads_it(shared_data: Path, name: str) -> None:
    path = shared_data / name
    expected = pd.read_csv(path, dtype=object, keep_default_na=False)
    table = read_table(path)
    assert list(table.frame.columns) == list(expected.columns)
    assert cells(table) == expected.to_numpy().tolist()
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_cells_stay_as_written(write: WriteBytes) -> None:
    path = write("a.csv", b'text,label\nNA,007\n null ,1.0\n"a\r\nb","say ""hi"""\n')
    assert cells(read_table(path)) == [["NA", "007"], [" null ", "1.0"], ["a\r\nb", 'say "hi"']]


def test_lines_are_right_after_blank_lines_and_long_fields(write: WriteBytes) -> None:
    table = read_table(write("a.csv", b'\ntext,label\n\n"one\ntwo\n",a\n  \n\nthree,b\r\n\r\nfour,c'))
    assert cells(table) == [["one\ntwo\n", "a"], ["three", "b"], ["four", "c"]]
    assert table.lines is not None
    assert list(table.lines) == [4, 9, 11]
    assert table.place(2) == "a.csv, line 9 (row 2)"


def test_a_blank_line_is_an_empty_cell_of_the_only_column(write: WriteBytes) -> None:
    table = read_table(write("a.csv", b"text\none\n\ntwo\n"))
    assert cells(table) == [["one"], [""], ["two"]]
    assert table.place(3) == "a.csv, line 4 (row 3)"


def test_json_numbers_words_and_gaps_come_as_written(write: WriteBytes) -> None:
    data = (
        b'{"text": 1.50, "y": 12345678901234567890, "z": true}\n\n{"y": null, "text": NaN, "more": ["a", {"b": 1}]}\r\n'
    )
    table = read_table(write("a.jsonl", data))
    assert list(table.frame.columns) == ["text", "y", "z", "more"]
    assert cells(table) == [["1.50", "12345678901234567890", "true", None], ["NaN", None, None, ["a", {"b": "1"}]]]
    assert table.place(2) == "a.jsonl, line 3 (row 2)"


def test_a_unicode_line_separator_is_part_of_a_json_text(write: WriteBytes) -> None:
    table = read_table(write("a.jsonl", '{"text": "one\u2028two\u0085three"}\n{"text": "four"}\n'.encode()))
    assert cells(table) == [["one\u2028two\u0085three"], ["four"]]


def test_parquet_keeps_large_numbers_beside_nulls(write: WriteBytes) -> None:
    table = read_table(write("a.parquet", parquet_bytes({"text": ["a", "b"], "y": [2**60 + 1, None]})))
    assert cells(table) == [["a", 2**60 + 1], ["b", None]]
    assert table.lines is None
    assert table.place(2) == "a.parquet, row 2"


def test_a_parquet_index_is_a_column(write: WriteBytes, tmp_path: Path) -> None:
    pd.DataFrame({"label": ["x", "y"]}, index=pd.Index(["a", "b"], name="text")).to_parquet(tmp_path / "a.pq")
    assert sorted(read_table(tmp_path / "a.pq").frame.columns) == ["label", "text"]


CONTENTS: dict[str, tuple[Format, bytes]] = {
    "csv": ("csv", b"text,label\nhello,a\n"),
    "tsv": ("tsv", b"text\tlabel\nhello\ta\n"),
    "jsonl": ("jsonl", b' \n{"text": "hello", "label": "a"}\n'),
    "parquet": ("parquet", parquet_bytes({"text": ["hello"], "label": ["a"]})),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("content", CONTENTS)
def test_the_format_shows_in_the_contents(content: str, compressed: bool, write: WriteBytes) -> None:
    kind, data = CONTENTS[content]
    data = gzip.compress(data, mtime=0) if compressed else data
    for table in (read_bytes(data), read_table(write("unknown", data))):
        assert table.format == kind
        assert cells(table) == [["hello", "a"]]
        assert table.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "csv"), ("a.tsv", "tsv"), ("a.TAB", "tsv"), ("a.jsonl", "jsonl"), ("a.ndjson", "jsonl"),
     ("a.parquet", "parquet"), ("a.pq", "parquet")],
)  # fmt: skip
@pytest.mark.parametrize("compressed", [False, True])
def test_the_format_shows_in_the_extension(name: str, content: str, compressed: bool, write: WriteBytes) -> None:
    kind, data = CONTENTS[content]
    path = write(name + ".gz", gzip.compress(data, mtime=0)) if compressed else write(name, data)
    assert read_table(path).format == kind


def test_a_header_with_commas_and_tabs_is_csv() -> None:
    assert list(read_bytes(b"text,the\tlabel\nhello,a\n").frame.columns) == ["text", "the\tlabel"]


def test_an_extension_weighs_more_than_the_contents_and_an_option_more_still(write: WriteBytes) -> None:
    path = write("A.CSV", b"text\tlabel\nhello\ta\n")
    assert list(read_table(path).frame.columns) == ["text\tlabel"]
    assert list(read_table(path, format="tsv").frame.columns) == ["text", "label"]
    assert list(read_table(path, delimiter=r"\t").frame.columns) == ["text", "label"]


def test_a_byte_order_mark_is_dropped(write: WriteBytes) -> None:
    for encoding, data in (("utf-8", b"\xef\xbb\xbftext\nhi\n"), ("utf-16", "text\nhi\n".encode("utf-16"))):
        assert list(read_table(write("a.csv", data), encoding=encoding).frame.columns) == ["text"]


def test_latin_1_is_read_when_named(write: WriteBytes) -> None:
    assert cells(read_table(write("a.csv", b"text\ncaf\xe9\n"), encoding="latin-1")) == [["caf\xe9"]]


def test_a_field_of_any_size_is_read_and_the_limit_put_back(write: WriteBytes) -> None:
    before = csv.field_size_limit(1000)
    try:
        assert cells(read_table(write("a.csv", b"text\n" + b"x" * 300_000))) == [["x" * 300_000]]
        assert csv.field_size_limit() == 1000
        with pytest.raises(DataError):
            read_table(write("b.csv", b'text\n"x'))
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


def test_columns_without_a_name_are_let_through(write: WriteBytes) -> None:
    table = read_table(write("a.csv", b"label,text,,,\nham,hello,,,\n"))
    assert cells(table) == [["ham", "hello", "", "", ""]]


HALF_GZIP = gzip.compress(b"text\n" + bytes(range(65, 91)) * 99, mtime=0)[:40]  # 0: names of tests hold the bytes
PARQUET = CONTENTS["parquet"][1]

BAD: list[tuple[str, bytes, list[str]]] = [
    ("empty.csv", b"", ["empty.csv is empty"]),
    ("empty.csv", b"\xef\xbb\xbf\r\n", ["empty.csv is empty"]),
    ("empty.parquet", b"", ["empty.parquet is empty"]),
    ("empty.csv.gz", gzip.compress(b"", mtime=0), ["empty.csv.gz is empty"]),
    ("header.csv", b"text,label\n\n", ["header.csv", "no rows"]),
    ("header.parquet", parquet_bytes({"text": []}), ["header.parquet", "no rows"]),
    ("none.jsonl", b"{}\n", ["none.jsonl", "no columns"]),
    ("more.csv", b"text,label\n\nhi,a\nhi, you,a\n", ["more.csv, line 4 (row 2)", "3 fields", "2 columns"]),
    ("less.csv", b'text,label\n"a\nb",a\nhi\n', ["less.csv, line 4 (row 2)", "1 field,", "2 columns"]),
    ("semi.csv", b"text;label\nhi, you;a\n", ["semi.csv, line 2 (row 1)", "`--delimiter ';'`"]),
    ("open.csv", b'text,label\nhi,a\n"hi,b\nyou,c\n', ["open.csv, line 3 (row 2)", "double quotes"]),
    ("inner.csv", b'text,label\n"hi\n"you",b\n', ["inner.csv, line 2 (row 1)", "double quotes"]),
    ("top.csv", b'"text,label\nhi,a\n', ["top.csv, line 1 (header)", "double quotes"]),
    ("latin.csv", b"text,label\r\nhi,a\r\ncaf\xe9,b\r\n", ["latin.csv, line 3", "0xe9", "`--encoding latin-1`"]),
    ("wide.csv", "text\nhi\n".encode("utf-16"), ["wide.csv, line 1", "`--encoding utf-16`"]),
    ("wide.csv", "text\nhi\n".encode("utf-16-le"), ["wide.csv, line 1", "NUL", "`--encoding utf-16`"]),
    ("nul.csv", b"text\nhi\nyou\0\n", ["nul.csv, line 3", "NUL"]),
    ("nel.csv", "text\nwait\u0085\r\nyou\0\n".encode(), ["nel.csv, line 3", "NUL"]),
    ("twice.csv", b"text,label,text\nhi,a,b\n", ["twice.csv", "'text' twice"]),
    ("plain.csv.gz", b"text\nhi\n", ["plain.csv.gz", "not gzip"]),
    ("half.csv.gz", HALF_GZIP, ["half.csv.gz", "cut short"]),
    ("bad.csv.gz", gzip.compress(b"text\nhi\n", mtime=0)[:-8] + b"\0" * 8, ["bad.csv.gz", "broken gzip"]),
    ("bad.csv.gz", HALF_GZIP[:10] + b"\xff" * 20, ["bad.csv.gz", "broken gzip"]),
    ("text.parquet", b"text\nhi\n", ["text.parquet", "Parquet"]),
    ("cut.parquet", PARQUET[:-20], ["cut.parquet", "Parquet"]),
    ("torn.parquet", PARQUET[:30] + b"\xff" * 60 + PARQUET[90:], ["torn.parquet", "Parquet"]),
    ("parquet.csv", b"PAR1\xff", ["parquet.csv", "`--format parquet`"]),
    ("bad.jsonl", b'{"text": "hi"}\n\n{"text": "hi"\n', ["bad.jsonl, line 3 (row 2)", "not JSON", "column 14"]),
    ("list.jsonl", b'[{"text": "hi"}]\n', ["list.jsonl, line 1 (row 1)", "a list", "object"]),
    ("word.jsonl", b'{"text": "hi"}\n"hi"\n', ["word.jsonl, line 2 (row 2)", "'hi'", "object"]),
    ("key.jsonl", b'{"text": "hi"}\n{"text": "a", "text": "b"}\n', ["key.jsonl, line 2 (row 2)", "'text'", "twice"]),
    ("deep.jsonl", b'{"text":' + b"[" * 100_000 + b"\n", ["deep.jsonl, line 1 (row 1)", "nested too deep"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "facts"), BAD)
def test_what_cannot_be_read_is_refused_with_its_place(
    name: str, data: bytes, facts: list[str], write: WriteBytes
) -> None:
    with pytest.raises(DataError) as caught:
        read_table(write(name, data))
    message = str(caught.value)
    assert all(fact in message for fact in facts), message
    assert len(message.splitlines()) <= 3


def test_two_parquet_columns_of_one_name_are_refused(write: WriteBytes) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), buffer)
    with pytest.raises(DataError, match=r"a\.parquet.*'text' twice"):
        read_table(write("a.parquet", buffer.getvalue()))


def test_a_missing_file_and_a_folder_are_refused_by_name(write: WriteBytes) -> None:
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        read_table("absent.csv")
    Path("folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv is a folder"):
        read_table("folder.csv")


@pytest.mark.parametrize(
    ("error", "fact"), [(PermissionError(13, "denied"), "no permission"), (OSError(5, "I/O error"), "I/O error")]
)
def test_a_file_that_the_system_refuses_is_named(
    error: OSError, fact: str, write: WriteBytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> bytes:
        raise error

    path = write("locked.csv", b"text\nhi\n")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=rf"locked\.csv.*{re.escape(fact)}"):
        read_table(path)


@pytest.mark.parametrize("encoding", ["utf-9", "base64"])
def test_an_unknown_encoding_is_named(encoding: str, write: WriteBytes) -> None:
    with pytest.raises(DataError, match=rf"a\.csv: there is no text encoding '{encoding}'"):
        read_table(write("a.csv", b"text\nhi\n"), encoding=encoding)


def test_bytes_outside_another_encoding_are_placed(write: WriteBytes) -> None:
    with pytest.raises(DataError, match=r"a\.csv, line 2: byte 0xe9 is not ascii"):
        read_table(write("a.csv", b"text\ncaf\xe9\n"), encoding="ascii")


def test_standard_input_is_named_in_messages() -> None:
    with pytest.raises(DataError, match=r"standard input, line 2 \(row 1\)"):
        read_bytes(b"text,label\nhi\n")


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n"])
def test_a_delimiter_is_one_character(delimiter: str, write: WriteBytes) -> None:
    with pytest.raises(UsageError, match="delimiter"):
        read_table(write("a.csv", b"text\nhi\n"), delimiter=delimiter)


@pytest.mark.parametrize("content", ["jsonl", "parquet"])
def test_a_delimiter_is_refused_where_it_has_no_meaning(content: str, write: WriteBytes) -> None:
    with pytest.raises(UsageError, match=f"no meaning in {content}"):
        read_table(write(f"a.{content}", CONTENTS[content][1]), delimiter=";")


def test_an_unknown_format_is_refused(write: WriteBytes) -> None:
    with pytest.raises(UsageError, match=r"'xlsx'.*csv, tsv, jsonl, parquet"):
        read_table(write("a.csv", b"text\nhi\n"), format="xlsx")  # type: ignore[arg-type]
