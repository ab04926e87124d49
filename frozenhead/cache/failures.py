"""What an error of an object store means: whether it may pass, what it says, and what to do.

botocore's and other stores' own classes are known by name alone, so that none of them is imported here.
"""

import errno
import os
import re
from collections.abc import Iterator

_NO_CREDENTIALS = re.compile(r"Credential|ProfileNotFound|SSO|TokenRetrieval|RefreshError")
_WRONG_SETTINGS = re.compile(r"ParamValidation|Region|InvalidConfig|UnknownEndpoint")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}  # a disk's: what a store refuses has no number
_REFUSED = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    NotImplementedError,
    ImportError,
    ValueError,
    TypeError,
)
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def is_final(error: Exception) -> bool:
    """Whether trying again would give the same. What nobody knows may pass."""
    name = type(error).__name__
    return (
        isinstance(error, _REFUSED)
        or getattr(error, "errno", None) in _NO_ROOM | _READ_ONLY
        or any(words.search(name) for words in (_NO_CREDENTIALS, _WRONG_SETTINGS))
    )


def is_object_missing(error: Exception) -> bool:
    """Whether an object is not there, which may be as it should; a bucket that is not there never is."""
    return isinstance(error, FileNotFoundError) and _code(error) != "NoSuchBucket"


def words(error: Exception) -> str:
    """What the store says, on one line, without what may be secret in it."""
    text = re.sub(r"^\[Errno \d+\] ", "", " ".join(str(error).split())) or type(error).__name__
    text = re.sub(r"://[^\s\"']*@", "://", text)  # user:password@
    text = re.sub(r"\?[^\s\"']*", "", text)  # a signed query
    for value in filter(None, map(os.environ.get, _SECRETS)):
        text = text.replace(value, "***")
    return text[:300].rstrip(".")


def advice(error: Exception, *, s3: bool, waited: float) -> str:
    """What to do about it; `waited` seconds passed while it was tried again."""
    if _NO_CREDENTIALS.search(type(error).__name__):
        given = "AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws" if s3 else "its own tools"
        return f"No credentials that can be used: give them by {given}."
    if getattr(error, "errno", None) in _NO_ROOM:
        return "The disk or quota is full: make room there, or where the mirror lies."
    if getattr(error, "errno", None) in _READ_ONLY:
        return "No permission there: use another place; FROZENHEAD_MIRROR_DIR names another folder for the mirror."
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (FileNotFoundError, "The bucket or folder is not there: make it, or correct the URL."),
        (PermissionError, "The credentials given do not permit it: use others, or another place."),
        (NotImplementedError, "This kind of place cannot do that: use another."),
    )
    known = next((told for kind, told in kinds if isinstance(error, kind)), None)
    if known is None and is_final(error):
        known = "Check the URL, and the settings for it."
    return known or f"Tried for {waited:.0f} s. Check the network and the place, and run the command again."


def _code(error: Exception) -> str | None:
    """The store's own word for what went wrong, such as NoSuchBucket."""
    for one in _causes(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code"))
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
