"""Train, val and test: two stratified cuts, as in the reference notebook; or splits that the data brings along.

Imports errors, and strata of this room. Raises bare facts; `corpus` adds the file's name.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from frozenhead.corpus.strata import stratify
from frozenhead.errors import DataError, UsageError

Shares = tuple[float, float, float]

SPLITS = ("train", "val", "test")

_ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


def parse_split(split: str) -> Shares:
    """The shares of train, val and test in `0.7/0.15/0.15`.

    Raises
    ------
    UsageError
        Not three positive numbers that sum to 1 (within 1e-9).
    """
    try:
        shares = [float(part) for part in split.split("/")]
    except ValueError:
        shares = []
    if len(shares) == 3 and all(share > 0 for share in shares) and abs(sum(shares) - 1) <= 1e-9:
        return shares[0], shares[1], shares[2]
    raise UsageError(
        f"Found the split {split!r}. Expected the shares of train/val/test: three positive numbers that sum to 1, "
        "as in 0.7/0.15/0.15."
    )


def split_rows(
    labels: Sequence[str], *, shares: Shares, seed: int, groups: Sequence[str] | None = None
) -> NDArray[np.object_]:
    """Split by two stratified `train_test_split` calls: train from the rest, then val from test.

    Parameters
    ----------
    labels
        (N,), at least one.
    shares
        Of train, val and test; positive, sum 1.
    seed
        `random_state` of both calls.
    groups
        (N,), usually the texts: rows of one group stay in one split. The distinct groups are split, each under
        its most common label, so the shares are shares of groups.

    Returns
    -------
    object (N,) of "train", "val", "test"

    Raises
    ------
    DataError
        A class has too few rows to stand in every split.
    """
    strata = stratify(labels, groups, smallest=min(shares))
    _, val, test = shares
    parts = np.full(len(strata.classes), "train", dtype=object)  # (U,)
    held = strata.cut(np.arange(len(parts)), share=val + test, seed=seed)
    parts[held] = "val"
    parts[strata.cut(held, share=test / (val + test), seed=seed)] = "test"
    splits = parts[strata.units]  # (U,) -> (N,)
    strata.check_presence(splits, SPLITS)
    return splits


def complete_splits(
    splits: NDArray[np.object_],
    labels: Sequence[str],
    *,
    shares: Shares,
    seed: int,
    groups: Sequence[str] | None = None,
) -> tuple[NDArray[np.object_], str]:
    """Carve the splits that are absent out of train, stratified, in the ratio of their shares.

    Val missing: val / (train + val) of the train rows. Val and test missing: as `split_rows`. Rows that are not
    in train stay where they are.

    Returns
    -------
    splits : object (N,)
    carved : str
        What was carved: `""`, `"val"`, `"test"` or `"val and test"`.

    Raises
    ------
    DataError
        There is no train split, or a class has too few rows in it.
    """
    missing = [split for split in SPLITS if not (splits == split).any()]
    if "train" in missing:
        raise DataError("no row is in the train split. Expected train rows: heads are trained on them.")
    train = np.flatnonzero(splits == "train").tolist()
    own = [labels[row] for row in train]
    own_groups = None if groups is None else [groups[row] for row in train]
    completed = splits.copy()
    if len(missing) == 2:
        completed[train] = split_rows(own, shares=shares, seed=seed, groups=own_groups)
    elif missing:
        kept, share = shares[0], shares[SPLITS.index(missing[0])]
        strata = stratify(own, own_groups, smallest=min(kept, share) / (kept + share))
        aside = strata.cut(np.arange(len(strata.classes)), share=share / (kept + share), seed=seed)
        completed[np.array(train)[np.isin(strata.units, aside)]] = missing[0]
        strata.check_presence(completed[train], ("train", missing[0]))
    return completed, " and ".join(missing)


def split_column(values: Sequence[str]) -> NDArray[np.object_]:
    """Read a column of split names: train, val and test under their usual names, in any case.

    Returns
    -------
    object (N,) of "train", "val", "test"

    Raises
    ------
    DataError
        Another name stands in the column.
    """
    splits = [_ALIASES.get(value.strip().casefold(), "") for value in values]
    if "" in splits:
        found = Counter(values)
        listed = ", ".join(f"{value!r} ({count})" for value, count in found.most_common(10))
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise DataError(
            f"the split column holds {listed}{more}. Expected only {', '.join(_ALIASES)}: "
            "rename the values, or pass another `--split-column`."
        )
    return np.array(splits, dtype=object)


def unseen_label(labels: Sequence[str], splits: NDArray[np.object_]) -> int | None:
    """Index of the first row whose label no train row has; None when there is none."""
    known = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    return next((row for row, label in enumerate(labels) if label not in known), None)
