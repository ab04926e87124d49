"""Texts -> token ids, cut at the length a space keeps, with the count before the cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Texts given to the tokenizer at once. It cannot be interrupted: 16,384 long ones kept Ctrl-C waiting for 30 s.
TOKENIZED_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """Tokenised texts.

    Attributes
    ----------
    rows : list of dict
        For each text the model's inputs as lists of int, truncated to `max_length`.
    counts : int32 array (n,)
        Tokens before truncation, special tokens included.
    lengths : int32 array (n,)
        Tokens after truncation.
    """

    rows: list[dict[str, list[int]]]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int32]


def tokenize(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> TokenRows:
    """Token ids of each text, cut at `max_length`, and how many tokens there were before the cut."""
    rows: list[dict[str, list[int]]] = []
    counts = np.zeros(len(texts), np.int32)
    for start in range(0, len(texts), TOKENIZED_AT_ONCE):
        part = list(texts[start : start + TOKENIZED_AT_ONCE])
        whole = tokenizer(part, padding=False, truncation=False, verbose=False)
        counts[start : start + len(part)] = [len(ids) for ids in whole["input_ids"]]
        rows += [{name: whole[name][i] for name in whole} for i in range(len(part))]
        long = np.flatnonzero(counts[start : start + len(part)] > max_length)
        if len(long):
            # The tokenizer knows how to cut: [SEP] stays, and some models cut on the left.
            cut = tokenizer([part[i] for i in long], padding=False, truncation=True, max_length=max_length)
            for j, i in enumerate(long):
                rows[start + i] = {name: cut[name][j] for name in cut}
    lengths = np.array([len(row["input_ids"]) for row in rows], np.int32)
    return TokenRows(rows=rows, counts=counts, lengths=lengths)


def join_rows(parts: Sequence[TokenRows]) -> TokenRows:
    """Tokenised texts one after the other."""
    return TokenRows(
        rows=[row for part in parts for row in part.rows],
        counts=np.concatenate([part.counts for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
    )
