"""The length that `auto` stands for."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.embedder import find_checkpoint, shortest_length, special_tokens, token_counts
from tests.conftest import WORDS

counts = st.lists(st.one_of(st.integers(2, 40), st.sampled_from([8, 9, 16, 17, 64, 65, 600])), min_size=1, max_size=400)


@given(tokens=counts, limit=st.integers(3, 600))
def test_auto_is_the_shortest_power_of_two_that_cuts_under_one_per_cent(tokens: list[int], limit: int) -> None:
    chosen = shortest_length(tokens, limit=limit)
    candidates = [2**k for k in range(3, 12) if 2**k < limit]
    enough = [n for n in candidates if 100 * sum(t > n for t in tokens) < len(tokens)]
    assert chosen == (min(enough) if enough else limit)


@pytest.mark.parametrize(("longer", "expected"), [(0, 8), (6, 8), (7, 16), (8, 16)])
def test_one_per_cent_is_not_under_one_per_cent(longer: int, expected: int) -> None:
    tokens = [9] * longer + [8] * (700 - longer)
    assert shortest_length(tokens, limit=512) == expected


def test_rows_are_counted_copies_and_special_tokens_with_them(tiny_folder: Path) -> None:
    checkpoint = find_checkpoint(tiny_folder)
    texts = ["the cat", " ".join(WORDS * 9), "the cat", "a"]
    told: list[tuple[int, int]] = []
    tokens = token_counts(checkpoint, texts, progress=lambda done, total: told.append((done, total)))
    assert tokens.tolist() == [4, 9 * len(WORDS) + 2, 4, 3]
    assert tokens.dtype == np.int32
    assert told[-1] == (3, 3)  # a copy is tokenised once
    assert special_tokens(checkpoint) == 2
