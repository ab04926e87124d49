"""Batches by token budget: little padding, and no batch too large for memory."""

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Most padding in a batch, as a share of its tokens. Below it every batch of a large chunk can stay.
MOST_PADDING = 0.02


def token_batches(
    lengths: Sequence[int] | NDArray[np.integer], *, budget: int, seed: int = 0
) -> list[NDArray[np.intp]]:
    """Cut rows into batches of similar length, each at most `budget` tokens with its padding.

    A batch takes longer rows only while its padding stays within `MOST_PADDING`, so that most hold one length.

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
    lengths [3, 9, 3] under a budget of 9 give the batches [0, 2] and [1], in some order.
    """
    lengths = np.asarray(lengths)
    order = np.argsort(lengths, kind="stable")
    batches: list[NDArray[np.intp]] = []
    start = real = 0  # where the batch begins, and its tokens without padding
    for position, length in enumerate(lengths[order].tolist()):
        padded = length * (position - start + 1)
        if position > start and (padded > budget or padded - real - length > MOST_PADDING * padded):
            batches.append(order[start:position])
            start, real = position, 0
        real += length
    if len(order):
        batches.append(order[start:])
    random.Random(seed).shuffle(batches)  # noqa: S311 (order of work, not a secret)
    return batches
