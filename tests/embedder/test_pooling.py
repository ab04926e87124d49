"""Each pooling against its definition, written out by hand for two texts."""

import numpy as np
import pytest
import torch

from frozenhead.embedder.pooling import POOLINGS, pool

LAST = torch.tensor([[[1.0, -9.0], [3.0, -4.0], [100.0, 100.0]], [[5.0, 1.0], [7.0, 2.0], [0.0, -3.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])
POOLER = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
STATES = [LAST + 8000, LAST + 300, LAST + 200, LAST + 100, LAST]  # of five layers; last4 leaves the first out

EXPECTED = {
    "pooler": [[0.1, 0.2], [0.3, 0.4]],
    "cls": [[1.0, -9.0], [5.0, 1.0]],
    "mean": [[2.0, -6.5], [4.0, 0.0]],
    "max": [[3.0, -4.0], [7.0, 2.0]],
    "last4": [
        [301.0, 291.0, 201.0, 191.0, 101.0, 91.0, 1.0, -9.0],
        [305.0, 301.0, 205.0, 201.0, 105.0, 101.0, 5.0, 1.0],
    ],
}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_its_definition(pooling: str) -> None:
    np.testing.assert_allclose(pool(pooling, STATES, MASK, POOLER), EXPECTED[pooling], rtol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_is_inert(pooling: str) -> None:
    noisy = [torch.where(MASK.unsqueeze(-1).bool(), states, torch.tensor(float("nan"))) for states in STATES]
    np.testing.assert_array_equal(
        pool(pooling, noisy, MASK, POOLER),  # type: ignore[arg-type]
        pool(pooling, STATES, MASK, POOLER),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("pooling", POOLINGS)
def test_without_a_mask_every_token_is_real(pooling: str) -> None:
    np.testing.assert_array_equal(
        pool(pooling, STATES, None, POOLER),  # type: ignore[arg-type]
        pool(pooling, STATES, torch.ones_like(MASK), POOLER),  # type: ignore[arg-type]
    )


def test_pooler_needs_pooler_output() -> None:
    with pytest.raises(ValueError, match="pooler_output"):
        pool("pooler", STATES, MASK, None)
