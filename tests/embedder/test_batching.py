"""Laws of token-budget batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.embedder.batching import token_batches

lengths = st.lists(st.integers(1, 60), max_size=80)


@given(lengths, st.integers(1, 300))
def test_every_row_stands_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    batches = token_batches(lengths, budget=budget)
    assert sorted(int(row) for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) for batch in batches)


@given(lengths, st.integers(1, 300))
def test_no_batch_of_several_rows_exceeds_the_budget_with_its_padding(lengths: list[int], budget: int) -> None:
    for batch in token_batches(lengths, budget=budget):
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


@given(lengths, st.integers(1, 300))
def test_no_two_neighbouring_batches_would_fit_into_one(lengths: list[int], budget: int) -> None:
    # In the order in which they were cut; of batches of one length the full ones come first.
    batches = sorted(
        token_batches(lengths, budget=budget),
        key=lambda batch: (max(lengths[row] for row in batch), min(lengths[row] for row in batch), -len(batch)),
    )
    for i in range(len(batches) - 1):
        first_of_next = min(lengths[row] for row in batches[i + 1])
        assert (len(batches[i]) + 1) * first_of_next > budget


def test_rows_of_similar_length_stand_together() -> None:
    lengths = np.random.default_rng(0).integers(3, 100, 2000)
    batches = token_batches(lengths, budget=1024)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded / lengths.sum() < 1.05


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_is_the_same_for_a_seed(seed: int) -> None:
    lengths = list(range(3, 60))
    first, second = (token_batches(lengths, budget=100, seed=seed) for _ in range(2))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]
