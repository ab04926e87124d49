"""Train, val and test: two stratified cuts, as in the reference notebook; or splits that the data brings along.

Imports errors, texts, and classes, duplicates and strata of this room. Raises bare facts; `rules` adds a name.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from frozenhead.corpus.classes import Labels, Numbered, encode_labels
from frozenhead.corpus.duplicates import renumbered, text_codes
from frozenhead.corpus.strata import stratify
from frozenhead.errors import DataError, UsageError
from frozenhead.texts import Texts

Shares = tuple[float, float, float]

ROWS_AT_ONCE = 2**20
SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)

_ALIASES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VAL),
    **dict.fromkeys(("test", "testing", "eval"), TEST),
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
    codes = None if groups is None else text_codes(groups)
    return np.array(SPLITS, object)[split_codes(encode_labels(labels), shares=shares, seed=seed, groups=codes)]


def split_codes(
    labels: Labels, *, shares: Shares, seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.int8]:
    """As `split_rows`, in numbers: `groups` from `text_codes`, and positions in `SPLITS`, int8 (N,)."""
    strata = stratify(labels, groups, smallest=min(shares))
    _, val, test = shares
    parts = np.full(len(strata.classes), TRAIN, np.int8)  # (U,)
    every = strata.units if groups is None else np.arange(len(parts))
    held = strata.cut(every, share=val + test, seed=seed)
    parts[held] = VAL
    parts[strata.cut(held, share=test / (val + test), seed=seed)] = TEST
    splits = parts if groups is None else parts[strata.units]  # (U,) -> (N,)
    strata.check_presence(splits, (TRAIN, VAL, TEST))
    return splits


def complete_splits(
    splits: NDArray[np.int8],
    labels: Labels,
    *,
    shares: Shares,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int8], str]:
    """Carve the splits that are absent out of train, stratified, in the ratio of their shares.

    Val missing: val / (train + val) of the train rows. Val and test missing: as `split_codes`. Rows that are not
    in train stay where they are.

    Returns
    -------
    splits : int8 (N,)
    carved : str
        What was carved: `""`, `"val"`, `"test"` or `"val and test"`.

    Raises
    ------
    DataError
        There is no train split, or a class has too few rows in it.
    """
    missing = np.flatnonzero(np.bincount(splits, minlength=len(SPLITS)) == 0).tolist()
    if TRAIN in missing:
        raise DataError("no row is in the train split. Expected train rows: heads are trained on them.")
    train = np.flatnonzero(splits == TRAIN)
    own, own_groups = labels.of_rows(train), None if groups is None else renumbered(groups[train])
    completed = splits.copy()
    if len(missing) == 2:
        completed[train] = split_codes(own, shares=shares, seed=seed, groups=own_groups)
    elif missing:
        kept, share = shares[TRAIN], shares[missing[0]]
        strata = stratify(own, own_groups, smallest=min(kept, share) / (kept + share))
        aside = strata.cut(np.arange(len(strata.classes)), share=share / (kept + share), seed=seed)
        completed[train[np.isin(strata.units, aside)]] = missing[0]
        strata.check_presence(completed[train], (TRAIN, missing[0]))
    return completed, " and ".join(SPLITS[split] for split in missing)


def split_column(values: Sequence[str]) -> NDArray[np.int8]:
    """Read a column of split names: train, val and test under their usual names, in any case.

    Returns
    -------
    int8 (N,): positions in `SPLITS`

    Raises
    ------
    DataError
        Another name stands in the column.
    """
    given = Numbered()
    codes = given.take(values if isinstance(values, Texts) else Texts.of(values))
    return split_names(given)[codes]


def split_alias(name: str, *, otherwise: int) -> int:
    """The split that a name means, or something else if it means none."""
    return _ALIASES.get(name.strip().casefold(), otherwise)


def split_names(given: Numbered) -> NDArray[np.int8]:
    """Which split each name of a split column means; raises as `split_column`."""
    splits = [_ALIASES.get(name.strip().casefold()) for name in given.names]
    if None in splits:
        found = Counter(dict(zip(given.names, given.counts, strict=True)))
        listed = ", ".join(f"{value!r} ({count})" for value, count in found.most_common(10))
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise DataError(
            f"the split column holds {listed}{more}. Expected only {', '.join(_ALIASES)}: "
            "rename the values, or pass another `--split-column`."
        )
    return np.array(splits, dtype=np.int8)


def split_texts(keys: NDArray[np.uint8], *, shares: Sequence[float], seed: int) -> NDArray[np.int8]:
    """Split each text by itself, whatever other rows there are: copies share a split, and shares are expected ones.

    The first eight bytes of sha256("split <seed> " + key), read as a big-endian number and divided by 2^64, fall into
    the parts of [0, 1) that train, val and test take in this order.

    Parameters
    ----------
    keys
        uint8 (N, 32), from `text_keys`.
    shares
        Of train, val and test, of which one may be 0; only their ratios count.

    Returns
    -------
    int8 (N,): positions in `SPLITS`
    """
    start, sha256 = f"split {seed} ".encode(), hashlib.sha256
    digests = b"".join([sha256(start + key).digest()[:8] for key in map(bytes, keys)])
    among = [split for split, share in enumerate(shares) if share]
    ends = np.cumsum([shares[split] for split in among])
    bounds = np.array([int(end / ends[-1] * 2**64) for end in ends[:-1]], np.uint64)
    positions = np.searchsorted(bounds, np.frombuffer(digests, ">u8").astype(np.uint64), side="right")
    return np.array(among, np.int8)[positions]


def class_counts(labels: Labels, splits: NDArray[np.int8]) -> NDArray[np.int64]:
    """Rows of each split and class: int64 (3, K). Arrays on disk are read some at a time."""
    K = len(labels.names)
    counts = np.zeros(len(SPLITS) * K, np.int64)
    for start in range(0, len(splits), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        counts += np.bincount(splits[rows] * np.int64(K) + labels.codes[rows], minlength=len(counts))
    return counts.reshape(-1, K)


def unseen_label(labels: Labels, splits: NDArray[np.int8]) -> int | None:
    """Index of the first row whose label no train row has; None when there is none."""
    unseen = class_counts(labels, splits)[TRAIN] == 0
    for start in range(0, len(splits), ROWS_AT_ONCE) if unseen.any() else ():
        rows = unseen[labels.codes[start : start + ROWS_AT_ONCE]]
        if rows.any():
            return start + int(rows.argmax())
    return None
