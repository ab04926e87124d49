"""How a command speaks to its user while it works, whoever that is: a terminal, a test, or nobody."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int, int], None]
"""Called with (units done, units to do); the bar appears at the first call."""


class Voice(Protocol):
    """Lines and bars. Results are returned, never spoken."""

    def say(self, line: str) -> None:
        """One line about what is going on."""

    def bar(self, title: str, *, unit: str) -> AbstractContextManager[Advance]:
        """A bar with rate and time left; the block advances it."""


class Silence:
    """A voice that says nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    @contextmanager
    def bar(self, title: str, *, unit: str) -> Iterator[Advance]:  # noqa: ARG002 (nothing is shown)
        """No bar."""
        yield lambda done, total: None  # noqa: ARG005
