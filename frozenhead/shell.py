r"""Words as a shell reads them back, and as a terminal may show them.

Imports labels. The names of files and columns stand in commands that we advise, and such a name may hold escape
sequences and marks that turn the direction of the text: a terminal must not get them, and a reader must see them.
"""

import shlex
from collections.abc import Iterable

from frozenhead.labels import is_hidden

_NAMED = {"\\": r"\\", "'": r"\'", "\n": r"\n", "\t": r"\t", "\r": r"\r"}


def quoted(word: str) -> str:
    r"""The word for a shell: as `shlex.quote` has it, or in `$'...'` if it holds what a terminal must not get.

    >>> quoted("my texts.csv"), quoted("a\x1b[1m's")
    ("'my texts.csv'", "$'a\\033[1m\\'s'")
    """
    if not any(map(is_hidden, word)):
        return shlex.quote(word)
    return "$'" + "".join(_NAMED.get(c) or (_octal(c) if is_hidden(c) else c) for c in word) + "'"


def joined(words: Iterable[str]) -> str:
    """Words as one command line that bash, zsh and ksh read back as they were."""
    return " ".join(map(quoted, words))


def _octal(character: str) -> str:
    # Of all escapes only these mean the same in every shell and locale: at most three digits, and bytes.
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
