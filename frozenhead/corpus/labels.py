"""The order of classes, one for the whole package, and labels that look alike. Imports nothing from the package."""

import re
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

_PLAIN_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")


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
