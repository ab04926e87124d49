"""Many dense heads at once: stacks of equal shape, sized for the processor's cache, on a thread for each core.

A stack and its neighbours change no bit of a head, and neither do threads: each computes alone, on one core. So what
is stacked with what is a matter of speed only.
"""

import math
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.learner import Held, Learner, Outcome, Task
from frozenhead.heads.stored import StoredRows
from frozenhead.heads.training import Stopped, Together

CACHE = 7 << 20
"""Bytes of parameters, averages and gradients in a stack: what a core has of the processor's cache, about."""

MOST = 8
"""Heads in a stack: more save little, and their vectors push each other out of the cache."""

MEMORY = 1 << 30
"""Bytes of parameters, averages, gradients and best epochs in training at a time, by default."""

Progress = Callable[[int, int], object]


def train_heads(
    X: Any,
    codes: NDArray[np.int64],
    tasks: Sequence[Task],
    *,
    n_classes: int,
    validation: Held | None = None,
    halving: bool = False,
    progress: Progress | None = None,
    memory: int = MEMORY,
    threads: int | None = None,
) -> Iterator[Outcome]:
    """Train a head for each task; outcomes come as they are ready, in any order.

    Each head is bit for bit the head that its task alone would give, whatever the other tasks, their order and the
    number of threads. A head that diverges says so in its outcome and touches no other.

    Parameters
    ----------
    X : float array (N, D) or StoredRows
        Float32 in row order is read where it lies, a memory map too; other floats are converted batch by batch.
    codes : int array (N,)
        Classes of the rows, 0 to K - 1.
    tasks : sequence of Task
    n_classes : int
        K, at least 2.
    validation : (float array (M, D), int array (M,)), optional
        Rows by which epochs are compared.
    halving : bool
        After epochs 1, 2, 4, 8, ... only the better half of the heads that are still training goes on, by their lowest
        validation loss so far, all shapes together; of an odd number the larger half, of equals the first.
        Heads that wait for the others keep 16 bytes a parameter, beyond `memory`.
    progress : callable (done, total), optional
        Called on the calling thread with the epochs done of all heads, and their number. What stops early is done.
    memory : int
        Bytes that heads in training may take at a time: 20 for each parameter.
    threads : int, optional
        By default as many as torch has.

    Raises
    ------
    ValueError
        Shapes that do not fit, codes or rows out of range, a weight that is not above 0, or halving without validation.
    """
    learners = _learners(X, codes, tasks, n_classes, validation)
    if halving and any(learner.held is None for learner in learners):
        raise ValueError("halving compares heads by their validation loss; give validation rows.")
    run = _Run(X, codes, learners, memory, threads)
    return run.outcomes(halving, progress or unheard)


def estimated_seconds(
    X: Any,
    codes: NDArray[np.int64],
    tasks: Sequence[Task],
    *,
    n_classes: int,
    validation: Held | None = None,
    memory: int = MEMORY,
    threads: int | None = None,
) -> float:
    """About how long `train_heads` would take without halving and patience, in seconds; its parameters.

    Of each shape one stack is timed for some steps and for one pass over its validation rows, and the threads
    are taken to be as fast side by side as alone.
    """
    run = _Run(X, codes, _learners(X, codes, tasks, n_classes, validation), memory, threads)
    groups = grouped(run.learners, memory=memory, threads=run.threads)
    by_shape = {group[0].shape: group for group in groups}
    alone = ThreadPoolExecutor(1, initializer=_quiet)  # its own thread, on one core as in training
    with alone:
        each = {shape: alone.submit(run.timed, group).result() for shape, group in by_shape.items()}
    _restore_threads()
    return sum(each[learner.shape] for learner in run.learners) / max(1, min(run.threads, len(groups)))


class _Run:
    """One call of `train_heads`."""

    def __init__(
        self,
        X: Any,
        codes: NDArray[np.int64],
        learners: Sequence[Learner],
        memory: int,
        threads: int | None,
    ) -> None:
        import torch

        self.X = X if isinstance(X, StoredRows) else np.asarray(X)
        self.codes, self.learners, self.memory = codes, learners, memory
        self.threads = threads or torch.get_num_threads()
        self.stop = threading.Event()
        self.messages: queue.Queue[_Message | BaseException | None] = queue.Queue()

    def outcomes(self, halving: bool, progress: Progress) -> Iterator[Outcome]:
        total, settled = sum(learner.task.settings.epochs for learner in self.learners), 0
        going, until = list(self.learners), 1 if halving else None
        while going:
            with closing(self._round(going, until)) as messages:
                for learner, epochs, done in messages:
                    settled += epochs
                    progress(settled, total)
                    if done:
                        yield learner.outcome()
            going = [learner for learner in going if not learner.done]
            if until is not None:
                going, dropped = _halves(going)
                until *= 2
                for learner in dropped:
                    learner.dropped_after = learner.epoch
                    settled += learner.task.settings.epochs - learner.epoch
                    progress(settled, total)
                    yield learner.outcome()

    def _round(self, learners: Sequence[Learner], until: int | None) -> Generator["_Message", None, None]:
        """Train to an epoch, or to the end, on threads; what they say, as they say it."""
        groups = grouped(learners, memory=self.memory, threads=self.threads)
        waiting: queue.SimpleQueue[list[Learner]] = queue.SimpleQueue()
        for group in groups:
            waiting.put(group)
        workers = [
            threading.Thread(target=self._work, args=(waiting, until), name=f"heads-{i}", daemon=True)
            for i in range(min(self.threads, len(groups)))
        ]
        try:
            for worker in workers:
                worker.start()
            working = len(workers)
            while working:
                message = self.messages.get()
                if isinstance(message, BaseException):
                    raise message
                if message is None:
                    working -= 1
                else:
                    yield message
        except BaseException:
            self.stop.set()
            raise
        finally:
            for worker in workers:
                worker.join()
            _restore_threads()

    def _work(self, waiting: "queue.SimpleQueue[list[Learner]]", until: int | None) -> None:
        """Train one waiting group after the other, on one core."""
        import torch

        _quiet()
        try:
            with torch.inference_mode():
                while not self.stop.is_set():
                    self._train(waiting.get_nowait(), until)
        except (queue.Empty, Stopped):
            self.messages.put(None)
        except BaseException as error:  # noqa: BLE001  it is raised again on the calling thread
            self.messages.put(error)

    def _train(self, group: Sequence[Learner], until: int | None) -> None:
        while group:
            together = Together(group, self.X, self.codes)
            while len(going := [m for m in group if not m.done and m.epoch != until]) == len(group):
                before = group[0].epoch
                together.epoch(self.stop.is_set)
                for learner in group:
                    end = learner.task.settings.epochs if learner.done else learner.epoch
                    self.messages.put((learner, end - before, learner.done))
            for learner in group:
                learner.release()
            group = going

    def timed(self, group: Sequence[Learner]) -> float:
        """Seconds that all epochs of one head take in this group, from some of its steps."""
        import torch

        with torch.inference_mode():
            together = Together(group, self.X, self.codes)
            seconds = together.timed_epoch() / len(group) * group[0].task.settings.epochs
        for learner in group:
            learner.state = None
        return seconds


