"""A signal between any two lines of a commit: Python hears signals between two steps of the main thread."""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import pytest

import frozenhead
from frozenhead.cache import ShardWriter, VectorCache
from frozenhead.signals import Stopped
from tests.faults.fake import NOBODY, SPACE
from tests.hardship import jobs
from tests.hardship.laws import assert_true, assert_whole

ROOMS = tuple(str(Path(frozenhead.__file__).parent / name) for name in ("cache", "files.py", "embedder/compute.py"))
SIGTERM = 15

SHARD_ROWS = 8
TEXTS = [f"text {i}" for i in range(3 * SHARD_ROWS + 4)]  # the last ones are committed on the way out


@contextmanager
def stopped_at(*lines: int) -> Iterator[list[int]]:
    """Raise what SIGTERM raises before the lines of these numbers are run; yields the count of lines."""
    count, numbers = [0], frozenset(lines)
    former = sys.gettrace()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOMS):
            return None
        if event == "line":
            count[0] += 1
            if count[0] in numbers:
                sys.settrace(trace)  # a trace function that raises is taken away
                raise Stopped(SIGTERM)
        return trace

    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(former)


@contextmanager
def swallowed() -> Iterator[list[Any]]:
    """What was raised where nothing can leave, as in a generator thrown away; `stop_on_signals` raises it again."""
    lost: list[Any] = []

    def hook(unraisable: Any) -> None:
        assert isinstance(unraisable.exc_value, Stopped)
        lost.append(str(unraisable.object))

    with mock.patch("sys.unraisablehook", hook):
        yield lost


def embed(folder: Path, *lines: int) -> int:
    """Embed, stopped at these lines, and see that nothing committed is lost and little of the rest.

    Returns how many lines there were.
    """
    writers: list[ShardWriter] = []

    def remembered(*args: Any, **options: Any) -> ShardWriter:
        writers.append(ShardWriter(*args, **options))
        return writers[-1]

    folder.mkdir()
    cache, computed = folder / "cache", folder / "computed"
    computed.touch()
    # The temporary files bear the number of a process that is gone, as they would after the stop.
    with (
        swallowed() as lost,
        mock.patch("frozenhead.cache.store.ShardWriter", remembered),
        mock.patch("os.getpid", return_value=NOBODY),
        stopped_at(*lines) as count,
    ):
        try:
            jobs.embed(cache=str(cache), texts=TEXTS, shard_rows=SHARD_ROWS, computed=str(computed))
            assert bool(lines) == bool(lost)
        except Stopped:
            assert lines
    store = VectorCache(cache).space(SPACE)
    assert {name for writer in writers for name in writer.committed} <= set(store.pin())
    found = assert_true(cache, TEXTS)
    assert computed.stat().st_size // 32 - len(found) <= SHARD_ROWS
    return count[0]


def assert_survives(folder: Path, *lines: int) -> None:
    try:
        embed(folder, *lines)
        jobs.embed(cache=str(folder / "cache"), texts=TEXTS, shard_rows=SHARD_ROWS)
        assert_whole(folder / "cache", TEXTS)
    except BaseException as error:
        error.add_note(f"stopped at lines {lines}")
        raise


# Stopped between `open` and the `with` around it, a file is closed by the collector, which warns of it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("every", [23, pytest.param(3, marks=pytest.mark.slow)])
def test_a_signal_between_any_two_lines_loses_nothing_acknowledged(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    whole = embed(scratch / "whole")
    for line in range(1, whole, every):
        assert_survives(scratch / str(line), line)


@pytest.mark.parametrize("pairs", [30, pytest.param(400, marks=pytest.mark.slow)])
def test_a_second_signal_on_the_way_out_loses_nothing_acknowledged(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    whole = embed(scratch / "whole")
    chance = random.Random(pairs)
    for pair in range(pairs):
        first = chance.randrange(1, whole)
        assert_survives(scratch / str(pair), first, first + chance.randrange(1, 120))
