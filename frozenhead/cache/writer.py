"""Writing vectors: gather rows, commit them as shards, lose at most one unflushed shard."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache.keys import KEY_BYTES, Keys
from frozenhead.cache.shard import SUFFIX, encode_shard, shard_name
from frozenhead.cache.space import Space
from frozenhead.cache.upkeep import note_use
from frozenhead.errors import StorageError
from frozenhead.files import write_file

FLUSH_BYTES = 64 * 2**20
FLUSH_SECONDS = 30.0


class ShardWriter:
    """Gathers rows of one space and commits them, 64 MiB or 30 s at a time.

    Leaving the `with` block commits what is left, also when it is left by Ctrl-C: work that was
    done is kept. Once a row is committed it is acknowledged, and stays.

    Parameters
    ----------
    folder : Path
        The `shards` folder of the space.
    space : Space
    flush_bytes : int
        Commit when the gathered vectors reach this size.
    flush_seconds : float
        Commit when the oldest gathered row is this old.
    clock : callable
        Seconds, monotonic.
    publish : callable
        Called with the name of a shard's file once it is written, before the shard counts as committed.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        *,
        flush_bytes: int = FLUSH_BYTES,
        flush_seconds: float = FLUSH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        publish: Callable[[str], None] = lambda file: None,  # noqa: ARG005
    ) -> None:
        self._folder = folder
        self._space = space
        self._flush_bytes = flush_bytes
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._publish = publish
        self._blocks: list[tuple[Keys, NDArray[Any], NDArray[np.int32]]] = []
        self._bytes = 0
        self._since = 0.0
        self.committed: list[str] = []

    def add(self, keys: Keys, vectors: NDArray[np.floating[Any]], tokens: NDArray[np.int32]) -> None:
        """Take rows: keys (n, 32), vectors (n, D), tokens (n,). Commits when enough has gathered.

        Raises
        ------
        ValueError
            The shapes do not fit, or a vector is not finite. Nothing of this call is kept.
        StorageError
            The disk does not take the shard.
        """
        n = len(keys)
        if (keys.shape, vectors.shape, tokens.shape) != ((n, KEY_BYTES), (n, self._space.dim), (n,)):
            raise ValueError(
                f"Shapes do not fit a space of {self._space.dim} dimensions: "
                f"keys {keys.shape}, vectors {vectors.shape}, tokens {tokens.shape}."
            )
        with np.errstate(over="ignore"):  # what is too large for float16 becomes infinite, and is refused below
            block = (keys.copy(), vectors.astype(self._space.dtype), tokens.astype(np.int32))
        if not np.isfinite(block[1]).all():
            raise ValueError(
                f"The encoder gave a vector that is not finite in {self._space.dtype} "
                "(NaN or infinity); it is not stored."
            )
        if n == 0:
            return
        if not self._blocks:
            self._since = self._clock()
        self._blocks.append(block)
        self._bytes += block[1].nbytes
        if self._bytes >= self._flush_bytes or self._clock() - self._since >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Commit what has gathered as one shard. Raises `StorageError` if the disk does not take it."""
        if not self._blocks:
            return
        keys, vectors, tokens = (np.concatenate(parts) for parts in zip(*self._blocks, strict=True))
        parts = encode_shard(self._space, keys, vectors, tokens)
        name = shard_name(*parts)
        write_file(self._folder / f"{name}{SUFFIX}", *parts)
        self._publish(f"{self._folder.name}/{name}{SUFFIX}")
        self.committed.append(name)
        note_use(self._folder.parent)
        self._blocks.clear()
        self._bytes = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, StorageError):  # the disk has just refused: a second try would hide why
            return
        try:
            self.flush()
        except StorageError:
            raise
        except BaseException:  # a signal in the midst of it: what was gathered is still there
            self.flush()
            raise
