"""What became of texts longer than an encoder's limit, as the page, the figures and the terminal table say it.

Imports nothing. A block is `truncation` of features/<name>.json, or its entry for one class: `rows`, `truncated`,
`share`, and of a space that reads long texts in windows `windowed`, `windowed_share`, `windows`.
"""

from collections.abc import Mapping
from typing import Any


def in_windows(block: Mapping[str, Any]) -> bool:
    """Whether longer texts were read in windows; else they were cut."""
    return "windowed" in block


def longer(block: Mapping[str, Any]) -> int:
    """How many texts are longer than the limit."""
    return int(block["windowed" if in_windows(block) else "truncated"])


def longer_share(block: Mapping[str, Any]) -> float:
    """The same as a share of the rows."""
    return float(block["windowed_share" if in_windows(block) else "share"])


def fate(block: Mapping[str, Any]) -> str:
    """`cut`, or `in windows`."""
    return "in windows" if in_windows(block) else "cut"
