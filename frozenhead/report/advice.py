"""The commands that a report advises, whole, so that they can be pasted.

Imports shell.
"""

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozenhead.shell import joined

_GROUP = "--group-duplicates"
# Of the command that made the run: the new run has a folder of its own, and replaces none.
_LEFT_OUT = {"--overwrite", "--dry-run", "--json", "--quiet", "-q", _GROUP}


def advice(run: Mapping[str, Any], folder: str) -> dict[str, str | None]:
    """Commands for a run: `baselines` adds two heads, `group` makes another run with copies in one split.

    Parameters
    ----------
    run : mapping
        run.json, whose command line made the run.
    folder : str
        The run's.

    Returns
    -------
    dict
        `group` is None where the data says itself which rows are judged, so that no option can move them. The run that
        it makes is a new one: this one stays as it is, with its heads and reports.
    """
    return {
        "baselines": joined(["frozenhead", "fit", folder, "--head", "tfidf,majority"]),
        "group": None if _brings_its_split(run.get("options") or {}) else _group(run, folder),
    }


def _brings_its_split(options: Mapping[str, Any]) -> bool:
    """Whether a column or a file of its own holds the test rows, or the validation rows where nothing is drawn."""
    return any(options.get(name) is not None for name in ("split_column", "test", "val"))


def _group(run: Mapping[str, Any], folder: str) -> str:
    words = _words(str(run.get("command", "")))
    if words[:2] != ["frozenhead", "embed"] or len(words) < 3:  # made in Python
        sources = [str(source.get("path")) for source in run.get("sources") or []]
        words = ["frozenhead", "embed", *(sources[:1] or ["DATA"])]
    return joined([*_without_out(word for word in words if word not in _LEFT_OUT), "--out", _beside(folder), _GROUP])


def _without_out(words: Iterable[str]) -> list[str]:
    """The words without `--out RUN` and `--out=RUN`."""
    kept, rest = [], iter(words)
    for word in rest:
        if word == "--out":
            next(rest, None)
        elif not word.startswith("--out="):
            kept.append(word)
    return kept


def _beside(folder: str) -> str:
    """A folder beside the run's, named after it."""
    path = Path(folder)
    named = path.name not in ("", "..")  # `.` and `..` are no names to put anything behind
    return f"{path if named else os.path.abspath(path)}-grouped"


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # edited by hand
        return []
