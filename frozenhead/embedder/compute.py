"""The way from texts to cached vectors: key, look up, encode what is missing, commit.

One forward pass serves all the poolings asked for. A text that stands twice is computed once.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import ShardWriter, SpaceStore, VectorCache, distinct_keys, text_keys
from frozenhead.embedder.batching import token_batches
from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.pooling import Pooling
from frozenhead.embedder.settings import EmbedSettings, decide, space_of
from frozenhead.embedder.tokens import text_parts
from frozenhead.embedder.windows import WindowMeans
from frozenhead.errors import CacheDamaged, EncoderUnfit

# Texts tokenised and sorted by length at a time, and their characters: long enough to fill batches of one length,
# short in memory, and little to do again after a stop.
CHUNK = 16384
CHUNK_CHARACTERS = 2**21

Progress = Callable[[int, int], None]
"""Called with (texts done, texts to do) after each batch, and once before the first."""

Started = Callable[[int, int], None]
"""Called once with (texts cached, texts in all) before any work, distinct texts counted."""


def _silent(part: int, whole: int, /) -> None:
    """Tell nobody."""


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


def embed_texts(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
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
    settings = decide(settings, checkpoint)
    stores = {p: cache.space(space_of(checkpoint, p, settings)) for p in settings.poolings}
    keys = text_keys(texts)
    first, inverse = distinct_keys(keys)
    distinct = keys[first]  # (m, 32)
    lookups = {p: store.lookup(distinct, with_vectors=False) for p, store in stores.items()}
    present = {p: lookup.found for p, lookup in lookups.items()}
    missing = np.flatnonzero(~np.logical_and.reduce(list(present.values())))  # rows of `distinct`
    started(len(first) - len(missing), len(first))
    device = None
    if len(missing):
        loaded = encoder() if encoder else Encoder(checkpoint, settings)
        if loaded.checkpoint.files != checkpoint.files:
            raise ValueError(f"The encoder given was loaded from other files than {checkpoint.model} has.")
        device = loaded.device
        work = _Work(loaded, stores, present, distinct, [texts[i] for i in first])
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
        self.normalize = any(store.space.normalize for store in stores.values())  # one setting for all poolings

    def run(self, missing: NDArray[np.intp], progress: Progress) -> None:
        done = 0
        progress(done, len(missing))
        with contextlib.ExitStack() as stack:
            facts = recorded_facts(self.encoder.checkpoint, self.encoder.device)
            writers = {p: stack.enter_context(s.writer(recorded=facts)) for p, s in self.stores.items()}
            texts = [self.texts[i] for i in missing]
            for part in text_parts(texts, most=CHUNK, characters=CHUNK_CHARACTERS):
                chunk = missing[part]
                tokens = self.encoder.tokenize(texts[part])
                means = WindowMeans(tokens.texts, tokens.content, normalize=self.normalize)
                batches = token_batches(tokens.lengths, budget=self.encoder.token_budget)
                if len(tokens.rows) > len(chunk):
                    batches.sort(key=min)  # in the order of the texts: each is complete, and kept, as soon as can be
                for batch in batches:
                    rows, vectors = means.add(batch, self.encoder.start([tokens.rows[i] for i in batch])())
                    for p, writer in writers.items():
                        self._add(writer, chunk[rows], ~self.present[p][chunk[rows]], vectors[p], tokens.counts[rows])
                    done += len(rows)
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
