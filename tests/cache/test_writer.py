"""A writer commits when enough has gathered, and keeps what was done however it is left."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from frozenhead.cache import ShardWriter, SpaceStore, text_keys
from frozenhead.cache.shard import check_shard
from frozenhead.errors import StorageError
from tests.cache.examples import DIM, assert_absent, assert_held, make_space, raiser, tokens_of, vectors_of

ROW_BYTES = DIM * 4
Stop = Callable[[], BaseException]


def give(writer: ShardWriter, *texts: str) -> None:
    keys = text_keys(texts)
    writer.add(keys, vectors_of(keys), tokens_of(keys))


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(tmp_path: Path, clock: Clock) -> ShardWriter:
    """A writer that commits after 30 seconds of `clock`."""
    return ShardWriter(tmp_path, make_space(), flush_seconds=30.0, clock=clock)


def test_a_shard_is_committed_when_the_bytes_are_reached_and_not_before(store: SpaceStore) -> None:
    writer = store.writer(flush_bytes=3 * ROW_BYTES)
    for text, committed in zip("abcdefg", [0, 0, 1, 1, 1, 2, 2], strict=True):
        give(writer, text)
        assert len(writer.committed) == committed
    assert_held(store, "abcdef")
    assert_absent(store, "g")


def test_a_shard_is_committed_when_its_oldest_row_is_old_enough(timed: ShardWriter, clock: Clock) -> None:
    clock.now += 100  # before the first row: does not count
    give(timed, "a")
    clock.now += 29
    give(timed, "b")
    assert timed.committed == []
    clock.now += 1
    give(timed, "c")
    assert len(timed.committed) == 1
    clock.now += 29  # the next shard is as old as its own first row
    give(timed, "d")
    clock.now += 29
    give(timed, "e")
    assert len(timed.committed) == 1
    clock.now += 1
    give(timed, "f")
    assert len(timed.committed) == 2


def test_a_refused_row_does_not_start_the_clock(timed: ShardWriter, clock: Clock) -> None:
    with pytest.raises(ValueError, match="finite"):
        timed.add(text_keys("x"), np.full((1, DIM), np.nan, np.float32), np.ones(1, np.int32))
    clock.now += 30
    give(timed, "a")
    assert timed.committed == []


def test_flushing_again_writes_nothing_again(store: SpaceStore) -> None:
    writer = store.writer()
    writer.flush()
    assert store.pin() == ()
    give(writer, "a")
    for _ in range(3):
        writer.flush()
    assert store.pin() == tuple(writer.committed)
    assert len(writer.committed) == 1


def test_the_name_committed_is_that_of_a_sound_shard(store: SpaceStore) -> None:
    with store.writer() as writer:
        give(writer, "a", "b")
        give(writer, "c")
    [name] = writer.committed
    data = (store.folder / "shards" / f"{name}.safetensors").read_bytes()
    assert check_shard(name, np.frombuffer(data, np.uint8), store.space).rows == 3


def test_equal_rows_in_any_order_and_batch_make_one_shard(store: SpaceStore) -> None:
    for batches in (["abc"], ["c", "ba"], ["b", "c", "a"]):
        with store.writer() as writer:
            for batch in batches:
                give(writer, *batch)
    assert len(store.pin()) == 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, RuntimeError, MemoryError])
def test_work_done_is_kept_when_the_block_is_left_by_an_error(store: SpaceStore, stop: Stop) -> None:
    def stopped() -> None:
        with store.writer() as writer:
            give(writer, "a", "b")
            raise stop()

    with pytest.raises(stop().__class__):
        stopped()
    assert_held(store, "ab")


def test_an_interrupt_during_the_commit_loses_nothing(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        with store.writer() as writer:
            give(writer, "a", "b")
            with monkeypatch.context() as patch:
                patch.setattr("os.replace", raiser(KeyboardInterrupt()))
                writer.flush()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert_held(store, "ab")


def test_a_full_disk_is_reported_once_and_not_tried_again(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def full(_: int) -> None:
        tries.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    def filled() -> None:
        with store.writer() as writer:
            give(writer, "a")
            monkeypatch.setattr("os.fsync", full)
            writer.flush()

    with pytest.raises(StorageError, match="full: make room") as caught:
        filled()
    assert caught.value.__context__ is caught.value.__cause__  # no second failure on top of the first
    assert len(tries) == 1
    assert store.pin() == ()


def test_a_full_disk_on_leaving_is_reported(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = store.writer()
    give(writer, "a")
    monkeypatch.setattr("os.fsync", raiser(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StorageError, match="full"):
        writer.__exit__(None, None, None)


def test_what_the_disk_refused_is_kept_for_a_second_flush(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = store.writer()
    give(writer, "a")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", raiser(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(StorageError):
            writer.flush()
    writer.flush()
    assert_held(store, "a")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_and_the_batch_before_it_kept(store: SpaceStore, value: float) -> None:
    keys = text_keys(["b", "c"])
    vectors = vectors_of(keys)
    vectors[1, 2] = value

    def given() -> None:
        with store.writer() as writer:
            give(writer, "a")
            writer.add(keys, vectors, tokens_of(keys))

    with pytest.raises(ValueError, match="not finite"):
        given()
    assert_held(store, "a")
    assert_absent(store, "bc")  # nothing of that call


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, make_space(dtype="float16"))
    with pytest.raises(ValueError, match="float16"):
        writer.add(text_keys("a"), np.full((1, DIM), 70_000, np.float32), np.ones(1, np.int32))


@pytest.mark.parametrize(
    ("keys", "vectors", "tokens"),
    [((1, 32), (2, DIM), (2,)), ((2, 32), (2, DIM), (1,)), ((2, 32), (2, DIM + 1), (2,)), ((2, 31), (2, DIM), (2,)),
     ((2, 32), (2,), (2,))],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused_and_spoil_nothing(
    store: SpaceStore, keys: tuple[int, ...], vectors: tuple[int, ...], tokens: tuple[int, ...]
) -> None:
    with store.writer() as writer:
        give(writer, "a")
        with pytest.raises(ValueError, match="Shapes do not fit"):
            writer.add(np.zeros(keys, np.uint8), np.zeros(vectors, np.float32), np.zeros(tokens, np.int32))
        give(writer, "b")
    assert_held(store, "ab")


def test_what_the_caller_does_to_its_arrays_later_does_not_matter(store: SpaceStore) -> None:
    keys = text_keys(["a"]).copy()
    vectors, tokens = vectors_of(keys), tokens_of(keys)
    with store.writer() as writer:
        writer.add(keys, vectors, tokens)
        keys[:], vectors[:], tokens[:] = 0, 0, 0
    assert_held(store, "a")


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_a_signal_in_the_midst_of_the_last_commit_loses_nothing(
    store: SpaceStore, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    sound, calls = os.replace, []

    def interrupted(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 1:
            raise stop
        sound(source, target)

    with pytest.raises(type(stop)), store.writer() as writer:  # noqa: PT012
        keys = text_keys(["a", "b"])
        writer.add(keys, vectors_of(keys), tokens_of(keys))
        monkeypatch.setattr(os, "replace", interrupted)
    assert len(calls) == 2
    assert_held(store, ["a", "b"])
