"""Small vectors with labels that can be learned from them, for every head."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frozenhead.heads import Head, make_head

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]
MakeRows = Callable[..., Rows]

SMALL_NET = {"hidden": 7, "epochs": 3}
QUICK: dict[str, dict[str, Any]] = {"dense": SMALL_NET, "shuffled": SMALL_NET, "softmax": {"l2": 1e-2}}


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    """Vectors (n, D) around one centre per class, and codes (n,): each class has about n / K rows."""

    def make(n: int, *, dim: int = 3, classes: int = 2, seed: int = 0) -> Rows:
        rng = np.random.default_rng(seed)
        codes = rng.permutation(np.arange(n) % classes)
        centres = np.random.default_rng(99).normal(size=(classes, dim)) * 1.5
        return (centres[codes] + rng.normal(size=(n, dim))).astype(np.float32), codes

    return make


def quick_head(name: str) -> Head:
    return make_head(name, class_weight="balanced", seed=3, options=QUICK.get(name, {}))


def inputs_for(head: Head, X: NDArray[np.float32]) -> NDArray[np.float32] | list[str]:
    """X itself, or for heads that take texts a text per row that says of each component how large it is."""
    if head.takes == "vectors":
        return X
    return [" ".join(f"c{i}is{round(float(x))}" for i, x in enumerate(row)) for row in X]
