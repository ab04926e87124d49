"""A share of the keys: the part of a corpus that one of several workers embeds."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache.keys import Keys, key_shares
from frozenhead.errors import UsageError

MOST_WORKERS = 10**6

_FORM = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True, kw_only=True)
class Share:
    """Share `index` of `of`: each key belongs to exactly one of them, whoever asks.

    Parameters
    ----------
    index : int
        0 to `of` - 1.
    of : int
        At least 1.
    """

    index: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of <= MOST_WORKERS:
            last = f"{self.of - 1}/{self.of}" if 0 < self.of <= MOST_WORKERS else "3/4"
            raise UsageError(
                f"There is no worker {self.index}/{self.of}. Workers are counted from 0: 0/{last.partition('/')[2]} to "
                f"{last}, and at most {MOST_WORKERS:,}."
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> "Share":
        """The share that `I/N` names, as `0/4` to `3/4`. Raises `UsageError`."""
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"--worker is {text!r}; give I/N, such as 0/4 to 3/4 for four workers.")
        return cls(index=int(match[1]), of=int(match[2]))

    def rows(self, keys: Keys) -> NDArray[np.intp]:
        """The rows, in order, whose keys (N, 32) this share owns."""
        return np.flatnonzero(key_shares(keys, self.of) == self.index)
