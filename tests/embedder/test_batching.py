"""Laws of token-budget batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.embedder.batching import MOST_PADDING, token_batches

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
def test_a_batch_takes_the_next_longer_row_unless_budget_or_padding_forbids(lengths: list[int], budget: int) -> None:
    # In the order in which they were cut; of batches of one length the full ones come first.
    batches = sorted(
        token_batches(lengths, budget=budget),
        key=lambda batch: (max(lengths[row] for row in batch), min(lengths[row] for row in batch), -len(batch)),
    )
    for i in range(len(batches) - 1):
        longest = min(lengths[row] for row in batches[i + 1])
        padded = (len(batches[i]) + 1) * longest
        padding = sum(longest - lengths[row] for row in batches[i])
        assert padded > budget or padding > MOST_PADDING * padded


@given(lengths, st.integers(1, 300))
def test_padding_stays_within_its_share_in_every_batch(lengths: list[int], budget: int) -> None:
    for batch in token_batches(lengths, budget=budget):
        tokens = [lengths[row] for row in batch]
        assert len(batch) * max(tokens) - sum(tokens) <= MOST_PADDING * len(batch) * max(tokens)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_is_the_same_for_a_seed(seed: int) -> None:
    lengths = list(range(3, 60))
    first, second = (token_batches(lengths, budget=100, seed=seed) for _ in range(2))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]
