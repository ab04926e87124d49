"""Training dense heads: one step by step, or a stack of them epoch by epoch.

Nothing here touches the global random state. torch is imported when training begins.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.feeding import Feed, readable
from frozenhead.heads.learner import Held, Learner, Task
from frozenhead.heads.losses import validation_loss
from frozenhead.heads.network import rounded
from frozenhead.heads.settings import TrainingSettings
from frozenhead.heads.stack import Stack
from frozenhead.heads.stored import StoredRows

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1024
"""Validation rows scored at a time, about."""


class Stopped(Exception):
    """Training was told to stop."""


class Together:
    """Learners of one shape that train as one stack, on the calling thread.

    Parameters
    ----------
    learners : list of Learner
        Begun, and equally far.
    X : float matrix (N, D) or StoredRows
    codes : int array (N,)
    """

    def __init__(self, learners: Sequence[Learner], X: Any, codes: NDArray[np.int64]) -> None:
        self.learners, self.X, self.codes = learners, X, codes
        self.stack = stacked(learners)
        full, last = learners[0].widths
        self.steps, self.size = learners[0].steps, learners[0].task.settings.batch_size
        self.last = Feed(learners, last, 1)
        self.feed = self.last if self.steps == 1 else Feed(learners, full, self.steps - 1)

    def epoch(self, stop: Callable[[], bool]) -> None:
        """Train and judge one epoch. Raises `Stopped` when `stop` says so, between two steps."""
        begun = time.perf_counter()
        losses = [np.concatenate(parts) for parts in zip(*self._trained(stop), strict=True)]
        judged = zip(self.learners, self.stack.state[0], losses, self._judged(stop), strict=True)
        for learner, parameters, train, val in judged:
            learner.end_epoch(parameters, train, val)
            learner.seconds += (time.perf_counter() - begun) / len(self.learners)

    def _trained(self, stop: Callable[[], bool]) -> Iterator[list[NDArray[np.float32]]]:
        """Train an epoch, some steps at a time; yields the losses of these steps of each head."""
        epoch = self.learners[0].epoch
        matrices = [
            learner.task.views[epoch % len(learner.task.views)] if learner.task.views else self.X
            for learner in self.learners
        ]
        orders = [
            learner.streams.order(learner.n, block=X.block, window=X.window)
            if isinstance(X, StoredRows)
            else learner.streams.order(learner.n)
            for learner, X in zip(self.learners, matrices, strict=True)
        ]
        matrices = [readable(*each) for each in zip(self.learners, matrices, orders, strict=True)]
        at = 0
        while at < self.steps:
            feed = self.last if at + 1 == self.steps else self.feed
            count = 1 if feed is self.last else min(feed.steps, self.steps - 1 - at)
            parts = [order[at * self.size : (at + count) * self.size] for order in orders]
            feed.fill(matrices, self.codes, parts, count)
            for i in range(count):
                if stop():
                    raise Stopped
                self.step(feed, i, epoch * self.steps + at + i + 1)
            yield [feed.losses(head, count).numpy() for head in range(len(self.learners))]
            at += count

    def timed_epoch(self) -> float:
        """About the seconds of an epoch: some steps and one pass over the validation rows. Changes the parameters."""
        begun = time.perf_counter()
        losses = next(self._trained(lambda: False))
        middle = time.perf_counter()
        self._judged(lambda: False)
        return (middle - begun) / len(losses[0]) * self.steps + time.perf_counter() - middle

    def step(self, feed: Feed, i: int, number: int) -> None:
        """The i-th step that was prepared, the `number`-th from 1 of all epochs."""
        rates = [s.rate(number, self.steps * s.epochs) for s in self.stack.settings]
        self.stack.step(feed.batches[i], number, rates)

    def _judged(self, stop: Callable[[], bool]) -> list[NDArray[np.float64] | None]:
        """The losses of the validation batches of each head."""
        found: list[NDArray[np.float64] | None] = [None] * len(self.learners)
        sets = {id(learner.held): learner.held for learner in self.learners}
        for held in sets.values():
            heads = [h for h, learner in enumerate(self.learners) if learner.held is held]
            if held is not None:
                for h, losses in zip(heads, self._held_losses(held, heads, stop), strict=True):
                    found[h] = losses
        return found

    def _held_losses(self, held: Held, heads: Sequence[int], stop: Callable[[], bool]) -> list[NDArray[np.float64]]:
        import torch

        X, codes = held
        parts: list[list[NDArray[np.float64]]] = [[] for _ in heads]
        rows = max(1, BLOCK // self.size) * self.size  # whole batches
        for i in range(0, len(codes), rows):
            if stop():
                raise Stopped
            block = codes[i : i + rows]
            x = torch.zeros(len(block), rounded(X.shape[1]))
            x.numpy()[:, : X.shape[1]] = X[i : i + rows]
            for h, mine in zip(heads, parts, strict=True):
                w = self.learners[h].task.class_weights
                mine.append(validation_loss(self.stack.scores(h, x), block, w, self.size))
        return [np.concatenate(mine) for mine in parts]


def stacked(learners: Sequence[Learner]) -> Stack:
    """A stack of learners, whose states become parts of the stack's."""
    import torch

    for learner in learners:
        learner.begin()
    state = torch.stack([learner.state for learner in learners if learner.state is not None], dim=1)
    for head, learner in enumerate(learners):
        learner.state = state[:, head]
    settings = [learner.task.settings for learner in learners]
    return Stack(learners[0].network, settings, [learner.streams.share for learner in learners], state)


