"""What the report's figures share: colours, kinds of lines, and names cut to fit.

Imports labels. The colours are Okabe and Ito's (2008), which people with colour-blind eyes tell apart; the blue is a
little lighter, to stand out from black as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from frozenhead.labels import shown

PALETTE = ("#1B7EC2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# Thin lines keep to the four colours that stand out on white and on black; then they are dashed.
LINES = tuple((colour, dashes) for dashes in ("-", (0, (4, 1.5))) for colour in PALETTE[:4])
MOST_LINES = len(LINES)

GREY = "#8A949C"  # for what is there to compare with; 3:1 on white and on black
BLUE, ORANGE = PALETTE[0], PALETTE[1]

_LABEL_WIDTH = 18

Entry = Mapping[str, Any]
"""One of the evidence's heads, or anything else with `feature` and `head`."""


def short(text: str, width: int = _LABEL_WIDTH) -> str:
    """A label on one line of at most `width` characters."""
    return shown(text, width=width)


def named(entry: Entry) -> str:
    """`dense on minilm.mean`."""
    return f"{short(entry['head'])} on {short(entry['feature'])}"


def same(entry: Entry, other: Entry | None) -> bool:
    """Whether both name one head on one feature set."""
    return other is not None and (entry["feature"], entry["head"]) == (other["feature"], other["head"])


def first(entries: Sequence[Entry], most: int, baseline: Entry | None) -> list[int]:
    """Positions of the first `most` heads; if the baseline is not one of them, it takes the last place."""
    missing = [place for place in range(most, len(entries)) if same(entries[place], baseline)]
    return [*range(min(most, len(entries)) - len(missing)), *missing]


def legend_label(text: str) -> str:
    """The same text to the eye; matplotlib leaves a label that starts with an underscore out of its legends."""
    return f"\N{HAIR SPACE}{text}" if text.startswith("_") else text


def columns(labels: Sequence[str], width: float) -> int:
    """How many columns, 1 or 2, of a legend in letters of 8 points fit into `width` inches."""
    longest = max(map(len, labels), default=0)
    return 2 if 2 * (0.5 + 0.066 * longest) <= width else 1


def legend_height(labels: Sequence[str], width: float) -> float:
    """Inches that such a legend takes."""
    return 0.17 * -(-len(labels) // columns(labels, width))
