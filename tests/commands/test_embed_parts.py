"""A corpus embedded in parts leaves the run that it leaves when memory holds it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frozenhead.cache import VectorCache
from frozenhead.commands import embedding
from frozenhead.commands.vectors import run_vectors
from frozenhead.embedder import embed_texts
from frozenhead.embedder.encoder import Encoder
from frozenhead.errors import DataError, StorageError, UsageError
from frozenhead.runs import Run
from tests.commands.conftest import make_table
from tests.commands.test_embed import Notes
from tests.corpus.test_large import tiny_parts

MakeRun = Callable[..., dict[str, Any]]


def write_as(kind: str, folder: Path, frame: pd.DataFrame) -> Path:
    """The rows as a file, or a folder of three."""
    if kind == "folder":
        (folder / "data").mkdir()
        for number in range(3):
            frame[number * 40 : number * 40 + 40].to_csv(folder / "data" / f"{number}.csv", index=False)
        return folder / "data"
    path = folder / f"data.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        table = pa.Table.from_pylist(frame.to_dict("records"))
        if kind == "large.parquet":  # as pandas writes strings
            table = table.cast(pa.schema([(name, pa.large_string()) for name in table.column_names]))
        pq.write_table(table, path)
    return path


def run_files(folder: Path) -> dict[str, Any]:
    """What the files of a run say, but for when and where it was made."""
    found: dict[str, Any] = {"corpus.parquet": (folder / "corpus.parquet").read_bytes()}
    for path in [folder / "run.json", *sorted((folder / "features").glob("*.json"))]:
        content = json.loads(path.read_text())
        found[path.name] = {k: v for k, v in content.items() if k not in ("created", "cache", "shards", "command")}
    return found


def told(result: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in result.items() if k not in ("run", "seconds")}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "large.parquet", "folder"])
def test_a_run_in_parts_is_the_run_in_memory(
    make_run: MakeRun, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(write_as(kind, tmp_path, make_table()))
    given: dict[str, Any] = {"data": data, "pooling": "pooler,mean", "max_length": 5}
    whole = make_run(out=tmp_path / "whole", stream=False, **given)
    monkeypatch.setenv("FROZENHEAD_CACHE_DIR", str(tmp_path / "other"))
    with tiny_parts():
        parts = make_run(out=tmp_path / "parts", stream=True, **given)
    assert told(parts) == told(whole)
    assert run_files(tmp_path / "parts") == run_files(tmp_path / "whole")
    assert len(VectorCache().spaces()[0].id) == 64
    one, two = Run.open(tmp_path / "parts"), Run.open(tmp_path / "whole")
    for name, record in one.features().items():
        vectors = run_vectors(one, record, one.corpus(), name=name, cache_dir=None)
        others = run_vectors(two, two.features()[name], two.corpus(), name=name, cache_dir=None)
        # Batches of other texts: the same to the last bits of float32.
        assert abs(vectors - others).max() < 1e-6
    assert not list(tmp_path.glob(".tmp-*"))


def test_the_second_time_all_is_cached_and_the_run_is_the_same(make_run: MakeRun, tmp_path: Path) -> None:
    first, voice = make_run(), Notes()
    with tiny_parts():
        second = make_run(stream=True, voice=voice)
        dry = make_run(stream=True, dry_run=True)
    assert (second["cached"], second["computed"], second["arithmetic"]) == (first["distinct"], 0, None)
    assert (dry["cached"], dry["to_embed"], dry["distinct"]) == (first["distinct"], 0, first["distinct"])
    assert second["features"] == first["features"]
    assert voice.said[-1] == f"all {first['distinct']:,} texts cached; no forward pass"


def test_what_was_embedded_before_a_stop_is_kept_and_counted(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stopped(*args: Any, **given: Any) -> Any:
        calls.append(len(args[1]))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return embed_texts(*args, **given)

    with tiny_parts(), monkeypatch.context() as context:
        context.setattr(embedding, "embed_texts", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_run(stream=True)
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".tmp-*"))
    voice = Notes()
    with tiny_parts():
        result = make_run(stream=True, voice=voice)
    assert 0 < result["cached"] < result["distinct"]
    assert result["cached"] + result["computed"] == result["distinct"]
    counts = f"{result['cached']:,} of {result['distinct']:,} texts cached, {result['computed']:,} to embed"
    assert f"resuming: {counts}" in voice.said


def test_one_encoder_and_one_bar_serve_all_buckets(make_run: MakeRun, tmp_path: Path) -> None:
    class Bars(Notes):
        def __init__(self) -> None:
            super().__init__()
            self.moves: list[tuple[str, int, int]] = []

        def bar(self, title: str, *, unit: str) -> Any:
            from contextlib import nullcontext

            return nullcontext(lambda done, total: self.moves.append((title, done, total)))

    voice = Bars()
    with tiny_parts(), patch.object(embedding, "Encoder", wraps=Encoder) as encoder:
        result = make_run(stream=True, voice=voice)
    assert encoder.call_count == 1
    dones = [done for _, done, _ in voice.moves]
    assert {title for title, _, _ in voice.moves} == {"tiny-bert"}
    assert {total for _, _, total in voice.moves} == {result["computed"]}
    assert dones == sorted(dones)
    assert dones[-1] == result["computed"]
    assert sum("fp32" in line for line in voice.said) == 2  # what is begun, and on what


@pytest.mark.parametrize(
    "given",
    [
        {"max_length": "auto"},
        {"prefix": "call now: "},
        {"long": "windows", "max_length": 8},
        {"corpus": {"group_duplicates": True}},
        {"corpus": {"split_by": "text"}},
        {"corpus": {"labelled": False}},
    ],
    ids=str,
)
def test_options_mean_the_same_in_parts(make_run: MakeRun, tmp_path: Path, given: dict[str, Any]) -> None:
    voices = Notes(), Notes()
    make_run(out=tmp_path / "whole", voice=voices[0], **given)
    with tiny_parts():
        make_run(out=tmp_path / "parts", stream=True, voice=voices[1], **given)
    assert run_files(tmp_path / "parts") == run_files(tmp_path / "whole")
    chosen = [[line for line in voice.said if "max length" in line] for voice in voices]
    assert chosen[0] == chosen[1]


def test_other_rows_are_refused_in_parts(make_run: MakeRun, table: Path) -> None:
    make_run()
    with tiny_parts():
        with pytest.raises(UsageError, match="another split in some rows"):
            make_run(stream=True, corpus={"seed": 3})
        make_table(90, seed=1).to_csv(table, index=False)
        with pytest.raises(UsageError, match="120 rows, not 90"):
            make_run(stream=True)
        assert make_run(stream=True, overwrite=True)["rows"] == 90


def test_what_needs_memory_or_a_second_reading_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--no-stream"):
        make_run(stream=True, views=2)
    with pytest.raises(UsageError, match="standard input is none"):
        make_run(stream=True, data="-")


def test_a_large_file_is_read_in_parts_unless_told_otherwise(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frozenhead.corpus.sources.LARGE_ROWS", 100)
    with patch.object(embedding, "load_corpus", side_effect=AssertionError):
        make_run()
    with patch.object(embedding, "stream_corpus", side_effect=AssertionError):
        make_run(stream=False)
    monkeypatch.setattr("frozenhead.corpus.sources.LARGE_ROWS", 200)
    with patch.object(embedding, "stream_corpus", side_effect=AssertionError):
        make_run()


def test_a_fault_in_the_middle_leaves_nothing(make_run: MakeRun, tmp_path: Path, tiny_folder: Path) -> None:
    data = write_as("folder", tmp_path, make_table())
    (data / "1.csv").write_text("text,label\nfine,ham\nnot fine\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    with tiny_parts(), pytest.raises(DataError, match=r"1\.csv, line 3 \(row 2\)"):
        make_run(data=str(data), stream=True)
    shutil.rmtree(data)
    write_as("folder", tmp_path, make_table())
    full = patch("frozenhead.runs.write_parquet", side_effect=OSError(28, "No space left on device"))
    with tiny_parts(), full, pytest.raises(StorageError, match="The disk or quota is full"):
        make_run(data=str(data), stream=True)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "run") == before
