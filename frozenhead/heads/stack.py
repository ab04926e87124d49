"""A step of training for a stack of heads of one shape: forward, backward, clipping, AdamW; H heads side by side.

    a_{l+1} = m_l activation(a_l W_l + b_l) / share       m_l: the dropout mask, share: of units kept
    v <- AdamW(v, c g), c = min(1, clip_norm / |g|)       all parameters of one head together

The optimiser is Adam with decoupled weight decay (Loshchilov and Hutter 2019) in the form and with the defaults
of the AdamW that transformers once had: eps is added to sqrt(v) before bias correction, not after it as in torch, and
the decay comes after the step.

Nothing here adds up numbers of two heads, and `network` tells why a head's bits do not depend on its place: each head
of a stack is bit for bit the head trained alone. The 1 / share is applied to the scores of the next layer, of which
there are mostly fewer than units.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.losses import slopes
from frozenhead.heads.network import Network
from frozenhead.heads.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What a step trains on.

    Attributes
    ----------
    x : (H, B, padded D)
    targets : (H, B, padded K)
        See `losses.slopes`.
    sums : (H, B, 1)
    kept : bool array (H, B, padded hidden units of all layers), or None without dropout
    scores : (H, B, padded K)
        Where the step leaves the scores.
    """

    x: "Tensor"
    targets: "Tensor"
    sums: "Tensor"
    kept: NDArray[np.bool_] | None
    scores: "Tensor"


@dataclass
class _Scratch:
    """Between values of one batch width B, each hidden layer's (H, B, units) in turn."""

    z: list["Tensor"]
    a: list["Tensor"]
    masks: list["Tensor"]
    back: list["Tensor"]


