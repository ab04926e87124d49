"""The losses are torch's where torch has them, and their gradients are their slopes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from frozenhead.heads.losses import losses, slopes, target_table, validation_loss

# All in float64, where sums of some dozen terms differ by the order of addition alone.
ROUNDING = 1e-12
# Central differences of losses near 1: rounding 1e-16 / 1e-5, curvature (1e-5)^2.
SLOPE_TOLERANCE = 1e-8

N, K = 12, 4
W = np.array([0.5, 1.0, 3.0, 0.1])


def rows(seed: int = 0, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(N, K, generator=generator, dtype=torch.float64) * scale
    return z, torch.randint(K, (N,), generator=generator)


def targets_of(codes: torch.Tensor, smoothing: float) -> torch.Tensor:
    """(1, N, K), divided as `losses` says."""
    return torch.from_numpy(target_table(W, smoothing)[codes] / W[codes].sum())[None]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_the_cross_entropy_is_torchs_with_weights_and_smoothing(smoothing: float) -> None:
    z, codes = rows()
    theirs = cross_entropy(z, codes, weight=torch.from_numpy(W), label_smoothing=smoothing)
    for gamma in (None, 0.0):  # the focal loss with gamma 0 is the cross-entropy
        ours = losses(z[None], targets_of(codes, smoothing), gamma)
        assert float(ours) == pytest.approx(float(theirs), abs=ROUNDING)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_the_focal_loss_is_that_of_its_paper(gamma: float) -> None:
    z, codes = rows()
    p = np.exp(z.numpy()) / np.exp(z.numpy()).sum(axis=1, keepdims=True)
    right, w = p[np.arange(N), codes], W[codes]
    by_hand = (w * (1 - right) ** gamma * -np.log(right)).sum() / w.sum()
    assert float(losses(z[None], targets_of(codes, 0), gamma)) == pytest.approx(by_hand, abs=ROUNDING)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("gamma", [None, 0.0, 0.5, 1.0, 2.0])
def test_slopes_are_finite_differences_of_the_loss(gamma: float | None, smoothing: float) -> None:
    z, codes = rows()
    t = targets_of(codes, smoothing)
    found = slopes(z[None], t, t.sum(-1, keepdim=True), None if gamma is None else [gamma])[0]
    for i in np.ndindex(N, K):
        ends = []
        for h in (1e-5, -1e-5):
            moved = z.clone()
            moved[i] += h
            ends.append(float(losses(moved[None], t, gamma)))
        assert float(found[i]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=SLOPE_TOLERANCE)


@pytest.mark.parametrize("gamma", [None, 0.0, 0.5, 1.0, 3.0])
def test_scores_that_leave_no_doubt_give_finite_losses_and_slopes(gamma: float | None) -> None:
    z = torch.tensor([[[200.0, -200.0, 0.0, 0.0], [-200.0, 200.0, 0.0, 0.0]]])
    t = targets_of(torch.tensor([0, 0]), 0.1).float()
    assert losses(z, t, gamma).isfinite().all()
    assert slopes(z, t, t.sum(-1, keepdim=True), None if gamma is None else [gamma]).isfinite().all()


@pytest.mark.parametrize("size", [1, 5, 12, 100])
def test_the_validation_loss_of_a_batch_is_torchs(size: int) -> None:
    z, codes = rows()
    theirs: list[Any] = [
        float(cross_entropy(part, y, weight=torch.from_numpy(W)))
        for part, y in zip(torch.split(z, size), torch.split(codes, size), strict=True)
    ]
    assert validation_loss(z, codes.numpy(), W, size).tolist() == pytest.approx(theirs, abs=ROUNDING)