_Message = tuple[Learner, int, bool]
"""A head, the epochs settled since the last message, and whether it is done."""


def grouped(learners: Sequence[Learner], *, memory: int, threads: int) -> list[list[Learner]]:
    """Learners of equal shape in groups that fit the cache and the memory, as even as can be for the threads."""
    by_shape: dict[Any, list[Learner]] = {}
    for learner in learners:
        by_shape.setdefault(learner.shape, []).append(learner)
    groups: list[list[Learner]] = []
    for alike in by_shape.values():
        numbers = alike[0].network.length
        most = max(1, min(MOST, CACHE // (16 * numbers), memory // (20 * numbers * threads)))
        count = math.ceil(len(alike) / most)
        count = min(len(alike), math.ceil(count / threads) * threads)  # as many for each thread
        groups += [list(part) for part in np.array_split(np.array(alike, object), count)]
    return sorted(groups, key=lambda group: -group[0].network.length * group[0].steps)  # the longest first


def _halves(learners: Sequence[Learner]) -> tuple[list[Learner], list[Learner]]:
    """The better half by validation loss, and the others, each in the order of tasks."""
    ranked = sorted(learners, key=lambda learner: (learner.lowest, learner.index))
    kept = {learner.index for learner in ranked[: math.ceil(len(ranked) / 2)]}
    return [m for m in learners if m.index in kept], [m for m in learners if m.index not in kept]


def _learners(
    X: Any, codes: NDArray[np.int64], tasks: Sequence[Task], n_classes: int, validation: Held | None
) -> list[Learner]:
    """Learners of tasks that fit X, codes and validation. Raises `ValueError` for what does not."""
    _check_rows("X", X, codes, X.shape, n_classes)
    learners = []
    for index, task in enumerate(tasks):
        held = validation if task.validation is None else task.validation
        if held is not None:
            _check_rows("validation", *held, X.shape, n_classes)
        for view in task.views:
            if view.shape != X.shape:
                raise ValueError(f"Task {index}: a view is {view.shape}, X is {X.shape}; they must be alike.")
        _check_task(index, task, len(X), n_classes)
        learners.append(Learner.of(index, task, X, n_classes, held))
        if learners[-1].n == 0:
            raise ValueError(f"Task {index} has no row of weight above 0.")
    return learners


def _check_rows(what: str, X: Any, codes: NDArray[Any], shape: tuple[int, ...], n_classes: int) -> None:
    if X.ndim != 2 or X.shape[1] != shape[1] or X.shape[:1] != codes.shape or not len(codes):
        raise ValueError(f"{what} is {X.shape} with codes {codes.shape}; expected (n, {shape[-1]}) and (n,), n > 0.")
    if codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() >= n_classes:
        raise ValueError(f"The codes of {what} must be whole numbers from 0 to {n_classes - 1}.")


def _check_task(index: int, task: Task, n: int, n_classes: int) -> None:
    w, s, rows = task.class_weights, task.row_weights, task.rows
    if w.shape != (n_classes,) or not (np.isfinite(w).all() and (w > 0).all()):
        raise ValueError(f"Task {index}: class_weights must be {n_classes} finite numbers above 0, got {w.tolist()}.")
    if s is not None and (s.shape != (n,) or not (np.isfinite(s).all() and (s >= 0).all())):
        raise ValueError(f"Task {index}: row_weights must be {n} finite numbers of at least 0.")
    if rows is not None and (rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows)):
        raise ValueError(f"Task {index}: rows must be a list of whole numbers, and not empty.")
    if rows is not None and (rows.min() < 0 or rows.max() >= n):
        raise ValueError(f"Task {index}: rows go from {rows.min()} to {rows.max()}; X has rows 0 to {n - 1}.")


def unheard(done: int, total: int) -> None:
    """Progress that nobody wants."""


def _quiet() -> None:
    """One thread for what the calling thread asks of torch: products so small gain nothing by more."""
    import torch

    torch.set_num_threads(1)


def _restore_threads() -> None:
    """Each thread has its own number of threads, and new ones a default, that of the last who asked: ours again."""
    import torch

    torch.set_num_threads(torch.get_num_threads())