class Trainer:
    """One dense head in training, step by step, on batches that the caller makes: as `train_heads` would train it.

    Parameters
    ----------
    dim, n_classes : int
        D and K.
    weights : float array (K,)
        Class weights of the loss.
    settings : TrainingSettings
        The schedule must be constant, since nobody knows how many steps will come.
    """

    def __init__(self, *, dim: int, n_classes: int, weights: NDArray[np.float64], settings: TrainingSettings) -> None:
        if settings.schedule != "constant" or settings.warmup:
            raise ValueError(f"A Trainer has no last step; schedule {settings.schedule!r} with warmup needs one.")
        self.settings = settings
        task = Task(settings=settings, class_weights=np.asarray(weights, np.float64))
        self._learner = Learner.of(0, task, np.empty((settings.batch_size, dim), np.float32), n_classes, None)
        self._stack = stacked([self._learner])
        self._feeds: dict[int, Feed] = {}
        self._steps = 0

    def batches(self, n: int) -> Iterator["Tensor"]:
        """Row numbers of each batch of one epoch, in a new order each time; the last batch may be short."""
        import torch

        yield from torch.split(self._learner.streams.order(n), self.settings.batch_size)

    def step(self, vectors: "Tensor", targets: "Tensor") -> float:
        """One step on a batch: vectors (B, D), codes (B,). Returns the batch's loss, before the step."""
        import torch

        size, self._steps = len(targets), self._steps + 1
        if size not in self._feeds:
            self._feeds[size] = Feed([self._learner], rounded(size), 1)
        feed = self._feeds[size]
        with torch.no_grad():
            feed.fill_vectors(0, vectors)
            feed.fill_targets(0, targets.numpy()[None], None)
            feed.draw(0, 1)
            self._stack.step(feed.batches[0], self._steps, [self.settings.lr])
            return float(feed.losses(0, 1))

    def evaluate(self, vectors: "Tensor", targets: "Tensor") -> float:
        """Mean over batches, rows in order, of each batch's weighted mean cross-entropy."""
        import torch

        x = torch.zeros(len(targets), self._learner.network.padded[0])
        x[:, : vectors.shape[1]] = vectors
        with torch.no_grad():
            z = self._stack.scores(0, x)
        w, size = self._learner.task.class_weights, self.settings.batch_size
        return float(validation_loss(z, targets.numpy(), w, size).mean())

    def snapshot(self) -> list[NDArray[np.float32]]:
        """A copy of the parameters as arrays: W1, b1, W2, b2, ..."""
        return self._learner.network.unpacked(self._stack.state[0, 0])
