"""Work that overlaps: a thread that makes things ahead of the caller, and one that deals with them behind it.

Both go through bounded queues, so that memory does not grow with the work. Knows nothing of texts and vectors.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_WAIT = 0.1  # seconds between looks at whether anybody still wants what is made


class _End:
    """After the last item."""


@contextmanager
def ahead(items: Iterable[T], *, depth: int) -> Iterator[Iterator[T]]:
    """The items in their order, up to `depth` of them made by a thread before they are asked for.

    An error of the maker is raised where its item would have come. Leaving the block stops the maker after
    the item it is at.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=depth)
    left = threading.Event()

    def hand_over(item: Any) -> None:
        while not left.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=_WAIT)
                return

    def make() -> None:
        try:
            for item in items:
                hand_over(item)
                if left.is_set():
                    return
            hand_over(_End())
        except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
            hand_over(_Raised(error))

    def made() -> Iterator[T]:
        while not isinstance(item := ready.get(), _End):
            if isinstance(item, _Raised):
                raise item.error
            yield item

    thread = threading.Thread(target=make, name="frozenhead-ahead", daemon=True)
    thread.start()
    try:
        yield made()
    finally:
        left.set()
        _join(thread)


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class Behind(Generic[T]):
    """A thread that deals with items one after the other, at most `depth` of them waiting.

    Leaving the block waits until all is dealt with, also when it is left by an error or Ctrl-C: what was
    handed over is not lost. A second Ctrl-C drops what still waits. An error of the thread is raised by the
    next `put`, or on leaving.

    Parameters
    ----------
    deal : callable
        Called with each item.
    depth : int
    dropped : callable, optional
        Called when items that wait will not be dealt with, so that work on them can be stopped.
    """

    def __init__(self, deal: Callable[[T], None], *, depth: int, dropped: Callable[[], None] = lambda: None) -> None:
        self._deal = deal
        self._tell_dropped = dropped
        self._waiting: queue.Queue[Any] = queue.Queue(maxsize=depth)
        self._error: BaseException | None = None
        self._dropped = False
        self._thread = threading.Thread(target=self._work, name="frozenhead-behind", daemon=True)

    def put(self, item: T) -> None:
        """Hand over an item; waits while `depth` of them wait already."""
        if self._error is not None:
            raise self._error
        self._waiting.put(item)

    def _work(self) -> None:
        while not isinstance(item := self._waiting.get(), _End):
            if self._error is not None or self._dropped:
                continue  # take what comes, so that nobody waits for room
            try:
                self._deal(item)
            except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
                self._error = error
                self._tell_dropped()

    def __enter__(self) -> "Behind[T]":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._waiting.put(_End())
            self._thread.join()
        except BaseException:
            self._dropped = True
            self._tell_dropped()
            self._waiting.put(_End())
            _join(self._thread)
            raise
        if self._error is not None and error is None:
            raise self._error


def _join(thread: threading.Thread) -> None:
    """Wait for a thread that is about to end, whatever comes in between; what came is raised after that."""
    interruption: BaseException | None = None
    while thread.is_alive():
        try:
            thread.join()
        except BaseException as error:  # noqa: BLE001 (raised below)
            interruption = error
    if interruption is not None:
        raise interruption
