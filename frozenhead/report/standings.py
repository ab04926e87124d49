"""Where the heads stand: scored on the judged rows, all and without copies, and compared in pairs on both.

Imports comparisons, copies, dataset and judging.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from frozenhead.report.comparisons import beside_copies
from frozenhead.report.copies import Copies
from frozenhead.report.dataset import in_train
from frozenhead.report.judging import Answer, Court, Rows, Scored, baseline_of, entry

_TEST_BLOCKS = ("test", "test_without_leaks", "test_without_copies")


def standings(
    court: Court,
    answers: Sequence[Answer],
    vals: Sequence[dict[str, Any] | None],
    corpus: pd.DataFrame,
    copies: Copies,
    *,
    done: Callable[[], None],
) -> dict[str, Any]:
    """`selected`, `baseline`, `heads`, `comparisons` and `comparisons_without_copies` of the evidence.

    Parameters
    ----------
    court : Court
    answers : sequence of Answer
        The best head first.
    vals : sequence of mapping or None
        Their validation scores.
    corpus : DataFrame
        The one that the court and the copies are of.
    copies : Copies
    done : function
        Told after each of three sets of rows.
    """
    rows = _judged_rows(court, corpus, copies)
    scored = _scored(court, answers, rows, done)
    baseline = baseline_of(answers)
    return {
        "selected": _name(answers[0]),
        "baseline": None if baseline is None else _name(answers[baseline]),
        "heads": _entries(court, answers, vals, scored),
        **_comparisons(court, answers, rows, scored),
    }


def _judged_rows(court: Court, corpus: pd.DataFrame, copies: Copies) -> dict[str, Rows]:
    """The rows of the judged split, all and without copies: `test`, `test_without_leaks`, `test_without_copies`."""
    split, places = court.judged_split, court.rows.index.to_numpy()
    rows, leaked = court.in_split(split), in_train(corpus).to_numpy(dtype=bool)[places]
    return {
        split: rows,
        f"{split}_without_leaks": rows & ~leaked,
        f"{split}_without_copies": rows & ~copies.any[places],
    }


def _scored(
    court: Court, answers: Sequence[Answer], rows: Mapping[str, Rows], done: Callable[[], None]
) -> dict[str, Scored | None]:
    """What every head scores on each of these rows; equal ones are scored once."""
    scored: dict[str, Scored | None] = {}
    for name, mask in rows.items():
        same = next((other for other in scored if np.array_equal(rows[other], mask)), None)
        scored[name] = scored[same] if same else court.score(answers, mask)
        done()
    return scored


def _entries(
    court: Court,
    answers: Sequence[Answer],
    vals: Sequence[dict[str, Any] | None],
    scored: Mapping[str, Scored | None],
) -> list[dict[str, Any]]:
    """Every head with its blocks: that of validation, and those of the test split."""
    blocks = {"val": vals} | {name: found[0] for name in ("val", *_TEST_BLOCKS) if (found := scored.get(name))}
    missing = dict.fromkeys(_TEST_BLOCKS)
    return [
        entry(court, answer, missing | {name: of_all[h] for name, of_all in blocks.items()}, split=court.judged_split)
        for h, answer in enumerate(answers)
    ]


def _comparisons(
    court: Court, answers: Sequence[Answer], rows: Mapping[str, Rows], scored: Mapping[str, Scored | None]
) -> dict[str, Any]:
    """The heads in pairs, on all rows of the judged split and on those that are no copies."""
    split, names = court.judged_split, [_name(answer) for answer in answers]
    whole, without = (
        court.compare(answers, names, scored[name], rows[name]) for name in (split, f"{split}_without_copies")
    )
    return {
        "comparisons": whole and beside_copies(whole, without),
        "comparisons_without_copies": without,
    }


def _name(answer: Answer) -> dict[str, str]:
    return {"feature": answer.head.feature, "head": answer.head.head}
