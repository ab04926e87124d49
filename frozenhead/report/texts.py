"""Texts as the report compares and shows them: folded, clipped, and weighed by the room they take in the page.

Imports nothing from the package.
"""

import json
import unicodedata
from collections.abc import Iterable
from typing import Any

MOST_CHARACTERS = 300


def folded(texts: Iterable[str]) -> list[str]:
    """Texts without what case, white space and ways to write a character tell apart.

    Unicode's NFKC form, case folded, runs of white space as one space, none at the ends:

    >>> folded(["Free  ENTRY\\n", "ﬁne", "Stra\\u00dfe"])
    ['free entry', 'fine', 'strasse']
    """
    # NFKC leaves ASCII as it is, and most texts are ASCII.
    forms = (text if text.isascii() else unicodedata.normalize("NFKC", text) for text in texts)
    return [" ".join(form.casefold().split()) for form in forms]


def clipped(text: str) -> str:
    """The text, or its first 299 characters and an ellipsis."""
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def room(value: Any) -> int:
    r"""Bytes of a value as JSON in a page, where `<`, `>`, `&` and `'` are written as six characters (`\u003c`)."""
    line = json.dumps(value)
    return len(line) + 5 * sum(map(line.count, "<>&'"))


def within(rows: Iterable[dict[str, Any]], *, room_for: int) -> list[dict[str, Any]]:
    """The first rows that fit into so many bytes of the page."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        room_for -= room(row) + 2  # the comma and the space between two
        if room_for < 0:
            break
        kept.append(row)
    return kept
