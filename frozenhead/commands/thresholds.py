"""`--threshold` as the rule by which a head's threshold is chosen."""

from collections.abc import Sequence
from typing import Any

from frozenhead.errors import UsageError
from frozenhead.heads import ThresholdRule
from frozenhead.heads.registry import nearest
from frozenhead.labels import shown

_FORMS = {"f1": "f1", "precision": "precision:0.95", "recall": "recall:0.9", "costs": "costs:1:10"}


def threshold_rule(given: str, positive: str | None) -> dict[str, Any]:
    """Arguments of `Head.set_threshold`.

    Parameters
    ----------
    given : str
        `f1`, `precision:FLOOR`, `recall:FLOOR`, or `costs:FALSE_POSITIVE:FALSE_NEGATIVE`.
    positive : str, optional
        The class whose probability is compared; default the second.

    Raises
    ------
    UsageError
        Another word, or numbers that do not belong to it.
    """
    by, *parts = given.split(":")
    if by not in _FORMS:
        raise UsageError(f"--threshold is {given!r}{nearest(by, _FORMS)}; give {', '.join(_FORMS.values())}.")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != _FORMS[by].count(":") or len(numbers) != len(parts):
        raise UsageError(f"--threshold is {given!r}; expected such as {_FORMS[by]}.")
    rule: dict[str, Any] = {"by": by}
    if by == "costs":
        rule["costs"] = tuple(numbers)
    elif numbers:
        rule["floor"] = numbers[0]
    try:
        ThresholdRule(**rule)
    except ValueError as error:
        raise UsageError(f"--threshold {given}: {error}") from error
    return rule | {"positive": positive}


def check_classes(positive: str | None, classes: Sequence[str]) -> None:
    """Raise `UsageError` unless a threshold can tell these classes apart, and `positive` is one of them."""
    if len(classes) != 2:
        raise UsageError(f"--threshold tells two classes apart; this run has {len(classes)}. Leave it out.")
    if positive is not None and positive not in classes:
        known = ", ".join(map(shown, classes))
        raise UsageError(f"--positive is {positive!r}{nearest(positive, classes)}; the classes are {known}.")