class Stack:
    """H heads of one shape, in training.

    Parameters
    ----------
    network : Network
    settings : list of H TrainingSettings
        Layers, activation and loss are the same in all; either all or none have dropout.
    shares : list of H floats
        Share of units that dropout keeps.
    state : float32 tensor (3, H, length)
        Rows of parameters, of means and of squares of gradients.
    """

    def __init__(
        self, network: Network, settings: Sequence[TrainingSettings], shares: Sequence[float], state: "Tensor"
    ) -> None:
        import torch

        self.network, self.settings, self.state = network, settings, state
        self.gradients = torch.zeros(state.shape[1:])
        self._activation = settings[0].activation
        self._gammas = [s.focal_gamma for s in settings] if settings[0].loss == "focal" else None
        self._scales = torch.tensor([1 / share for share in shares])[:, None, None] if settings[0].dropout else None
        self._layers, self._slopes = self._views(state[0]), self._views(self.gradients)
        self._rows = [(*rows, gradient) for rows, gradient in zip(state.unbind(1), self.gradients, strict=True)]
        self._count = torch.zeros(())
        self._scratch: dict[int, _Scratch] = {}

    def step(self, batch: Batch, number: int, rates: Sequence[float]) -> None:
        """One step, the `number`-th from 1, with a learning rate of each head."""
        scratch = self._room(batch.x.shape[1])
        self._forward(batch, scratch)
        self._backward(batch, scratch)
        self._count.fill_(number)
        for head, (settings, rate) in enumerate(zip(self.settings, rates, strict=True)):
            self._update(head, settings, rate, number)

    def scores(self, head: int, x: "Tensor") -> "Tensor":
        """Scores (n, K) of vectors (n, padded D) by one head, without dropout."""
        import torch

        a = x
        for number, (W, b) in enumerate(self._layers):
            a = torch.addmm(b[head, 0], a, W[head])
            if number + 1 < len(self._layers):
                a = self._activated(a)
        return a[:, : self.network.sizes[-1]]

    def _views(self, rows: "Tensor") -> list[tuple["Tensor", "Tensor"]]:
        """Weights (H, in, out) and biases (H, 1, out) of each layer in rows (H, length)."""
        sizes = self.network.padded[1:]
        return [
            (rows[:, w].view(len(rows), -1, units), rows[:, b].unsqueeze(1))
            for (w, b), units in zip(self.network.places, sizes, strict=True)
        ]

    def _room(self, width: int) -> _Scratch:
        import torch

        if width not in self._scratch:
            hidden = [(len(self.settings), width, units) for units in self.network.padded[1:-1]]
            z = [torch.empty(size) for size in hidden]
            self._scratch[width] = _Scratch(
                z=z,
                a=[torch.empty(size) for size in hidden] if self._activation == "gelu" else z,
                masks=[torch.empty(size) for size in hidden] if self._scales is not None else [],
                back=[torch.empty(size) for size in hidden],
            )
        return self._scratch[width]

    def _forward(self, batch: Batch, scratch: _Scratch) -> None:
        import torch

        a, at = batch.x, 0
        for number, (W, b) in enumerate(self._layers):
            z = batch.scores if number + 1 == len(self._layers) else scratch.z[number]
            if number and self._scales is not None:
                torch.bmm(a, W, out=z).mul_(self._scales).add_(b)
            else:
                torch.baddbmm(b, a, W, out=z)
            if number + 1 == len(self._layers):
                return
            a = scratch.a[number]
            self._activate(z, a)
            if batch.kept is not None:
                mask, units = scratch.masks[number], z.shape[2]
                np.copyto(mask.numpy(), batch.kept[:, :, at : at + units])  # three times as fast as copy_
                a.mul_(mask)
                at += units

    def _backward(self, batch: Batch, scratch: _Scratch) -> None:
        import torch

        back = slopes(batch.scores, batch.targets, batch.sums, self._gammas)  # (H, B, K)
        for number in range(len(self._layers) - 1, -1, -1):
            W_slope, b_slope = self._slopes[number]
            torch.sum(back, 1, keepdim=True, out=b_slope)
            if number == 0:
                torch.bmm(batch.x.transpose(1, 2), back, out=W_slope)
                return
            scaled = back if self._scales is None else back * self._scales
            torch.bmm(scratch.a[number - 1].transpose(1, 2), scaled, out=W_slope)
            back = torch.bmm(scaled, self._layers[number][0].transpose(1, 2), out=scratch.back[number - 1])
            self._descend(back, scratch, number - 1)

    def _activated(self, z: "Tensor") -> "Tensor":
        import torch

        if self._activation == "relu":
            return z.relu_()
        return torch.tanh(z) if self._activation == "tanh" else torch.nn.functional.gelu(z)

    def _activate(self, z: "Tensor", out: "Tensor") -> None:
        """The activation of each value; for all but relu head by head, since bits at an array's end may differ."""
        import torch

        if self._activation == "relu":
            z.relu_()
            return
        for values, into in zip(z, out, strict=True):
            if self._activation == "tanh":
                torch.tanh(values, out=into)
            else:
                torch.ops.aten.gelu.out(values, out=into)

    def _descend(self, back: "Tensor", scratch: _Scratch, number: int) -> None:
        """Take a gradient by a layer's dropped units (H, B, units) back to its z, in place."""
        import torch

        z, a = scratch.z[number], scratch.a[number]
        if self._activation == "relu":  # a is above 0 where z was and the unit was kept
            torch.ops.aten.threshold_backward.grad_input(back, a, 0, grad_input=back)
            return
        for slope, before, after in zip(back, z, a, strict=True):
            if self._activation == "tanh":
                torch.ops.aten.tanh_backward.grad_input(slope, after, grad_input=slope)
            else:
                torch.ops.aten.gelu_backward.grad_input(slope, before, grad_input=slope)
        if scratch.masks:
            back.mul_(scratch.masks[number])

    def _update(self, head: int, settings: TrainingSettings, rate: float, number: int) -> None:
        """Clip one head's gradient and take its step of AdamW.

        torch's eps is added after bias correction, so eps / sqrt(1 - beta2^t) there is eps before it. Its decay comes
        before the step, the reference's after.
        """
        import torch

        parameters, means, squares, gradient = self._rows[head]
        scale = settings.clip_norm / (math.sqrt(float(torch.dot(gradient, gradient))) + 1e-6)
        if scale < 1:
            gradient.mul_(scale)
        torch._fused_adamw_(
            [parameters], [gradient], [means], [squares], [], [self._count], amsgrad=False, maximize=False,
            lr=rate, beta1=settings.beta1, beta2=settings.beta2, weight_decay=0.0,
            eps=settings.eps / math.sqrt(1 - settings.beta2**number),
        )  # fmt: skip
        if settings.weight_decay:
            parameters.mul_(1 - rate * settings.weight_decay)
