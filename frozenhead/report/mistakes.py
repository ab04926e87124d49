"""Where a head is wrong: the rows, what stands near them in the training split, and how many heads err with it.

Imports of this room metrics, neighbours and texts. Letters: N rows of the corpus, n judged ones, K classes, D numbers
of a vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.report.metrics import positions
from frozenhead.report.neighbours import mean_vector, nearest
from frozenhead.report.texts import clipped, room

MOST, ROOM = 2000, 1_200_000  # errors shown, and bytes of the page they and their neighbours may take
NEIGHBOURS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """What a head said of the rows that it was judged on.

    Parameters
    ----------
    corpus : DataFrame
        N rows: `row`, `text`, `label`, `split`, `key`.
    judged : int64 array (n,)
        Positions in the corpus of the judged rows.
    true, predicted : int64 array (n,)
        Positions among the classes.
    probabilities : float64 array (n, K)
    wrong_heads : int64 array (n,)
        How many heads have the row wrong.
    classes : sequence of str, length K
    """

    corpus: pd.DataFrame
    judged: NDArray[np.int64]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    wrong_heads: NDArray[np.int64]
    classes: Sequence[str]


def error_rows(judgement: Judgement) -> pd.DataFrame:
    """Every row that the head has wrong, the most confident first, then by row number.

    Returns
    -------
    DataFrame
        `row`, `split`, `text` (whole), `truth`, `predicted`, `probability` (of the predicted class), `of_truth` (the
        probability of the true class) and `wrong_heads`; its index are positions in the corpus.
    """
    true, predicted, probabilities = judgement.true, judgement.predicted, judgement.probabilities
    wrong = np.flatnonzero(true != predicted)
    # None keeps numpy from making one string type of the names.
    names = np.array([*judgement.classes, None], dtype=object)[:-1]
    columns = {
        "truth": names[true[wrong]],
        "predicted": names[predicted[wrong]],
        "probability": probabilities[wrong, predicted[wrong]],
        "of_truth": probabilities[wrong, true[wrong]],
        "wrong_heads": judgement.wrong_heads[wrong],
    }
    places = judgement.judged[wrong]
    rows = judgement.corpus[["row", "split", "text"]].iloc[places].set_axis(places).assign(**columns)
    return rows.iloc[np.lexsort((rows["row"].to_numpy(), -rows["probability"].to_numpy()))]


def mistake_rows(
    judgement: Judgement,
    *,
    heads: int,
    kinds: NDArray[np.object_],
    vectors: NDArray[Any] | None,
    feature: str,
    head: str,
    split: str,
    most: int = MOST,
) -> dict[str, Any]:
    """The errors of a head as the page lists them: `mistakes` of report.json.

    Parameters
    ----------
    judgement : Judgement
    heads : int
        How many heads `wrong_heads` counts among.
    kinds : object array (N,)
        Which kind of copy of a training row a row is, or None.
    vectors : float array (N, D), optional
        Without them no row has neighbours.
    feature, head, split : str
        The head's, and the split it was judged on.
    most : int
        Errors shown; fewer where they would take more than 1.2 MB of the page.

    Returns
    -------
    dict
        Neighbours are the 3 training texts of largest cosine to the error, less the mean of the training vectors;
        of copies among them only the first row of each label counts.

    Raises
    ------
    ValueError
        A vector that is not finite.
    """
    corpus, errors = judgement.corpus, error_rows(judgement)
    asked = errors.index.to_numpy()[:most]
    found, cosines = _neighbours(corpus, vectors, asked)
    numbers, labels = corpus["row"].to_numpy(), positions(corpus["label"], judgement.classes)
    texts = corpus["text"].to_numpy(dtype=object)
    rows: list[dict[str, Any]] = []
    near: dict[str, dict[str, Any]] = {}
    left = ROOM
    for at, error, sources, close in zip(asked, errors.to_dict("records"), found, cosines, strict=False):
        row = {**_row(error, judgement.classes), "copy": kinds[at], "neighbours": _named(numbers[sources], close)}
        new = {
            str(numbers[source]): {"text": clipped(texts[source]), "label": int(labels[source])}
            for source in sources
            if str(numbers[source]) not in near
        }
        left -= room(row) + room(new)
        if left < 0:
            break
        rows.append(row)
        near |= new
    block = {"feature": feature, "head": head, "split": split, "total": len(errors), "shown": len(rows)}
    return {**block, "heads": heads, "rows": rows, "texts": near}


def _row(error: Mapping[Any, Any], classes: Sequence[str]) -> dict[str, Any]:
    return {
        "row": error["row"],
        "text": clipped(error["text"]),
        "truth": classes.index(error["truth"]),
        "predicted": classes.index(error["predicted"]),
        "probability": float(f"{error['probability']:.6g}"),  # enough to sort by, in a third of the room
        "of_truth": float(f"{error['of_truth']:.6g}"),
        "wrong_heads": error["wrong_heads"],
    }


def _named(numbers: NDArray[np.int64], cosines: NDArray[np.float64]) -> list[dict[str, Any]]:
    return [{"row": int(row), "cosine": round(float(one), 4)} for row, one in zip(numbers, cosines, strict=True)]


def _neighbours(
    corpus: pd.DataFrame, vectors: NDArray[Any] | None, asked: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions in the corpus of the nearest distinct training texts, and cosines: (asked, 3), or (asked, 0)."""
    train = np.flatnonzero((corpus["split"] == "train").to_numpy())
    if vectors is None or not (len(asked) and len(train)):
        return np.empty((len(asked), 0), np.int64), np.empty((len(asked), 0))
    rows = corpus.iloc[train].reset_index(drop=True).sort_values("row")
    distinct = train[rows.index[~rows.duplicated(["key", "label"])]]  # by row number: of equals the lowest wins
    found, cosines = nearest(vectors[asked], vectors[distinct], k=NEIGHBOURS, centre=mean_vector(vectors, train))
    return distinct[found], cosines
