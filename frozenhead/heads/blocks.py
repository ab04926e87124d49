"""Rows in blocks, a block to a thread, each thread with a BLAS of one thread.

The blocks and the order in which their sums are added depend on the shape of X alone, so the bits of a sum do not
depend on the number of cores. Python's threads suffice: products and ufuncs on a block run without its lock.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

NUMBERS = 2**19
"""Most numbers of X in a block: 2 MiB in float32."""
WORTH_THREADS = 2**24
"""Multiplications in a product with X that take longer than threads take to start."""


class Map(Protocol):
    """On as many threads as there may be."""

    def __call__(self, function: Callable[[Any], Any], tasks: Iterable[Any] = ...) -> Iterator[Any]:
        """Call `function` on each block of rows, or on each of `tasks`; gives what it returns, in their order."""


@cache
def _blas() -> ThreadpoolController:
    """The BLAS of numpy and scipy, both loaded by now; to look for them takes milliseconds."""
    return ThreadpoolController().select(user_api="blas")


class _OneThreadOfBlas:
    """BLAS computes on the calling thread alone while anyone is inside. The first in sets it, the last out restores.

    The limit is one of the whole process: fits that overlap in time must not restore each other's.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> int:
        with self._lock:
            if self._inside == 0:
                self._threads = max((library["num_threads"] for library in _blas().info()), default=1)
                self._limiter = _blas().limit(limits=1)
            self._inside += 1
            return int(self._threads)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limiter.restore_original_limits()


_one_thread_of_blas = _OneThreadOfBlas()


@contextmanager
def block_map(shape: tuple[int, ...], scores: int) -> Iterator[Map]:
    """A map over blocks of the N rows of an (N, D) array, on as many threads as BLAS was allowed.

    `scores` is the number of columns of the matrix that X is multiplied with.
    """
    n, dim = shape
    blocks = _blocks(n, max(1, NUMBERS // dim))

    def quietly(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(task: Any) -> Any:
            with np.errstate(all="ignore"):  # of the thread, so said here; what is not finite is seen in the sums
                return function(task)

        return call

    with _one_thread_of_blas as threads:
        if min(threads, len(blocks)) == 1 or n * dim * scores < WORTH_THREADS:
            yield lambda function, tasks=blocks: map(quietly(function), tasks)
            return
        with ThreadPoolExecutor(min(threads, len(blocks))) as pool:
            yield lambda function, tasks=blocks: pool.map(quietly(function), tasks)


def _blocks(n: int, most: int) -> list[slice]:
    """As few blocks of at most `most` rows as there can be, of about the same size."""
    ends = [n * i // -(-n // most) for i in range(-(-n // most) + 1)]
    return [slice(*pair) for pair in pairwise(ends)]
