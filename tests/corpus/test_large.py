"""A corpus in parts on disk is the corpus that is read whole: rows, splits, notes, and refusals."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.cache import distinct_keys
from frozenhead.corpus import Corpus, CorpusOptions, bulk, large, load_corpus, spool, streaming
from frozenhead.corpus.large import LargeCorpus, stream_corpus
from frozenhead.corpus.sources import find_sources
from frozenhead.errors import DataError, StorageError, UsageError
from tests.corpus.conftest import WriteBytes

PLAIN = CorpusOptions()
Rows = list[dict[str, Any]]


def made(count: int, *, classes: int = 3, texts: int = 40, seed: int = 0, **more: Any) -> Rows:
    """Rows of which some share a text, or a text and not the label."""
    rng = np.random.default_rng(seed)
    return [
        {"text": f"text {rng.integers(texts)}", "label": str(rng.integers(classes)),
         "fold": str(rng.choice(["train", "Train", "dev", "test"])), **more}
        for _ in range(count)
    ]  # fmt: skip


def write_rows(path: Path, rows: Rows) -> Path:
    """A file of the format that its name tells."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    else:
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(file.getvalue())
    return path


@contextmanager
def tiny_parts() -> Iterator[None]:
    """Slabs, parts, blocks and buckets so small that a few rows fill many."""
    with (
        patch.object(bulk, "SLAB", 100),
        patch.multiple(streaming, PART_ROWS=5, BATCH_ROWS=5),
        patch.multiple(spool, BUCKET_ROWS=11, SHARED_ROWS=13),
        patch.object(large, "ROWS_AT_ONCE", 17),
    ):
        yield


def streamed(data: Path | str, options: CorpusOptions, folder: Path) -> Any:
    """What is to be compared of a corpus in parts, or what is wrong with it."""
    try:
        with tiny_parts(), stream_corpus(data, find_sources(data, options), options, beside=folder / "run") as corpus:
            assert len(list(corpus.buckets())) == corpus.spool.buckets
            return facts(corpus), check_buckets(corpus)
    except (DataError, UsageError) as error:
        return str(error), None
    finally:
        assert not list(folder.glob(".tmp-*"))


def facts(corpus: Corpus | LargeCorpus) -> Any:
    table = pa.concat_tables([part.cast(plain_schema(part.schema)) for part in corpus.tables()])
    told = (corpus.classes, corpus.sources, corpus.columns, corpus.split_rule, corpus.notes, corpus.rows)
    return table.to_pylist(), told, corpus.counts.tolist()


def plain_schema(schema: pa.Schema) -> pa.Schema:
    kinds = {"text": pa.large_string(), "label": pa.large_string(), "split": pa.large_string()}
    return pa.schema([(field.name, kinds.get(field.name, field.type)) for field in schema])


def check_buckets(corpus: LargeCorpus) -> int:
    """Every row is in one bucket, with its own text, key and label, and every text in one."""
    table = pa.concat_tables([part.cast(plain_schema(part.schema)) for part in corpus.tables()])
    buckets = list(corpus.buckets())
    rows = np.concatenate([bucket.rows for bucket in buckets if bucket.rows is not None])
    assert sorted(rows.tolist()) == list(range(corpus.rows))
    for bucket in buckets:
        assert bucket.rows is not None
        assert (np.diff(bucket.rows) > 0).all()
        stored = table.take(pa.array(bucket.rows))
        assert list(bucket.texts) == stored["text"].to_pylist()
        assert [key.tobytes() for key in bucket.keys] == stored["key"].to_pylist()
        if bucket.labels is not None:
            assert [corpus.classes[code] for code in bucket.labels] == stored["label"].to_pylist()
    distinct = [len(distinct_keys(bucket.keys)[0]) for bucket in buckets]
    assert sum(distinct) == len(set(table["key"].to_pylist()))
    return len(buckets)


def whole(data: Path | str, options: CorpusOptions) -> Any:
    try:
        return facts(load_corpus(data, options))
    except (DataError, UsageError) as error:
        return str(error)


