"""Read part by part or whole, a file gives the same cells at the same places, or is refused with the same words."""

import csv
import errno
import gzip
import hashlib
import io
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenhead.corpus import bulk, decoding, streaming
from frozenhead.corpus.columns import Cells, column_values
from frozenhead.corpus.reading import read_table
from frozenhead.corpus.streaming import open_parts, regrouped
from frozenhead.corpus.table import Table
from frozenhead.errors import DataError, StorageError
from tests.corpus.conftest import WriteBytes
from tests.corpus.test_bulk import PIECES
from tests.corpus.test_reading import BAD, TEXTS, parquet_bytes

SLABS = st.sampled_from([24, 40, 100, bulk.SLAB])
PARTS = st.sampled_from([1, 2, 3, streaming.PART_ROWS])


def whole(path: Path, columns: list[str], **options: Any) -> Any:
    """Cells of the columns, where each row stands, and the digest; or what is wrong."""
    try:
        table = read_table(path, **options)
        cells = [list(column_values(table, name, what="text")) for name in columns]
    except DataError as error:
        return str(error)
    return cells, [table.place(row) for row in range(1, len(cells[0]) + 1)], table.sha256


def in_parts(path: Path, columns: list[str], *, slab: int = bulk.SLAB, rows: int = 3, **options: Any) -> Any:
    """The same, read part by part."""
    cells: list[list[str]] = [[] for _ in columns]
    readers, places = [Cells(name, what="text") for name in columns], []
    with patch.object(bulk, "SLAB", slab), patch.multiple(streaming, PART_ROWS=rows, BATCH_ROWS=rows):
        try:
            with open_parts(path, **options) as parts:
                columns = columns if set(columns) <= set(parts.names) else parts.names[:1]
                for table in parts.read(columns):
                    for reader, found in zip(readers, cells, strict=True):
                        found += list(reader.take(table) or ())
                    places += [table.place(row) for row in range(1, len(table.column(columns[0])) + 1)]
                for reader in readers:
                    reader.check()
                return cells, places, parts.sha256
        except DataError as error:
            return str(error)


