"""Which vectors point the same way: the nearest ones, and the nearest above a threshold, by cosine.

Imports nothing from the package. Both searches are exact. What float32 products find is computed again in float64,
and cosines are compared after rounding to 9 decimals; of equal ones the first in `base` wins, whatever the blocks.
Letters: q queries, n vectors to search, D their size, m axes. Memory grows with q + n, never with q n.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

DECIMALS = 9
SLACK = 1e-5
"""No float32 product of unit vectors is further than this from the exact cosine; it is about 1e-7 sqrt(D) at most."""
NOISE = 1e-5
"""The share of a vector's length that the encoder's own arithmetic may differ by; what is shorter has no direction."""

_SPARE = 8  # candidates kept beyond k, for those that float32 cannot tell apart
_QUERIES, _BASE = 512, 2048  # a block of products is 4 MiB, which the cache of a core nearly holds
_SAMPLE, _PROBES = 8192, 256  # vectors that the axes are fitted on, and queries that they are tried on
_FEW = 1 / 2000  # of the pairs: one computed alone takes as long as 500 in a product
_PAIRS = 4096  # pairs computed in float64 at a time


def mean_vector(vectors: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean (D,) of some rows of `vectors` (N, D), summed in float64, a block at a time."""
    total = np.zeros(vectors.shape[1])
    for block in _blocks(len(rows), _BASE):
        total += vectors[rows[block]].sum(axis=0, dtype=np.float64)
    return np.asarray(total / max(len(rows), 1))


