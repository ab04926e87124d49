"""`predict` on a table in parts: the same table as at once, one encoder loaded, and nothing half-written."""

import decimal
import io
import json
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frozenhead.commands import new_vectors
from frozenhead.commands import predict as module
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.outputs import TableWriter
from frozenhead.commands.predict import PredictOptions
from frozenhead.commands.predict import predict as run_predict
from frozenhead.corpus import bulk, streaming
from frozenhead.embedder.encoder import Encoder
from frozenhead.errors import DataError
from frozenhead.heads import Head, load_head
from tests.commands.conftest import make_table
from tests.commands.fits import FEATURE, predicted

KINDS = ("csv", "tsv", "jsonl", "parquet")


@pytest.fixture
def trained(run: Path) -> Path:
    fit(FitOptions(run=run, heads=("logreg", "tfidf"), features=(FEATURE,)))
    return run


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A table whose cells need care: quotes, formulas, line breaks, numbers, gaps."""
    frame = make_table(50, seed=5)
    frame["note"] = ['say "a, b"', "=1+1", "two\nlines", "", "-5"] * 10
    frame["n"] = np.arange(50)
    path = tmp_path / "new.csv"
    frame.drop(columns="label").to_csv(path, index=False)
    return path


def options_of(run: Path, data: Path, **given: Any) -> PredictOptions:
    return PredictOptions(run=run, data=str(data), device="cpu", **{"head": "logreg", "feature": FEATURE, **given})


def written(run: Path, data: Path, out: Path, **given: Any) -> tuple[dict[str, Any], bytes]:
    summary = run_predict(options_of(run, data, out=str(out), **given))
    return {key: value for key, value in summary.items() if key != "out"}, out.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 7, 49])
def test_a_table_in_parts_is_the_table_at_once(
    trained: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, rows: int
) -> None:
    whole, at_once = written(trained, new, tmp_path / f"whole.{kind}")
    monkeypatch.setattr(module, "PART_ROWS", rows)
    parts, in_parts = written(trained, new, tmp_path / f"parts.{kind}")
    assert {**parts, "cached": 0} == {**whole, "computed": 0, "cached": 0}  # its texts are cached by now
    if kind == "parquet":
        found, expected = (pd.read_parquet(io.BytesIO(data)) for data in (in_parts, at_once))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-12)
    else:
        assert numbers_apart(in_parts, kind) == numbers_apart(at_once, kind)


def numbers_apart(data: bytes, kind: str) -> Any:
    """The table without its probabilities, cell by cell as written: these may differ in the last digit."""
    if kind == "jsonl":
        records = [json.loads(line) for line in data.splitlines()]
        return [{key: value for key, value in row.items() if not key.startswith("prob_")} for row in records]
    frame = pd.read_csv(io.BytesIO(data), sep="\t" if kind == "tsv" else ",", dtype=str, keep_default_na=False)
    return frame.loc[:, ~frame.columns.str.startswith("prob_")].to_dict("records")


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_one_part_is_byte_for_byte_what_pandas_writes(
    trained: Path, new: Path, tmp_path: Path, kind: str
) -> None:
    _, data = written(trained, new, tmp_path / f"out.{kind}", head="tfidf", feature="text", raw=True)
    frame = pd.read_csv(new, dtype=object, keep_default_na=False)
    head = load_head(trained / "heads" / "text" / "tfidf")
    probabilities = head.predict_proba(frame["text"].to_numpy(object))
    frame["predicted"] = head.decide(probabilities)
    frame["prob_ham"], frame["prob_spam"] = probabilities.T
    buffer = io.BytesIO()
    if kind == "parquet":
        frame.to_parquet(buffer, index=False)
    elif kind == "jsonl":
        buffer.write("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")).encode())
    else:
        frame.to_csv(buffer, index=False, sep="\t" if kind == "tsv" else ",")
    assert data == buffer.getvalue()


def test_standard_output_gets_part_after_part(trained: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, at_once = predicted(options_of(trained, new, head="tfidf", feature="text"))
    monkeypatch.setattr(module, "PART_ROWS", 20)
    sizes = []

    class Pipe(io.BytesIO):
        def write(self, data: Any) -> int:
            sizes.append(data.count(b"\n"))
            return super().write(data)

    pipe = Pipe()
    run_predict(options_of(trained, new, head="tfidf", feature="text"), stdout=pipe)
    assert len(sizes) == 3
    assert numbers_apart(pipe.getvalue(), "csv") == numbers_apart(at_once, "csv")


def test_the_encoder_is_loaded_once_for_all_parts_and_not_at_all_where_all_is_cached(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    class Counted(Encoder):
        def __init__(self, *args: Any, **given: Any) -> None:
            loaded.append(1)
            super().__init__(*args, **given)

    monkeypatch.setattr(new_vectors, "Encoder", Counted)
    monkeypatch.setattr(module, "PART_ROWS", 10)
    path = tmp_path / "unseen.csv"
    pd.DataFrame({"text": [f"an unseen text {'cat ' * i}" for i in range(25)]}).to_csv(path, index=False)
    first, output = predicted(options_of(trained, path))
    assert (len(loaded), first["computed"], first["cached"]) == (1, 25, 0)
    second, again = predicted(options_of(trained, path))
    assert (len(loaded), second["computed"], second["cached"]) == (1, 0, 25)
    assert output == again


def test_a_part_of_cached_and_unseen_and_doubled_texts_gets_each_its_own_vector(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = make_table(4)["text"].tolist()
    texts = [texts[0], "unseen one", texts[1], "unseen one", "unseen two", texts[0]] * 2
    path = tmp_path / "mixed.csv"
    pd.DataFrame({"text": texts}).to_csv(path, index=False)
    monkeypatch.setattr(module, "PART_ROWS", 6)
    summary, output = predicted(options_of(trained, path))
    table = pd.read_csv(io.BytesIO(output))
    assert (summary["computed"], summary["cached"]) == (2, 2 + 4)
    table["prob_spam"] = table["prob_spam"].round(12)  # the place in a part may change the last digit
    assert (table.groupby("text")["prob_spam"].nunique() == 1).all()
    assert table["prob_spam"].nunique() == 4


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_a_later_part_leaves_what_was_there_before(
    trained: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    out = tmp_path / f"out.{kind}"
    out.write_bytes(b"before")
    monkeypatch.setattr(module, "PART_ROWS", 20)
    calls, decide = [], Head.decide

    def failing(self: Head, probabilities: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise DataError("the third part")
        return decide(self, probabilities)

    monkeypatch.setattr(Head, "decide", failing)
    with pytest.raises(DataError, match="the third part"):
        run_predict(options_of(trained, new, out=str(out)))
    assert out.read_bytes() == b"before"
    assert [p.name for p in tmp_path.glob(".tmp-*")] == []


def test_a_column_that_is_empty_in_the_first_part_keeps_its_type_in_parquet(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "late.jsonl"
    rows: list[dict[str, Any]] = [{"text": f"the cat {i}", "note": None if i < 5 else "late"} for i in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(module, "PART_ROWS", 3)
    _, data = written(trained, path, tmp_path / "out.parquet", head="tfidf", feature="text")
    assert pd.read_parquet(io.BytesIO(data))["note"].dropna().tolist() == ["late"] * 5


def test_whole_numbers_beside_gaps_of_a_later_part_stay_whole(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "numbers.parquet"
    big = 2**60 + 1
    frame = pd.DataFrame({"text": [f"the cat {i}" for i in range(6)], "n": pd.array([big, 2, 3, None, 5, 6], "Int64")})
    frame.to_parquet(path)
    monkeypatch.setattr(module, "PART_ROWS", 2)
    _, data = written(trained, path, tmp_path / "out.parquet", head="tfidf", feature="text")
    assert pd.read_parquet(io.BytesIO(data), dtype_backend="numpy_nullable")["n"].tolist()[:3] == [big, 2, 3]
    _, text = written(trained, path, tmp_path / "out.csv", head="tfidf", feature="text")
    cells = pd.read_csv(io.BytesIO(text), dtype=str)["n"]
    assert cells.tolist()[:3] == [str(big), "2", "3"]


def test_a_part_that_does_not_fit_the_first_is_bad_data() -> None:
    with closing(TableWriter(io.BytesIO(), "parquet", raw=False)) as writer:
        writer.write(pd.DataFrame({"n": [1, 2]}))
        with pytest.raises(DataError, match="cannot be written as parquet"):
            writer.write(pd.DataFrame({"n": ["x"]}))


def test_a_header_that_is_a_formula_is_counted_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., Any]
) -> None:
    path = tmp_path / "formula.csv"
    pd.DataFrame({"text": ["the cat"] * 6, "=1+1": ["=2"] * 6}).to_csv(path, index=False)
    monkeypatch.setattr(module, "PART_ROWS", 2)
    summary, output = predicted(options_of(trained, path, head="tfidf", feature="text"))
    assert summary["escaped_cells"] == 7
    assert output.count(b"'=1+1") == 1
    assert output.count(b"'=2") == 6


def test_a_bad_row_far_inside_is_told_before_anything_is_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_ROWS", 2)
    path = tmp_path / "bad.csv"
    path.write_text("text\n" + "the cat\n" * 7 + '""\n' + "the dog\n" + '" "\n')
    pipe = io.BytesIO()
    with pytest.raises(DataError, match=r"line 9 \(row 8\).* is empty \(2 such rows in all\)"):
        run_predict(options_of(trained, path), stdout=pipe)
    assert pipe.getvalue() == b""


def test_a_table_that_is_plain_only_at_first_is_the_table_at_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("id,text,\n" + "1,the cat,x\n" * 30 + '2,the "odd" dog,y\n' + "3,the cat,\n")
    _, at_once = written(trained, path, tmp_path / "whole.csv", head="tfidf", feature="text")
    monkeypatch.setattr(bulk, "SLAB", 64)
    monkeypatch.setattr(module, "PART_ROWS", 8)
    _, in_parts = written(trained, path, tmp_path / "parts.csv", head="tfidf", feature="text")
    assert numbers_apart(in_parts, "csv") == numbers_apart(at_once, "csv")
    table = pd.read_csv(io.BytesIO(in_parts), dtype=str, keep_default_na=False)
    assert table["text"].tolist() == ["the cat"] * 30 + ['the "odd" dog', "the cat"]


def test_no_more_of_the_table_is_held_than_a_part(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peak memory above a short table's is that of a part, though this table is 30 times as long as one."""
    monkeypatch.setattr(module, "PART_ROWS", 1000)
    monkeypatch.setattr(bulk, "SLAB", 2**16)

    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.csv"
        path.write_text("text,note\n" + f"the cat,{'x' * 1000}\n" * rows)
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        held = []
        add = module._Done.add

        def watching(self: Any, *args: Any, **given: Any) -> None:
            held.append(pa.total_allocated_bytes() - before)
            add(self, *args, **given)

        with monkeypatch.context() as patched:
            patched.setattr(module._Done, "add", watching)
            run_predict(options_of(trained, path, out=str(tmp_path / "out.csv"), head="tfidf", feature="text"))
        peak: int = tracemalloc.get_traced_memory()[1] + max(held)
        tracemalloc.stop()
        return peak

    peak(1000)  # whatever is loaded once
    assert peak(30_000) < peak(2000) + 4 * 2**20  # the table has 30 MB