@given(
    pieces=st.lists(PIECES, max_size=25), header=st.sampled_from(["text,label\n", "label,text\r\n"]), bad=st.booleans(),
    slab=SLABS, rows=PARTS,
)  # fmt: skip
@settings(deadline=None, max_examples=300)
def test_any_csv_is_the_same_cells_or_refused(
    pieces: list[str], header: str, bad: bool, slab: int, rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.csv"
    path.write_bytes((header + "".join(pieces)).encode() + b"\xff" * bad)
    expected, found = whole(path, ["text", "label"]), in_parts(path, ["text", "label"], slab=slab, rows=rows)
    if isinstance(expected, str):  # of several faults another may be met first
        assert isinstance(found, str)
    else:
        assert found == expected


@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12), end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-8-sig", "utf-32", "utf-16-be"]),
    compressed=st.booleans(), slab=SLABS, parts=PARTS, blank=st.integers(0, 12),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_what_csv_writes_is_the_same_in_any_encoding(
    rows: list[tuple[str, str]], end: str, encoding: str, compressed: bool, slab: int, parts: int, blank: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    path = tmp_path_factory.getbasetemp() / f"a.csv{'.gz' * compressed}"
    with open(tmp_path_factory.getbasetemp() / "plain", "w+", newline="", encoding=encoding) as file:
        csv.writer(file, lineterminator=end).writerows([("text", "label"), *rows[:blank]])
        file.write(end)  # a blank line, at which the bulk reader gives way
        csv.writer(file, lineterminator=end).writerows(rows[blank:])
    data = Path(file.name).read_bytes()
    path.write_bytes(gzip.compress(data) if compressed else data)
    found = in_parts(path, ["text", "label"], slab=slab, rows=parts, encoding=encoding)
    assert found == whole(path, ["text", "label"], encoding=encoding)


@given(
    items=st.lists(st.dictionaries(st.sampled_from(["text", "label", "n"]), TEXTS | st.booleans() | st.none() |
        st.integers() | st.lists(st.integers(), max_size=2)), min_size=1, max_size=8),
    breaks=st.sampled_from(["\n", "\r\n", "\n\n", "\n \r\n"]), parts=PARTS,
    junk=st.sampled_from(["", "{", "[1]", "\0"]),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_any_jsonl_is_the_same_cells_or_refused_with_the_same_words(
    items: list[dict[str, Any]], breaks: str, parts: int, junk: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.jsonl"
    lines = [json.dumps({"label": "", "text": "t", **item}, ensure_ascii=False) for item in items]
    path.write_bytes((breaks.join([*lines, '{"text": "x", "label": "y"}']) + breaks + junk).encode())
    assert in_parts(path, ["text", "label"], rows=parts) == whole(path, ["text", "label"])


@pytest.mark.parametrize("column", [
    pa.array(["a", "b", "", "d", " "]), pa.array(["a", "b", "c", None, "d"]), pa.array([1, 2, None, 4, 5]),
    pa.array([1, 2, 3, 4, 5]), pa.array([1.5, 2.0, 1e30, 4.0, -0.0]), pa.array([True, False, True, True, False]),
    pa.array(["a", "b", "a", "b", "a"]).dictionary_encode(), pa.array(["a", "b", "c", "d", "e"], pa.large_string()),
    pa.array([b"a"] * 5), pa.array([["a"]] * 5), pa.array([1, 2, 3, 4, 5], pa.timestamp("s")),
])  # fmt: skip
@pytest.mark.parametrize("rows", [1, 2, 4, 9])
def test_any_parquet_column_is_the_same_cells_or_refused_with_the_same_words(
    column: pa.Array, rows: int, write: WriteBytes
) -> None:
    path = write("a.parquet", parquet_bytes({"text": ["v", "w", "x", "y", "z"], "label": column, "text.more": column}))
    assert in_parts(path, ["label", "text"], rows=rows) == whole(path, ["label", "text"])


@pytest.mark.parametrize(("name", "data", "facts"), BAD)
def test_what_cannot_be_read_is_refused_with_the_same_words(
    name: str, data: bytes, facts: list[str], write: WriteBytes
) -> None:
    path = write(name, data)
    found = in_parts(path, ["text"])
    assert isinstance(found, str)
    assert found == whole(path, ["text"])


@pytest.mark.parametrize(
    "encoding", ["utf-8", "cp1252", "utf-16", "utf-16-le", "gb18030", "shift_jis", "ascii", "base64", "nonsense"]
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_byte_of_another_encoding_far_inside_is_placed_alike(encoding: str, kind: str, write: WriteBytes) -> None:
    line = "text\r\n" if kind == "csv" else '{"text": "x\\n"}\r\n'
    known = encoding not in {"base64", "nonsense"}
    start = ("text\n" * (kind == "csv") + line * 3000).encode(encoding if known else "utf-8")
    path = write(f"a.{kind}", start + (b"\x00\xdc" if "16" in encoding else b"\x81\x00\xdc" + b"\xff" * 9))
    with patch.object(streaming, "START_BYTES", 64), patch("frozenhead.corpus.decoding._PIECE", 100):
        found = in_parts(path, ["text"], encoding=encoding, slab=1000)
    assert isinstance(found, str)
    assert found == whole(path, ["text"], encoding=encoding)


@pytest.mark.parametrize("last", ["", "\n", '"open'])
def test_lines_are_counted_on_from_slab_to_slab_and_by_the_exact_parser(last: str, write: WriteBytes) -> None:
    data = "text,label\n" + '"a\n\nb",x\n' * 30 + last + '"c\r\nd",y\n' * 3
    path = write("a.csv", data.encode())
    found = in_parts(path, ["text"], slab=40, rows=2)
    assert found == whole(path, ["text"])
    assert last or found[1][30] == "a.csv, line 92 (row 31)"


def test_several_row_groups_and_a_compressed_file_are_read(write: WriteBytes, tmp_path: Path) -> None:
    table = pa.table({"label": [str(i % 3) for i in range(1000)], "text": [f"text {i}" for i in range(1000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=77)
    cells, places, digest = in_parts(tmp_path / "a.parquet", ["text"], rows=100)
    assert cells == [[f"text {i}" for i in range(1000)]]
    assert digest == hashlib.sha256((tmp_path / "a.parquet").read_bytes()).hexdigest()
    path = write("b.parquet.gz", gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert in_parts(path, ["text"])[0] == cells
    assert places[-1].endswith("a.parquet, row 1000")


def test_a_torn_row_group_is_named_when_it_is_met(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text {i} of many" for i in range(5000)]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=1000, compression="gzip", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = b"\xff" * 400
    path.write_bytes(data)
    found = in_parts(path, ["text"], rows=500)
    assert isinstance(found, str)
    assert f"{path} cannot be read as Parquet" in found


FILES = {
    "plain.csv": b"id,text,,\n1,one,a,b\n2,two,c,d\n3,three,e,f\n",
    "odd.csv": b'id,text,,\n1,one,a,b\n2,t"wo,c,d\n\n3,three,e,f\n',
    "objects.jsonl": b'{"text": "one"}\n{"text": "two", "n": [1]}\n{"n": 2, "text": "three"}\n',
    "stored.parquet": parquet_bytes({"text": ["one", "two", "three"], "n": [1, None, 2**60]}),
    "packed.parquet": gzip.compress(parquet_bytes({"text": ["one", "two", "three"]})),
}


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("name", FILES)
def test_all_columns_are_read_by_default_any_number_of_times(name: str, rows: int, write: WriteBytes) -> None:
    path = write(name, FILES[name])
    expected = read_table(path)
    slabs, sizes = patch.object(bulk, "SLAB", 24), patch.multiple(streaming, PART_ROWS=rows, BATCH_ROWS=rows)
    with slabs, sizes, open_parts(path) as first:
        _ = next(iter(first.read()))  # an unfinished read is no matter
        for _ in range(2):
            parts = first.again()
            (table,) = regrouped(parts.read(), most_rows=100, most_bytes=2**20)
            assert (parts.rows, parts.names, parts.sha256) == (3, list(expected.names), expected.sha256)
            assert [as_list(column) for column in table.columns] == [as_list(column) for column in expected.columns]
            assert list(table.names) == list(expected.names)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), most=st.integers(1, 30), plain=st.lists(st.booleans()),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_regrouped_tables_hold_the_same_rows_in_full_groups(sizes: list[int], most: int, plain: list[bool]) -> None:
    cells = [str(row) for row in range(sum(sizes))]
    tables, start = [], 0
    for number, size in enumerate(sizes):
        part = cells[start : start + size]
        columns: Any = [part if number < len(plain) and plain[number] else pa.chunked_array([pa.array(part)])]
        names = ["text"]
        tables.append(Table(source="x", sha256="", format="csv", names=names, columns=columns, lines=None, first=start))
        start += size
    groups = list(regrouped(tables, most_rows=most, most_bytes=2**30))
    assert [cell for group in groups for cell in as_list(group.columns[0])] == cells
    assert {group.rows for group in groups[:-1]} <= {most}
    assert [group.first for group in groups] == [most * number for number in range(len(groups))]
    assert len(list(regrouped(tables, most_rows=1000, most_bytes=1))) == len(tables)


@pytest.mark.parametrize("name", ["plain.csv", "objects.jsonl", "stored.parquet", "packed.parquet"])
@pytest.mark.parametrize("memory", [1, 2**20])
def test_standard_input_can_be_read_again(name: str, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_IN_MEMORY", memory)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(FILES[name])))
    kind: Any = None if "parquet" in name else name.rpartition(".")[2]
    with open_parts("-", format=kind) as first:
        for _ in range(2):
            found = [cell for table in first.again().read(["text"]) for cell in as_list(table.column("text"))]
            assert found == ["one", "two", "three"]


def test_no_room_to_keep_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", full)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(FILES["plain.csv"])))
    with pytest.raises(StorageError, match="No space"), open_parts("-"):
        pass


@pytest.mark.parametrize("read", [read_table, lambda source: open_parts(source).__enter__()])
def test_a_closed_standard_input_is_told(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        read("-")


def as_list(column: Any) -> list[Any]:
    return column if isinstance(column, list) else list(column.to_pylist())
