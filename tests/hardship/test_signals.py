"""SIGINT and SIGTERM in the middle of `frozenhead embed`: what was computed is committed, and the next run goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from frozenhead.cache import VectorCache
from tests.faults.fake import BATCH_ROWS
from tests.hardship.jobs import command, embed
from tests.hardship.laws import assert_true, assert_whole, temporary_files
from tests.hardship.nursery import PATIENCE, Child, Done, Nursery

TEXTS = [f"text {i}" for i in range(120)]
SHARD_ROWS = 40
BATCH = 0.02  # seconds that a batch takes, where a signal is to find one in hand

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


class Folder:
    """A table of `TEXTS`, a cache and a run that stand in one folder."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        folder.mkdir()
        self.folder, self.cache, self._nursery = folder, folder / "cache", nursery
        (folder / "table.csv").write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
        self.words = ["embed", "table.csv", "--no-label", "--out", "run", "--cache-dir", "cache"]

    def start(self, *, seconds: float = 0.0, shard_rows: int | None = None, slow: str | None = None) -> Child:
        return self._nursery.start(
            command, words=self.words, cwd=self.folder, computed=self.folder / "computed", seconds=seconds,
            shard_rows=shard_rows, slow=slow, shutdown=True,
        )  # fmt: skip

    def computed(self) -> set[bytes]:
        """The keys of the batches that the encoder has given."""
        path = self.folder / "computed"
        data = path.read_bytes() if path.exists() else b""
        return {row.tobytes() for row in np.frombuffer(data, np.uint8).reshape(-1, 32)}

    def found(self) -> set[bytes]:
        return assert_true(self.cache, TEXTS)

    def assert_goes_on(self) -> None:
        """I4: the same command computes what is missing, says so, and ends with the run of an undisturbed one."""
        there = len(self.found())
        done = self.start().done()
        assert done.code == 0, done.err
        if 0 < there < len(TEXTS):
            assert f"resuming: {there:,} of {len(TEXTS):,} texts cached, {len(TEXTS) - there:,} to embed" in done.err
        assert_whole(self.cache, TEXTS)
        run = pd.read_parquet(self.folder / "run" / "corpus.parquet")
        assert run["text"].tolist() == TEXTS
        assert not temporary_files(self.folder / "cache")


@pytest.fixture
def folder(scratch: Path, nursery: Nursery) -> Folder:
    return Folder(scratch / "folder", nursery)


def assert_stopped(done: Done, code: int) -> None:
    """It ended with the code that a shell expects, and one line that says what to do."""
    assert done.code == code, done.err
    assert "stopped. What was finished before is kept; the same command goes on from there." in done.err
    assert_quiet(done)


def assert_quiet(done: Done) -> None:
    for word in ("Traceback", "Exception ignored", "error:"):
        assert word not in done.err, done.err


@pytest.mark.parametrize(("number", "code"), STOPS)
@pytest.mark.parametrize("batches", [1, 10])
def test_a_signal_loses_at_most_the_batch_in_hand(
    folder: Folder, number: signal.Signals, code: int, batches: int
) -> None:
    child = folder.start(seconds=BATCH)
    child.await_line("batch", batches)
    child.send(number)
    assert_stopped(child.done(), code)
    found = folder.found()
    assert (batches - 1) * BATCH_ROWS <= len(found) < len(TEXTS)
    assert len(folder.computed() - found) <= BATCH_ROWS
    assert not temporary_files(folder.cache)
    folder.assert_goes_on()


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_ends_as_one_signal_does(folder: Folder) -> None:
    child = folder.start(seconds=BATCH)
    child.await_line("batch", 3)
    assert os.getpgid(child.pid) == child.pid
    os.killpg(child.pid, signal.SIGINT)
    assert_stopped(child.done(), 130)
    assert len(folder.computed() - folder.found()) <= BATCH_ROWS
    folder.assert_goes_on()


