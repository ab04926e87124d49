"""Probabilities that mean what they say, and where to cut them: one temperature, and one threshold for two classes.

    p_k = exp(z_k / T) / sum_j exp(z_j / T)        Guo et al. (2017), section 4.2
    minimise  sum_i w_i (-log p_{i, y_i})   over T:  convex in 1/T, so the root of its slope is the minimum

Pure functions of arrays; imports only the checks of options.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.options import check_word, is_number

FURTHEST = 1e4
"""T is at most so many times the rows' mean gap between scores, and at least that gap divided by it."""

ROWS = 2**16
"""Rows at a time, so that what is between their scores and one number for each stays small."""

ThresholdBy = Literal["f1", "precision", "recall", "costs"]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Where two classes are cut: `positive` is predicted iff its probability is at least `value`.

    Parameters
    ----------
    positive : label
    value : float
        In [0, 1], or just above 1 where no row is to be called positive.
    rule : str
        How it was chosen, such as `f1`, `precision >= 0.9` or `costs 1 : 5`.
    """

    positive: Any
    value: float
    rule: str

    def __post_init__(self) -> None:
        if not (is_number(self.value) and 0 <= self.value <= np.nextafter(1.0, 2.0)):
            raise ValueError(f"A threshold is a probability, not {self.value!r}.")


@dataclass(frozen=True, kw_only=True)
class ThresholdRule:
    """What a threshold is chosen by.

    Parameters
    ----------
    by : {"f1", "precision", "recall", "costs"}
        `f1`: the highest F1 of the positive class. `precision`: the highest recall among thresholds whose precision
        is at least `floor`. `recall`: the highest precision where recall is at least `floor`. `costs`: the lowest cost.
    floor : float in (0, 1], for `precision` and `recall` only
    costs : (float, float), for `costs` only
        Of one false positive and of one false negative, in any one unit; not negative, not both 0.
    """

    by: ThresholdBy = "f1"
    floor: float | None = None
    costs: Sequence[float] | None = None

    def __post_init__(self) -> None:
        check_word("by", self.by, ("f1", "precision", "recall", "costs"))
        if self.by in ("precision", "recall"):
            if not (is_number(self.floor) and 0 < float(self.floor or 0) <= 1):
                raise ValueError(f"by={self.by!r} needs floor, a share above 0 and at most 1, got {self.floor!r}.")
        elif self.floor is not None:
            raise ValueError(f"floor is for 'precision' and 'recall'; by is {self.by!r}.")
        if self.by != "costs" and self.costs is not None:
            raise ValueError(f"costs are for by='costs'; by is {self.by!r}.")
        if self.by == "costs" and not _are_costs(self.costs):
            raise ValueError(
                "by='costs' needs costs, of a false positive and of a false negative: two numbers, "
                f"not negative and not both 0, got {self.costs!r}."
            )

    def __str__(self) -> str:
        if self.costs is not None:
            return f"costs {self.costs[0]:g} : {self.costs[1]:g}"
        return self.by if self.floor is None else f"{self.by} >= {self.floor:g}"


def fit_temperature(
    logits: NDArray[np.floating[Any]], codes: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> float:
    """The temperature T at which softmax(logits / T) has the lowest log loss.

    Parameters
    ----------
    logits : float array (N, K)
        Scores or log probabilities; a probability of 0 is -inf.
    codes : int array (N,)
        Each row's own class.
    weights : float array (N,), optional
        How often each row counts.

    Returns
    -------
    float
        Above 0. 1.0 if the scores of every row are equal.

    Notes
    -----
    A row whose own class has probability 0 loses as much at any T, so it has no say. Where no row has a class above
    its own, colder is always better and nothing is lowest: then the rows' own classes are aimed at with 1 - 1/(n + 2)
    instead of 1, as Platt (1999) does, n being the sum of weights: as if one more row had been wrong.
    """
    own = logits[np.arange(len(codes)), codes].astype(np.float64)
    told = np.isfinite(own)  # (N,)
    counts = np.ones(len(codes)) if weights is None else np.asarray(weights, np.float64)
    n, shares = counts[told].sum(), counts[told] / (counts[told].sum() or 1)
    gaps = logits[told]
    gaps -= own[told, None]  # (n, K)  0 for a row's own class
    blocks = [slice(i, i + ROWS) for i in range(0, len(gaps), ROWS)]

    def by_row(function: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> NDArray[np.float64]:
        """What a function makes of each row's gaps and of those that are finite, else 0: (n,)."""
        parts = [function(gaps[b], np.where(np.isfinite(gaps[b]), gaps[b], 0)) for b in blocks]
        return np.concatenate([np.zeros(0), *parts])

    spread = float(shares @ by_row(lambda _, bounded: bounded.max(axis=1) - bounded.min(axis=1)))
    if spread == 0:
        return 1.0
    aim = np.zeros(len(gaps))
    if gaps.max() <= 0:  # no minimum without Platt's aim
        others = by_row(lambda gaps, _: np.maximum(np.isfinite(gaps).sum(axis=1) - 1, 1))
        aim = by_row(lambda _, bounded: bounded.sum(axis=1)) / others / (n + 2)

    def slope(log_beta: float) -> float:
        """How the mean log loss changes with beta = 1/T."""
        beta = np.exp(log_beta)
        p_gap = by_row(lambda gaps, bounded: (np.exp(log_softmax(gaps * beta)) * bounded).sum(axis=1))
        return float(shares @ (p_gap - aim))

    return float(np.exp(-_root(slope, -np.log(spread) - np.log(FURTHEST), -np.log(spread) + np.log(FURTHEST))))


