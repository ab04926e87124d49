"""Training a dense head, step by step: the network, the weighted loss, the optimiser.

    hidden = relu(x W1 + b1) ;  dropped = dropout(hidden) ;  z = dropped W2 + b2
    minimise  sum_i w_{y_i} CE(y_i, z_i) / sum_i w_{y_i}   over each batch

The optimiser is Adam with decoupled weight decay (Loshchilov and Hutter 2019) in the form and with the defaults
of the AdamW that transformers once had: eps is added to sqrt(v) before bias correction, not after it as in torch.

torch is imported when a `Trainer` is made. Nothing here touches the global random state.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a dense head is trained. The defaults are the reference's.

    Parameters
    ----------
    hidden : int
        Units of the hidden layer.
    dropout : float in [0, 1)
        Share of hidden units set to 0 in training.
    lr : float
        Learning rate.
    beta1, beta2, eps : float
        AdamW's averages and the term that keeps its denominator from 0.
    weight_decay : float
        Decoupled decay of the weight matrices and biases per step, times lr.
    epochs : int
    batch_size : int
        Rows per step.
    clip_norm : float
        Longest gradient, all parameters together; longer ones are scaled to it.
    seed : int
        Decides the initial weights, the order of rows and the dropout masks.
    """

    hidden: int = 512
    dropout: float = 0.1
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.0
    epochs: int = 10
    batch_size: int = 32
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs", "batch_size"):
            if not _is_whole(getattr(self, name)) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}.")
        for name in ("lr", "eps", "clip_norm"):
            if not _is_number(getattr(self, name)) or not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0 and finite, got {getattr(self, name)!r}.")
        for name in ("dropout", "beta1", "beta2"):
            if not _is_number(getattr(self, name)) or not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)!r}.")
        if not _is_number(self.weight_decay) or self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0 and finite, got {self.weight_decay!r}.")
        if not _is_whole(self.seed) or self.seed < 0:
            raise ValueError(f"The seed must be a whole number of at least 0, got {self.seed!r}.")


class Trainer:
    """One dense head in training: its parameters, its optimiser's state, its random streams.

    Parameters
    ----------
    dim, n_classes : int
        D and K.
    weights : float array (K,)
        Class weights of the loss.
    settings : TrainingSettings

    Attributes
    ----------
    parameters : list of float32 tensors
        W1 (D, hidden), b1 (hidden,), W2 (hidden, K), b2 (K,).
    """

    def __init__(self, *, dim: int, n_classes: int, weights: NDArray[np.float64], settings: TrainingSettings) -> None:
        import torch

        self.settings = settings
        self.weights = torch.as_tensor(weights, dtype=torch.float32)
        # Three streams, so that the order of rows does not depend on the size of the network.
        streams = np.random.SeedSequence(settings.seed).generate_state(3, np.uint64)
        start, self._order, self._dropout = (torch.Generator().manual_seed(int(s) >> 1) for s in streams)
        self.parameters = initial_parameters(dim, settings.hidden, n_classes, start)
        self._means = [torch.zeros_like(p) for p in self.parameters]
        self._squares = [torch.zeros_like(p) for p in self.parameters]
        self._counts = [torch.zeros(()) for _ in self.parameters]  # torch counts the steps here
        self._steps = 0

    def batches(self, n: int) -> Iterator["Tensor"]:
        """Row numbers of each batch of one epoch, in a new order each time; the last batch may be short."""
        import torch

        yield from torch.split(torch.randperm(n, generator=self._order), self.settings.batch_size)

    def step(self, vectors: "Tensor", targets: "Tensor", weights: "Tensor | None" = None) -> float:
        """One step on a batch: vectors (B, D), codes (B,), row weights (B,), by default those of the classes.

        Returns the batch's weighted mean loss.
        """
        import torch
        from torch.nn.functional import cross_entropy

        logits = self._forward(vectors, training=True)  # (B, K)
        weights = self.weights[targets] if weights is None else weights
        loss = (weights * cross_entropy(logits, targets, reduction="none")).sum() / weights.sum()
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            self._update(self._clipped(gradients))
        return float(loss.detach())

    def evaluate(self, vectors: "Tensor", targets: "Tensor") -> float:
        """Mean over batches, rows in order, of each batch's weighted mean loss: the reference's validation loss."""
        import torch
        from torch.nn.functional import cross_entropy

        size = self.settings.batch_size
        with torch.no_grad():
            logits = self._forward(vectors, training=False)  # (n, K)
            losses = [
                float(cross_entropy(z, y, weight=self.weights))
                for z, y in zip(torch.split(logits, size), torch.split(targets, size), strict=True)
            ]
        return math.fsum(losses) / len(losses)

    def snapshot(self) -> list[NDArray[np.float32]]:
        """A copy of the parameters as arrays: W1, b1, W2, b2."""
        return [parameter.detach().numpy().copy() for parameter in self.parameters]

    def _forward(self, vectors: "Tensor", *, training: bool) -> "Tensor":
        import torch

        first, first_bias, second, second_bias = self.parameters
        hidden = torch.addmm(first_bias, vectors, first).relu()  # (B, hidden)
        if training and self.settings.dropout:
            keep = 1 - self.settings.dropout
            mask = (torch.rand(hidden.shape, generator=self._dropout) < keep) / keep  # (B, hidden)
            hidden = hidden * mask
        return torch.addmm(second_bias, hidden, second)  # (B, K)

    def _clipped(self, gradients: Sequence["Tensor"]) -> Sequence["Tensor"]:
        """The gradients, scaled together to a norm of at most `clip_norm`, as torch's `clip_grad_norm_` does."""
        from torch.nn.utils import get_total_norm

        scale = self.settings.clip_norm / (float(get_total_norm(gradients)) + 1e-6)
        return [gradient.mul_(scale) for gradient in gradients] if scale < 1 else gradients

    def _update(self, gradients: Sequence["Tensor"]) -> None:
        """One step of AdamW.

        torch's eps is added after bias correction, so eps / sqrt(1 - beta2^t) there is eps before it. Its decay comes
        before the step, the reference's after. The class `torch.optim.AdamW` would take 1.5 s to import its compiler.
        """
        from torch.optim.adamw import adamw

        s = self.settings
        self._steps += 1
        adamw(
            self.parameters, list(gradients), self._means, self._squares, [], self._counts,
            fused=True, amsgrad=False, maximize=False, lr=s.lr, beta1=s.beta1, beta2=s.beta2, weight_decay=0.0,
            eps=s.eps / math.sqrt(1 - s.beta2**self._steps),
        )  # fmt: skip
        if s.weight_decay:
            for parameter in self.parameters:
                parameter.mul_(1 - s.lr * s.weight_decay)


def initial_parameters(dim: int, hidden: int, n_classes: int, generator: "torch.Generator") -> list["Tensor"]:
    """W1, b1, W2, b2 drawn as torch's `Linear` draws them: uniform in +-1/sqrt(inputs)."""
    import torch

    parameters = []
    for inputs, outputs in ((dim, hidden), (hidden, n_classes)):
        bound = 1 / math.sqrt(inputs)
        for shape in ((inputs, outputs), (outputs,)):
            drawn = torch.rand(shape, generator=generator) * (2 * bound) - bound
            parameters.append(drawn.requires_grad_())
    return parameters


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)
