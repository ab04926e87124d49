"""One stratified draw, as scikit-learn's `train_test_split(..., stratify=)` makes it, row for row.

After `StratifiedShuffleSplit` of scikit-learn 1.8 (BSD-3-Clause); a test holds it to the installed one. Written anew
because importing scikit-learn takes 1.4 s, half of what `embed` takes when all vectors are cached, and because lists of
a million Python integers are not needed. Imports nothing from the package. Letters: U units, K classes.
"""

import numpy as np
from numpy.typing import NDArray


def draw_stratified(classes: NDArray[np.integer], size: int, *, seed: int) -> NDArray[np.int64]:
    """The units that `train_test_split(test_size=size, random_state=seed, stratify=classes)` puts into the test part.

    Parameters
    ----------
    classes
        (U,): the class of each unit, each class at least twice.
    size
        Units to draw: at least K, and at most U - K.
    seed
        0 to 2**32 - 1.

    Returns
    -------
    int64 (size,), in the order of `train_test_split`
    """
    counts = np.bincount(classes)
    counts = counts[counts > 0]  # (K,)
    small = classes.astype(np.uint16) if classes.max() < 2**16 else classes  # numpy sorts these in a tenth of the time
    members = np.split(np.argsort(small, kind="stable"), np.cumsum(counts)[:-1])  # K times (n_k,)
    rng = np.random.RandomState(seed)
    kept = _apportion(counts, len(classes) - size, rng)  # (K,)
    drawn = _apportion(counts - kept, size, rng)  # (K,)
    parts: list[NDArray[np.int64]] = []
    for own, k, d in zip(members, kept, drawn, strict=True):
        rng.shuffle(own)  # in place: as own[rng.permutation(len(own))], in half the memory
        parts.append(own[k : k + d])
    rng.shuffle(np.zeros(int(kept.sum()), np.int8))  # of the units kept: it moves the generator on
    chosen = np.concatenate(parts)
    rng.shuffle(chosen)
    return chosen


def _apportion(counts: NDArray[np.int64], draws: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """How many of `draws` fall to each class, (K,): in proportion, the largest remainders rounded up, ties by lot."""
    exact = counts / counts.sum() * draws
    shares = np.floor(exact)
    remainders = exact - shares
    left = int(draws - shares.sum())
    for remainder in np.unique(remainders)[::-1]:
        if left <= 0:
            break
        tied = np.flatnonzero(remainders == remainder)
        chosen = rng.choice(tied, size=min(len(tied), left), replace=False)
        shares[chosen] += 1
        left -= len(chosen)
    return np.asarray(shares, dtype=np.int64)