def log_softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Row-wise log softmax in float64: (N, K) -> (N, K). -inf stays -inf."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def mean_log_loss(
    logits: NDArray[Any], codes: NDArray[np.int64], weights: NDArray[np.float64], temperature: float = 1.0
) -> float:
    """Weighted mean of -log softmax(logits / T) at each row's own class, over the rows where it is finite."""
    blocks = [slice(i, i + ROWS) for i in range(0, len(codes), ROWS)]
    each = [log_softmax(logits[b] / temperature)[np.arange(len(codes[b])), codes[b]] for b in blocks]
    own = np.concatenate([np.zeros(0), *each])
    told = np.isfinite(own)
    return float(-(weights[told] @ own[told]) / (weights[told].sum() or 1))


def choose_threshold(
    p_positive: NDArray[np.float64],
    is_positive: NDArray[np.bool_],
    rule: ThresholdRule,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """The threshold that a rule chooses on these rows.

    Parameters
    ----------
    p_positive : float array (N,)
        Probability of the positive class.
    is_positive : bool array (N,)
    rule : ThresholdRule
    weights : float array (N,), optional
        How often each row counts.

    Returns
    -------
    float
        Half way between two rows' probabilities, so that no row stands on it. Of thresholds that do equally well by
        the rule, the one with the higher precision (`precision`) or recall (`recall`), then the highest.

    Raises
    ------
    ValueError
        No row is positive, or no threshold reaches the floor; the best that one does is named.
    """
    values, found, wrong, positives = _cuts(p_positive, is_positive, weights)
    if rule.by != "costs" and positives == 0:
        raise ValueError(f"No row is positive, so {rule.by} says nothing. Give rows of both classes.")
    precision = found / np.maximum(found + wrong, np.finfo(float).tiny)
    recall = found / (positives or 1)
    keys: tuple[NDArray[np.float64], ...]
    if rule.by == "f1":
        keys = (2 * found / (found + wrong + positives),)
    elif rule.costs is not None:
        keys = (-(rule.costs[0] * wrong + rule.costs[1] * (positives - found)),)
    else:
        floored, other = (precision, recall) if rule.by == "precision" else (recall, precision)
        reached = floored >= (rule.floor or 0)
        if not reached.any():
            raise ValueError(f"No threshold reaches {rule}: the best {rule.by} on these rows is {floored.max():.4g}.")
        keys = (np.where(reached, other, -1), floored)
    best = np.lexsort((values, *reversed(keys)))[-1]  # the last key sorts first
    return float(values[best])


def _cuts(
    p_positive: NDArray[np.float64], is_positive: NDArray[np.bool_], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """Thresholds (m,), falling; true and false positives (m,) at each; and how many rows are positive.

    p [.9, .9, .4] -> thresholds [.95, .65, .2]: nobody, two rows, all.
    """
    counts = np.ones(len(p_positive)) if weights is None else weights
    order = np.argsort(-p_positive, kind="stable")
    p, counts, positive = p_positive[order], counts[order], is_positive[order]
    last = np.flatnonzero(np.append(p[1:] != p[:-1], True))  # the last row of each distinct probability
    found, wrong = (np.append(0.0, np.cumsum(counts * mask)[last]) for mask in (positive, ~positive))
    edges = np.concatenate([[1.0], p[last], [0.0]])
    middle = (edges[:-1] + edges[1:]) / 2
    middle = np.where(middle > edges[1:], middle, edges[:-1])  # two neighbours among floats have no middle
    if edges[1] == 1:
        middle[0] = np.nextafter(1.0, 2.0)  # nobody is above 1
    return middle, found, wrong, float(found[-1])


def _root(slope: Any, low: float, high: float) -> float:
    """Where a rising function crosses 0 in [low, high], or the end that is nearer to it."""
    from scipy.optimize import brentq

    if slope(low) >= 0:
        return low
    if slope(high) <= 0:
        return high
    return float(brentq(slope, low, high, xtol=1e-13))


def _are_costs(costs: Sequence[float] | None) -> bool:
    known = isinstance(costs, Sequence) and not isinstance(costs, str) and len(costs) == 2
    return known and all(is_number(c) and c >= 0 for c in costs or ()) and any(costs or ())
