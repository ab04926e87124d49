"""Laws of overlapping work: order, bounds, and where errors come out."""

import threading
from collections.abc import Iterator

import pytest

from frozenhead.embedder.pipeline import Behind, ahead

DEPTH = 3


class Boom(Exception):
    pass


def counted(made: list[int], n: int = 1000) -> Iterator[int]:
    for i in range(n):
        made.append(i)
        yield i


def test_what_is_made_ahead_comes_in_order_and_whole() -> None:
    with ahead(iter(range(100)), depth=DEPTH) as items:
        assert list(items) == list(range(100))


def test_the_maker_is_never_further_ahead_than_the_depth() -> None:
    made: list[int] = []
    with ahead(counted(made), depth=DEPTH) as items:
        for taken, _ in zip(range(1, 50), items, strict=False):
            assert len(made) <= taken + DEPTH + 1  # those that wait, and the one in the maker's hand


def test_leaving_early_stops_the_maker() -> None:
    made: list[int] = []
    with ahead(counted(made), depth=DEPTH) as items:
        next(items)
    there = len(made)
    assert there <= DEPTH + 2
    assert not any(thread.name == "frozenhead-ahead" for thread in threading.enumerate())


def test_an_error_of_the_maker_comes_where_its_item_would_have() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise Boom

    got: list[int] = []
    with pytest.raises(Boom), ahead(failing(), depth=DEPTH) as items:
        got.extend(items)
    assert got == [1, 2]


def test_all_that_was_put_is_dealt_with_in_order_before_the_block_is_left() -> None:
    dealt: list[int] = []
    with Behind(dealt.append, depth=DEPTH) as behind:
        for i in range(100):
            behind.put(i)
    assert dealt == list(range(100))


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
def test_leaving_by_an_error_loses_nothing_that_was_put(error: type[BaseException]) -> None:
    dealt: list[int] = []
    go = threading.Event()

    def deal(item: int) -> None:
        go.wait()
        dealt.append(item)

    def work() -> None:
        with Behind(deal, depth=DEPTH) as behind:
            for i in range(DEPTH):
                behind.put(i)
            go.set()
            raise error

    with pytest.raises(error):
        work()
    assert dealt == list(range(DEPTH))


def test_no_more_than_the_depth_waits() -> None:
    put: list[int] = []
    go = threading.Event()

    def deal(_: int) -> None:
        go.wait()

    def fill() -> None:
        with Behind(deal, depth=DEPTH) as behind:
            for i in range(20):
                behind.put(i)
                put.append(i)

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join(timeout=0.3)
    assert len(put) <= DEPTH + 1  # and the one in hand
    go.set()
    thread.join()
    assert len(put) == 20


def test_an_error_of_the_thread_is_raised_by_a_later_put_and_nobody_waits_for_ever() -> None:
    dealt: list[int] = []

    def deal(item: int) -> None:
        if item == 5:
            raise Boom
        dealt.append(item)

    def work() -> None:
        with Behind(deal, depth=DEPTH) as behind:
            for i in range(1000):
                behind.put(i)

    with pytest.raises(Boom):
        work()
    assert dealt == list(range(5))


def test_when_items_are_dropped_their_work_is_told_to_stop() -> None:
    told: list[str] = []

    def deal(item: int) -> None:
        raise Boom

    def work() -> None:
        with Behind(deal, depth=DEPTH, dropped=lambda: told.append("dropped")) as behind:
            for i in range(1000):
                behind.put(i)

    with pytest.raises(Boom):
        work()
    assert told == ["dropped"]
    with Behind(told.append, depth=DEPTH, dropped=lambda: told.append("dropped")) as fine:
        fine.put("item")
    assert told == ["dropped", "item"]


def test_an_error_in_the_last_item_is_raised_on_leaving() -> None:
    def deal(item: int) -> None:
        raise Boom

    with pytest.raises(Boom), Behind(deal, depth=DEPTH) as behind:
        behind.put(1)
