"""Is a head better, or could it be chance? Every head against the best and against TF-IDF, on the same rows.

Imports resampling (its draws), intervals, words, numpy and scipy.special. Two heads differ only on the rows that one of
them has right and the other wrong; if neither is better, each such row is the toss of a coin (McNemar 1947, the exact
test). Many pairs give many chances of a false alarm, so that p-values are corrected over all of them (Holm 1979): the
chance of any false alarm is at most 1 - level. What is tested is accuracy; macro F1 is shown with its interval.

The test knows of chance alone. A row that copies a training text can be answered from memory, so that a head which
learns its rows by heart may beat a better one: the pairs are compared again on the rows without copies, a family of
tests of its own, corrected by itself. And heads that were chosen on the very rows that they are tested on are ahead
there because they were chosen: then no p-value holds, and the comparisons say so.
Letters: `n` rows, `H` heads, `R` draws, `m` pairs.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from frozenhead.report.intervals import LEVEL, percentiles
from frozenhead.report.resampling import Draws
from frozenhead.report.words import many, p_is, signed, signed_span

CHOSEN_HERE = (
    "The heads were chosen on these very rows (the best of them, their epochs and settings), so no p-value on them is "
    "valid."
)


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
        Whose rows they are: on those of "val" the heads were chosen.
    level : float
        Of the intervals, and 1 less the chance of any false verdict.

    Returns
    -------
    dict or None
        `split`, `rows`, `level`, `draws`, `seed`, `correction` ("holm"), `tests` (m), `p_values_valid`, `note` (why
        not, or None) and `pairs`: `a` and `b` (their names), `against` ("best" or "baseline": what b is), `accuracy`
        and `macro_f1` (`a`, `b`, `difference` a - b, `interval` by paired bootstrap, for this pair alone),
        `only_a_right`, `only_b_right` (rows), `p_value`, `p_adjusted`, `verdict` ("better", "worse" or "no
        difference", of a's accuracy) and `sentence`. The best against the baseline stands once, under "baseline".
        None with fewer than two heads.

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
    chosen_here = split == "val"
    pairs = []
    for a, b, against in _pairs(len(names), best, baseline):
        differences = {name: _difference(name, (a, b), draws, scores, level) for name in ("accuracy", "macro_f1")}
        only = {"only_a_right": int((right[a] & ~right[b]).sum()), "only_b_right": int((right[b] & ~right[a]).sum())}
        pairs.append({"a": dict(names[a]), "b": dict(names[b]), "against": against, **differences, **only})
    found = {
        "split": split,
        "rows": draws.rows,
        "level": level,
        "draws": draws.draws,
        "seed": draws.seed,
        "correction": "holm",
        "tests": len(pairs),
        "p_values_valid": not chosen_here,
        "note": CHOSEN_HERE if chosen_here else None,
    }
    return {**found, "pairs": _tested(pairs, found)}


def beside_copies(found: Mapping[str, Any], without: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same comparisons, whose sentences also say what becomes of them without copies of training texts.

    Parameters
    ----------
    found : mapping
        What `compare` returned for all rows.
    without : mapping, optional
        For those of them that are no copies; None where all are.
    """
    left = without["rows"] if without else 0
    if left == found["rows"]:
        return dict(found)
    copied = f"{many(found['rows'] - left, 'of these rows copies', 'of these rows copy')} a training text"
    pairs = []
    for pair, clean in zip(found["pairs"], without["pairs"] if without else found["pairs"], strict=True):
        after = f"{_verdict_words(clean, left)} ({p_is(clean['p_adjusted'])})" if without else "no row is left"
        pairs.append({**pair, "sentence": f"{pair['sentence']} {copied}; without them: {after}."})
    return {**found, "pairs": pairs}


def pairs_beside_copies(evidence: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Mapping[str, Any] | None]]:
    """Every pair of the evidence, and what it is without copies; None where no row is left."""
    whole, without = evidence["comparisons"], evidence["comparisons_without_copies"]
    return list(zip(whole["pairs"], without["pairs"] if without else repeat(None), strict=False)) if whole else []


def trusted(evidence: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The comparisons of the evidence to go by: those without copies of training texts, where any row is left."""
    found: Mapping[str, Any] | None = evidence["comparisons_without_copies"] or evidence["comparisons"]
    return found


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


def _tested(pairs: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pairs with p-values, corrected over all of them, verdicts and sentences."""
    only = [(pair["only_a_right"], pair["only_b_right"]) for pair in pairs]
    p_values = [mcnemar(*rows) for rows in only]
    tested = []
    for pair, rows, p, adjusted in zip(pairs, only, p_values, holm(p_values), strict=True):
        said = {"p_value": p, "p_adjusted": adjusted, "verdict": verdict(*rows, adjusted, found["level"])}
        tested.append({**pair, **said, "sentence": _sentence({**pair, **said}, found)})
    return tested


def _sentence(pair: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What was found, in words: the test on accuracy with its verdict, then what macro F1 does."""
    a, b = _title(pair["a"]), _title(pair["b"])
    if pair["only_a_right"] or pair["only_b_right"]:
        rows = (
            f"{a} is right on {_rows(pair['only_a_right'])} where {b} is wrong, and wrong on "
            f"{_rows(pair['only_b_right'])} where {b} is right"
        )
    else:
        rows = f"{a} and {b} are right on the same rows"
    corrected = f", corrected for {found['tests']:,} comparisons (Holm)" if found["tests"] > 1 else ""
    f1 = pair["macro_f1"]
    note = f" {found['note']}" if found["note"] else ""
    return (
        f"{rows}: {_verdict_words(pair, found['rows'])} ({p_is(pair['p_adjusted'])}, exact McNemar test{corrected}). "
        f"Macro F1, not tested, differs by {signed(f1['difference'])} "
        f"({100 * found['level']:.4g} % interval {signed_span(f1['interval'], digits=4)}).{note}"
    )


def _verdict_words(pair: Mapping[str, Any], rows: int) -> str:
    return {
        "better": f"{_title(pair['a'])} is the more accurate",
        "worse": f"{_title(pair['b'])} is the more accurate",
        "no difference": f"no difference in accuracy that {_rows(rows)} could show",
    }[pair["verdict"]]


def _title(name: Mapping[str, str]) -> str:
    title = f"{name['head']} on {name['feature']}"
    return f"{title} of {name['run']}" if "run" in name else title


def _rows(rows: int) -> str:
    return many(rows, "row", "rows")
