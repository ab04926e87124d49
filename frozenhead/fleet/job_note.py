"""What the workers of one job have agreed on: a note in the cache that the first of them writes.

`--worker` processes know nothing of each other. Were one to compute in another precision or from another checkpoint,
its vectors would fall into a space of their own, and the job would end with holes. So the first leaves a note of its
spaces, the others compare, and the `embed` that makes the run takes the note away.

Stands in `<cache>/v1/jobs/<job>.json`, in an object store as well. Of two that are written at once, one wins.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from frozenhead.cache import Space, VectorCache
from frozenhead.errors import FleetError, StorageError
from frozenhead.files import canonical_json, host_name

JOBS = "jobs"
NOTE_FORMAT = 1


class JobNote:
    """The note of one job.

    Parameters
    ----------
    cache : VectorCache
    job : mapping
        What makes a job this one: its sources, columns and options as stated; plain values.
    """

    def __init__(self, cache: VectorCache, job: Mapping[str, Any]) -> None:
        self._note = cache.note(JOBS, f"{hashlib.sha256(canonical_json(job)).hexdigest()}.json")

    def agree(self, spaces: Sequence[Space]) -> None:
        """Write the note, or compare with the one that is there.

        Raises
        ------
        FleetError
            An earlier worker has other spaces.
        StorageError
            The cache cannot be written.
        """
        first = self.read() or self._write(spaces)
        differing = _differing(first[0], spaces)
        if differing:
            theirs, mine = differing
            raise FleetError(
                f"This worker's space {mine.id} is not the first worker's, {theirs.id} (written on {first[1]}): "
                f"it has {mine.difference(theirs)}.\n"
                f"Give every worker the same checkpoint and options{_advice(theirs, mine)}.\n"
                f"If that job is over, or was the wrong one, delete {self._note.location}"
            )

    def read(self) -> tuple[list[Space], str] | None:
        """The spaces of the job and the host that was first; None if there is no note, or none that can be read."""
        data = self._note.read()
        try:
            note = json.loads(data or b"")
            if note["format"] != NOTE_FORMAT:
                return None
            return [Space.from_dict(fields) for fields in note["spaces"]], str(note["host"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def difference(self, spaces: Sequence[Space]) -> str | None:
        """How the spaces that the workers filled differ from those of the run to be made, for people; None if not."""
        note = self.read()
        differing = _differing(note[0], spaces) if note else None
        if differing is None:
            return None
        theirs, mine = differing
        return (
            f"workers have embedded these texts into another space, {theirs.id[:12]}, not {mine.id[:12]}: this run has "
            f"{mine.difference(theirs)}{_advice(theirs, mine)}"
        )

    def conclude(self, spaces: Sequence[Space]) -> None:
        """The run is made: take the note away, if these were the job's spaces."""
        with suppress(StorageError):  # a cache that is only read
            note = self.read()
            if note is not None and _differing(note[0], spaces) is None:
                self._note.remove()

    def _write(self, spaces: Sequence[Space]) -> tuple[list[Space], str]:
        """Write the note; of a race for it, what the first has written."""
        note = {"format": NOTE_FORMAT, "host": host_name(), "spaces": [space.to_dict() for space in spaces]}
        data = json.dumps(note, indent=2, ensure_ascii=False).encode()
        if not self._note.create(data):
            there = self.read()
            if there is not None:
                return there
            self._note.replace(data)  # what cannot be read is nobody's word
        return list(spaces), host_name()


def _differing(theirs: Sequence[Space], mine: Sequence[Space]) -> tuple[Space, Space] | None:
    """The first pair of spaces, of one pooling where there is one, that are not the same."""
    for one in mine:
        other = next((space for space in theirs if space.pooling == one.pooling), theirs[0])
        if other.id != one.id:
            return other, one
    return None


def _advice(theirs: Space, mine: Space) -> str:
    """The option that brings another precision into line: hosts differ in what `auto` means."""
    return f"; here --precision {theirs.precision}" if theirs.precision != mine.precision else ""
