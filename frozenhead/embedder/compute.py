"""The way from texts to cached vectors: key, look up, encode what is missing, commit.

One forward pass serves all the poolings asked for. A text that stands twice is computed once.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import ShardWriter, SpaceStore, VectorCache, distinct_keys, text_keys
from frozenhead.embedder.batching import token_batches
from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.encoder import Encoder, Running
from frozenhead.embedder.hardware import Arithmetic
from frozenhead.embedder.pipeline import Behind, ahead
from frozenhead.embedder.pooling import Pooling
from frozenhead.embedder.remarks import Remarks
from frozenhead.embedder.settings import EmbedSettings, decide, space_of
from frozenhead.embedder.tokens import TEXTS_AT_ONCE, TokenRows, join_rows, text_parts
from frozenhead.embedder.windows import WindowMeans
from frozenhead.errors import CacheDamaged, EncoderUnfit
from frozenhead.texts import Chosen

# Texts sorted by length at a time: many enough to fill batches of one length, bounded in tokens for memory's sake.
CHUNK_TEXTS = 16384
CHUNK_TOKENS = 2**20
# Batches under way or waiting for the cache, for each that is computed at the same time: none is idle meanwhile.
WAITING_BATCHES = 3


class Listener:
    """Told of what goes on while texts are embedded. This one does not care."""

    def started(self, cached: int, distinct: int) -> None:
        """Once, before any work: texts cached, and texts in all, distinct ones counted."""

    def computing(self, arithmetic: Arithmetic) -> None:
        """Once, when the encoder is loaded."""

    def progress(self, done: int, total: int) -> None:
        """Texts done and texts to do: after each batch, and once before the first."""

    def note(self, line: str) -> None:
        """Something happened that people should know."""


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
    arithmetic : Arithmetic or None
        What the encoder ran on; None if it did not have to.
    seconds : float
        Without the conversion for another backend, which is done once.
    """

    keys: NDArray[np.uint8]
    tokens: NDArray[np.int32]
    stores: dict[Pooling, SpaceStore]
    shards: dict[Pooling, tuple[str, ...]]
    distinct: int
    cached: int
    computed: int
    arithmetic: Arithmetic | None
    seconds: float


def embed_texts(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    keys: NDArray[np.uint8] | None = None,
    rows: NDArray[np.int64] | None = None,
    settings: EmbedSettings,
    cache: VectorCache,
    encoder: Callable[[], Encoder] | None = None,
    listener: Listener | None = None,
) -> Embedded:
    """Make sure that the cache holds the vectors of `texts`.

    Parameters
    ----------
    checkpoint : Checkpoint
    texts : sequence of str (N,)
    keys : uint8 array (N, 32), optional
        Of the texts, from `text_keys`, where the caller has them.
    rows : int64 array (N,), optional
        Where the texts stand in what they are part of, from 0, for messages.
    settings : EmbedSettings
    cache : VectorCache
    encoder : callable, optional
        Gives the loaded encoder; called only if a vector is missing.
    listener : Listener, optional

    Raises
    ------
    EncoderError
        The checkpoint cannot give these vectors.
    StorageError
        The cache cannot be read or written. What was committed before stays.
    """
    begun = time.perf_counter()
    listener = listener or Listener()
    asked, settings = settings, decide(settings, checkpoint)
    stores = {p: cache.space(space_of(checkpoint, p, settings)) for p in settings.poolings}
    keys = text_keys(texts, prefix=settings.prefix or "") if keys is None else keys
    first, inverse = distinct_keys(keys)
    distinct = keys if len(first) == len(keys) else keys[first]  # (m, 32)
    lookups = {p: store.lookup(distinct, with_vectors=False) for p, store in stores.items()}
    present = {p: lookup.found for p, lookup in lookups.items()}
    missing = np.flatnonzero(~np.logical_and.reduce(list(present.values())))  # rows of `distinct`
    if len(missing):
        _check_ready(asked, stores, loads=encoder is None)
    listener.started(len(first) - len(missing), len(first))
    arithmetic = None
    if len(missing):
        if encoder:
            loaded = encoder()
        else:
            loaded = Encoder(checkpoint, asked, cache_folder=cache.folder, note=listener.note)
            begun += loaded.conversion_seconds  # not of this run alone
        if [s.space for s in stores.values()] != [space_of(loaded.checkpoint, p, loaded.settings) for p in stores]:
            raise ValueError(f"The encoder given was loaded from other files or settings than {checkpoint.model}'s.")
        arithmetic = loaded.arithmetic
        listener.computing(arithmetic)
        work = _Work(
            encoder=loaded, stores=stores, present=present, keys=distinct, texts=Chosen(texts, first),
            places=first if rows is None else rows[first], listener=listener,
        )  # fmt: skip
        work.run(missing)
        lookups = {p: store.lookup(distinct, with_vectors=False) for p, store in stores.items()}
        if not all(lookup.found.all() for lookup in lookups.values()):
            raise CacheDamaged(
                f"Vectors just written to {cache.folder} cannot be read back.\n"
                "Check that disk, or choose another folder with --cache-dir."
            )
    elif len(first):
        for store in stores.values():
            store.describe(recorded_facts(checkpoint, arithmetic))  # only if it was lost or damaged
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
        arithmetic=arithmetic,
        seconds=time.perf_counter() - begun,
    )


