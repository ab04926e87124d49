"""Read in bulk or by the exact parser, a file is the same table, or refused with the same words."""

import csv
import hashlib
import io
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from frozenhead.corpus import bulk, reading
from frozenhead.corpus.bulk import parse_bulk
from frozenhead.corpus.parsing import parse_csv
from frozenhead.corpus.reading import read_table
from frozenhead.errors import DataError
from tests.corpus.test_reading import TEXTS

SLABS = st.sampled_from([24, 40, 100, bulk.SLAB])  # so small that rows straddle them
PIECES = st.sampled_from(
    [
        "text",
        "label",
        "a",
        "é",
        "😀",
        ",",
        ",",
        "\n",
        "\n",
        "\r\n",
        "\r",
        '"',
        '""',
        '"a,b"',
        '"a\nb"',
        " ",
        "\0",
        "\ufeff",
    ]
)


def in_bulk(data: bytes, *, delimiter: str = ",", slab: int = bulk.SLAB) -> Any:
    with patch.object(bulk, "SLAB", slab):
        found = parse_bulk(io.BytesIO(data), delimiter=delimiter)
    if found is None:
        return None
    rows = [list(row) for row in zip(*(column.to_pylist() for column in found.columns), strict=True)]
    return found.header, rows, list(found.lines)


def exactly(text: str, *, delimiter: str = ",") -> Any:
    parsed = parse_csv(text.removeprefix("\ufeff"), source="a.csv", delimiter=delimiter)
    return parsed.header, parsed.rows, parsed.lines


def written(rows: list[Any], **options: Any) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, **options).writerows(rows)
    return file.getvalue()


@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    slab=SLABS,
)
@example(rows=[("a\rb", "\r\r\n"), ("c", "d")], quoting=csv.QUOTE_ALL, end="\n", delimiter=",", slab=bulk.SLAB)
@settings(deadline=None)
def test_bulk_gives_the_exact_parsers_cells_and_lines(
    rows: list[tuple[str, str]], quoting: Any, end: str, delimiter: str, slab: int
) -> None:
    text = written([("text", "label"), *rows], quoting=quoting, lineterminator=end, delimiter=delimiter)
    found = in_bulk(text.encode(), delimiter=delimiter, slab=slab)
    assert found is None or found == exactly(text, delimiter=delimiter)


@given(cells=st.lists(TEXTS.filter(bool), min_size=1, max_size=8), slab=SLABS)
@settings(deadline=None)
def test_bulk_gives_the_exact_parsers_only_column(cells: list[str], slab: int) -> None:
    text = written([["text"], *([cell] for cell in cells)], lineterminator="\n")
    found = in_bulk(text.encode(), slab=slab)
    assert found is None or found == exactly(text)


@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8), end=st.sampled_from(["\n", "\r\n"]))
@settings(deadline=None)
def test_what_csv_writes_is_read_in_bulk(rows: list[tuple[str, str]], end: str) -> None:
    assert in_bulk(written([("text", "label"), *rows], quoting=csv.QUOTE_ALL, lineterminator=end).encode()) is not None


@given(pieces=st.lists(PIECES, max_size=25), header=st.sampled_from(["text,label\n", "text\n", ""]), slab=SLABS)
@settings(deadline=None, max_examples=300)
def test_any_file_is_the_same_table_or_the_same_error(pieces: list[str], header: str, slab: int) -> None:
    text = header + "".join(pieces)
    found = in_bulk(text.encode(), slab=slab)
    if found is not None:
        assert "\0" not in text
        assert found == exactly(text)


def outcome(path: Path, *, in_bulk: bool) -> Any:
    with ExitStack() as stack:
        if not in_bulk:
            stack.enter_context(patch.object(reading, "parse_bulk", lambda stream, delimiter: None))
        try:
            table = read_table(path)
        except DataError as error:
            return str(error)
    cells = [list(row) for row in table.frame.itertuples(index=False, name=None)]
    return list(table.names), cells, [table.place(row) for row in range(1, len(cells) + 1)], table.sha256


@given(pieces=st.lists(PIECES, max_size=25), header=st.sampled_from(["text,label\n", "text\n", ""]), bad=st.booleans())
@settings(deadline=None, max_examples=200)
def test_any_file_is_read_or_refused_with_the_same_words(
    pieces: list[str], header: str, bad: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.csv"
    path.write_bytes((header + "".join(pieces)).encode() + b"\xff" * bad)
    assert outcome(path, in_bulk=True) == outcome(path, in_bulk=False)


PLAIN = b"text,label\n" + b"".join(b'"hello, %d",ham\n' % row for row in range(9))


def test_a_large_plain_file_never_meets_the_exact_parser(tmp_path: Path) -> None:
    data = PLAIN[:11] + b"".join(b'"say ""hi""\nto %d",%d\r\n' % (row, row % 2) for row in range(200_000))
    assert len(data) > 2 * bulk.SLAB
    (tmp_path / "a.csv").write_bytes(data)
    with patch.object(reading, "parse_csv", side_effect=AssertionError):
        table = read_table(tmp_path / "a.csv")
    assert table.columns[0][199_999].as_py() == 'say "hi"\nto 199999'
    assert table.place(200_000).endswith("line 400000 (row 200000)")
    assert table.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "doubtful",
    [
        b'a"b,ham\n', b'"ab"c,ham\n', b'"ab\n', b"\n", b" \n", b"a,b,c\n", b"a\n", b"\xed\xa0\x80,ham\n", b"\0,ham\n",
        b"a,ham\rb,ham\n\r", b"x" * (4 * bulk.SLAB) + b",ham\n",
    ],
)  # fmt: skip
def test_in_any_doubt_the_exact_parser_looks(doubtful: bytes) -> None:
    assert in_bulk(PLAIN) is not None
    assert in_bulk(PLAIN + doubtful + PLAIN[11:]) is None


def test_a_mark_at_the_start_of_a_cell_is_part_of_it() -> None:
    for data in ("text,label\n\ufeffa,ham\n", "\ufefftext,label\n" + "\ufeffb,ham\n" * 9):
        assert in_bulk(data.encode(), slab=24) in (None, exactly(data))


def test_lines_are_found_from_either_end() -> None:
    lines = in_bulk(b'text,label\n"a\nb",x\nc,x\n"d\n\n",x\ne,x\n')[2]
    assert lines == [2, 4, 5, 8]
    found = parse_bulk(io.BytesIO(b'text,label\n"a\nb",x\nc,x\n'), delimiter=",")
    assert found is not None
    assert (found.lines[-1], found.lines[0:2], len(found.lines)) == (4, [2, 4], 2)
    with pytest.raises(IndexError):
        found.lines[2]