OPTIONS: list[dict[str, Any]] = [
    {}, {"group_duplicates": True}, {"labelled": False}, {"split_column": "fold"},
    {"split": "0.5/0.25/0.25", "seed": 7},
    {"split_by": "text"}, {"split_by": "text", "group_duplicates": True}, {"split_column": "fold", "split_by": "text"},
    {"test": "other"}, {"val": "other", "group_duplicates": True}, {"test": "other", "split_by": "text"},
    {"val": "other", "test": "third", "group_duplicates": True}, {"label": "none"}, {"text": "label", "label": "label"},
    {"split_column": "label"}, {"split_column": "none"}, {"split": "0.98/0.01/0.01"},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_corpus_in_parts_is_the_corpus_read_whole(suffix: str, options: dict[str, Any], tmp_path: Path) -> None:
    files = {"other": made(60, seed=1), "third": made(50, seed=2)}
    options = {
        name: str(write_rows(tmp_path / f"{value}{suffix}", files[value])) if value in files else value
        for name, value in options.items()
    }
    data, given = write_rows(tmp_path / f"data{suffix}", made(300)), CorpusOptions(**options)
    expected = whole(data, given)
    found, buckets = streamed(data, given, tmp_path)
    assert found == expected
    assert buckets is None or buckets > 5


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_folder_is_one_corpus_in_the_order_of_its_names(suffix: str, tmp_path: Path) -> None:
    rows = made(200)
    (tmp_path / "data").mkdir()
    for name, part in (("b", rows[130:]), ("a", rows[:80]), ("a1", rows[80:130])):
        write_rows(tmp_path / "data" / f"{name}{suffix}", part)
    (tmp_path / "data" / "_SUCCESS").touch()
    (tmp_path / "data" / ".hidden").mkdir()
    one = load_corpus(write_rows(tmp_path / f"one{suffix}", rows), PLAIN)
    found, _ = streamed(tmp_path / "data", PLAIN, tmp_path)
    assert found == whole(tmp_path / "data", PLAIN)
    assert found[0] == facts(one)[0]
    assert [(Path(s["path"]).name, s["rows"]) for s in found[1][1]] == [
        (f"a{suffix}", 80), (f"a1{suffix}", 50), (f"b{suffix}", 70),
    ]  # fmt: skip


def test_files_of_a_folder_agree_in_the_columns_that_count(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "b", "c"):
        rows = made(40) if name != "c" else [{"text": "x", "tag": "1"}]
        write_rows(tmp_path / "d" / f"{name}.csv", rows)
    found, _ = streamed(tmp_path / "d", PLAIN, tmp_path)
    assert found == whole(tmp_path / "d", PLAIN)
    assert found.startswith(f"{tmp_path}/d/c.csv has no column 'label'.")


@pytest.mark.parametrize(
    ("files", "options", "fact"),
    [
        ({}, {}, "d holds no files"),
        ({"_SUCCESS": b"", ".x": b""}, {}, "d holds no files"),
        ({"a.csv": b"text,label\na,x\n", "b.jsonl": b"{}"}, {}, "d/b.jsonl is jsonl, and d/a.csv is csv"),
        ({"a.csv": b"text,label\na,x\n", "README": b"hi"}, {}, "d/README: its name tells no format"),
        ({"a.csv": b"text,label\na,x\n", "b.csv": b""}, {}, "d/b.csv is empty"),
        ({"a.csv": b"text,label\na,x\n", "b.csv": b"text,label\n"}, {}, "d/b.csv has a header but no rows"),
        ({"a.csv": b"text,label\na,x\n", "b.csv": b"text,label\nb,x\nc\n", "c.csv": b"text,label\na,x\n"}, {},
         "d/b.csv, line 3 (row 2): found 1 field"),
        ({"a.jsonl": b'{"text": "a", "label": 1}\n', "b.jsonl": b'{"text": "a", "label": ""}\n'}, {},
         "d/b.jsonl, line 1 (row 1): the label in column 'label' is empty"),
        ({"a.parquet": b"PAR1", "b.parquet": b"PAR1"}, {}, "d/a.parquet cannot be read as Parquet"),
        ({"a.csv": b"text,label\na,x\n", "b.csv.gz": b"text"}, {}, "d/b.csv.gz is not gzip"),
        ({"a.csv": b"text,label\na,x\nb,x\n"}, {}, "every row has the label 'x'"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_folder_is_named(
    files: dict[str, bytes], options: dict[str, Any], fact: str, write: WriteBytes
) -> None:
    Path("d").mkdir()
    for name, data in files.items():
        write(f"d/{name}", data)
    found, _ = streamed("d", replace(PLAIN, **options), Path.cwd())
    assert fact in found
    assert found == whole("d", replace(PLAIN, **options))


def test_a_folder_within_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d" / "label=x").mkdir(parents=True)
    with pytest.raises(DataError, match="holds the folder 'label=x'"):
        find_sources(tmp_path / "d", PLAIN)


def test_a_named_format_reads_files_of_any_name(write: WriteBytes) -> None:
    Path("d").mkdir()
    for name in ("part-0", "part-1.txt"):
        write_rows(Path("d") / name, made(50))
    options = replace(PLAIN, format="csv")
    assert streamed("d", options, Path.cwd())[0] == whole("d", options)
    assert isinstance(whole("d", options), tuple)


def test_a_label_that_train_lacks_is_placed_with_its_line(tmp_path: Path) -> None:
    test = [*made(30), {"text": "new\nline", "label": "0", "fold": ""}, {"text": "odd", "label": "new", "fold": ""}]
    options = replace(PLAIN, test=str(write_rows(tmp_path / "t.csv", test)))
    data = write_rows(tmp_path / "data.csv", made(60))
    found, _ = streamed(data, options, tmp_path)
    assert "t.csv, line 34 (row 32): the label 'new' (1 rows, this the first) stands in test" in found
    assert found == whole(data, options)


def test_labels_that_only_their_type_tells_apart_are_found_over_parts(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": "1" if i < 30 else 1} for i in range(60)]
    data = write_rows(tmp_path / "a.jsonl", rows)
    found, _ = streamed(data, PLAIN, tmp_path)
    assert "line 31 (row 31): the label 1 and the label '1' of" in found
    assert found == whole(data, PLAIN)


def test_millions_of_labels_are_refused(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.csv", [{"text": "t", "label": f"{i}"} for i in range(50)])
    with patch.object(large, "MOST_LABELS", 40):
        found, _ = streamed(data, PLAIN, tmp_path)
    assert "the column 'label' holds more than 40 different labels" in found


def splits_of(texts: list[str], options: CorpusOptions, folder: Path) -> dict[str, str]:
    rows = [{"text": text, "label": str(len(text) % 2)} for text in texts]
    corpus = load_corpus(write_rows(folder / "s.csv", rows), options)
    return dict(zip(corpus.texts, corpus.frame["split"], strict=True))


@given(seed=st.integers(0, 2**32 - 1), start=st.integers(0, 500))
def test_by_text_a_split_follows_from_text_and_seed_alone(
    seed: int, start: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, options = tmp_path_factory.getbasetemp(), CorpusOptions(split_by="text", split="0.4/0.3/0.3", seed=seed)
    texts = ["x" * (i % 2) + f"text {i}" for i in range(700)]
    all_of_them = splits_of(texts, options, folder)
    some = splits_of([*texts[start : start + 200], *texts[start : start + 20]], options, folder)
    assert some == {text: all_of_them[text] for text in some}


def test_by_text_shares_are_as_expected_and_a_class_that_is_absent_is_named(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": str(i % 2)} for i in range(20_000)]
    options = CorpusOptions(split_by="text")
    corpus = load_corpus(write_rows(tmp_path / "a.csv", rows), options)
    assert corpus.split_rule == "by text 0.7/0.15/0.15, seed 2018"
    shares = corpus.counts.sum(axis=1) / len(rows)
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=4 * np.sqrt(0.21 / len(rows)))
    data = write_rows(tmp_path / "a.csv", [*rows, {"text": "rare", "label": "rare"}])
    with pytest.raises(DataError, match="class 'rare' has 1 row, too few to stand in every split"):
        load_corpus(data, options)
    assert streamed(data, options, tmp_path)[0] == whole(data, options)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.csv", made(200))
    full = patch("frozenhead.corpus.spool.text_keys", side_effect=OSError(28, "No space left on device"))
    for target in ("frozenhead.corpus.spool._scatter", "frozenhead.corpus.spool._texts_schema"):
        full = patch(target, side_effect=OSError(28, "No space left on device"))
        with full, pytest.raises(StorageError, match="The disk or quota is full"):
            streamed(data, PLAIN, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_spools_of_killed_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    from frozenhead.files import TEMPORARY_PREFIX, host_name

    dead, other = (tmp_path / f"{TEMPORARY_PREFIX}{host}-999999999-ab" for host in (host_name(), "elsewhere"))
    alive = tmp_path / f"{TEMPORARY_PREFIX}{host_name()}-1-ab"
    for folder in (dead, other, alive):
        folder.mkdir()
        (folder / "texts.arrow").touch()
    with spool.spool_folder(tmp_path / "run") as own:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([own.name, other.name, alive.name])
    assert not own.exists()
