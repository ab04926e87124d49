"""Many heads on one matrix: dense heads as stacks, softmax heads that differ in l2 as paths, all others one by one.

Each is the head that its own `fit` would give: a dense one to the bit, one of a path to its `tol`, any other is that.
"""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from frozenhead.heads.base import Head, Validation
from frozenhead.heads.dense import DenseHead
from frozenhead.heads.learner import Held, Task
from frozenhead.heads.many import Progress, estimated_seconds, train_heads, unheard
from frozenhead.heads.options import is_number
from frozenhead.heads.softmax import SoftmaxHead, softmax_path
from frozenhead.heads.stored import part

Rows = Sequence[NDArray[np.int64]]

PATH_GAIN = 4
"""How many times sooner a further head of a path is found than one by itself, about: 3.5 was measured on 3,900 rows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedHead:
    """What became of one head.

    Attributes
    ----------
    index : int
        Its place among the heads.
    head : Head or None
        Fitted; None if it could not be trained.
    seconds : float
        Of a head of a stack or path its share of the time that took.
    error : str or None
    dropped_after : int or None
        The epoch after which halving dropped it.
    """

    index: int
    head: Head | None
    seconds: float
    error: str | None = None
    dropped_after: int | None = None


def fit_many(
    heads: Sequence[Head],
    X: Any,
    y: ArrayLike,
    *,
    rows: Rows | None = None,
    validation: Validation | None = None,
    held: Rows | None = None,
    views: Sequence[Any] = (),
    halving: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Generator[FittedHead, None, None]:
    """Fit copies of heads; they come as they are ready, in any order. One that cannot be trained stops no other.

    Parameters
    ----------
    heads : sequence of Head
        Unfitted; they stay so.
    X : float array (N, D), `StoredRows`, or texts (N,) if all heads take texts
    y : array (N,)
    rows : sequence of int arrays, optional
        The rows that train each head, each class among them; default all.
    validation : (X, y), optional
    held : sequence of int arrays, optional
        Of X, the validation rows of each head, in place of `validation`.
    views : sequence of arrays or StoredRows like X, optional
        Epoch e of a dense head, from 0, trains on `views[e % len(views)]` in place of X.
    halving : bool
        Of dense heads: only the better half goes on after epochs 1, 2, 4, ...
    jobs : int
        Other heads trained at the same time.
    progress : callable (done, total), optional
        Epochs of dense heads, and other heads.
    """
    dense, others = _parted(heads)
    total = sum(_epochs(heads[i]) for i in dense) + len(others)
    settled, tell = 0, progress or unheard
    if dense:
        stack = _Stacked(
            [heads[i] for i in dense], X, y, rows=_of(rows, dense), validation=validation, held=_of(held, dense),
            views=views,
        )  # fmt: skip
        for one in stack.fit(halving, lambda done, _: tell(done, total)):
            yield replace(one, index=dense[one.index])
        settled = total - len(others)
    alone = _Each(
        [heads[i] for i in others], X, y, rows=_of(rows, others), validation=validation, held=_of(held, others)
    )
    for one in alone.fit(jobs):
        settled += 1
        tell(settled, total)
        yield replace(one, index=others[one.index])


def estimate_seconds(
    heads: Sequence[Head],
    X: Any,
    y: ArrayLike,
    *,
    validation: Validation | None = None,
    halving: bool = False,
    jobs: int = 1,
) -> float:
    """About how long `fit_many` would take, in seconds: some steps of each shape and two other heads are timed.

    Patience may make it shorter.
    """
    dense, others = _parted(heads)
    seconds = 0.0
    if dense:
        seconds = _Stacked([heads[i] for i in dense], X, y, validation=validation).estimate()
        seconds *= halved_share(len(dense), max(_epochs(heads[i]) for i in dense)) if halving else 1.0
    # Weak penalties take many times longer than strong ones: both ends of a grid are timed.
    ends = [heads[i] for i in dict.fromkeys([*others[:1], *others[-1:]])]
    if timed := [one.seconds for one in _Each(ends, X, y, validation=validation).fit(1)]:
        parts = _Each([heads[i] for i in others], X, y, validation=validation).parts()
        count = sum(1 + (len(part) - 1) / PATH_GAIN for part in parts)
        seconds += sum(timed) / len(timed) * count / min(jobs, len(parts))
    return seconds


def halving_bytes(heads: Sequence[Head], X: Any, y: ArrayLike) -> int:
    """Bytes that dense heads keep while halving lets them wait for each other: 16 for each parameter."""
    stack = _Stacked([head for head in heads if type(head) is DenseHead], X, y, validation=None)
    sizes = ((stack.X.shape[1], *task.settings.layers, len(stack.classes)) for task in stack.tasks.values())
    return sum(16 * (before + 1) * after for layers in sizes for before, after in pairwise(layers))


def halved_share(heads: int, epochs: int) -> float:
    """The share of all epochs of all heads that is trained when the worse half goes after epochs 1, 2, 4, ..."""
    going, epoch, until, trained = heads, 0, 1, 0
    while epoch < epochs:
        until = min(until, epochs)
        trained += going * (until - epoch)
        going, epoch, until = math.ceil(going / 2), until, 2 * until
    return trained / (heads * epochs)


class _Stacked:
    """Dense heads as tasks of one computation. X and y are checked once."""

    def __init__(
        self,
        heads: Sequence[DenseHead],
        X: Any,
        y: ArrayLike,
        *,
        rows: Rows | None = None,
        validation: Validation | None,
        held: Rows | None = None,
        views: Sequence[Any] = (),
    ) -> None:
        self.heads: dict[int, DenseHead] = {i: clone(head) for i, head in enumerate(heads)}
        self.tasks: dict[int, Task] = {}
        self.errors: dict[int, str] = {}
        self.held: Held | None = None
        plain = DenseHead(class_weight=None)  # what is wrong with X and y is so for every head
        try:
            self.X, self.codes, self.counts = plain.begin(X, y)
            if validation is not None and held is None:
                self.held = plain.checked_validation(*validation)
        except ValueError as error:
            self.errors = dict.fromkeys(range(len(heads)), str(error))
            return
        self.classes = plain.classes_
        for i, head in self.heads.items():
            head.n_features_in_ = plain.n_features_in_
            try:
                own, judged = (None if given is None else given[i] for given in (rows, held))
                self.tasks[i] = self._task(head, own, judged, views)
            except ValueError as error:  # a wrong option, or a class without rows
                self.errors[i] = str(error)

    def _task(
        self,
        head: DenseHead,
        rows: NDArray[np.int64] | None,
        held: NDArray[np.int64] | None,
        views: Sequence[Any],
    ) -> Task:
        own = slice(None) if rows is None else rows
        head.learn_classes(self.classes, self.codes[own], self.counts[own])
        task = head.task(rows=rows, views=views)
        return task if held is None else replace(task, validation=(part(self.X, held), self.codes[held]))

    def fit(self, halving: bool, progress: Progress) -> Iterator[FittedHead]:
        for i, error in self.errors.items():
            yield FittedHead(index=i, head=None, seconds=0.0, error=error)
        if not self.tasks:
            return
        places = list(self.tasks)
        outcomes = train_heads(
            self.X, self.codes, list(self.tasks.values()), n_classes=len(self.classes), validation=self.held,
            halving=halving, progress=progress,
        )  # fmt: skip
        for outcome in outcomes:
            i = places[outcome.index]
            own = self.heads.pop(i)  # from here on it is the caller's to keep
            head = own if outcome.error is None else None
            if head is not None:
                head.adopt(outcome)
            yield FittedHead(
                index=i, head=head, seconds=outcome.seconds, error=outcome.error, dropped_after=outcome.dropped_after
            )

    def estimate(self) -> float:
        if not self.tasks:
            return 0.0
        tasks = list(self.tasks.values())
        return estimated_seconds(self.X, self.codes, tasks, n_classes=len(self.classes), validation=self.held)


class _Each:
    """Copies of heads, each fitted by itself, or as a path those that only l2 tells apart; in order."""

    def __init__(
        self,
        heads: Sequence[Head],
        X: Any,
        y: ArrayLike,
        *,
        rows: Rows | None = None,
        validation: Validation | None,
        held: Rows | None = None,
    ) -> None:
        self.heads, self.X, self.y, self.rows = heads, X, y, rows
        self.validation, self.held = validation, held

    def fit(self, jobs: int) -> Iterator[FittedHead]:
        parts = self.parts()
        if parts:
            fitted = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")(map(delayed(self._part), parts))
            for some in fitted:
                yield from some

    def parts(self) -> list[list[int]]:
        """Places of heads that are fitted at one go."""
        parts: dict[Any, list[int]] = {}
        for i, head in enumerate(self.heads):
            alike = type(head) is SoftmaxHead and self.rows is None
            others = {name: value for name, value in head.get_params().items() if name != "l2"} if alike else i
            parts.setdefault(repr(others), []).append(i)
        return list(parts.values())

    def _part(self, places: Sequence[int]) -> list[FittedHead]:
        if len(places) == 1:
            return [self._one(places[0])]
        begun = time.perf_counter()
        heads = [self.heads[i].get_params() for i in places]
        shared = {name: value for name, value in heads[0].items() if name != "l2"}
        try:
            path = softmax_path(self.X, self.y, [head["l2"] for head in heads], **shared)
            if self.validation is not None:
                path[0].checked_validation(*self.validation)
        except ValueError:  # perhaps of one head's l2: by itself each says what is wrong with it
            return [self._one(i) for i in places]
        seconds = (time.perf_counter() - begun) / len(places)
        return [FittedHead(index=i, head=head, seconds=seconds) for i, head in zip(places, path, strict=True)]

    def _one(self, i: int) -> FittedHead:
        begun = time.perf_counter()
        head: Head = clone(self.heads[i])
        try:
            X, y = self.X, self.y
            if self.rows is not None:
                X, y = part(X, self.rows[i]), np.asarray(y)[self.rows[i]]
                if len(lacking := np.setdiff1d(self.y, y)):
                    raise ValueError(f"No row has the class {lacking.tolist()[0]!r}.")
            held = self.validation
            if self.held is not None:
                held = part(self.X, self.held[i]), np.asarray(self.y)[self.held[i]]
            head.fit(X, y, validation=held)
        except ValueError as error:  # a wrong option, or rows that this head cannot learn from
            return FittedHead(index=i, head=None, seconds=time.perf_counter() - begun, error=str(error))
        return FittedHead(index=i, head=head, seconds=time.perf_counter() - begun)


def _parted(heads: Sequence[Head]) -> tuple[list[int], list[int]]:
    """Places of the heads that are stacked, and of the others. A head that does more than train is not stacked."""
    dense = [i for i, head in enumerate(heads) if type(head) is DenseHead]
    return dense, [i for i, head in enumerate(heads) if type(head) is not DenseHead]


def _of(rows: Rows | None, places: Sequence[int]) -> Rows | None:
    return None if rows is None else [rows[i] for i in places]


def _epochs(head: Head) -> int:
    epochs = getattr(head, "epochs", 1)
    return int(epochs) if is_number(epochs) else 1  # a wrong one is told of in training
