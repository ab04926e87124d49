"""`--threshold` as the rule by which a head's threshold is chosen."""

from typing import Any

from frozenhead.errors import UsageError
from frozenhead.heads.registry import nearest

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
    rule: dict[str, Any] = {"by": by, "positive": positive}
    if by == "costs":
        return rule | {"costs": tuple(numbers)}
    return rule | ({"floor": numbers[0]} if numbers else {})