def _check_ready(settings: EmbedSettings, stores: dict[Pooling, SpaceStore], *, loads: bool) -> None:
    """Raise at once for a precision this machine lacks, or a cache that cannot be written: loading takes seconds."""
    if loads:
        _ = settings.arithmetic
    for store in stores.values():
        store.check_writable()


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Token rows under way.

    Of the chunk (n texts, m token rows): the texts' rows among the distinct ones (n,), their tokens before the cut
    (n,), and the means that vectors go through; of the batch: its token rows (B,), and the vectors to wait for.
    """

    rows: NDArray[np.intp]
    counts: NDArray[np.int32]
    means: WindowMeans
    part: NDArray[np.intp]
    running: Running


@dataclass(kw_only=True, eq=False)
class _Work:
    """Encode the missing texts: tokenised ahead by one thread, their vectors kept behind by another.

    `present`, `keys` and `texts` have one entry for each distinct text, and `places` is where it stands.
    """

    encoder: Encoder
    stores: dict[Pooling, SpaceStore]
    present: dict[Pooling, NDArray[np.bool_]]
    keys: NDArray[np.uint8]
    texts: Sequence[str]
    places: NDArray[np.integer]
    listener: Listener

    def __post_init__(self) -> None:
        self.writers: dict[Pooling, ShardWriter] = {}
        self.budget = self.encoder.token_budget
        self.done = 0
        self.space = next(iter(self.stores.values())).space  # as to all but the pooling they are alike
        self.remarks = Remarks(self.listener.note, self.space)

    def run(self, missing: NDArray[np.intp]) -> None:
        self.listener.progress(0, len(missing))
        with contextlib.ExitStack() as stack:
            facts = recorded_facts(self.encoder.checkpoint, self.encoder.arithmetic)
            self.writers = {p: stack.enter_context(s.writer(recorded=facts)) for p, s in self.stores.items()}
            depth = WAITING_BATCHES * self.encoder.at_once
            behind = stack.enter_context(Behind(self._keep, depth=depth, dropped=self.encoder.cancel))
            parts = stack.enter_context(ahead(self._tokenised(missing), depth=self._waiting_parts()))
            for rows, tokens in _chunks(parts):
                self.remarks.look(rows, tokens)
                means = WindowMeans(tokens.texts, tokens.content, normalize=self.space.normalize)
                for batch in _in_order(tokens, token_batches(tokens.lengths, budget=self.budget)):
                    for part, running in self._start(tokens, batch):
                        behind.put(_Batch(rows=rows, counts=tokens.counts, part=part, means=means, running=running))
                    self.listener.progress(self.done, len(missing))
        self.listener.progress(self.done, len(missing))
        self.remarks.conclude(len(missing), lambda row: f"text {self.places[row] + 1:,}, {self.texts[row][:40]!r}")

    def _waiting_parts(self) -> int:
        """Parts tokenised ahead: a chunk. In windows a part may hold all the tokens of a long text, so few wait."""
        fit = CHUNK_TOKENS // (TEXTS_AT_ONCE * self.space.max_length)
        return 4 if self.space.long == "windows" else min(max(fit, 2), CHUNK_TEXTS // TEXTS_AT_ONCE)

    def _tokenised(self, missing: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], TokenRows]]:
        """Part by part: rows among the distinct texts, and their tokens."""
        texts = Chosen(self.texts, missing)
        for part in text_parts(texts):
            yield missing[part], self.encoder.tokenize(texts[part])

    def _start(self, tokens: TokenRows, batch: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], Running]]:
        """Begin with a batch; where memory does not suffice, go on with batches of half the size, once."""
        tall = len(batch) > 1 and len(batch) * int(tokens.lengths[batch].max()) > self.budget
        for part in np.array_split(batch, 2) if tall else [batch]:
            running = self._begin([tokens.rows[i] for i in part])
            if running is not None:
                yield part, running
            else:  # outside of `except`: the error would hold what the failed pass has allocated
                yield from self._start(tokens, part)

    def _begin(self, rows: list[dict[str, list[int]]]) -> Running | None:
        """A batch under way, or None if memory did not suffice and the next are to be smaller."""
        try:
            return self.encoder.start(rows)
        except MemoryError as error:
            if self.budget < self.encoder.token_budget:
                raise self._no_memory(len(rows)) from error
        self.budget //= 2
        self.listener.note(f"out of memory on {self.encoder.device}: batches of {self.budget:,} tokens now")
        return None

    def _keep(self, batch: _Batch) -> None:
        """Wait for the vectors of a batch and hand them to the writers of their spaces."""
        try:
            computed = batch.running()
        except MemoryError as error:
            raise self._no_memory(len(batch.part)) from error
        texts, vectors = batch.means.add(batch.part, computed)
        for p in self.writers:
            self._add(p, batch.rows[texts], batch.counts[texts], vectors[p])
        self.done += len(texts)

    def _add(
        self, pooling: Pooling, rows: NDArray[np.intp], counts: NDArray[np.int32], vectors: NDArray[np.float32]
    ) -> None:
        """Only the rows this space lacks: another pooling of the same text may be there already."""
        with np.errstate(over="ignore"):  # too large for float16 is infinite there, and refused
            finite = np.isfinite(vectors.astype(self.stores[pooling].space.dtype)).all(axis=1)
        if not finite.all():
            raise EncoderUnfit(self._not_finite(rows[int(finite.argmin())]))
        lacking = ~self.present[pooling][rows]
        if lacking.any():
            self.writers[pooling].add(self.keys[rows[lacking]], vectors[lacking], counts[lacking])

    def _no_memory(self, rows: int) -> EncoderUnfit:
        return EncoderUnfit(
            f"Memory of {self.encoder.device} does not suffice for {rows} texts of up to {self.space.max_length} "
            "tokens at once.\nFree some, or shorten the texts with --max-length."
        )

    def _not_finite(self, row: int) -> str:
        arithmetic = self.encoder.arithmetic
        way = (
            "Its weights may be damaged: download the checkpoint again."
            if arithmetic.precision == "fp32"
            else f"{arithmetic.precision} may be too coarse for it: try --precision fp32."
        )
        return (
            f"{self.encoder.checkpoint.model} gave a vector that is not finite (NaN or infinity) for "
            f"text {self.places[row] + 1:,}, {self.texts[row][:60]!r}.\n{way}"
        )


def _in_order(tokens: TokenRows, batches: list[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    """Windows in the order of their texts: each text is complete, and kept, as soon as can be."""
    return sorted(batches, key=min) if len(tokens.rows) > len(tokens.counts) else batches


def _chunks(
    parts: Iterable[tuple[NDArray[np.intp], TokenRows]],
) -> Iterator[tuple[NDArray[np.intp], TokenRows]]:
    """Parts joined until they are a chunk: enough texts to sort by length."""
    gathered: list[tuple[NDArray[np.intp], TokenRows]] = []
    for rows, tokens in parts:
        gathered.append((rows, tokens))
        texts = sum(len(r) for r, _ in gathered)
        if texts >= CHUNK_TEXTS or sum(int(t.lengths.sum()) for _, t in gathered) >= CHUNK_TOKENS:
            yield np.concatenate([r for r, _ in gathered]), join_rows([t for _, t in gathered])
            gathered.clear()
    if gathered:
        yield np.concatenate([r for r, _ in gathered]), join_rows([t for _, t in gathered])


def recorded_facts(checkpoint: Checkpoint, arithmetic: Arithmetic | None) -> dict[str, Any]:
    """Names and versions that `space.json` keeps beside the identity."""
    return {
        "model": checkpoint.model,
        "name": checkpoint.name,
        "commit": checkpoint.commit,
        "device": arithmetic.device if arithmetic else None,
        "backend": arithmetic.backend if arithmetic else None,
        "versions": {name: version(name) for name in ("frozenhead", "torch", "transformers", "tokenizers")},
    }