def test_a_torn_column_of_parquet_is_met_before_anything_is_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "torn.parquet"
    frame = pd.DataFrame({"text": ["the cat"] * 50, "note": [f"a note {i} {'x' * 50}" for i in range(50)]})
    frame.to_parquet(path, row_group_size=10, compression=None)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"a note 45", b"a no\xff\xfe 45"))
    monkeypatch.setattr(module, "PART_ROWS", 10)
    monkeypatch.setattr(streaming, "BATCH_ROWS", 10)  # or all is read before the first part is labelled
    pipe = io.BytesIO()
    with pytest.raises(DataError):
        run_predict(options_of(trained, path, head="tfidf", feature="text"), stdout=pipe)
    assert pipe.getvalue() == b""


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_that_changes_while_it_is_read_is_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path, out = tmp_path / f"changing.{kind}", tmp_path / "out.csv"

    def write(rows: int) -> None:
        frame = pd.DataFrame({"text": ["the cat"] * rows})
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)

    write(10)
    checked = module._checked_rows

    def then_changed(table: Any, text: str) -> int:
        rows = checked(table, text)
        write(12)
        return rows

    monkeypatch.setattr(module, "_checked_rows", then_changed)
    with pytest.raises(DataError, match=r"changed while it was read"):
        run_predict(options_of(trained, path, out=str(out), head="tfidf", feature="text"))
    assert not out.exists()


