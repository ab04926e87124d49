"""Many heads on one matrix: dense heads as stacks, all others one by one.

Each is the head that its own `fit` would give, to the bit for dense ones.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from frozenhead.heads.base import Head, Validation
from frozenhead.heads.dense import DenseHead
from frozenhead.heads.learner import Task
from frozenhead.heads.many import estimated_seconds, train_heads

Progress = Callable[[int, int], object]
Rows = Sequence[NDArray[np.int64]]


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
        Of a stacked head its share of the stack's time.
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
    views: Sequence[NDArray[Any]] = (),
    halving: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Iterator[FittedHead]:
    """Fit copies of heads; they come as they are ready, in any order. One that cannot be trained stops no other.

    Parameters
    ----------
    heads : sequence of Head
        Unfitted; they stay so.
    X : float array (N, D), or texts (N,) if all heads take texts
    y : array (N,)
    rows : sequence of int arrays, optional
        The rows that train each head; default all.
    validation : (X, y), optional
    views : sequence of arrays like X, optional
        Epoch e of a dense head, from 0, trains on `views[e % len(views)]` in place of X.
    halving : bool
        Of dense heads: only the better half goes on after epochs 1, 2, 4, ...
    jobs : int
        Other heads trained at the same time.
    progress : callable (done, total), optional
        Epochs of dense heads and whole others.

    Raises
    ------
    ValueError
        X and y do not fit each other or the heads.
    """
    dense, others = _parted(heads)
    total = sum(_epochs(heads[i]) for i in dense) + len(others)
    tell = progress or _unheard
    settled = 0
    if dense:
        stack = _Stacked([heads[i] for i in dense], X, y, rows=_of(rows, dense), validation=validation, views=views)
        for one in stack.fit(halving, lambda done, _: tell(done, total)):
            yield replace(one, index=dense[one.index])
        settled = total - len(others)
    for one in _each([heads[i] for i in others], X, y, rows=_of(rows, others), validation=validation, jobs=jobs):
        settled += 1
        tell(settled, total)
        yield replace(one, index=others[one.index])


def estimate_seconds(
    heads: Sequence[Head], X: Any, y: ArrayLike, *, validation: Validation | None = None, jobs: int = 1
) -> float:
    """About how long `fit_many` would take without halving: some steps of each shape and one other head are timed."""
    dense, others = _parted(heads)
    seconds = _Stacked([heads[i] for i in dense], X, y, validation=validation).estimate() if dense else 0.0
    for one in _each([heads[i] for i in others[:1]], X, y, validation=validation):
        seconds += one.seconds * len(others) / jobs
    return seconds


class _Stacked:
    """Dense heads as tasks of one computation. X and y are checked once, as the first head would check them."""

    def __init__(
        self,
        heads: Sequence[DenseHead],
        X: Any,
        y: ArrayLike,
        *,
        rows: Rows | None = None,
        validation: Validation | None,
        views: Sequence[NDArray[Any]] = (),
    ) -> None:
        first: DenseHead = clone(heads[0])
        self.X, self.codes, counts = first.begin(X, y)
        self.held = None if validation is None else first.checked_validation(*validation)
        self.classes = first.classes_
        self.heads: list[DenseHead] = []
        self.tasks: dict[int, Task] = {}
        self.errors: dict[int, str] = {}
        for i, head in enumerate(heads):
            own: DenseHead = clone(head)
            own.n_features_in_ = first.n_features_in_
            part = slice(None) if rows is None else rows[i]
            try:
                own.learn_classes(self.classes, self.codes[part], counts[part])
                self.tasks[i] = own.task(rows=None if rows is None else rows[i], views=views)
            except ValueError as error:  # a wrong option, or a class without rows
                self.errors[i] = str(error)
            self.heads.append(own)

    def fit(self, halving: bool, progress: Progress) -> Iterator[FittedHead]:
        for i, error in self.errors.items():
            yield FittedHead(index=i, head=None, seconds=0.0, error=error)
        places = list(self.tasks)
        outcomes = train_heads(
            self.X, self.codes, list(self.tasks.values()), n_classes=len(self.classes), validation=self.held,
            halving=halving, progress=progress,
        )  # fmt: skip
        for outcome in outcomes:
            i = places[outcome.index]
            head = None
            if outcome.error is None:
                head = self.heads[i]
                head.adopt(outcome)
            yield FittedHead(
                index=i, head=head, seconds=outcome.seconds, error=outcome.error, dropped_after=outcome.dropped_after
            )

    def estimate(self) -> float:
        tasks = list(self.tasks.values())
        return estimated_seconds(self.X, self.codes, tasks, n_classes=len(self.classes), validation=self.held)


def _each(
    heads: Sequence[Head],
    X: Any,
    y: ArrayLike,
    *,
    rows: Rows | None = None,
    validation: Validation | None,
    jobs: int = 1,
) -> Iterator[FittedHead]:
    """Copies of heads, each fitted by itself, in order."""
    labels = np.asarray(y)

    def fit(i: int) -> FittedHead:
        begun = time.perf_counter()
        head: Head = clone(heads[i])
        part = slice(None) if rows is None else rows[i]
        try:
            head.fit(X[part], labels[part], validation=validation)
        except ValueError as error:  # a wrong option, or rows that this head cannot learn from
            return FittedHead(index=i, head=None, seconds=time.perf_counter() - begun, error=str(error))
        return FittedHead(index=i, head=head, seconds=time.perf_counter() - begun)

    if heads:
        yield from Parallel(n_jobs=jobs, prefer="threads", return_as="generator")(map(delayed(fit), range(len(heads))))


def _parted(heads: Sequence[Head]) -> tuple[list[int], list[int]]:
    """Places of the heads that are stacked, and of the others. A head that does more than train is not stacked."""
    dense = [i for i, head in enumerate(heads) if type(head) is DenseHead]
    return dense, [i for i in range(len(heads)) if i not in set(dense)]


def _of(rows: Rows | None, places: Sequence[int]) -> Rows | None:
    return None if rows is None else [rows[i] for i in places]


def _epochs(head: Head) -> int:
    return int(getattr(head, "epochs", 1))


def _unheard(done: int, total: int) -> None:
    """Progress that nobody wants."""
