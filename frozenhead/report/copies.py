"""Training rows that stand in validation or test again: word for word, but for case and white space, or nearly.

Imports labels, and of this room neighbours and texts. A row counts under the strictest kind that holds.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.labels import natural_order
from frozenhead.report.neighbours import mean_vector, nearest_above
from frozenhead.report.texts import clipped, folded, within

KINDS = ("exact", "folded", "near")
MOST, ROOM = 500, 400_000  # rows listed, and bytes of the page they may take


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """What `find_copies` found.

    Attributes
    ----------
    block : dict
        `copies` of report.json.
    any : bool array (N,)
        The validation and test rows that are copies of a training row, of any kind.
    kind : object array (N,)
        "exact", "folded", "near", or None.
    """

    block: dict[str, Any]
    any: NDArray[np.bool_]
    kind: NDArray[np.object_]


def find_copies(corpus: pd.DataFrame, vectors: NDArray[Any] | None, *, threshold: float, feature: str | None) -> Copies:
    """Look for every validation and test row in the training split.

    Near copies are those whose vector has a cosine of `threshold` or more with a training row's, both less the mean of
    the training rows: BERT's pooled vectors share so much that the cosine of unrelated texts is 0.5 to 0.9 otherwise.

    Parameters
    ----------
    corpus : DataFrame
        N rows: `row`, `text`, `label`, `split`, and `key`, which is equal iff the texts are.
    vectors : float array (N, D), optional
        Of the rows in this order; without them no near copies are looked for.
    threshold : float
        Above 0, at most 1.
    feature : str, optional
        The feature set that the vectors are of.

    Returns
    -------
    Copies
        Of several training rows that a row copies, the one of the largest cosine and then of the lowest number counts.

    Raises
    ------
    ValueError
        Vectors of another number of rows, vectors that are not finite, or a threshold out of range.
    """
    if vectors is not None and len(vectors) != len(corpus):
        raise ValueError(f"{len(vectors)} vectors for {len(corpus)} rows")
    order = np.argsort(corpus["row"].to_numpy(), kind="stable")  # positions by row number: of equals the lowest wins
    split = corpus["split"].to_numpy(dtype=object)[order]
    train, judged = order[split == "train"], order[(split == "val") | (split == "test")]
    source = np.full(len(corpus), -1, np.int64)  # (N,) the position of the training row
    kind = np.full(len(corpus), None, dtype=object)
    cosine = np.full(len(corpus), np.nan)
    forms = folded(corpus["text"])
    for name, marks in (("exact", corpus["key"].tolist()), ("folded", forms)):
        first = {marks[position]: position for position in train[::-1]}
        for position in judged[source[judged] < 0]:
            if (found := first.get(marks[position])) is not None:
                source[position], kind[position] = found, name
    if vectors is not None:
        rest = judged[source[judged] < 0]
        found, cosines = _near(corpus, vectors, rest, train, threshold)
        near = rest[found >= 0]
        source[near], kind[near], cosine[near] = found[found >= 0], "near", cosines[found >= 0]
    copied = judged[source[judged] >= 0]
    ranks = np.array([KINDS.index(one) for one in kind[copied]], dtype=np.int64)
    copied = copied[np.lexsort((-cosine[copied], ranks))]  # stable, so then by row number, as where no cosine is
    rows = within((_pair(corpus, at, int(source[at]), kind[at], cosine[at]) for at in copied[:MOST]), room_for=ROOM)
    block = {
        "threshold": float(threshold),
        "feature": None if vectors is None else feature,
        "centred": vectors is not None,
        "splits": _counts(corpus, kind),
        "within": {name: repeats(compress(forms, corpus["split"] == name)) for name in ("val", "test")},
        "total": len(copied),
        "shown": len(rows),
        "rows": rows,
    }
    return Copies(block=block, any=source >= 0, kind=kind)


def _near(
    corpus: pd.DataFrame,
    vectors: NDArray[Any],
    asked: NDArray[np.int64],
    train: NDArray[np.int64],
    threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The training row's position for each position asked, -1 where there is none, and the cosines."""
    distinct = train[~corpus["key"].iloc[train].duplicated().to_numpy()]
    found, cosines = nearest_above(
        vectors[asked], vectors[distinct], threshold=threshold, centre=mean_vector(vectors, train)
    )
    return np.where(found < 0, -1, distinct[found] if len(distinct) else -1), cosines


def repeats(forms: Iterable[str]) -> dict[str, Any]:
    """How many of these texts repeat another of them (`repeats`), and the factor that intervals should widen by for it.

    If rows of one text are right or wrong together, groups of m_1, m_2, ... of n rows give a mean sum m_i^2 / n times
    the variance that n independent rows give it: the design effect (Kish 1965).
    """
    groups = np.array(list(Counter(forms).values()), np.int64)  # (distinct texts,)
    n = int(groups.sum())
    return {"repeats": n - len(groups), "widening": float((groups @ groups / n) ** 0.5) if n else 1.0}


def _pair(corpus: pd.DataFrame, at: int, source: int, kind: str, cosine: float) -> dict[str, Any]:
    copy, original = corpus.iloc[at], corpus.iloc[source]
    return {
        "kind": kind,
        "split": copy["split"],
        "row": int(copy["row"]),
        "label": copy["label"],
        "text": clipped(copy["text"]),
        "of_row": int(original["row"]),
        "of_label": original["label"],
        "of_text": clipped(original["text"]),
        "cosine": None if np.isnan(cosine) else float(cosine),
    }


def _counts(corpus: pd.DataFrame, kind: NDArray[np.object_]) -> dict[str, Any]:
    """Of each split, and of each class in it: rows, and copies by kind."""
    classes = natural_order(corpus["label"])
    code = pd.Categorical(corpus["label"], categories=classes).codes
    table = np.zeros((2, len(classes), 1 + len(KINDS)), np.int64)
    for s, name in enumerate(("val", "test")):
        rows = (corpus["split"] == name).to_numpy()
        table[s, :, 0] = np.bincount(code[rows], minlength=len(classes))
        for k, one in enumerate(KINDS):
            table[s, :, 1 + k] = np.bincount(code[rows & (kind == one)], minlength=len(classes))

    def named(counts: Sequence[int]) -> dict[str, int]:
        return dict(zip(("rows", *KINDS), counts, strict=True))

    return {
        name: {
            **named(table[s].sum(axis=0).tolist()),
            "per_class": {label: named(counts) for label, counts in zip(classes, table[s].tolist(), strict=True)},
        }
        for s, name in enumerate(("val", "test"))
    }
