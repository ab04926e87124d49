"""The commands that a report advises, whole, so that they can be pasted.

Imports shell.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from frozenhead.shell import joined

_GROUP = "--group-duplicates"
_OVERWRITE = "--overwrite"


def advice(run: Mapping[str, Any], folder: str) -> dict[str, str]:
    """Commands for a run: `baselines` adds two heads, `group` makes the split anew with copies kept together.

    Parameters
    ----------
    run : mapping
        run.json, whose command line made the run.
    folder : str
        The run's.
    """
    return {
        "baselines": joined(["frozenhead", "fit", folder, "--head", "tfidf,majority"]),
        "group": _group(run, folder),
    }


def _group(run: Mapping[str, Any], folder: str) -> str:
    words = _words(str(run.get("command", "")))
    if words[:2] != ["frozenhead", "embed"] or len(words) < 3:  # made in Python
        sources = [str(source.get("path")) for source in run.get("sources") or []]
        words = ["frozenhead", "embed", *(sources[:1] or ["DATA"]), "--out", folder]
    return joined([*words, *(flag for flag in (_GROUP, _OVERWRITE) if flag not in words)])


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # edited by hand
        return []
