"""How long texts are in tokens, and the length that `auto` stands for."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frozenhead.cache import distinct_keys, text_keys
from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.loading import load_tokenizer
from frozenhead.embedder.tokens import count_tokens
from frozenhead.texts import Chosen

_SHORTEST = 8  # of the lengths that auto considers


def token_counts(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    prefix: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int32]:
    """Tokens of each text (N,) behind a prefix, special tokens included; one that stands twice is tokenised once.

    Raises
    ------
    EncoderUnfit
        The tokenizer cannot be loaded.
    """
    first, inverse = distinct_keys(text_keys(texts))
    counts = count_tokens(load_tokenizer(checkpoint), Chosen(texts, first), prefix=prefix, progress=progress)
    return counts[inverse]


def special_tokens(checkpoint: Checkpoint) -> int:
    """How many special tokens the tokenizer puts around a text, [CLS] and [SEP] for BERT."""
    return int(load_tokenizer(checkpoint).num_special_tokens_to_add())


def shortest_length(counts: ArrayLike, *, limit: int, rows: ArrayLike | None = None) -> int:
    """The shortest power of two, from 8, that cuts under 1 % of the texts; the limit if none below it does.

    Parameters
    ----------
    counts : int array (N,)
        Tokens of each text, special tokens included.
    limit : int
        The encoder's own.
    rows : int array (N,), optional
        How many texts each count is of; default one.
    """
    tokens = np.asarray(counts)
    texts = np.ones(len(tokens), np.int64) if rows is None else np.asarray(rows)
    length = _SHORTEST
    while length < limit and 100 * texts[tokens > length].sum() >= texts.sum():
        length *= 2
    return min(length, limit)
