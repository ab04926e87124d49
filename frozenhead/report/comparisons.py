"""Is a head better, or could it be chance? Every head against the best and against TF-IDF, on the same rows.

Imports resampling (its draws), intervals, numpy and scipy.special. Two heads differ only on the rows that one of them
has right and the other wrong; if neither is better, each such row is the toss of a coin (McNemar 1947, the exact
test). Many pairs give many chances of a false alarm, so that p-values are corrected over all of them (Holm 1979): the
chance of any false alarm is at most 1 - level. What is tested is accuracy; macro F1 is shown with its interval.
Letters: `n` rows, `H` heads, `R` draws, `m` pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from frozenhead.report.intervals import LEVEL, percentiles
from frozenhead.report.resampling import Draws


def compare(
    draws: Draws,
    right: NDArray[np.bool_],
    names: Sequence[Mapping[str, str]],
    scores: Sequence[Mapping[str, Any]],
    *,
    best: int,
    baseline: int | None,
    split: str,
    level: float = LEVEL,
) -> dict[str, Any] | None:
    """Compare every head with the best and with the baseline.

    Parameters
    ----------
    draws : Draws
        Of the judged rows.
    right : bool array (H, n)
        Whether a head has a row right.
    names : sequence of mapping, length H
        `feature` and `head`, and of several runs `run`.
    scores : sequence of mapping, length H
        Score blocks of the same rows.
    best : int
        The selected head.
    baseline : int, optional
        The TF-IDF head.
    split : str
        Whose rows they are.
    level : float
        Of the intervals, and 1 less the chance of any false verdict.

    Returns
    -------
    dict or None
        `split`, `rows`, `level`, `draws`, `seed`, `correction` ("holm"), `tests` (m) and `pairs`: `a` and `b`
        (their names), `against` ("best" or "baseline": what b is), `accuracy` and `macro_f1` (`a`, `b`,
        `difference` a - b, `interval` by paired bootstrap, for this pair alone), `only_a_right`, `only_b_right` (rows),
        `p_value`, `p_adjusted`, `verdict` ("better", "worse" or "no difference", of a's accuracy) and `sentence`.
        The best against the baseline stands once, under "baseline". None with fewer than two heads.

    Raises
    ------
    ValueError
        Arguments that are not of the same heads and rows.
    """
    if not len(names) == len(scores) == len(right) == len(draws.scores["accuracy"]) or right.shape[1] != draws.rows:
        raise ValueError(
            f"{len(names)} names, {len(scores)} blocks and {right.shape} rows right, expected as many as the "
            f"{len(draws.scores['accuracy'])} heads and {draws.rows} rows that were drawn"
        )
    if len(names) < 2:
        return None
    pairs = _pairs(len(names), best, baseline)
    only = [(int((right[a] & ~right[b]).sum()), int((right[b] & ~right[a]).sum())) for a, b, _ in pairs]
    p_values = [mcnemar(*rows) for rows in only]
    rows = []
    for (a, b, against), (only_a, only_b), p, adjusted in zip(pairs, only, p_values, holm(p_values), strict=True):
        row = {
            "a": dict(names[a]),
            "b": dict(names[b]),
            "against": against,
            **{name: _difference(name, (a, b), draws, scores, level) for name in ("accuracy", "macro_f1")},
            "only_a_right": only_a,
            "only_b_right": only_b,
            "p_value": p,
            "p_adjusted": adjusted,
            "verdict": verdict(only_a, only_b, adjusted, level),
        }
        rows.append(row | {"sentence": _sentence(row, draws.rows, len(pairs), level)})
    return {
        "split": split,
        "rows": draws.rows,
        "level": level,
        "draws": draws.draws,
        "seed": draws.seed,
        "correction": "holm",
        "tests": len(pairs),
        "pairs": rows,
    }


def mcnemar(only_a: int, only_b: int) -> float:
    """P-value of McNemar's exact test, two-sided: that fair coins fall at least as unevenly as these rows."""
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected over all m: the k-th smallest counts m - k + 1 times, and none falls below a smaller one."""
    order = np.argsort(p_values, kind="stable")  # (m,)
    grown = np.asarray(p_values, np.float64)[order] * np.arange(len(order), 0, -1)  # (m,)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(grown), 1)
    found: list[float] = adjusted.tolist()
    return found


def verdict(only_a: int, only_b: int, p_adjusted: float, level: float) -> str:
    """What the test says of a's accuracy: "better", "worse" or "no difference"."""
    if p_adjusted > 1 - level:
        return "no difference"
    return "better" if only_a > only_b else "worse"


def _pairs(heads: int, best: int, baseline: int | None) -> list[tuple[int, int, str]]:
    """(a, b, what b is), no two heads twice."""
    against_best = [(a, best, "best") for a in range(heads) if a not in (best, baseline)]
    if baseline is None or baseline == best:
        return [(a, best, "best") for a in range(heads) if a != best]
    return against_best + [(a, baseline, "baseline") for a in range(heads) if a != baseline]


def _difference(
    name: str, pair: tuple[int, int], draws: Draws, scores: Sequence[Mapping[str, Any]], level: float
) -> dict[str, Any]:
    (a, b), drawn = pair, draws.scores[name]  # (H, R)
    return {
        "a": scores[a][name],
        "b": scores[b][name],
        "difference": scores[a][name] - scores[b][name],
        "interval": percentiles(drawn[a] - drawn[b], level),
    }


def _sentence(row: Mapping[str, Any], rows: int, tests: int, level: float) -> str:
    """What was found, in words: the test on accuracy with its verdict, then what macro F1 does."""
    a, b = _title(row["a"]), _title(row["b"])
    if row["only_a_right"] or row["only_b_right"]:
        found = (
            f"{a} is right on {_count(row['only_a_right'])} where {b} is wrong, and wrong on "
            f"{_count(row['only_b_right'])} where {b} is right"
        )
    else:
        found = f"{a} and {b} are right on the same rows"
    verdict = {
        "better": f"{a} is the more accurate",
        "worse": f"{b} is the more accurate",
        "no difference": f"no difference in accuracy that {_count(rows)} could show",
    }[row["verdict"]]
    corrected = f", corrected for {tests:,} comparisons (Holm)" if tests > 1 else ""
    low, high = row["macro_f1"]["interval"]
    return (
        f"{found}: {verdict} ({_p(row['p_adjusted'])}, exact McNemar test{corrected}). Macro F1, not tested, differs "
        f"by {row['macro_f1']['difference']:+.4f} ({100 * level:.4g} % interval {low:+.4f} to {high:+.4f})."
    )


def _title(name: Mapping[str, str]) -> str:
    title = name["head"] if name["feature"] == "text" else f"{name['head']} on {name['feature']}"
    return f"{title} of {name['run']}" if "run" in name else title


def _count(rows: int) -> str:
    return f"{rows:,} row" if rows == 1 else f"{rows:,} rows"


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.{2 if value >= 0.1 else 3}g}"
