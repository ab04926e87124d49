"""Numbers and names as people read them: on the page, in figures, in sentences, in Markdown and on the terminal.

Imports nothing. A number that is not there is a dash; a sign is a minus sign, never a hyphen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = "–"
MINUS = "−"
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
SCORE_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "mcc": "MCC",
    "log_loss": "log loss (nats)",
    "weighted_log_loss": "weighted log loss (nats)",
    "brier": "Brier score",
    "ece": "ECE",
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "precision": "a class's precision",
    "recall": "a class's recall",
    "f1": "a class's F1",
}
FEW_ROWS = 30  # a class with fewer judged rows has scores that say little


def score(value: float | None) -> str:
    """Four decimals, as scores and losses are compared; a dash for None."""
    return NOTHING if value is None else f"{value:.4f}"


def span(interval: Sequence[float] | None) -> str:
    """An interval of scores with three decimals: `0.959–0.982`; nothing for None."""
    return "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"


def signed(value: float | None) -> str:
    """A difference of scores with its sign; a dash for None."""
    return NOTHING if value is None else f"{value:+.4f}".replace("-", MINUS)


def signed_span(interval: Sequence[float] | None, digits: int = 3) -> str:
    """An interval of differences: `−0.012 to +0.004`; nothing for None."""
    return "" if interval is None else " to ".join(f"{end:+.{digits}f}" for end in interval).replace("-", MINUS)


def p_value(value: float | None) -> str:
    """Four decimals, as few zeros as say enough; a dash for None."""
    if value is None:
        return NOTHING
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def p_is(value: float) -> str:
    """`p = 0.0215`, or `p < 0.0001`."""
    return f"p {p_value(value)}" if value < 1e-4 else f"p = {p_value(value)}"


def percent(part: float, whole: float = 1.0) -> str:
    """`part` of `whole` in per cent with one decimal; a dash when there is no whole."""
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole else NOTHING


def excess(factor: float) -> str:
    """How far a factor is above 1: `up to 2.0 %`."""
    return f"up to {percent(factor - 1)}" if factor >= 1.0005 else f"less than {percent(0.001)}"


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def many(number: int, one: str, more: str) -> str:
    """`1 row`, `836 rows`."""
    return f"{count(number)} {one if number == 1 else more}"


def interval_methods(block: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How a score block's intervals are made: each method, and the scores whose intervals it makes."""
    of_score = (block["intervals"] or {}).get("methods", {})
    return [
        (how, ", ".join(SCORE_TITLES.get(name, name) for name in of_score if of_score[name] == how))
        for how in dict.fromkeys(of_score.values())
    ]


def seconds(value: float | None) -> str:
    """Seconds, with no more decimals than matter; a dash for None."""
    if value is None:
        return NOTHING
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"
