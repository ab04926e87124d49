"""What deserves a word while texts are embedded: one that takes minutes, and those that it cannot read."""

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import Space
from frozenhead.embedder.tokens import TokenRows

MANY_WINDOWS = 100  # of one text: half a minute of a bert-base on two cores
_MOST_NOTES = 5

logger = logging.getLogger(__name__)


class Remarks:
    """Looks at tokenised texts as they come.

    Parameters
    ----------
    note : callable
        Told of work ahead.
    space : Space
    """

    def __init__(self, note: Callable[[str], None], space: Space) -> None:
        self._note, self._space = note, space
        self._notes = self._unknown = 0
        self._first = -1

    def look(self, rows: NDArray[np.intp], tokens: TokenRows) -> None:
        """Take note of the next texts, before they are computed; `rows` (n,) are their places."""
        windows = tokens.windows()
        many = windows[windows > MANY_WINDOWS]
        if len(many) and self._notes < _MOST_NOTES:
            self._notes += 1
            texts = "1 text makes" if len(many) == 1 else f"{len(many):,} texts make"
            self._note(f"{texts} {many.sum():,} windows of {self._space.max_length} tokens")
        unknown = rows[tokens.unknown_only()]
        self._unknown += len(unknown)
        if len(unknown) and self._first < 0:
            self._first = int(unknown.min())

    def conclude(self, total: int, named: Callable[[int], str]) -> None:
        """Warn of texts of unknown words among `total` new ones; `named` describes the text of a place."""
        if self._unknown:
            logger.warning(
                "%s of %s new texts are unknown words only to this tokenizer; their vectors say little (first: %s)",
                f"{self._unknown:,}",
                f"{total:,}",
                named(self._first),
            )