def nearest(
    queries: NDArray[Any], base: NDArray[Any], *, k: int, centre: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k vectors of largest cosine with each query, largest first; of equal ones the first in `base`.

    Parameters
    ----------
    queries : float array (q, D)
        Of any float type; a memory map will do.
    base : float array (n, D)
    k : int
        Where `base` has fewer vectors, all are given.
    centre : float64 array (D,), optional
        Subtracted from every vector first.

    Returns
    -------
    indices : int64 array (q, min(k, n))
        Into `base`.
    cosines : float64 array (q, min(k, n))
        A vector without a direction, such as zeros, has cosine 0 with all.

    Raises
    ------
    ValueError
        A vector that is not finite.
    """
    k = min(k, len(base))
    first, same = _distinct(base)
    members = np.split(np.argsort(same, kind="stable"), np.cumsum(np.bincount(same))[:-1]) if len(base) else []
    asked, sought = _Units(queries, np.arange(len(queries)), centre), _Units(base, first, centre)
    indices, cosines = np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k))

    def search(block: slice) -> None:
        rows = np.arange(block.start, block.stop)
        found = _candidates(asked, rows, sought, min(k + _SPARE, len(first)))  # (rows, candidates)
        exact = _cosines(asked, np.repeat(rows, found.shape[1]), sought, found.ravel()).reshape(found.shape)
        order = np.lexsort((found, -exact))  # (rows, candidates), along the last axis
        found, exact = np.take_along_axis(found, order, 1), np.take_along_axis(exact, order, 1)
        directed = asked.take(rows).any(axis=1)
        for row, ours, theirs in zip(rows[directed], found[directed, :k], exact[directed, :k], strict=True):
            alike = [members[one] for one in ours]
            indices[row] = np.concatenate(alike)[:k]
            cosines[row] = np.repeat(theirs, list(map(len, alike)))[:k]
        indices[rows[~directed]] = np.arange(k)

    with _threads() as each:
        each(search, _blocks(len(queries) if k else 0, _QUERIES))
    return indices, cosines


def nearest_above(
    queries: NDArray[Any], base: NDArray[Any], *, threshold: float, centre: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The vector of largest cosine with each query, if that is `threshold` or more; of equal ones the first.

    For unit vectors u, v and an orthonormal basis of m axes with coordinates a, b, and lengths r, s of what the axes
    leave out, Cauchy-Schwarz gives u.v <= a.b + r s. So the product of (a, r) and (b, s), of size m + 1 in place of D,
    rules out most pairs and can miss none; the axes are those of the largest second moments. At 100,000 x 70,000
    vectors of size 384 this takes a quarter of the time of all products.

    Parameters
    ----------
    queries, base, centre
        See `nearest`.
    threshold : float
        Above 0, at most 1.

    Returns
    -------
    indices : int64 array (q,)
        Into `base`; -1 where no vector comes up to the threshold.
    cosines : float64 array (q,)
        0.0 there.

    Raises
    ------
    ValueError
        A threshold out of range, or a vector that is not finite.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold is {threshold}, expected a cosine above 0 and at most 1")
    if not (len(queries) and len(base)):
        return np.full(len(queries), -1, np.int64), np.zeros(len(queries))
    (asked_first, asked_same), (first, _) = _distinct(queries), _distinct(base)
    asked, sought = _Units(queries, asked_first, centre), _Units(base, first, centre)
    with _threads() as each:
        axes = _axes(asked, sought, threshold)  # (D, m)
        search = _Search(asked, sought, threshold, axes)
        each(search.look, _blocks(len(asked_first), _QUERIES))
    indices = np.where(search.found < 0, -1, first[search.found])
    return indices[asked_same], np.where(indices < 0, 0.0, search.best)[asked_same]


@dataclass(frozen=True)
class _Units:
    """Some rows of `vectors` as unit vectors, made anew whenever they are asked for."""

    vectors: NDArray[Any]
    rows: NDArray[np.int64]
    centre: NDArray[np.float64] | None

    def take(self, which: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """Unit vectors (., D), or zeros where a vector has no direction."""
        rows = self.rows[which]
        stored = self.vectors[rows]
        units = stored.astype(np.float64)
        lengths = before = np.sqrt(np.einsum("ij,ij->i", units, units))  # (.,)
        if not np.isfinite(lengths).all():
            raise ValueError(f"vector {rows[int(np.isfinite(lengths).argmin())]} holds NaN or infinity")
        if self.centre is not None:
            units -= self.centre
            lengths = np.sqrt(np.einsum("ij,ij->i", units, units))
        # A float16 that lies within its own rounding of the centre points anywhere.
        some = lengths > max(NOISE, float(np.finfo(stored.dtype).eps)) * before
        units *= np.divide(1.0, lengths, out=np.zeros_like(lengths), where=some & (lengths > 0))[:, None]
        return units

    def sketch(self, axes: NDArray[np.float64], which: slice) -> NDArray[np.float32]:
        """Coordinates on the axes (D, m), and the length of what they leave out: (., m + 1)."""
        made = np.empty((which.stop - which.start, axes.shape[1] + 1), np.float32)
        for block in _blocks(len(made), _BASE):
            units = self.take(slice(which.start + block.start, which.start + block.stop))
            coordinates = units @ axes
            left = (units * units).sum(axis=1) - (coordinates * coordinates).sum(axis=1)
            made[block, :-1], made[block, -1] = coordinates, np.sqrt(np.maximum(left, 0))
        return made


class _Search:
    """The best pair of each query so far. Blocks of queries can be searched side by side."""

    def __init__(self, asked: _Units, sought: _Units, threshold: float, axes: NDArray[np.float64]) -> None:
        self._asked, self._sought, self._axes = asked, sought, axes
        self._right = sought.sketch(axes, slice(0, len(sought.rows)))  # (n, m + 1)
        self.best = np.full(len(asked.rows), np.nextafter(round(threshold, DECIMALS), 0))  # (q,) to be surpassed
        self.found = np.full(len(asked.rows), -1, np.int64)

    def look(self, rows: slice) -> None:
        """Search all of the base for a block of queries."""
        left = self._asked.sketch(self._axes, rows)  # (rows, m + 1)
        bound, could = np.empty((len(left), _BASE), np.float32), np.empty((len(left), _BASE), np.bool_)
        for columns in _blocks(len(self._right), _BASE):
            part = np.s_[:, : columns.stop - columns.start]
            self._compare(rows, columns, left, bound[part], could[part])

    def _compare(
        self,
        rows: slice,
        columns: slice,
        left: NDArray[np.float32],
        bound: NDArray[np.float32],
        could: NDArray[np.bool_],
    ) -> None:
        """Compute the pairs of a block whose bound surpasses the best; `bound` and `could` are room to work in."""
        np.matmul(left, self._right[columns].T, out=bound)
        floor = self.best[rows] - SLACK
        if self._axes.shape[1] == len(self._axes):  # all axes: a bound is the cosine itself
            floor = np.maximum(floor, bound.max(axis=1) - 2 * SLACK)
        np.greater_equal(bound, floor.astype(np.float32)[:, None], out=could)
        some = np.flatnonzero(could.any(axis=1))  # a third of the time that `nonzero` takes to find nothing
        i, j = np.nonzero(could[some])
        i, j = rows.start + some[i], columns.start + j
        cosines = _cosines(self._asked, i, self._sought, j)
        order = np.lexsort((j, -cosines, i))
        i, j, cosines = i[order], j[order], cosines[order]
        leads = np.flatnonzero(np.diff(i, prepend=-1))  # the best of each query
        leads = leads[cosines[leads] > self.best[i[leads]]]  # equal ones of an earlier block stay
        self.best[i[leads]], self.found[i[leads]] = cosines[leads], j[leads]


def _axes(asked: _Units, sought: _Units, threshold: float) -> NDArray[np.float64]:
    """Orthonormal axes (D, m): the leading ones of the vectors' second moments, or all where few would not do.

    Of vectors that point everywhere alike a share m / D of the squared length lies on m axes, and the bound
    a.b + 1 - m / D has the deviation sqrt(m) / D. With m - 5 sqrt(m) = (1 - threshold) D it stays below the threshold
    but for one pair in millions. Where vectors stand in tight clusters, as those of a fine-tuned encoder do, too many
    pairs of a sample come up to what is best there, and all products are cheaper than the pairs one by one.
    """
    D = sought.vectors.shape[1]
    m = math.ceil(((5 + math.sqrt(25 + 4 * (1 - threshold) * D)) / 2) ** 2)
    if m >= D:
        return np.eye(D)
    units, probes = sought.take(_spread(len(sought.rows), _SAMPLE)), asked.take(_spread(len(asked.rows), _PROBES))
    axes = np.linalg.eigh(units.T @ units)[1][:, ::-1][:, :m]
    bound = (probes @ axes) @ (units @ axes).T  # (probes, sample)
    bound += np.outer(*(np.sqrt(np.maximum(1 - ((one @ axes) ** 2).sum(axis=1), 0)) for one in (probes, units)))
    best = np.maximum((probes @ units.T).max(axis=1), threshold)
    return np.eye(D) if (bound >= best[:, None] - SLACK).mean() > _FEW else np.asarray(axes)


def _spread(n: int, most: int) -> NDArray[np.int64]:
    """At most so many numbers below n, evenly spread."""
    return np.linspace(0, n - 1, min(most, n)).astype(np.int64)


def _candidates(asked: _Units, rows: NDArray[np.int64], sought: _Units, keep: int) -> NDArray[np.int64]:
    """For each of the queries the `keep` largest products in float32, in no order: int64 (rows, keep)."""
    left = asked.take(rows).astype(np.float32)
    scores, found = np.empty((len(rows), 0), np.float32), np.empty((len(rows), 0), np.int64)
    for block in _blocks(len(sought.rows), _BASE):
        products = left @ sought.take(block).astype(np.float32).T  # (rows, block)
        scores = np.hstack([scores, products])
        found = np.hstack([found, np.broadcast_to(np.arange(block.start, block.stop), products.shape)])
        if scores.shape[1] > keep:
            top = np.argpartition(scores, -keep, axis=1)[:, -keep:]
            scores, found = np.take_along_axis(scores, top, 1), np.take_along_axis(found, top, 1)
    return found


def _cosines(asked: _Units, i: NDArray[np.int64], sought: _Units, j: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosines of pairs (p,) in float64, rounded, so that they do not depend on the order of a sum."""
    cosines = np.empty(len(i))
    for block in _blocks(len(i), _PAIRS):
        cosines[block] = np.einsum("ij,ij->i", asked.take(i[block]), sought.take(j[block]))
    return np.clip(cosines.round(DECIMALS), -1.0, 1.0) + 0.0  # no -0.0


def _distinct(vectors: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows where a vector stands first, and for each row which of these it equals, bit for bit."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in vectors]
    same, _ = pd.factorize(np.array(digests, dtype=object)) if digests else (np.empty(0, np.int64), None)
    same = same.astype(np.int64)
    return np.flatnonzero(np.diff(np.maximum.accumulate(same), prepend=-1)), same


Each = Callable[[Callable[[slice], None], Iterable[slice]], object]


@contextmanager
def _threads() -> Iterator[Each]:
    """Calls a function on blocks, as many side by side as BLAS has threads, each with a BLAS of one thread.

    Threads of BLAS wait for each other after every small product: on a busy machine of 2 cores that took 5 times as
    long. Python's threads never do, and products and comparisons run without its lock.
    """
    blas = ThreadpoolController().select(user_api="blas")
    threads = max((library["num_threads"] for library in blas.info()), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        yield lambda function, blocks: deque(pool.map(function, blocks), maxlen=0)  # so that errors are raised


def _blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
