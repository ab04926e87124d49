"""One head on its way through training: what it is to learn, how far it has come, and what becomes of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.losses import target_table
from frozenhead.heads.network import Network, initial_parameters, rounded
from frozenhead.heads.randomness import Streams
from frozenhead.heads.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor

Held = tuple[Any, NDArray[np.int64]]
"""Vectors and codes of the rows by which epochs are compared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One head to train.

    Parameters
    ----------
    settings : TrainingSettings
    class_weights : float array (K,)
        Of the loss; all above 0.
    rows : int array (n,), optional
        The rows of X that train it, by default all; a number that comes twice counts twice.
    row_weights : float array (N,), optional
        How often each row of X counts; rows of weight 0 are absent. Multiplies the class weights.
    views : sequence of matrices like X, optional
        Epoch e, from 0, trains on `views[e % len(views)]` in place of X.
    validation : (matrix, int array), optional
        This head's own validation vectors and codes, in place of those of all.
    """

    settings: TrainingSettings
    class_weights: NDArray[np.float64]
    rows: NDArray[np.int64] | None = None
    row_weights: NDArray[np.float64] | None = None
    views: Sequence[Any] = ()
    validation: Held | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of one task.

    Attributes
    ----------
    index : int
        The task's place among the tasks.
    parameters : list of float32 arrays
        W1 (D, units), b1 (units,), W2, b2, ... of the epoch kept: that with the lowest validation loss, without
        validation the last. Empty if training failed.
    history : list of dict
        `epoch` (from 1), `train_loss` (mean over batches), `val_loss` (None without validation).
    best_epoch : int or None
        The epoch kept; None if training failed.
    seconds : float
        This head's share of the time its stack took.
    error : str or None
        Why training failed. The other heads are not touched by it.
    dropped_after : int or None
        The epoch after which halving dropped it.
    """

    index: int
    parameters: list[NDArray[np.float32]]
    history: list[dict[str, Any]]
    best_epoch: int | None
    seconds: float
    error: str | None = None
    dropped_after: int | None = None


@dataclass(eq=False)
class Learner:
    """A task in training.

    Attributes
    ----------
    rows : int array (n,) or None
        Rows of X of weight above 0; None for all.
    state : float32 tensor (3, length)
        Parameters, means and squares; part of the stack's while that trains. None before and after.
    """

    index: int
    task: Task
    network: Network
    held: Held | None
    rows: NDArray[np.int64] | None
    n: int
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    lowest: float = math.inf
    best: "Tensor | None" = None
    best_epoch: int | None = None
    seconds: float = 0.0
    error: str | None = None
    dropped_after: int | None = None
    done: bool = False
    state: "Tensor | None" = None

    @classmethod
    def of(cls, index: int, task: Task, X: Any, n_classes: int, held: Held | None) -> "Learner":
        """The learner of a task on vectors (N, D), not begun."""
        rows = task.rows
        if task.row_weights is not None:
            rows = np.arange(len(X)) if rows is None else rows
            rows = rows[task.row_weights[rows] > 0]
        network = Network((X.shape[1], *task.settings.layers, n_classes))
        n = len(X) if rows is None else len(rows)
        return cls(index, task, network, task.validation or held, rows, n)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.n // self.task.settings.batch_size)

    @property
    def widths(self) -> tuple[int, int]:
        """Rows of a full batch and of an epoch's last, as they are computed: rounded up, the added ones of weight 0."""
        size = self.task.settings.batch_size
        return rounded(min(size, self.n)), rounded(self.n - (self.steps - 1) * size)

    @property
    def shape(self) -> tuple[Any, ...]:
        """What heads must share to be stacked."""
        s = self.task.settings
        return self.network, s.activation, s.loss, s.dropout > 0, s.batch_size, s.epochs, self.steps, self.widths

    def begin(self) -> None:
        """Draw the initial weights, if that was not done."""
        import torch

        if self.state is None:
            s = self.task.settings
            self.streams = Streams(s.seed, s.dropout)
            start = self.network.packed(initial_parameters(self.network.sizes, self.streams.start))
            self.state = torch.stack([start, torch.zeros_like(start), torch.zeros_like(start)])
            table = target_table(self.task.class_weights, s.label_smoothing)
            self.table, self.table_sums = table.astype(np.float32), table.sum(axis=1)

    def end_epoch(
        self, parameters: "Tensor", train_losses: NDArray[np.float32], val_losses: NDArray[np.float64] | None
    ) -> None:
        """Judge an epoch by its end (length,) and the losses of its batches (steps,) and of the validation batches."""
        settings, self.epoch = self.task.settings, self.epoch + 1
        val_loss = None if val_losses is None else math.fsum(val_losses) / len(val_losses)
        finite = np.isfinite(train_losses).all() and math.isfinite(val_loss or 0.0)
        if not (finite and bool(parameters.isfinite().all())):
            self.error = f"The loss is no longer finite in epoch {self.epoch}; lower lr (now {settings.lr})."
            self.best, self.best_epoch, self.done = None, None, True
            return
        mean = float(train_losses.mean(dtype=np.float64))
        self.history.append({"epoch": self.epoch, "train_loss": mean, "val_loss": val_loss})
        if val_loss is None or val_loss < self.lowest:
            self.lowest = math.inf if val_loss is None else val_loss
            self.best_epoch = self.epoch
            if val_loss is not None or self.epoch == settings.epochs:
                self.best = parameters.clone()
        waited = self.epoch - (self.best_epoch or 0)
        self.done = self.epoch == settings.epochs or 0 < settings.patience <= waited

    def release(self) -> None:
        """Take the state out of the stack's, so that the stack can go; drop it if training is over."""
        self.state = None if self.done or self.state is None else self.state.clone()

    def outcome(self) -> Outcome:
        """What is handed out at the end, once: of a thousand heads nobody holds more than he wants to."""
        parameters = [] if self.best is None else self.network.unpacked(self.best)
        self.state = self.best = None
        return Outcome(
            index=self.index,
            parameters=parameters,
            history=self.history,
            best_epoch=self.best_epoch,
            seconds=self.seconds,
            error=self.error,
            dropped_after=self.dropped_after,
        )
