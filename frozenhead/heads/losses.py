"""The losses that dense heads minimise, and their gradients.

A batch's loss, with t_ic the target and p_ic the probability of class c for row i, is

    - sum_i s_i sum_c t_ic (1 - p_ic)^g log p_ic / sum_i s_i w_{y_i} ;   t_ic = (1 - e) w_{y_i} [c = y_i] + (e / K) w_c

w are the class weights, s the rows' own weights, e is `label_smoothing`, and g is `focal_gamma` for the focal
loss (Lin et al. 2017), 0 for the cross-entropy. With g = 0 and s = 1 this is torch's `cross_entropy` with `weight`
and `label_smoothing`: the smoothed share bears the weight of each class c, not of the row's own, and the mean
divides by the weights of the rows' own classes. The validation loss is the weighted cross-entropy (e = 0, g = 0),
whatever is minimised, so that heads with different losses can be compared.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-30
"""Stands for 1 - p where p rounds to 1, so that its powers are finite."""


def target_table(class_weights: NDArray[np.float64], label_smoothing: float) -> NDArray[np.float64]:
    """Row y holds t_ic of the rows of class y: (K, K)."""
    K = len(class_weights)
    return np.asarray((1 - label_smoothing) * np.diag(class_weights) + label_smoothing / K * class_weights)


def slopes(z: "Tensor", targets: "Tensor", sums: "Tensor", gammas: Sequence[float] | None) -> "Tensor":
    """The loss's gradient by the scores of a stack.

    Parameters
    ----------
    z : (H, B, K)
    targets : (H, B, K)
        s_i t_ic over the batch's sum of s_i w_{y_i}.
    sums : (H, B, 1)
        Of each row of `targets`.
    gammas : of each head; None for the cross-entropy
    """
    import torch

    if gammas is None:
        return torch.softmax(z, -1).mul_(sums).sub_(targets)
    found = torch.empty_like(z)
    for scores, t, gamma, out in zip(z, targets, gammas, found, strict=True):
        log_p, p = torch.log_softmax(scores, -1), torch.softmax(scores, -1)  # (B, K)
        other = torch.expm1(log_p).neg_().clamp_min_(SMALLEST)  # 1 - p
        felt = t * (other**gamma - gamma * other ** (gamma - 1) * p * log_p)
        torch.sub(p * felt.sum(-1, keepdim=True), felt, out=out)
    return found


def losses(z: "Tensor", targets: "Tensor", gamma: float | None) -> "Tensor":
    """The loss of each batch: scores and targets (S, B, K) as above -> (S,)."""
    import torch

    log_p = torch.log_softmax(z, -1)
    if gamma is not None:
        log_p = log_p * torch.expm1(log_p).neg_().clamp_min_(SMALLEST) ** gamma
    return -(targets * log_p).sum((1, 2))


def validation_loss(
    z: "Tensor", codes: NDArray[np.int64], class_weights: NDArray[np.float64], batch_size: int
) -> NDArray[np.float64]:
    """The weighted cross-entropy of each batch: scores (n, K), rows in order -> (ceil(n / batch_size),)."""
    import torch

    log_p = torch.log_softmax(z, -1).numpy()[np.arange(len(codes)), codes].astype(np.float64)  # (n,)
    w, starts = class_weights[codes], np.arange(0, len(codes), batch_size)
    return np.asarray(-np.add.reduceat(w * log_p, starts) / np.add.reduceat(w, starts))
