"""The way from texts to cached vectors: key, look up, encode what is missing, commit.

One forward pass serves all the poolings asked for. A text that stands twice is computed once.
"""

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import ShardWriter, Space, SpaceStore, VectorCache, distinct_keys, text_keys
from frozenhead.embedder.batching import token_batches
from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.pooling import POOLINGS, Pooling
from frozenhead.errors import CacheDamaged, EncoderUnfit, UsageError
from frozenhead.texts import Chosen

# Texts tokenised and sorted by length at a time: long enough to fill batches of one length, short in memory.
CHUNK = 16384

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?")

Progress = Callable[[int, int], None]
"""Called with (texts done, texts to do) after each batch, and once before the first."""

Started = Callable[[int, int], None]
"""Called once with (texts cached, texts in all) before any work, distinct texts counted."""


def _silent(part: int, whole: int, /) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """How texts become vectors.

    Parameters
    ----------
    poolings : tuple of {"pooler", "cls", "mean", "max"}
    max_length : int, optional
        Tokens kept, [CLS] and [SEP] included; default the encoder's own limit.
    precision : {"auto", "fp32"}
        `auto` is fp32.
    device : str
        `auto`, `cpu`, `cuda` or `cuda:N`.
    backend : {"auto", "torch"}
        `auto` is torch.
    """

    poolings: tuple[Pooling, ...] = ("pooler",)
    max_length: int | None = None
    precision: str = "auto"
    device: str = "auto"
    backend: str = "auto"

    def __post_init__(self) -> None:
        wrong = [p for p in self.poolings if p not in POOLINGS]
        if wrong or not self.poolings:
            raise UsageError(f"Pooling {', '.join(map(repr, wrong)) or 'none'}: choose from {', '.join(POOLINGS)}.")
        if len(set(self.poolings)) != len(self.poolings):
            raise UsageError(f"A pooling stands twice in {','.join(self.poolings)}.")
        if self.precision not in ("auto", "fp32"):
            raise UsageError(f"Precision {self.precision!r}: this version computes in fp32; choose auto or fp32.")
        if self.backend not in ("auto", "torch"):
            raise UsageError(f"Backend {self.backend!r}: this version has torch; choose auto or torch.")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"Device {self.device!r} is none of auto, cpu, cuda, cuda:N.")


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What an embedding run left in the cache.

    Attributes
    ----------
    keys : uint8 array (N, 32)
    tokens : int32 array (N,)
        Tokens of each text before truncation.
    stores : dict of pooling to SpaceStore
    shards : dict of pooling to tuple of str
        Shards that hold these keys.
    distinct, cached, computed : int
        Distinct texts; how many were there before; how many were embedded now.
    device : str or None
        Where the encoder ran; None if it did not have to.
    seconds : float
    """

    keys: NDArray[np.uint8]
    tokens: NDArray[np.int32]
    stores: dict[Pooling, SpaceStore]
    shards: dict[Pooling, tuple[str, ...]]
    distinct: int
    cached: int
    computed: int
    device: str | None
    seconds: float


def space_of(checkpoint: Checkpoint, pooling: Pooling, settings: EmbedSettings) -> Space:
    """The space of one pooling of a checkpoint. Raises if the checkpoint cannot give it."""
    max_length = checkpoint.max_length if settings.max_length is None else settings.max_length
    return Space(
        files=checkpoint.files,
        pooling=checkpoint.check_pooling(pooling),
        max_length=checkpoint.check_length(max_length),
        dim=checkpoint.dim,
    )


def embed_texts(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    keys: NDArray[np.uint8] | None = None,
    settings: EmbedSettings,
    cache: VectorCache,
    encoder: Callable[[], Encoder] | None = None,
    started: Started = _silent,
    progress: Progress = _silent,
) -> Embedded:
    """Make sure that the cache holds the vectors of `texts`.

    Parameters
    ----------
    checkpoint : Checkpoint
    texts : sequence of str (N,)
    keys : uint8 array (N, 32), optional
        Of the texts, from `text_keys`, where the caller has them.
    settings : EmbedSettings
    cache : VectorCache
    encoder : callable, optional
        Gives the loaded encoder; called only if a vector is missing.
    started, progress : callables
        See `Started` and `Progress`.

    Raises
    ------
    EncoderError
        The checkpoint cannot give these vectors.
    StorageError
        The cache cannot be read or written. What was committed before stays.
    """
    begun = time.perf_counter()
    stores = {p: cache.space(space_of(checkpoint, p, settings)) for p in settings.poolings}
    keys = text_keys(texts) if keys is None else keys
    first, inverse = distinct_keys(keys)
    distinct = keys if len(first) == len(keys) else keys[first]  # (m, 32)
    lookups = {p: store.lookup(distinct, with_vectors=False) for p, store in stores.items()}
    present = {p: lookup.found for p, lookup in lookups.items()}
    missing = np.flatnonzero(~np.logical_and.reduce(list(present.values())))  # rows of `distinct`
    started(len(first) - len(missing), len(first))
    device = None
    if len(missing):
        loaded = encoder() if encoder else Encoder(checkpoint, device=settings.device)
        if loaded.checkpoint.files != checkpoint.files:
            raise ValueError(f"The encoder given was loaded from other files than {checkpoint.model} has.")
        device = str(loaded.device)
        work = _Work(loaded, stores, present, distinct, Chosen(texts, first))
        work.run(missing, progress)
        lookups = {p: store.lookup(distinct, with_vectors=False) for p, store in stores.items()}
        if not all(lookup.found.all() for lookup in lookups.values()):
            raise CacheDamaged(
                f"Vectors just written to {cache.folder} cannot be read back.\n"
                "Check that disk, or choose another folder with --cache-dir."
            )
    elif len(first):
        for store in stores.values():
            store.describe(recorded_facts(checkpoint, device))  # only if it was lost or damaged
    for store in stores.values() if len(first) else ():
        store.settle()  # before the caller is told that the vectors are there
    return Embedded(
        keys=keys,
        tokens=lookups[settings.poolings[0]].tokens[inverse],
        stores=stores,
        shards={p: lookup.shards for p, lookup in lookups.items()},
        distinct=len(first),
        cached=len(first) - len(missing),
        computed=len(missing),
        device=device,
        seconds=time.perf_counter() - begun,
    )


class _Work:
    """Encode the missing texts chunk by chunk and hand each batch to the writers of its spaces."""

    def __init__(
        self,
        encoder: Encoder,
        stores: dict[Pooling, SpaceStore],
        present: dict[Pooling, NDArray[np.bool_]],
        keys: NDArray[np.uint8],
        texts: Sequence[str],
    ) -> None:
        self.encoder, self.stores, self.present, self.keys, self.texts = encoder, stores, present, keys, texts
        self.max_length = next(iter(stores.values())).space.max_length

    def run(self, missing: NDArray[np.intp], progress: Progress) -> None:
        done = 0
        progress(done, len(missing))
        with contextlib.ExitStack() as stack:
            facts = recorded_facts(self.encoder.checkpoint, str(self.encoder.device))
            writers = {p: stack.enter_context(s.writer(recorded=facts)) for p, s in self.stores.items()}
            for start in range(0, len(missing), CHUNK):
                chunk = missing[start : start + CHUNK]
                tokens = self.encoder.tokenize([self.texts[i] for i in chunk], max_length=self.max_length)
                for batch in token_batches(tokens.lengths, budget=self.encoder.token_budget):
                    vectors = self.encoder.encode([tokens.rows[i] for i in batch], tuple(self.stores))
                    for p, writer in writers.items():
                        self._add(
                            writer, chunk[batch], ~self.present[p][chunk[batch]], vectors[p], tokens.counts[batch]
                        )
                    done += len(batch)
                    progress(done, len(missing))

    def _add(
        self,
        writer: ShardWriter,
        rows: NDArray[np.intp],
        lacking: NDArray[np.bool_],
        vectors: NDArray[np.float32],
        counts: NDArray[np.int32],
    ) -> None:
        """Only the rows this space lacks: another pooling of the same text may be there already."""
        if not np.isfinite(vectors).all():
            raise EncoderUnfit(
                f"{self.encoder.checkpoint.model} gave a vector that is not finite (NaN or infinity) for "
                f"{self.texts[rows[int(np.isfinite(vectors).all(axis=1).argmin())]][:60]!r}.\n"
                "Its weights may be damaged: download the checkpoint again."
            )
        if lacking.any():
            writer.add(self.keys[rows[lacking]], vectors[lacking], counts[lacking])


def recorded_facts(checkpoint: Checkpoint, device: str | None) -> dict[str, Any]:
    """Names and versions that `space.json` keeps beside the identity."""
    return {
        "model": checkpoint.model,
        "name": checkpoint.name,
        "commit": checkpoint.commit,
        "device": device,
        "backend": "torch",
        "versions": {name: version(name) for name in ("frozenhead", "torch", "transformers", "tokenizers")},
    }
