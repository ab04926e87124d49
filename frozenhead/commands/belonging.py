"""Whether a stored head is the one its place in the run says it is, and its files those that `fit` wrote."""

import hashlib
from collections.abc import Mapping
from typing import Any

from frozenhead.errors import RunDamaged
from frozenhead.heads.saving import read_description
from frozenhead.runs import Run, StoredHead
from frozenhead.shell import joined


def checked_description(run: Run, stored: StoredHead) -> dict[str, Any]:
    """The content of `head.json` of a head in a run.

    Raises
    ------
    RunDamaged
        It is of another head, feature set or classes than its folder and its run; or one of its files is gone or is
        not what was written.
    FormatRefused
    """
    again = repair(run, stored)
    info = read_description(stored.folder, again=again)
    expected = {"head": stored.head, "feature": stored.feature, "classes": run.info["classes"]}
    for name, right in expected.items():
        if info.get(name, right) != right:
            raise RunDamaged(
                f"{stored.folder} holds another head: `{name}` is {_short(info[name])}, expected {_short(right)}. "
                f"Take it out, or run `{again}`."
            )
    _check_files(stored, info.get("files", {}), again)  # heads of 0.1 do not name theirs
    return info


def repair(run: Run, stored: StoredHead) -> str:
    """The command that trains this head anew, and no other."""
    features = [] if stored.feature == "text" else ["--features", stored.feature]
    return joined(["frozenhead", "fit", str(run.folder), *features, "--head", stored.head, "--refit"])


def _check_files(stored: StoredHead, digests: Mapping[str, str], again: str) -> None:
    for file, digest in digests.items():
        path = stored.folder / file
        try:
            with path.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise RunDamaged(f"{path} is missing. Run `{again}`.") from error
        except OSError as error:
            raise RunDamaged(f"{path} cannot be read ({error.strerror}). Run `{again}`.") from error
        if found != digest:
            raise RunDamaged(f"{path} was altered after it was written. Run `{again}`.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
