"""What can go wrong, as one tree; each branch has its exit code.

    FrozenheadError                 1   unexpected
    |-- UsageError                  2   wrong usage
    |   `-- RunNotFound
    |-- DataError                   3   bad data: names the file, the line or row, and the way out
    |-- EncoderError                4   an encoder is missing, unfit or untrusted
    |   |-- EncoderNotFound
    |   |-- EncoderUnfit
    |   |-- DeviceNotFound
    |   `-- EncoderUntrusted
    |-- HeadError                   4   a head is missing or unfit
    |   |-- HeadNotFound
    |   `-- SpaceMismatch
    |-- FleetError                  4   a process, a host or a cluster that shares the work cannot be used
    |-- DamageError                 5   a damaged cache or run that needs the user
    |   |-- CacheDamaged
    |   |-- RunDamaged
    |   |-- FormatRefused
    |   `-- ProofFailed
    `-- StorageError                6   disk full, or no permission

Imports nothing. A message says what was found, what was expected, and what to do next.
"""


class FrozenheadError(Exception):
    """Base of every error that frozenhead raises on purpose."""

    exit_code = 1


class UsageError(FrozenheadError, ValueError):
    """A wrong option, name or value."""

    exit_code = 2


class RunNotFound(UsageError):
    """The folder named is not a run."""


class DataError(FrozenheadError, ValueError):
    """The labelled texts cannot be used as they are."""

    exit_code = 3


class EncoderError(FrozenheadError):
    """The encoder cannot be used."""

    exit_code = 4


class EncoderNotFound(EncoderError):
    """No checkpoint under that name."""


class EncoderUnfit(EncoderError):
    """A checkpoint that lacks what was asked of it."""


class DeviceNotFound(EncoderError):
    """The device asked for is not on this machine."""


class EncoderUntrusted(EncoderError):
    """A checkpoint that asks to run its own code, or is not the one it claims to be."""


class HeadError(FrozenheadError):
    """The head cannot be used."""

    exit_code = 4


class HeadNotFound(HeadError):
    """The run has no such head."""


class SpaceMismatch(HeadError, ValueError):
    """A head was given vectors of another space than it was trained on."""


class FleetError(FrozenheadError):
    """A process, a host or a cluster that shares the work cannot be reached, or must not go on."""

    exit_code = 4


class DamageError(FrozenheadError):
    """Stored files are not what they were."""

    exit_code = 5


class CacheDamaged(DamageError):
    """Vectors that were promised are no longer in the cache."""


class RunDamaged(DamageError):
    """A file of the run is missing or altered."""


class FormatRefused(DamageError):
    """Written by another version of the format."""


class ProofFailed(DamageError):
    """Cached vectors are not what the encoder gives."""


class StorageError(FrozenheadError, OSError):
    """The disk is full, or the folder cannot be written."""

    exit_code = 6
