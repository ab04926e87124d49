"""Labels as a person may see them: one line, no control characters, no longer than the place allows.

Imports nothing. Labels come from data files, so they may hold escape sequences, marks that turn the
direction of the text, halves of surrogate pairs, or a whole essay.
"""

import unicodedata

# Control (Cc), format (Cf), surrogate (Cs), line and paragraph separators (Zl, Zp). The two joiners are
# Cf as well, but Persian, Hindi and family emoji are misspelt without them.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"}


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


def _visible(character: str) -> str:
    if unicodedata.category(character) in _HIDDEN and character not in _JOINERS:
        return character.encode("unicode_escape").decode()
    return character
