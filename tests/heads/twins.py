"""Training in float64, one line per formula, the gradients by torch's autograd: what the engine is compared with."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import gelu, log_softmax

from frozenhead.heads.learner import Task
from frozenhead.heads.network import initial_parameters, rounded
from frozenhead.heads.randomness import Streams
from frozenhead.heads.settings import TrainingSettings

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "gelu": gelu}


def loss_of(z: torch.Tensor, y: torch.Tensor, w: torch.Tensor, s: torch.Tensor, settings: TrainingSettings) -> Any:
    """The objective in the words of `losses`: z (B, K), codes y (B,), class weights w (K,), row weights s (B,)."""
    log_p, K, e = log_softmax(z, dim=1), len(w), settings.label_smoothing
    gamma = settings.focal_gamma if settings.loss == "focal" else 0.0
    total = torch.zeros((), dtype=torch.float64)
    for i, code in enumerate(y.tolist()):
        for c in range(K):
            t = (1 - e) * float(w[code]) * (c == code) + e / K * float(w[c])
            total = total - s[i] * t * (1 - log_p[i, c].exp()) ** gamma * log_p[i, c]
    return total / (s * w[y]).sum()


class Twin:
    """One head's training in float64.

    Parameters
    ----------
    parameters : list of arrays
        W1, b1, W2, b2, ...
    """

    def __init__(
        self, parameters: list[NDArray[Any]], weights: NDArray[np.float64], settings: TrainingSettings
    ) -> None:
        self.parameters = [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in parameters]
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.weights, self.settings, self.steps = torch.tensor(weights), settings, 0

    def scores(self, x: torch.Tensor, kept: list[torch.Tensor] | None = None, share: float = 1.0) -> torch.Tensor:
        a = x
        for i in range(0, len(self.parameters), 2):
            a = a @ self.parameters[i] + self.parameters[i + 1]
            if i + 2 < len(self.parameters):
                a = ACTIVATIONS[self.settings.activation](a)
                a = a if kept is None else a * kept[i // 2] / share
        return a

    def step(
        self,
        x: NDArray[Any],
        y: NDArray[np.int64],
        *,
        s: NDArray[np.float64] | None = None,
        lr: float | None = None,
        kept: list[torch.Tensor] | None = None,
        share: float = 1.0,
    ) -> float:
        o = self.settings
        rows = torch.ones(len(y), dtype=torch.float64) if s is None else torch.tensor(s)
        z = self.scores(torch.tensor(x, dtype=torch.float64), kept, share)
        loss = loss_of(z, torch.tensor(y), self.weights, rows, o)
        gradients = torch.autograd.grad(loss, self.parameters)
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        scale, self.steps = min(1.0, o.clip_norm / (norm + 1e-6)), self.steps + 1
        lr = o.lr if lr is None else lr
        size = lr * math.sqrt(1 - o.beta2**self.steps) / (1 - o.beta1**self.steps)
        with torch.no_grad():
            for p, g, m, v in zip(self.parameters, gradients, self.means, self.squares, strict=True):
                m.mul_(o.beta1).add_((1 - o.beta1) * scale * g)
                v.mul_(o.beta2).add_((1 - o.beta2) * (scale * g) ** 2)
                p.sub_(size * m / (v.sqrt() + o.eps))
                p.mul_(1 - lr * o.weight_decay)
        return float(loss.detach())

    def snapshot(self) -> list[NDArray[np.float64]]:
        return [p.detach().numpy() for p in self.parameters]


def rate(o: TrainingSettings, step: int, steps: int) -> float:
    """The schedule as a table of its corners: a line up to lr, then level, a line or half a cosine down to 0."""
    top = math.floor(o.warmup * steps)  # the step, from 0, that has lr
    up = float(np.interp(step - 1, [-1, top], [0, 1])) if top else 1.0
    fall = float(np.interp(step - 1, [top, steps], [1, 0]))
    down = {"constant": 1.0, "linear": fall, "cosine": math.sin(math.pi / 2 * fall) ** 2}[o.schedule]
    return o.lr * up * down


def trained(X: NDArray[Any], codes: NDArray[np.int64], task: Task, n_classes: int) -> tuple[list[float], list[Any]]:
    """Training losses of each epoch and the last parameters, in float64, of what `train_heads` makes of a task."""
    o, streams = task.settings, Streams(task.settings.seed, task.settings.dropout)
    sizes = (X.shape[1], *o.layers, n_classes)
    twin = Twin([p.numpy() for p in initial_parameters(sizes, streams.start)], task.class_weights, o)
    rows = np.arange(len(X)) if task.rows is None else task.rows
    s = np.ones(len(X)) if task.row_weights is None else task.row_weights
    rows, epochs = rows[s[rows] > 0], []
    steps = -(-len(rows) // o.batch_size)
    for epoch in range(o.epochs):
        source = task.views[epoch % len(task.views)] if task.views else X
        order = streams.order(len(rows)).numpy()
        losses = []
        for i in range(steps):
            batch = rows[order[i * o.batch_size : (i + 1) * o.batch_size]]
            kept = _kept(streams, o, rounded(len(batch)), len(batch)) if o.dropout else None
            lr = rate(o, epoch * steps + i + 1, steps * o.epochs)
            losses.append(twin.step(source[batch], codes[batch], s=s[batch], lr=lr, kept=kept, share=streams.share))
        epochs.append(float(np.mean(losses)))
    return epochs, twin.snapshot()


def _kept(streams: Streams, o: TrainingSettings, width: int, size: int) -> list[torch.Tensor]:
    """Masks of the hidden layers (size, units) out of a draw for rounded sizes."""
    padded = [rounded(units) for units in o.layers]
    drawn = np.empty((width, sum(padded)), np.bool_)
    streams.keep(drawn)
    ends = np.cumsum([0, *padded])
    return [
        torch.tensor(drawn[:size, start : start + units].astype(np.float64))
        for start, units in zip(ends, o.layers, strict=False)
    ]
