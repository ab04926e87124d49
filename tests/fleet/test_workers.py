"""`embed --worker I/N`: independent processes that share a corpus, and the `embed` that makes the run of it."""

import dataclasses
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozenhead.cache import Space, VectorCache
from frozenhead.cli import main
from frozenhead.commands.voice import Silence
from frozenhead.errors import FleetError, FrozenheadError, UsageError
from frozenhead.fleet import JobNote
from tests.cache.examples import make_space
from tests.fleet.conftest import assert_same_vectors, cached_vectors, distinct_texts, run_rows

RunEmbed = Callable[..., dict[str, Any]]


class Ear(Silence):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def notes(cache: Path) -> list[Path]:
    return list(cache.glob("v1/jobs/*"))


def test_workers_embed_every_text_once_and_embed_makes_the_run_of_a_single_process(
    run_embed: RunEmbed, table: Path, tmp_path: Path
) -> None:
    results = [run_embed(worker=f"{i}/3") for i in (2, 0, 1)]
    texts = distinct_texts(table)
    assert sum(result["distinct"] for result in results) == len(texts)
    assert all(result["computed"] == result["distinct"] > 0 for result in results)
    assert not (tmp_path / "run").exists()
    whole = run_embed()
    assert (whole["computed"], whole["cached"]) == (0, len(texts))
    single = run_embed(out=tmp_path / "single", cache_dir=tmp_path / "other")
    assert_same_vectors(tmp_path / "cache", tmp_path / "other", texts)
    assert run_rows(tmp_path / "run").equals(run_rows(tmp_path / "single"))
    assert whole["features"] == single["features"]


def test_a_worker_again_finds_its_share_cached(run_embed: RunEmbed) -> None:
    first, second = run_embed(worker="1/2"), run_embed(worker="1/2")
    assert (second["computed"], second["cached"]) == (0, first["distinct"])


def test_a_dry_run_of_a_worker_counts_its_share_and_writes_nothing(run_embed: RunEmbed, tmp_path: Path) -> None:
    dry = run_embed(worker="1/2", dry_run=True)
    assert not (tmp_path / "cache").exists()
    done = run_embed(worker="1/2")
    assert (dry["to_embed"], dry["cached"]) == (done["computed"], 0)


def test_the_keys_of_a_share_are_those_that_the_encoder_sees(run_embed: RunEmbed, table: Path) -> None:
    counts = [run_embed(worker=f"{i}/2", prefix="query: ")["computed"] for i in range(2)]
    assert sum(counts) == len(distinct_texts(table))
    assert run_embed(prefix="query: ")["computed"] == 0


def test_more_workers_than_texts_leave_some_without_work(run_embed: RunEmbed, table: Path) -> None:
    table.write_text("text,label\nthe cat,a\nthe dog,b\n")
    assert sum(run_embed(worker=f"{i}/5", corpus={"labelled": False})["computed"] for i in range(5)) == 2


def test_the_run_takes_the_note_of_the_job_away(run_embed: RunEmbed, tmp_path: Path) -> None:
    run_embed(worker="0/2")
    assert len(notes(tmp_path / "cache")) == 1
    run_embed(worker="1/2")
    run_embed(worker="0/3")  # another number of workers is no other job
    assert len(notes(tmp_path / "cache")) == 1
    run_embed()
    assert not notes(tmp_path / "cache")


def another_checkpoint(make_checkpoint: Callable[..., Path], place: Path) -> None:
    """Put another encoder where one is."""
    shutil.rmtree(place)
    make_checkpoint(place, seed=1)


def test_a_worker_with_another_encoder_is_refused_and_both_ids_are_shown(
    run_embed: RunEmbed, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "bert")
    first = run_embed(worker="0/2", model=str(folder))["spaces"]["pooler"]
    another_checkpoint(make_checkpoint, folder)
    mine = run_embed(worker="1/2", model=str(folder), dry_run=True)["spaces"]["pooler"]
    with pytest.raises(FleetError) as refused:
        run_embed(worker="1/2", model=str(folder))
    message = str(refused.value)
    assert refused.value.exit_code == 4
    assert first in message
    assert mine in message
    assert "other checkpoint files" in message
    [note] = notes(tmp_path / "cache")
    assert f"delete {note}" in message
    assert not list((tmp_path / "cache" / "v1").glob(f"{mine}/shards/*"))
    note.unlink()
    assert run_embed(worker="1/2", model=str(folder))["computed"] > 0


