"""Whether a stored head is the one its place in the run says it is, and its files those that `fit` wrote."""

import hashlib
from collections.abc import Mapping
from typing import Any

from frozenhead.errors import RunDamaged
from frozenhead.heads.saving import read_description
from frozenhead.runs import Run, StoredHead


def checked_description(run: Run, stored: StoredHead) -> dict[str, Any]:
    """The content of `head.json` of a head in a run.

    Raises
    ------
    RunDamaged
        It is of another head, feature set or classes than its folder and its run; or one of its files is gone or is
        not what was written.
    FormatRefused
    """
    info = read_description(stored.folder)
    expected = {"head": stored.head, "feature": stored.feature, "classes": run.info["classes"]}
    for name, right in expected.items():
        if info.get(name, right) != right:
            raise RunDamaged(
                f"{stored.folder} holds another head: `{name}` is {_short(info[name])}, expected {_short(right)}. "
                "Take it out, or run `frozenhead fit` again."
            )
    _check_files(stored, info.get("files", {}))  # heads of 0.1 do not name theirs
    return info


def _check_files(stored: StoredHead, digests: Mapping[str, str]) -> None:
    for file, digest in digests.items():
        path = stored.folder / file
        try:
            with path.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise RunDamaged(f"{path} cannot be read ({error}). Run `frozenhead fit` again.") from error
        if found != digest:
            raise RunDamaged(f"{path} was altered after it was written. Run `frozenhead fit` again.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
