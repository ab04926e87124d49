"""What a reader must know before trusting any score, in sentences: for the page, the terminal and the Markdown.

Imports labels and words.
"""

from collections.abc import Mapping
from typing import Any

from frozenhead.labels import shown
from frozenhead.report.words import FEW_ROWS, SPLIT_NAMES, many

MOST_NAMED = 3


def cautions(evidence: Mapping[str, Any]) -> list[str]:
    """Sentences on classes that no judged row bears, and on very few judged rows.

    Such a class has an F1 of 0 whatever a head says, so that macro F1 is at most the share of the other classes.
    """
    split, first = evidence["dataset"]["judged_split"], evidence["heads"][0]
    block, name = first[split], SPLIT_NAMES[split]
    found = _absent(block, f"{name} row")
    without = first["test_without_copies"] if split == "test" else None
    if without and _missing(without) != _missing(block):
        found += _absent(without, "test row without copies")
    if block["rows"] < FEW_ROWS:
        found.append(f"There are only {many(block['rows'], f'{name} row', f'{name} rows')}: no score is sure.")
    return found


def copies_advice(counts: Mapping[str, int]) -> str:
    """Which of the scores to trust, of a split's copies by kind: with near copies in the main it is not so plain."""
    if counts["exact"] + counts["folded"] >= counts["near"]:
        return "Trust the scores without them."
    return (
        "Near copies are alike in wording and may be fair questions. The scores without them stand beside; these may "
        "be too low, since the rows most like the training texts are left out."
    )


def regroup(evidence: Mapping[str, Any]) -> str | None:
    """The advised command that keeps exact copies in one split, where there are such copies and it can move them."""
    exact = any(counts["exact"] for counts in evidence["copies"]["splits"].values())
    command: str | None = evidence["advice"]["group"] if exact else None
    return command


def _missing(block: Mapping[str, Any]) -> list[str]:
    return [label for label, row in block["per_class"].items() if not row["support"]]


def _absent(block: Mapping[str, Any], row: str) -> list[str]:
    missing, classes = _missing(block), len(block["per_class"])
    if not missing:
        return []
    there = classes - len(missing)
    at_most = f"macro F1 cannot exceed {there} / {classes} = {there / classes:.3g}"
    if len(missing) == 1:
        return [f"Class {shown(missing[0])} has no {row}: it has no scores, and {at_most}."]
    named = ", ".join(shown(label) for label in missing[:MOST_NAMED])
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    return [f"{len(missing)} classes have no {row} ({named}{more}): they have no scores, and {at_most}."]
