"""Values in Markdown: labels, file and column names come from data and may hold anything.

Imports labels.
"""

import re
from typing import Any

from frozenhead.labels import shown

# Whatever could mean something in Markdown, its extensions or HTML. Written as numbers these are never syntax
# (CommonMark 0.31, section 2.5), in a table neither.
_SYNTAX = re.compile(
    r"[&<>|`*\[\]\\#~$@{}^]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word it is a letter
    r"|:(?=\S)|(?<=www)\."  # what would become a link
    r"|^[0-9]+(?=[.)](\s|$))|^[-+](?=[-+\s]|$)",  # what would become a list or a line
    re.IGNORECASE,
)
_WIDTH = 300  # characters of one value


class Markdown(str):
    """Markdown that we wrote; any other value is text, and is escaped."""

    __slots__ = ()


def markdown(value: Any) -> str:
    """A value as Markdown that shows it and means nothing; `Markdown` as it is."""
    if isinstance(value, Markdown):
        return value
    return _SYNTAX.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), shown(str(value), width=_WIDTH))


def code(value: Any) -> Markdown:
    """A value in code font."""
    text = shown(str(value), width=_WIDTH)
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return Markdown(f"{fence}{pad}{text}{pad}{fence}")


def fenced(text: str, language: str) -> str:
    """A block of code whose fence no line of it can close."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
