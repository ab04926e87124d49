"""The label-efficiency curve: what a head reaches on validation from 1, 2, 5, ... 100 % of the training rows.

For each seed the rows stand in one random order, the classes mixed evenly, and each share takes the first of them: a
larger share holds the smaller ones. All points of a dense head are trained together.
"""

from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from frozenhead.commands.keeping import Inputs, Keeper
from frozenhead.commands.search import validation_scores
from frozenhead.commands.voice import Advance
from frozenhead.errors import FrozenheadError
from frozenhead.files import write_json
from frozenhead.heads import Head
from frozenhead.heads.fitting import fit_many
from frozenhead.heads.stored import part
from frozenhead.runs import read_json

FORMAT = 1
FILE = "curve.json"
SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


def stratified_order(codes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of rows (N,) whose every beginning has the classes in their shares, and one of each first.

    Row j of a class of n, in random order, stands at (j + u) / n for a u of its own in [0, 1): the classes interleave.
    """
    place = np.empty(len(codes))
    for code in range(codes.max() + 1):
        rows = rng.permutation(np.flatnonzero(codes == code))
        place[rows] = (np.arange(len(rows)) + rng.random(len(rows))) / len(rows)
        place[rows[:1]] -= 1  # one of each class before all others: no share is without a class
    return np.argsort(place, kind="stable")


def subsets(codes: NDArray[np.int64], *, seed: int) -> list[NDArray[np.int64]]:
    """Sorted rows of each of `SHARES`, of one order."""
    order = stratified_order(codes, np.random.default_rng(seed))
    classes = int(codes.max()) + 1
    return [np.sort(order[: max(classes, round(share * len(codes)))]) for share in SHARES]


def draw_curve(
    head: Head, inputs: Inputs, keeper: Keeper, *, name: str, seeds: int, seed: int, jobs: int, progress: Advance
) -> dict[str, Any]:
    """Train a head on every share, `seeds` times, and write `curve.json` beside the stored head.

    Returns
    -------
    dict
        `seed`, `seeds`, and `points`: share, rows, seed, and validation scores `val`, not calibrated, or the `error`.
    """
    train, val = keeper.split["train"], keeper.split["val"]
    labels = keeper.labels[train]
    _, codes = np.unique(labels.astype(str), return_inverse=True)
    chosen = [(s, subset) for s in range(seed, seed + seeds) for subset in subsets(codes, seed=s)]
    held = part(inputs.rows, val)
    fitted = fit_many(
        [_seeded(head, s) for s, _ in chosen], part(inputs.rows, train), labels, validation=(held, keeper.labels[val]),
        rows=[subset for _, subset in chosen], jobs=jobs, progress=progress,
    )  # fmt: skip
    points: list[dict[str, Any]] = [{} for _ in chosen]
    with closing(fitted):
        for one in fitted:
            s, subset = chosen[one.index]
            facts = {"share": SHARES[one.index % len(SHARES)], "rows": len(subset), "seed": s}
            points[one.index] = facts | validation_scores(one, held, keeper)
    curve = {"format": FORMAT, "seed": seed, "seeds": seeds, "points": points}
    write_json(keeper.folder(inputs.feature, name) / FILE, curve)
    return curve


def known_curve(inputs: Inputs, keeper: Keeper, *, name: str, seeds: int, seed: int) -> dict[str, Any] | None:
    """What `draw_curve` wrote beside the stored head before; a head that is trained anew takes it away."""
    path = keeper.folder(inputs.feature, name) / FILE
    try:
        curve = read_json(path, "frozenhead fit") if path.exists() else {}
    except FrozenheadError:
        return None
    asked = {"format": FORMAT, "seed": seed, "seeds": seeds}
    return curve if all(curve.get(key) == value for key, value in asked.items()) else None


def _seeded(head: Head, seed: int) -> Head:
    """A copy with another seed, where the head has one; the rows differ by seed in any case."""
    copy: Head = clone(head)
    return copy.set_params(random_state=seed) if "random_state" in copy.get_params() else copy
