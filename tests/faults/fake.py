"""An encoder without a transformer: a vector follows from its text's hash, so that any row read back can be checked.

The job is the real `embed_texts`, its shards so small that 24 texts fill three of them.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partialmethod
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import ShardWriter, Space, SpaceStore, VectorCache, text_keys
from frozenhead.cache.keys import Keys
from frozenhead.embedder import Checkpoint, EmbedSettings, embed_texts, space_of
from frozenhead.embedder.compute import Embedded
from frozenhead.embedder.encoder import Encoder, Running, Vectors
from frozenhead.embedder.hardware import choose_arithmetic
from frozenhead.embedder.tokens import TokenRows
from frozenhead.files import write_json

DIM = 32
NOBODY = 999_999_999  # no process has this number: Linux ends at 2^22
BATCH_ROWS = 4
SHARD_ROWS = 8

TEXTS = (*(f"text {i}" for i in range(3 * SHARD_ROWS)), "text 0")  # one stands twice
KEYS = text_keys(dict.fromkeys(TEXTS))  # (24, 32)
ROWS = frozenset(key.tobytes() for key in KEYS)

CHECKPOINT = Checkpoint(
    model="fake", name="fake", revision=None, commit=None, folder=Path("fake"),
    files=(("config.json", "c" * 64), ("model.safetensors", "a" * 64)), dim=DIM, max_length=16, has_pooler=True,
)  # fmt: skip
SETTINGS = EmbedSettings(device="cpu", precision="fp32")
SPACE: Space = space_of(CHECKPOINT, "pooler", SETTINGS)

_version = cache(version)  # reads many files, none of them ours

Tell = Callable[[Keys], None]


def vectors_of(keys: Keys, *, dim: int = DIM) -> NDArray[np.float32]:
    """f: the vectors (n, D) that belong to keys, every component in [0, 1]."""
    digests = b"".join(hashlib.shake_256(key.tobytes()).digest(4 * dim) for key in keys)
    return (np.frombuffer(digests, np.uint32).reshape(len(keys), dim) / 2.0**32).astype(np.float32)


def tokens_of(keys: Keys) -> NDArray[np.int32]:
    """The token counts (n,) that belong to keys."""
    return keys[:, 31].astype(np.int32) + 1


VECTORS, TOKENS = vectors_of(KEYS), tokens_of(KEYS)
TABLE = {key.tobytes(): (vector.tobytes(), int(n)) for key, vector, n in zip(KEYS, VECTORS, TOKENS, strict=True)}


class FakeEncoder:
    """What `embed_texts` needs of an `Encoder`. `computed` is told the keys of every batch."""

    checkpoint = CHECKPOINT
    settings = SETTINGS
    arithmetic = choose_arithmetic(device="cpu", backend="torch", precision="fp32")
    device = "cpu"
    at_once = 1
    conversion_seconds = 0.0
    token_budget = BATCH_ROWS  # every text is one token long

    def __init__(self, computed: Tell) -> None:
        self._computed = computed

    def cancel(self) -> None:
        """Nothing waits."""

    def tokenize(self, texts: Sequence[str]) -> TokenRows:
        keys = text_keys(texts)
        rows = [{"input_ids": key.tolist()} for key in keys]
        ones = np.ones(len(keys), np.int32)
        return TokenRows(
            rows=rows, texts=np.arange(len(keys)), content=ones, lengths=ones, counts=tokens_of(keys), unknown=ones < 1
        )

    def start(self, rows: Sequence[dict[str, list[int]]]) -> Running:
        keys = np.array([row["input_ids"] for row in rows], np.uint8)

        def running() -> Vectors:
            self._computed(keys)
            return {"pooler": vectors_of(keys)}

        return running


def no_one(keys: Keys) -> None:
    """Tell nobody."""


@contextmanager
def fp32_by_default() -> Iterator[None]:
    """`auto` is fp32 with torch, as on a machine without bf16: the vectors above are float32."""
    with (
        mock.patch("frozenhead.embedder.hardware.cpu_flags", frozenset),
        mock.patch("frozenhead.embedder.hardware.preferred_backend", return_value="torch"),
    ):
        yield


@contextmanager
def small_shards(acknowledged: Tell = no_one) -> Iterator[None]:
    """Shards of `SHARD_ROWS` rows, however long they take; `acknowledged` is told the keys of each once committed."""

    class Acknowledging(ShardWriter):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._waiting: list[Keys] = []

        def add(self, keys: Keys, vectors: NDArray[np.floating[Any]], tokens: NDArray[np.int32]) -> None:
            self._waiting.append(keys)
            super().add(keys, vectors, tokens)

        def flush(self) -> None:
            before = len(self.committed)
            super().flush()
            if len(self.committed) > before:
                acknowledged(np.concatenate(self._waiting))
                self._waiting.clear()

    writer = partialmethod(SpaceStore.writer, flush_bytes=SHARD_ROWS * DIM * 4, flush_seconds=math.inf)
    with (
        mock.patch.object(SpaceStore, "writer", writer),
        mock.patch("frozenhead.cache.store.ShardWriter", Acknowledging),
        mock.patch("frozenhead.embedder.compute.version", _version),
    ):
        yield


def new_disk(disk: Path) -> Path:
    """Make an empty folder that stands for a disk."""
    disk.mkdir()
    return disk


def cache_of(disk: Path) -> Path:
    """The cache lies two folders deep, which the first job makes."""
    return disk / "home" / "cache"


def shards_of(disk: Path) -> Path:
    """The folder of the shards."""
    return cache_of(disk) / "v1" / SPACE.id / "shards"


def holder_of(disk: Path) -> Path:
    """The run's file, which says what shards its vectors are read from."""
    return disk / "run.json"


def embed(disk: Path, *, computed: Tell = no_one, acknowledged: Tell = no_one) -> Embedded:
    """Embed `TEXTS` with the fake encoder into a run that pins their shards, as `frozenhead embed` does."""
    with small_shards(acknowledged):
        embedded = embed_texts(
            CHECKPOINT,
            TEXTS,
            settings=SETTINGS,
            cache=VectorCache(cache_of(disk)),
            encoder=lambda: cast(Encoder, FakeEncoder(computed)),
        )
    shards = embedded.shards["pooler"]
    embedded.stores["pooler"].refer(holder_of(disk), shards)
    write_json(holder_of(disk), {"space": SPACE.id, "shards": list(shards)})
    return embedded


def pinned_in(disk: Path) -> tuple[str, ...]:
    """The shards that the run's file names."""
    return tuple(json.loads(holder_of(disk).read_bytes())["shards"])


def repin(holder: Path, new: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Put new shards in the place of old ones in a run's file, as `frozenhead cache compact` does."""
    content = json.loads(holder.read_bytes())
    content["shards"] = sorted({name for old in content["shards"] for name in new.get(old, (old,))})
    write_json(holder, content)
    return tuple(content["shards"])
