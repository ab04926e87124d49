"""Batches by token budget: few padding tokens, and no batch too large for memory."""

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def token_batches(
    lengths: Sequence[int] | NDArray[np.integer], *, budget: int, seed: int = 0
) -> list[NDArray[np.intp]]:
    """Cut rows into batches of similar length, each at most `budget` tokens with its padding.

    Parameters
    ----------
    lengths : sequence of int (n,)
        Tokens of each text.
    budget : int
        Most tokens of a batch: rows times its longest text. A text longer than that is a batch alone.
    seed : int
        Batches come in shuffled order, so that the rate seen so far tells the time left.

    Returns
    -------
    list of int arrays
        Row numbers. Every row stands in exactly one batch.

    Examples
    --------
    lengths [3, 9, 4] under a budget of 9 give the batches [0, 2] and [1], in some order.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    batches: list[NDArray[np.intp]] = []
    start = 0
    for position, row in enumerate(order):
        if position > start and int(lengths[row]) * (position - start + 1) > budget:
            batches.append(order[start:position])
            start = position
    if len(order):
        batches.append(order[start:])
    random.Random(seed).shuffle(batches)  # noqa: S311 (order of work, not a secret)
    return batches
