"""What a linear head makes of vectors: one product, a block of rows at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.base import in_blocks


def linear_logits(
    X: NDArray[Any],
    coef: NDArray[Any],
    intercept: NDArray[Any],
    *,
    ready: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> NDArray[np.float64]:
    """X W' + b (N, K) for coefficients (K, D); for (1, D), which tell two classes apart, -z/2 and z/2 (N, 2).

    Sums are in float64, so that a row's do not depend on its neighbours beyond the last digits. `ready` is applied to
    each block of rows first.
    """
    columns = coef.T.astype(np.float64)  # (D, K) or (D, 1)

    def product(block: NDArray[Any]) -> NDArray[np.float64]:
        rows = block.astype(np.float64)
        return np.asarray((rows if ready is None else ready(rows)) @ columns)

    return two_columns(in_blocks(product, X) + intercept)


def two_columns(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (N, K) as they are; of (N, 1), logits (N, 2) with that difference."""
    return np.hstack([-scores / 2, scores / 2]) if scores.shape[1] == 1 else scores
