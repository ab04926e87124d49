"""Labels: the one order of classes, labels that look alike, and labels as a person may see them.

Imports nothing from the package. Labels come from data files, so they may hold escape sequences, marks that turn the
direction of the text, halves of surrogate pairs, or a whole essay.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

_PLAIN_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")

# Control (Cc), format (Cf), surrogate (Cs), line and paragraph separators (Zl, Zp). The two joiners are
# Cf as well, but Persian, Hindi and family emoji are misspelt without them.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"}


def natural_order(labels: Iterable[str]) -> list[str]:
    """The distinct labels: by value when all are plain decimal numbers, else by code point.

    Numbers of one value (`1`, `01`, `1.0`) stay distinct and stand in code point order.

    >>> natural_order(["10", "9", "9", "-1"])
    ['-1', '9', '10']
    """
    distinct = sorted(set(labels))
    if all(_PLAIN_NUMBER.fullmatch(label) for label in distinct):
        distinct.sort(key=Decimal)  # stable; Decimal compares exactly, however long the number
    return distinct


def lookalikes(classes: Iterable[str]) -> list[list[str]]:
    """Groups of classes that differ only in case or white space, such as `spam`, `Spam ` and `SPAM`."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in classes:
        groups[" ".join(label.split()).casefold()].append(label)
    return [group for group in groups.values() if len(group) > 1]


def shown(text: str, *, width: int = 60) -> str:
    r"""Return `text` on one line, hidden characters spelt out, at most `width` characters.

    Parameters
    ----------
    text : str
        Any string, the empty one too.
    width : int
        The most characters to return; a longer text ends in an ellipsis.

    Examples
    --------
    >>> shown("\x1b[31mham")
    '\\x1b[31mham'
    >>> shown("a very long label", width=8)
    'a very …'
    """
    # A hidden character becomes at most 10 visible ones, so `width` characters of input are enough to look at.
    line = "".join(_visible(character) for character in text[: width + 1]) or "(empty)"
    return line if len(line) <= width else line[: width - 1] + "…"


def visible(text: str) -> str:
    r"""The whole text with its hidden characters spelt out, but for the ends of its lines.

    >>> visible("a \x1b[31mred\nline")
    'a \\x1b[31mred\nline'
    """
    return "".join(character if character == "\n" else _visible(character) for character in text)


def is_hidden(character: str) -> bool:
    """Whether it is a control or format character, half a surrogate pair or an end of a line; joiners are not."""
    return unicodedata.category(character) in _HIDDEN and character not in _JOINERS


def _visible(character: str) -> str:
    return character.encode("unicode_escape").decode() if is_hidden(character) else character
