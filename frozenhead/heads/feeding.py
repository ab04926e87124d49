"""Rows for a stack of heads: vectors, targets and dropout masks of some steps at a time, gathered from where they lie.

X may be a read-only memory map of any size: no more than the rows of these steps is ever copied. Of `StoredRows` a
window of shuffled blocks is in memory for each head.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.learner import Learner
from frozenhead.heads.losses import losses
from frozenhead.heads.stack import Batch
from frozenhead.heads.stored import InOrder, StoredRows

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_BYTES = 2 << 20
"""Vectors, targets and masks prepared at a time; more would leave the processor's cache before they are used."""


class Feed:
    """The batches of one width for a stack of learners.

    Parameters
    ----------
    learners : list of H Learners
    width : int
        Rows of a batch as computed.
    most : int
        Steps that are ever wanted at a time.

    Attributes
    ----------
    steps : int
        Steps that can be prepared at a time.
    batches : list of Batch
        What `fill` prepared, step by step.
    """

    def __init__(self, learners: Sequence[Learner], width: int, most: int) -> None:
        import torch

        self._learners = learners
        sizes, H = learners[0].network.padded, len(learners)
        units = sum(sizes[1:-1]) if learners[0].task.settings.dropout else 0
        one = H * width * (4 * sizes[0] + 8 * sizes[-1] + units)  # bytes of a step
        self.steps = max(1, min(most, CHUNK_BYTES // one))
        lead = (H, self.steps, width)
        self._x, self._targets = torch.zeros(*lead, sizes[0]), torch.zeros(*lead, sizes[-1])
        self._sums, self._scores = torch.zeros(*lead, 1), torch.zeros(*lead, sizes[-1])
        self._kept = np.ones((*lead, units), np.bool_) if units else None
        self.batches = [
            Batch(
                x=self._x[:, i],
                targets=self._targets[:, i],
                sums=self._sums[:, i],
                kept=None if self._kept is None else self._kept[:, i],
                scores=self._scores[:, i],
            )
            for i in range(self.steps)
        ]

    def fill(self, matrices: Sequence[Any], codes: NDArray[np.int64], orders: Sequence["Tensor"], steps: int) -> None:
        """Prepare `steps` steps of each head: what `readable` made of its matrix, the codes (N,) of the rows, and the
        positions of its rows.
        """
        for head, (learner, X, order) in enumerate(zip(self._learners, matrices, orders, strict=True)):
            positions = order.numpy()
            rows = positions if learner.rows is None else learner.rows[positions]
            size = len(rows) // steps
            x = self._x[head, :steps].numpy()
            if size == x.shape[1] and X.shape[1] == x.shape[2] and not isinstance(X, InOrder):
                _gather(X, rows, x.reshape(len(rows), -1))
            else:
                taken = X.take(len(rows)) if isinstance(X, InOrder) else X[rows]
                x[:, :size, : X.shape[1]] = taken.reshape(steps, size, -1)
            self.fill_targets(head, codes[rows].reshape(steps, size), _weights_of(learner, rows))
            self.draw(head, steps)

    def fill_vectors(self, head: int, vectors: "Tensor") -> None:
        """One step's vectors (B, D)."""
        self._x[head, 0, : len(vectors), : vectors.shape[1]] = vectors

    def fill_targets(self, head: int, codes: NDArray[np.int64], weights: NDArray[np.float64] | None) -> None:
        """Targets of steps from codes (steps, B) and the rows' own weights."""
        learner = self._learners[head]
        steps, size = codes.shape
        w = learner.task.class_weights[codes]
        share = (1 / w.sum(axis=1, keepdims=True)).repeat(size, axis=1)  # (steps, B)
        if weights is not None:
            s = weights.reshape(steps, size)
            share = s / (s * w).sum(axis=1, keepdims=True)
        targets, K = self._targets[head, :steps].numpy(), learner.network.sizes[-1]
        np.multiply(learner.table[codes], share[:, :, None].astype(np.float32), out=targets[:, :size, :K])
        self._sums[head, :steps].numpy()[:, :size, 0] = learner.table_sums[codes] * share

    def draw(self, head: int, steps: int) -> None:
        """Draw the dropout masks of steps; a stream gives the same however many are drawn at a time."""
        if self._kept is not None:
            self._learners[head].streams.keep(self._kept[head, :steps])

    def losses(self, head: int, steps: int) -> "Tensor":
        """The loss of each step since `fill`: (steps,)."""
        s = self._learners[head].task.settings
        gamma = s.focal_gamma if s.loss == "focal" else None
        return losses(self._scores[head, :steps], self._targets[head, :steps], gamma)


def readable(learner: Learner, X: Any, order: "Tensor") -> Any:
    """What `Feed.fill` takes for an epoch of this order: X itself, or a reader of `StoredRows` in that order."""
    if not isinstance(X, StoredRows):
        return X
    positions = order.numpy()
    return InOrder(X, positions if learner.rows is None else learner.rows[positions])


def _weights_of(learner: Learner, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
    return None if learner.task.row_weights is None else learner.task.row_weights[rows]


def _gather(X: NDArray[Any], rows: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    """Rows of X into `out`. numpy's `take` is twice as fast as indexing, but copies a matrix out of order."""
    if X.dtype == np.float32 and X.flags.c_contiguous:
        np.take(X, rows, axis=0, out=out, mode="clip")  # "clip" writes straight to `out`; `rows` have been checked
    else:
        out[...] = X[rows]