def test_a_worker_whose_auto_is_another_precision_is_told_the_option(
    run_embed: RunEmbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frozenhead.embedder import hardware

    run_embed(worker="0/2", precision=None)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    with pytest.raises(FleetError, match=r"precision bf16 instead of fp32(.|\n)*here --precision fp32"):
        run_embed(worker="1/2", precision=None)
    ear = Ear()
    result = run_embed(ear, precision=None)
    assert any("workers have embedded these texts into another space" in line for line in ear.lines)
    assert result["computed"] == result["distinct"]


def test_a_note_that_cannot_be_read_is_written_anew(run_embed: RunEmbed, tmp_path: Path) -> None:
    run_embed(worker="0/2")
    [note] = notes(tmp_path / "cache")
    for damaged in (
        b"",
        b"{",
        b'{"format": 1}',
        b'{"format": 2, "spaces": [], "host": "x"}',
        b'{"format": 1, "spaces": 3}',
    ):
        note.write_bytes(damaged)
        run_embed(worker="1/2")
        assert json.loads(note.read_bytes())["format"] == 1


def test_of_workers_that_start_together_one_is_first_and_all_others_compare_with_it(tmp_path: Path) -> None:
    """Each comes with a space of its own: exactly one may stay."""
    gate, outcomes = threading.Barrier(8), list[str]()

    def work(length: int) -> None:
        note = JobNote(VectorCache(tmp_path), {"job": 1})
        space = dataclasses.replace(make_space(), max_length=length)
        gate.wait()
        try:
            note.agree([space])
            outcomes.append("agreed")
        except FleetError:
            outcomes.append("refused")

    for _ in range(10):
        shutil.rmtree(tmp_path / "v1", ignore_errors=True)
        outcomes.clear()
        threads = [threading.Thread(target=work, args=(10 + i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["agreed", *["refused"] * 7]
        assert len(notes(tmp_path)) == 1


def test_jobs_of_other_texts_or_options_do_not_meet(run_embed: RunEmbed, table: Path, tmp_path: Path) -> None:
    run_embed(worker="0/2")
    run_embed(worker="0/2", max_length=16)
    table.write_text(table.read_text() + "one more cat,a\n")
    run_embed(worker="0/2")
    assert len(notes(tmp_path / "cache")) == 3


def test_a_note_tells_a_space_from_every_other(tmp_path: Path) -> None:
    note, space = JobNote(VectorCache(tmp_path), {"job": 1}), make_space()
    note.agree([space])
    note.agree([space])
    other = dataclasses.replace(space, pooling="mean")
    with pytest.raises(FleetError):
        note.agree([space, other])
    assert note.difference([space]) is None
    assert "pooling mean instead of" in str(note.difference([other]))
    note.conclude([other])
    assert len(notes(tmp_path)) == 1
    note.conclude([space])
    assert not notes(tmp_path)
    assert isinstance(Space.from_dict(space.to_dict()), Space)


@pytest.mark.parametrize("worker", ["4/4", "a/b", "1", "0/0"])
def test_a_wrong_worker_is_wrong_usage(
    worker: str, table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["frozenhead", "embed", str(table), "--worker", worker])
    monkeypatch.setattr("frozenhead.cli.stop_on_signals", lambda: None)
    monkeypatch.setattr("frozenhead.cli.ignore_signals", lambda: None)
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2
    assert "0/" in capsys.readouterr().err


def test_the_json_of_a_worker_has_its_counts_and_the_words_say_what_comes_next(
    table: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("frozenhead.cli.stop_on_signals", lambda: None)
    monkeypatch.setattr("frozenhead.cli.ignore_signals", lambda: None)
    words = ["frozenhead", "embed", str(table), "--worker", "0/2", "--model", str(tiny_folder), "--device", "cpu"]
    for flags in (["--json"], []):
        monkeypatch.setattr("sys.argv", [*words, "--cache-dir", str(tmp_path / "cache"), *flags])
        with pytest.raises(SystemExit) as leaving:
            main()
        assert leaving.value.code == 0
        said = capsys.readouterr()
        if flags:
            result = json.loads(said.out)
            assert {"worker", "distinct", "cached", "computed", "spaces", "seconds"} <= set(result)
            assert result["worker"] == "0/2"
            texts = cached_vectors(tmp_path / "cache", distinct_texts(table))
            assert len(texts) == result["computed"]
        else:
            assert "no run is made" in said.err
            assert "the same command without --worker makes the run" in said.out


def test_a_worker_does_not_mind_a_run_that_it_does_not_make(run_embed: RunEmbed, table: Path) -> None:
    run_embed()
    table.write_text(table.read_text() + "one more cat,a\n")
    assert run_embed(worker="0/1")["computed"] == 1


def test_workers_leave_dropout_views_to_the_run(run_embed: RunEmbed) -> None:
    with pytest.raises(UsageError, match="--views"):
        run_embed(worker="0/2", views=2)


def test_the_refusal_is_one_of_ours() -> None:
    assert issubclass(FleetError, FrozenheadError)
    assert FleetError.exit_code == 4
