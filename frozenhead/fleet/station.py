"""Where a worker stands: it has its orders, proves that it may work, and embeds what it is handed.

The driver knows what it expects: the ids of the spaces, and a file in the cache that it has written. A worker on
another host that has another checkpoint under that name, another version of frozenhead, or another disk mounted where
the cache should be, would fill a cache that nobody reads. It finds out before it computes anything, and refuses.
"""

import contextlib
import dataclasses
import hashlib
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead import errors
from frozenhead.cache import Space, VectorCache
from frozenhead.cache.place import FORMAT
from frozenhead.embedder import Checkpoint, Embedded, EmbedSettings, Listener, embed_texts, find_checkpoint, space_of
from frozenhead.embedder.encoder import Encoder
from frozenhead.errors import FleetError
from frozenhead.files import canonical_json, host_name, make_folder, read_file, temporary_name, write_file

_PROBE_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a driver tells its workers; plain values, so that they travel as JSON.

    Parameters
    ----------
    model : str
        `minilm`, a hub id, or the absolute path of a checkpoint.
    revision : str or None
        On the hub: the very commit that the driver has.
    called : tuple of str
        The model as the user named it, and its name.
    settings : dict
        The fields of `EmbedSettings`, everything decided.
    spaces : tuple of dict
        The spaces that must come of it, in the order of the poolings.
    cache : str
        Its folder or URL.
    probe : tuple of str, or None
        A file of the cache, as a path below its folder, and what is in it, in hexadecimal digits; None on one host,
        and where the cache is an object store.
    driver : str
        The driver's host.
    """

    model: str
    revision: str | None
    called: tuple[str, str]
    settings: dict[str, Any]
    spaces: tuple[dict[str, Any], ...]
    cache: str
    probe: tuple[str, str] | None = None
    driver: str

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        settings: EmbedSettings,
        cache: VectorCache,
        *,
        probe: tuple[str, str] | None = None,
    ) -> "Orders":
        """Orders to embed with a checkpoint that this process has found, into its cache."""
        local = Path(checkpoint.model).expanduser()
        return cls(
            model=str(local.absolute()) if local.is_dir() and checkpoint.commit is None else checkpoint.model,
            revision=checkpoint.commit,
            called=(checkpoint.model, checkpoint.name),
            settings=dataclasses.asdict(settings),
            spaces=tuple(space_of(checkpoint, pooling, settings).to_dict() for pooling in settings.poolings),
            cache=cache.location,
            probe=probe,
            driver=host_name(),
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Orders":
        """What `dataclasses.asdict` made of orders, also after a passage through JSON."""
        lists = {name: tuple(fields[name]) for name in ("called", "spaces")}
        return cls(**{**fields, **lists, "probe": tuple(fields["probe"]) if fields["probe"] else None})


@contextlib.contextmanager
def probe_file(cache: VectorCache) -> Iterator[tuple[str, str] | None]:
    """A file in the cache that only who shares this very folder can read, as `Orders` name it; removed at the end.

    None for a cache in an object store: a URL leads to the same store from wherever it is reached.
    """
    if cache.url is not None:
        yield None
        return
    name, content = f"{FORMAT}/{temporary_name()}", secrets.token_bytes(_PROBE_BYTES)
    path = cache.folder / name
    make_folder(path.parent, mode=0o700)
    write_file(path, content)
    try:
        yield name, content.hex()
    finally:
        with contextlib.suppress(OSError):  # `cache prune` takes it away with the leavings of processes that are gone
            os.unlink(path)


def import_path() -> dict[str, str]:
    """The environment in which another Python on this host imports the very code that runs here, installed or not."""
    package, path = str(Path(errors.__file__).parent.parent), os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{package}{os.pathsep}{path}" if path else package}


class Station:
    """A worker under its orders; the encoder is loaded when it is first needed, and once.

    Raises
    ------
    FleetError
        The worker does not share the driver's cache, or its spaces are not the driver's.
    EncoderError
        The checkpoint is not here, or cannot be used.
    """

    def __init__(self, orders: Orders) -> None:
        self._check_probe(orders)
        self.cache = VectorCache(orders.cache)
        self.settings = EmbedSettings(**{**orders.settings, "poolings": tuple(orders.settings["poolings"])})
        found = find_checkpoint(orders.model, revision=orders.revision)
        self.checkpoint = dataclasses.replace(found, model=orders.called[0], name=orders.called[1])
        self._check_spaces(orders)
        self._encoder: Encoder | None = None

    def embed(
        self, texts: Sequence[str], keys: NDArray[np.uint8] | None = None, listener: Listener | None = None
    ) -> Embedded:
        """Make sure that the cache holds the vectors of these texts (n,); their keys are (n, 32)."""
        return embed_texts(
            self.checkpoint,
            texts,
            keys=keys,
            settings=self.settings,
            cache=self.cache,
            encoder=self._load,
            listener=listener,
        )

    def _load(self) -> Encoder:
        if self._encoder is None:
            self._encoder = Encoder(self.checkpoint, self.settings, cache_folder=self.cache.folder)
        return self._encoder

    @staticmethod
    def _check_probe(orders: Orders) -> None:
        if orders.probe is None:
            return
        name, content = orders.probe
        path = Path(orders.cache) / name
        try:
            seen = read_file(path, limit=2**10).hex()
        except OSError as error:
            seen = error.strerror or "it cannot be read"
        if seen != content:
            raise FleetError(
                f"Host {host_name()} does not share the cache {orders.cache} with the driver on {orders.driver}: the "
                f"driver's probe file {path.name} is not there ({seen}).\n"
                "Put the cache on a folder that every host mounts under the same path, or into an object store."
            )

    def _check_spaces(self, orders: Orders) -> None:
        for fields, pooling in zip(orders.spaces, self.settings.poolings, strict=True):
            mine, digest = space_of(self.checkpoint, pooling, self.settings), _id_of(fields)
            if mine.id != digest:
                raise FleetError(
                    f"The worker on {host_name()} has space {mine.id}, the driver on {orders.driver} has {digest}: "
                    f"the worker's has {_difference(mine, fields)}.\n"
                    "Install the same version of frozenhead, and put the same checkpoint, on every host "
                    f"(Python there: {sys.executable})."
                )


def _id_of(fields: Mapping[str, Any]) -> str:
    """The id that the driver has: of its fields as they are, though this version may not know one of them."""
    return hashlib.sha256(canonical_json(dict(fields))).hexdigest()


def _difference(mine: Space, theirs: Mapping[str, Any]) -> str:
    try:
        return mine.difference(Space.from_dict(dict(theirs)))
    except (TypeError, KeyError, ValueError, AttributeError):
        return "other fields, as another version of frozenhead has them"