@pytest.mark.parametrize(("number", "code"), STOPS)
@pytest.mark.parametrize("again", [1, 2])
def test_more_signals_during_the_flush_hurry_it_and_corrupt_nothing(
    folder: Folder, number: signal.Signals, code: int, again: int
) -> None:
    """The second comes while the flush waits for the disk, the third while what it left is taken away."""
    child = folder.start(seconds=BATCH, slow="fsync")
    child.await_line("batch", 3)
    waited = child.err().splitlines().count("fsync")
    child.send(number)
    for _ in range(again):
        child.await_line("fsync", waited + 1)
        child.send(number)
        time.sleep(0.01)
    assert_stopped(child.done(), code)
    folder.found()
    if again == 1:
        assert not temporary_files(folder.cache)
    folder.assert_goes_on()


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_second_signal_while_the_first_is_told_of_changes_nothing(
    folder: Folder, number: signal.Signals, code: int
) -> None:
    child = folder.start(seconds=BATCH, slow="notice")
    child.await_line("batch", 3)
    child.send(number)
    child.await_line("notice")
    child.send(number)
    done = child.done()
    assert done.code == code, done.err
    assert_quiet(done)


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_signal_while_shards_are_read_ahead_ends_the_command(
    folder: Folder, nursery: Nursery, number: signal.Signals, code: int
) -> None:
    """A thread is reading when the signal comes; the command waits for that one shard and no other."""
    assert nursery.run(embed, cache=folder.cache, texts=TEXTS, shard_rows=8).code == 0
    child = folder.start(slow="read")
    child.await_line("read", 3)
    child.send(number)
    done = child.done()
    assert_stopped(done, code)
    assert done.err.splitlines().count("read") <= 6 < len(TEXTS) // 8
    folder.assert_goes_on()


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_signals_at_any_moment_lose_nothing_and_end_with_the_right_code(
    scratch: Path, nursery: Nursery, seed: int
) -> None:
    """Stopped again and again, at moments that the clock decides, a command still comes to its end."""
    chance = random.Random(seed)
    moments, folder, kept = (200 if seed else 20), Folder(scratch / "0", nursery), set[bytes]()
    began = time.monotonic()
    assert Folder(scratch / "whole", nursery).start(shard_rows=SHARD_ROWS).done().code == 0
    longest = time.monotonic() - began
    for moment in range(moments):
        number, code = chance.choice(STOPS)
        (folder.folder / "computed").unlink(missing_ok=True)
        child = folder.start(shard_rows=SHARD_ROWS)
        child.await_line("begun")
        time.sleep(chance.uniform(0, longest))
        child.send(number)
        done = child.done()
        assert done.code in (0, code), done
        assert_quiet(done)
        found = folder.found()
        assert kept <= found, "a row that was there is lost"
        assert len(folder.computed() - found) <= SHARD_ROWS  # I5: the signal may come amid the last flush
        kept = found
        if len(found) == len(TEXTS):
            assert_whole(folder.cache, TEXTS)
            folder, kept = Folder(scratch / str(moment + 1), nursery), set()
    folder.assert_goes_on()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), STOPS)
def test_signals_at_any_moment_of_a_cold_start_end_with_the_right_code(
    tmp_path: Path, tiny_folder: Path, number: signal.Signals, code: int
) -> None:
    """The real command with a real encoder: most moments fall into imports. The next run goes on in the same cache."""
    table = tmp_path / "table.csv"
    table.write_text("text\n" + "".join(f"the cat sat on mat number {i}\n" for i in range(300)))
    # A shell that put pytest into the background has let it, and what it starts, ignore Ctrl-C.
    main = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); from frozenhead import cli; cli.main()"
    words = [sys.executable, "-c", main, "embed", str(table), "--no-label", "--model", str(tiny_folder)]
    words += ["--device", "cpu", "--out", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    chance = random.Random(code)
    began = time.monotonic()
    dry = subprocess.run([*words, "--dry-run"], check=True, capture_output=True, timeout=PATIENCE)
    longest = 1.5 * (time.monotonic() - began)
    assert dry.stdout
    for _ in range(6):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(chance.uniform(0, longest))
            process.send_signal(number)
            _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode in (0, code, -number), err  # the last: it came before `main`, or after its end
        if process.returncode != -number:
            assert "Traceback" not in err
            assert "Exception ignored" not in err
    whole = subprocess.run(words, check=True, capture_output=True, text=True, timeout=PATIENCE)
    assert whole.returncode == 0
    [space] = VectorCache(tmp_path / "cache").spaces()
    assert space.rows == 300
    assert not VectorCache(tmp_path / "cache").check_all().bad