def test_long_cells_make_smaller_parts(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.parquet"
    pd.DataFrame({"text": [f"{i} {'the cat ' * 100}" for i in range(60)]}).to_parquet(path, row_group_size=10)
    monkeypatch.setattr(module, "PART_BYTES", 8000)
    monkeypatch.setattr(streaming, "BATCH_BYTES", 8000)
    sizes: list[int] = []
    add = module._Done.add

    def counted(self: Any, frame: pd.DataFrame, **given: Any) -> None:
        sizes.append(len(frame))
        add(self, frame, **given)

    monkeypatch.setattr(module._Done, "add", counted)
    predicted(options_of(trained, path, head="tfidf", feature="text"))
    assert sum(sizes) == 60
    assert max(sizes) <= 20


def test_decimals_that_grow_in_a_later_part_keep_their_type(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.parquet"
    prices = pa.array([decimal.Decimal("9.99")] * 5 + [decimal.Decimal("12345.67")], pa.decimal128(12, 2))
    pq.write_table(pa.table({"text": ["the cat"] * 6, "price": prices}), path)
    monkeypatch.setattr(module, "PART_ROWS", 2)
    _, data = written(trained, path, tmp_path / "out.parquet", head="tfidf", feature="text")
    assert pq.read_table(io.BytesIO(data))["price"].combine_chunks() == prices
