"""Texts that carry more than one label: whichever a head predicts, one of the rows counts as an error.

Imports of this room texts.
"""

from typing import Any

import numpy as np
import pandas as pd

from frozenhead.report.texts import clipped, folded, within

MOST, ROOM = 200, 150_000  # texts listed, and bytes of the page they may take
MOST_ROWS = 50  # row numbers listed of one text


def label_conflicts(corpus: pd.DataFrame) -> dict[str, Any]:
    """Texts that are equal after folding case and white space, and whose rows have different labels.

    Parameters
    ----------
    corpus : DataFrame
        `row`, `text`, `label` and `split`.

    Returns
    -------
    dict
        `texts` and `rows` in conflict, `shown`, and `examples`, those of most rows first: `text` as its first row has
        it, `labels` ({label: rows}, most first), `splits` ({split: rows}) and `rows`, at most 50 row numbers.
    """
    table = corpus[["row", "text", "label", "split"]].sort_values("row", ignore_index=True)
    code, _ = pd.factorize(np.array(folded(table["text"]), dtype=object))
    pairs = pd.DataFrame({"code": code, "label": table["label"]}).drop_duplicates()
    several = np.bincount(pairs["code"]) > 1 if len(pairs) else np.zeros(0, bool)  # (distinct texts,)
    table = table.assign(code=code)[several[code]]
    sizes = table["code"].value_counts(sort=False).sort_index()
    largest = sizes.index[np.argsort(-sizes.to_numpy(), kind="stable")]  # ties: the lowest first row number
    groups = {one: rows for one, rows in table.groupby("code") if one in set(largest[:MOST])}
    examples = within((_example(groups[one]) for one in largest[:MOST]), room_for=ROOM)
    return {"texts": len(sizes), "rows": len(table), "shown": len(examples), "examples": examples}


def _example(rows: pd.DataFrame) -> dict[str, Any]:
    labels = rows["label"].value_counts(sort=False)
    labels = labels.sort_index().sort_values(ascending=False, kind="stable")
    splits = rows["split"].value_counts(sort=False)
    return {
        "text": clipped(rows["text"].iloc[0]),
        "labels": {str(label): int(count) for label, count in labels.items()},
        "splits": {name: int(splits[name]) for name in ("train", "val", "test") if name in splits},
        "rows": rows["row"].head(MOST_ROWS).tolist(),
    }
