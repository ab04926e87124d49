"""Models converted for another backend, kept beside the vectors so that the next start is quick.

    <cache dir>/models/<id>/
      model.xml  model.bin    the graph and its weights
      model.json              what it was made of, and the sha256 of both

The id is a hash of all that the graph follows from. A copy whose bytes changed is not used. The folder is
derived: it may be removed at any time.
"""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from frozenhead.cache.upkeep import MODELS
from frozenhead.errors import StorageError
from frozenhead.files import canonical_json, make_folder, read_file, temporary_name, write_file, write_json

logger = logging.getLogger(__name__)

PARTS = ("model.xml", "model.bin")

_DESCRIPTION = "model.json"
_PRIVATE = 0o700
_LARGEST = 2**40  # bytes


class ConvertedModel:
    """The place of one converted model.

    Parameters
    ----------
    cache_folder : Path
    made_of : dict
        Plain values: files of the checkpoint, poolings, versions.
    """

    def __init__(self, cache_folder: Path, made_of: dict[str, Any]) -> None:
        self._made_of = made_of
        self.folder = cache_folder / MODELS / hashlib.sha256(canonical_json(made_of)).hexdigest()

    def read(self) -> tuple[bytes, ...] | None:
        """The bytes of the graph and of its weights, or None if they are not there or not what was written."""
        parts, fault = self._look()
        if fault:
            logger.warning("%s %s; the model is converted anew", self.folder, fault)
        return parts

    def _look(self) -> tuple[tuple[bytes, ...] | None, str | None]:
        """The parts, or None and what is wrong with what is there."""
        if self.folder.is_symlink() or self.folder.parent.is_symlink():
            return None, "is a link, which is not followed"
        try:
            description = json.loads(read_file(self.folder / _DESCRIPTION, follow=False))
            parts = tuple(read_file(self.folder / name, limit=_LARGEST, follow=False) for name in PARTS)
        except FileNotFoundError as error:  # some of it: a folder that somebody emptied, by hand or by a kill
            return None, f"lacks {Path(error.filename).name}" if self.folder.exists() else None
        except OSError as error:
            return None, f"cannot be read ({error.strerror})"
        except ValueError:
            return None, f"is damaged ({_DESCRIPTION})"
        sound = {"made_of": self._made_of, "sha256": [hashlib.sha256(part).hexdigest() for part in parts]}
        return (parts, None) if description == json.loads(canonical_json(sound)) else (None, "is damaged")

    def write(self, *parts: bytes) -> None:
        """Keep the bytes of the graph and of its weights; a cache that cannot be written stays as it is."""
        fresh = self.folder.parent / temporary_name()
        try:
            for folder in (self.folder.parent.parent, self.folder.parent, fresh):
                make_folder(folder, mode=_PRIVATE)
            for name, part in zip(PARTS, parts, strict=True):
                write_file(fresh / name, part)
            digests = [hashlib.sha256(part).hexdigest() for part in parts]
            write_json(fresh / _DESCRIPTION, {"made_of": self._made_of, "sha256": digests})
            self._put(fresh)
        except (StorageError, OSError) as error:
            logger.warning("the converted model is not kept: %s", error)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _put(self, fresh: Path) -> None:
        """Give a filled folder its name; what stands there is kept if it is sound, as when two processes converted."""
        try:
            fresh.rename(self.folder)
        except OSError:
            if self._look()[0] is None:
                shutil.rmtree(self.folder, ignore_errors=True)
                fresh.rename(self.folder)
