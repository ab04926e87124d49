"""L-BFGS with a preconditioner that follows the curvature, and a line search that costs no product with X.

Nocedal and Wright (2006), algorithms 7.4 and 7.5. The objective is convex, so the minimum along a line is found by
Newton's method on the slope, kept between the ends of an interval.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.curvature import Blocks, Curvature, Preconditioner
from frozenhead.heads.objective import Floats, Objective, Parameters

PAIRS = 20
"""Steps that L-BFGS remembers."""
FLATTER = 0.5
"""A step is long enough where the slope is at most this part of what it was."""
TRIALS = 30
STALE = 1.5
"""The curvature is measured anew when the loss has changed by this factor."""
LEARNED = 1e-9
"""A mean loss below this, without a penalty, is that of classes that can be told apart: it has no minimum."""
LONG = 24
"""Steps after which a search asks for better curvature, and again after as many."""
HARD = 4 * LONG
"""Steps after which a search from 0 starts over, by way of stronger penalties."""
AFAR = 30.0**3, 30.0**2, 30.0
"""These penalties, in parts of the one that is sought."""
ROUGH = 1e-2
"""How near to their optima, in parts of the objective."""
IDLE = 20
"""Steps without a fall that rounding does not explain, after which there is none to find."""


@dataclass
class Point:
    """Parameters, their margins, and the objective there."""

    theta: Parameters  # (S, D + 1)
    margins: Floats  # (S, N)
    loss: float = np.inf
    value: float = np.inf

    def gradient(self, objective: Objective, l2: float) -> Parameters:
        """The slope of the objective (S, D + 1); sets `loss` and `value`."""
        self.loss, slope = objective.gradient(self.margins)
        weights = self.theta[:, :-1]
        self.value = self.loss + 0.5 * l2 * float((weights**2).sum())
        slope[:, :-1] += l2 * weights
        return slope

    def move(self, direction: Parameters, change: Floats, step: float) -> None:
        """Go `step` times `direction`, which changes the margins by `change` times as much; `change` is spoilt."""
        self.theta = self.theta + step * direction
        change *= change.dtype.type(step)
        self.margins += change


@dataclass(frozen=True)
class Solution:
    """Where a search ended.

    Parameters
    ----------
    theta : float32 array (S, D + 1)
    value : float
        The objective there, with products in float64.
    excess : float
        By how much of itself `value` is above the minimum, as the curvature has it.
    iterations : int
    """

    theta: NDArray[np.float32]
    value: float
    excess: float
    iterations: int


class _Memory:
    """The latest steps with the change of the gradient over each: what L-BFGS knows of the inverse Hessian."""

    def __init__(self) -> None:
        self._pairs: deque[tuple[Parameters, Parameters, float]] = deque(maxlen=PAIRS)

    def add(self, step: Parameters, change: Parameters) -> None:
        bend = float((step * change).sum())
        if bend > 0:  # always, but for rounding
            self._pairs.append((step, change, 1 / bend))

    def clear(self) -> None:
        self._pairs.clear()

    def __len__(self) -> int:
        return len(self._pairs)

    def direction(self, gradient: Parameters, preconditioner: Preconditioner | Blocks) -> Parameters:
        """Minus the approximate inverse Hessian times the gradient."""
        q, parts = -gradient, []
        for step, change, inverse in reversed(self._pairs):
            parts.append(inverse * float((step * q).sum()))
            q -= parts[-1] * change
        d = preconditioner(q)
        for (step, change, inverse), part in zip(self._pairs, reversed(parts), strict=True):
            d += (part - inverse * float((change * d).sum())) * step
        return d


def search(
    objective: Objective, curvature: Curvature, start: Point, *, l2: float, goal: float, max_iter: int
) -> Solution:
    """Minimise from `start`, which moves, until the estimated excess is `goal` of the objective or rounding ends it.

    The estimate is half of g^T H^-1 g, the fall that a quadratic with the curvature known so far promises.
    """
    memory, stale, excess, iteration = _Memory(), True, np.inf, 0
    gradient = start.gradient(objective, l2)
    least, idle = start.value, 0
    change: Floats | None = None  # one for all steps: with many classes it is larger than X
    while iteration < max_iter and idle < IDLE:
        iteration += 1
        if stale:
            preconditioner, measured = curvature.at(start.margins, l2), start.loss
            memory.clear()
        direction = memory.direction(gradient, preconditioner)
        slope = float((gradient * direction).sum())
        excess = -slope / 2 * preconditioner.caution / start.value if start.value else 0.0
        if not excess > goal or (l2 == 0 and start.value < LEARNED):
            break
        change = objective.margins(direction, change)
        line = line_from(objective, start, direction, change, l2)
        step = line_search(line, most=start.value + _noise(change.dtype, start.value), slope=slope)
        if step == 0 and stale:
            break  # rounding hides any fall, or numbers are not finite
        if step > 0:
            before = gradient
            start.move(direction, change, step)
            gradient = start.gradient(objective, l2)
            memory.add(step * direction, gradient - before)
        idle = 0 if start.value < least - _noise(objective.X.dtype, least) else idle + 1
        least = min(least, start.value)
        harder = iteration % LONG == 0 and curvature.ask_more()
        stale = harder or step == 0 or not 1 / STALE < start.loss / measured < STALE
    return _solution(objective, start.theta.astype(np.float32), l2, excess, iteration)


def _solution(objective: Objective, theta: NDArray[np.float32], l2: float, excess: float, iterations: int) -> Solution:
    exact = theta.astype(np.float64)
    value = objective.loss(exact) + 0.5 * l2 * float((exact[:, :-1] ** 2).sum())
    return Solution(theta, value, excess, iterations)


Line = Callable[[float], tuple[float, float, float]]
"""Objective, slope and curvature at a step along a line."""


def line_from(objective: Objective, point: Point, direction: Parameters, change: Floats, l2: float) -> Line:
    """The objective along `direction`, which changes the margins by `change`."""
    weights, d = point.theta[:, :-1], direction[:, :-1]
    squares = [float((a * b).sum()) for a, b in ((weights, weights), (weights, d), (d, d))]

    def at(step: float) -> tuple[float, float, float]:
        loss, slope, bend = objective.along(point.margins, change, step)
        penalty = 0.5 * l2 * (squares[0] + 2 * step * squares[1] + step**2 * squares[2])
        return loss + penalty, slope + l2 * (squares[1] + step * squares[2]), bend + l2 * squares[2]

    return at


def line_search(line: Line, *, most: float, slope: float) -> float:
    """A step to where the slope, now `slope`, is much flatter and the objective not above `most`; 0 where none is."""
    step, low, high, steepest = 1.0, 0.0, np.inf, slope
    for _ in range(TRIALS):
        found, slope, bend = line(step)
        if abs(slope) <= -FLATTER * steepest and found <= most:
            return step
        if slope < 0 and found <= most:
            low = step
        else:  # beyond the minimum, or not finite
            high = step
        step = _between(step - slope / bend if bend > 0 else np.nan, low, high, step)
    return low


def _noise(dtype: np.dtype[np.floating], value: float) -> float:
    """By how much two objectives may differ that are the same but for rounding."""
    return 4 * float(np.finfo(dtype).eps) * value


def _between(guess: float, low: float, high: float, last: float) -> float:
    """The guess where it is inside the interval, else its middle, or 4 times the last step where it has no end."""
    if low < guess < min(high, 10 * max(low, last)):
        return guess
    return (low + high) / 2 if np.isfinite(high) else 4 * last


def search_path(objective: Objective, l2s: Sequence[float], *, goal: float, max_iter: int) -> list[Solution]:
    """A solution for each l2, in that order; each search starts where the last one ended, and a bit beyond."""
    curvature = Curvature(objective)
    point, solutions = _nowhere(objective), list[Solution]()
    before, last = point.theta, point.theta
    for l2 in l2s:
        if len(solutions) > 1:
            _follow(objective, point, last - before, l2)
        most = min(max_iter, HARD) if not solutions and objective.scores > 1 and l2 > 0 else max_iter
        found = search(objective, curvature, point, l2=l2, goal=goal, max_iter=most)
        if found.iterations == most < max_iter and not found.excess <= goal:
            point = _nowhere(objective)
            found = _from_afar(objective, curvature, point, l2, goal=goal, max_iter=max_iter - most)
            found = replace(found, iterations=found.iterations + most)
        solutions.append(found)
        before, last = last, point.theta
    return solutions


def _nowhere(objective: Objective) -> Point:
    return Point(np.zeros((objective.scores, objective.X.shape[1] + 1)), objective.zero_margins())


def _from_afar(
    objective: Objective, curvature: Curvature, point: Point, l2: float, *, goal: float, max_iter: int
) -> Solution:
    """A solution from 0 by way of stronger penalties, for a search that is lost without."""
    before, last, steps = point.theta, point.theta, 0
    for stronger in (*(l2 * far for far in AFAR), l2):
        _follow(objective, point, last - before, stronger)
        found = search(
            objective, curvature, point, l2=stronger,
            goal=goal if stronger == l2 else max(goal, ROUGH), max_iter=max_iter - steps,
        )  # fmt: skip
        before, last, steps = last, point.theta, steps + found.iterations
    return replace(found, iterations=steps)


def _follow(objective: Objective, point: Point, direction: Parameters, l2: float) -> None:
    """Go on as the path went, as far as the objective falls."""
    change = objective.margins(direction)
    line = line_from(objective, point, direction, change, l2)
    value, slope, _ = line(0.0)
    if slope < 0:
        point.move(direction, change, line_search(line, most=value, slope=slope))
