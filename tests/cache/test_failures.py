"""What an error of an object store says to people, and whether it is worth another try."""

import errno

import pytest

from frozenhead.cache.failures import advice, is_final, is_object_missing, words


class NoCredentialsError(Exception):
    """Named as botocore names its own."""


class ClientError(Exception):
    """Likewise."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, "broken\n  pipe"), "broken pipe"),
        (ValueError(), "ValueError"),
        (OSError('no way to "http://me:pa/ss@word@host/x?X-Amz-Signature=abc" now.'), 'no way to "http://host/x" now'),
        (OSError("sent a-long-secret and a-token"), "sent *** and ***"),
        (OSError("x" * 1000), "x" * 300),
    ],
)
def test_words_are_one_line_without_secrets(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-long-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    assert words(error) == said


@pytest.mark.parametrize(
    ("error", "final", "way"),
    [
        (NoCredentialsError(), True, "AWS_ACCESS_KEY_ID"),
        (PermissionError("AccessDenied"), True, "do not permit"),
        (FileNotFoundError("NoSuchBucket"), True, "make it, or correct the URL"),
        (NotImplementedError(), True, "use another"),
        (OSError(errno.ENOSPC, "full"), True, "make room"),
        (PermissionError(errno.EACCES, "Permission denied", "/home/us"), True, "FROZENHEAD_MIRROR_DIR"),
        (OSError(errno.EROFS, "Read-only file system"), True, "FROZENHEAD_MIRROR_DIR"),
        (ValueError("no such region"), True, "Check the URL"),
        (OSError(errno.EBUSY, "SlowDown"), False, "Tried for 7 s"),
        (TimeoutError(), False, "Check the network"),
        (RuntimeError("what nobody has foreseen"), False, "Check the network"),
    ],
)
def test_what_may_pass_is_known_from_what_does_not(error: Exception, final: bool, way: str) -> None:
    assert is_final(error) is final
    assert way in advice(error, s3=True, waited=7.0)


def test_a_bucket_that_is_missing_is_no_missing_object() -> None:
    assert is_object_missing(FileNotFoundError("x"))
    assert is_object_missing(caused(FileNotFoundError("x"), ClientError("NoSuchKey")))
    assert not is_object_missing(caused(FileNotFoundError("x"), ClientError("NoSuchBucket")))
    assert not is_object_missing(PermissionError("x"))
