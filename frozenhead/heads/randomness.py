"""The random streams of one head: initial weights, order of rows, dropout. None depends on another, or on other heads.

Dropout draws 16 bits for each unit, four units to a number of SFC64: torch's uniform float32 take six times as long,
a tenth of a whole step of training.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

LEVELS = 1 << 16


class Streams:
    """The three streams of a seed.

    Parameters
    ----------
    seed : int
    dropout : float in [0, 1)

    Attributes
    ----------
    start : torch.Generator
        Of the initial weights.
    share : float
        Share of units kept: 1 - dropout, to the nearest 1/65536. What is kept is divided by it, so that the expectation
        is kept too.
    """

    def __init__(self, seed: int, dropout: float) -> None:
        import torch

        states = np.random.SeedSequence(seed).generate_state(3, np.uint64)
        self.start, self._order = (torch.Generator().manual_seed(int(s) >> 1) for s in states[:2])
        self._dropout = np.random.Generator(np.random.SFC64(int(states[2])))
        self._kept = max(1, round((1 - dropout) * LEVELS))  # of the levels
        self.share = self._kept / LEVELS

    def order(self, n: int, *, block: int = 1, window: int | None = None) -> "torch.Tensor":
        """The numbers 0 to n - 1 in a new order.

        With fewer than n in a `window`: blocks of so many numbers in a random order, cut into windows, and the numbers
        of each window in a random order. Who reads windows one after the other then reads only whole blocks.
        """
        import torch

        if window is None or n <= window:
            return torch.randperm(n, generator=self._order)
        starts = torch.randperm(-(-n // block), generator=self._order) * block
        order = (starts[:, None] + torch.arange(block)).ravel()
        order = order[order < n]  # the last block may be short
        for i in range(0, n, window):
            part = order[i : i + window]
            order[i : i + window] = part[torch.randperm(len(part), generator=self._order)]
        return order

    def keep(self, out: NDArray[np.bool_]) -> None:
        """Draw which units stay, into an array whose size is a multiple of 4."""
        if self._kept == LEVELS:
            out[...] = True
            return
        drawn = self._dropout.integers(0, 1 << 64, size=out.size // 4, dtype=np.uint64)
        np.less_equal(drawn.view(np.uint16).reshape(out.shape), np.uint16(self._kept - 1), out=out)
