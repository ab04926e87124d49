"""Checks of options, and the nearest right name for a wrong one. Pure; imports nothing from the package."""

import difflib
import math
from collections.abc import Iterable

import numpy as np


def nearest(wrong: object, right: Iterable[object]) -> str:
    """` (did you mean 'x'?)` for the right name most like the wrong one, or nothing."""
    names = {str(name).casefold(): name for name in right}
    close = difflib.get_close_matches(str(wrong).casefold(), list(names), n=1)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""


def check_word(name: str, value: object, words: Iterable[str]) -> None:
    """Raise `ValueError` unless `value` is one of `words`."""
    known = list(words)
    if value not in known:
        raise ValueError(f"{name} is {value!r}{nearest(value, known)}; choose {', '.join(map(repr, known))}.")


MOST = 2**63 - 1
"""The largest whole number that any option takes: what 64 bits hold."""


def check_whole(name: str, value: object, *, least: int = 1) -> None:
    """Raise `ValueError` unless `value` is a whole number of at least `least`, and of 64 bits."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not least <= value <= MOST:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {str(value)[:40]}.")


def check_positive(name: str, value: object) -> None:
    """Raise `ValueError` unless `value` is a finite number above 0."""
    if not (is_number(value) and value > 0):  # type: ignore[operator]  # a number by then
        raise ValueError(f"{name} must be above 0 and finite, got {value!r}.")


def is_number(value: object) -> bool:
    """Whether `value` is a finite number, and no truth value."""
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
