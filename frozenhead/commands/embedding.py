"""A corpus through the encoder, bucket by bucket: one encoder, one bar, one account of it.

Most corpora are one bucket. Of several, no two hold the same text, so that counts add up and nothing is computed twice.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import SpaceStore, VectorCache, distinct_keys, text_keys
from frozenhead.commands.lengths import add_facts, token_facts
from frozenhead.commands.options import EmbedOptions
from frozenhead.commands.vectors import embed_aloud, teller
from frozenhead.commands.voice import Voice
from frozenhead.corpus import (
    Bucket,
    Corpus,
    CorpusOptions,
    LargeCorpus,
    check_rereadable,
    find_sources,
    is_large,
    load_corpus,
    stream_corpus,
)
from frozenhead.embedder import Arithmetic, Checkpoint, Embedded, EmbedSettings, Listener, embed_texts, space_of
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.pooling import Pooling
from frozenhead.errors import UsageError
from frozenhead.fleet import Share, embed_on_devices
from frozenhead.fleet.sources import local_copy
from frozenhead.texts import Chosen

AnyCorpus = Corpus | LargeCorpus


@contextmanager
def open_corpus(options: EmbedOptions) -> Iterator[AnyCorpus]:
    """The corpus: in memory or, if it is large or `--stream` says so, in parts on disk until the block ends.

    What stands under URLs is copied for that time, and named by its URL all the same.

    Raises
    ------
    UsageError
        What was asked for cannot be done in parts.
    """
    given = {"data": options.data, "val": options.corpus.val, "test": options.corpus.test}
    with ExitStack() as stack:
        here = {role: stack.enter_context(local_copy(place)) if place else place for role, place in given.items()}
        corpus = stack.enter_context(
            _open_files(options, str(here["data"]), replace(options.corpus, val=here["val"], test=here["test"]))
        )
        named = [
            {**s, "path": _named(str(s["path"]), here[str(s["role"])], given[str(s["role"])])} for s in corpus.sources
        ]
        yield replace(corpus, sources=named)


@contextmanager
def _open_files(options: EmbedOptions, data: str, files: CorpusOptions) -> Iterator[AnyCorpus]:
    sources = find_sources(data, files)
    if options.stream:
        check_rereadable(sources)
    streamed = is_large(sources) if options.stream is None else options.stream
    if not streamed:
        yield load_corpus(data, files)
        return
    if options.views:
        raise UsageError(
            "Dropout views are made of a corpus in memory, and this one is read in parts. Leave --views out, or pass "
            "--no-stream if there is memory for all texts."
        )
    with stream_corpus(data, sources, files, beside=options.out) as corpus:
        yield corpus


def _named(path: str, copy: str | None, given: str | None) -> str:
    """The name of a file in the place that was given, where it was read from a copy of that place."""
    return f"{given}{path.removeprefix(copy or '')}" if copy != given else path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What embedding a corpus left in the cache.

    Attributes
    ----------
    stores, shards : dict by pooling
        The spaces, and the sorted names of the shards that hold the corpus.
    facts : dict by pooling
        `truncation` and `lengths`, as `token_facts`.
    distinct, cached, computed, arithmetic, seconds
        As in `Embedded`.
    """

    stores: dict[Pooling, SpaceStore]
    shards: dict[Pooling, list[str]]
    facts: dict[Pooling, dict[str, Any]]
    distinct: int
    cached: int
    computed: int
    arithmetic: Arithmetic | None
    seconds: float


class SharedCorpus:
    """The rows of a corpus whose keys one of several workers owns: a corpus as far as embedding goes."""

    def __init__(self, corpus: AnyCorpus, share: Share, settings: EmbedSettings) -> None:
        self._corpus, self._share, self._settings = corpus, share, settings
        self.bucket_count, self.classes = corpus.bucket_count, corpus.classes

    def buckets(self) -> Iterator[Bucket]:
        """What the share owns of each bucket."""
        for bucket in self._corpus.buckets():
            own = self._share.rows(encoder_keys(bucket, self._settings))
            yield Bucket(
                rows=own if bucket.rows is None else bucket.rows[own],
                texts=Chosen(bucket.texts, own),
                keys=bucket.keys[own],
                labels=None if bucket.labels is None else bucket.labels[own],
            )


def embed_corpus(
    checkpoint: Checkpoint,
    corpus: AnyCorpus | SharedCorpus,
    *,
    settings: EmbedSettings,
    cache: VectorCache,
    voice: Voice,
    devices: Sequence[str] = (),
) -> Outcome:
    """Make sure that the cache holds the vectors of a corpus, said aloud; on several devices, by processes.

    Errors as `embed_texts`.
    """
    if corpus.bucket_count == 1:
        (bucket,) = corpus.buckets()
        keys = encoder_keys(bucket, settings)
        embedded = embed_aloud(
            checkpoint, bucket.texts, keys=keys, settings=settings, cache=cache, voice=voice, devices=devices
        )
        return _add(None, embedded, bucket, corpus, checkpoint)
    begun = time.perf_counter()
    account: Outcome | None = None
    distinct, cached = survey(checkpoint, corpus, settings, cache)
    with voice.bar(checkpoint.name, unit="texts") as advance:
        listener = _Whole(teller(voice, advance, checkpoint, settings), cached, distinct)
        encoder = _OneEncoder(checkpoint, settings, cache, listener)
        for bucket in corpus.buckets():
            keys = encoder_keys(bucket, settings)
            if devices:
                embedded = embed_on_devices(
                    checkpoint, bucket.texts, keys=keys, settings=settings, devices=devices, cache=cache,
                    listener=listener,
                )  # fmt: skip
            else:
                embedded = embed_texts(
                    checkpoint, bucket.texts, keys=keys, rows=bucket.rows, settings=settings, cache=cache,
                    encoder=encoder.load, listener=listener,
                )  # fmt: skip
            listener.before += embedded.computed
            account = _add(account, embedded, bucket, corpus, checkpoint)
            del bucket, keys, embedded  # before the next one is read
    if account is None:
        raise ValueError("a corpus of no buckets")
    return replace(account, seconds=time.perf_counter() - begun - encoder.conversion_seconds)


def survey(
    checkpoint: Checkpoint, corpus: AnyCorpus | SharedCorpus, settings: EmbedSettings, cache: VectorCache
) -> tuple[int, int]:
    """How many distinct texts a corpus has, and of how many of them the cache holds all vectors."""
    stores = [cache.space(space_of(checkpoint, p, settings)) for p in settings.poolings]
    texts = cached = 0
    for bucket in corpus.buckets():
        keys = encoder_keys(bucket, settings)
        distinct = keys[distinct_keys(keys)[0]]
        found = [store.lookup(distinct, with_vectors=False).found for store in stores]
        texts, cached = texts + len(distinct), cached + int(np.logical_and.reduce(found).sum())
    return texts, cached


def shards_holding(corpus: AnyCorpus, store: SpaceStore, settings: EmbedSettings) -> list[str]:
    """The shards that hold the vectors of a corpus now, sorted."""
    found: set[str] = set()
    for bucket in corpus.buckets():
        found.update(store.lookup(encoder_keys(bucket, settings), with_vectors=False).shards)
    return sorted(found)


def encoder_keys(bucket: Bucket, settings: EmbedSettings) -> NDArray[np.uint8]:
    """Keys of the texts as the encoder sees them, with their prefix: uint8 (n, 32)."""
    return text_keys(bucket.texts, prefix=settings.prefix) if settings.prefix else bucket.keys


def _add(
    before: Outcome | None, embedded: Embedded, bucket: Bucket, corpus: AnyCorpus | SharedCorpus, checkpoint: Checkpoint
) -> Outcome:
    """The account with one more bucket."""
    facts = {
        p: token_facts(embedded.tokens, bucket.labels, corpus.classes, space=store.space, checkpoint=checkpoint)
        for p, store in embedded.stores.items()
    }
    if before is None:
        return Outcome(
            stores=embedded.stores,
            shards={p: list(shards) for p, shards in embedded.shards.items()},
            facts=facts,
            distinct=embedded.distinct,
            cached=embedded.cached,
            computed=embedded.computed,
            arithmetic=embedded.arithmetic,
            seconds=embedded.seconds,
        )
    return Outcome(
        stores=before.stores,
        shards={p: sorted({*before.shards[p], *shards}) for p, shards in embedded.shards.items()},
        facts={p: add_facts([before.facts[p], own]) for p, own in facts.items()},
        distinct=before.distinct + embedded.distinct,
        cached=before.cached + embedded.cached,
        computed=before.computed + embedded.computed,
        arithmetic=before.arithmetic or embedded.arithmetic,
        seconds=before.seconds + embedded.seconds,
    )


class _OneEncoder:
    """Loads the encoder when the first bucket needs it, once for all of them."""

    def __init__(self, checkpoint: Checkpoint, settings: EmbedSettings, cache: VectorCache, listener: Listener) -> None:
        self._checkpoint, self._settings, self._cache, self._listener = checkpoint, settings, cache, listener
        self._encoder: Encoder | None = None
        self.conversion_seconds = 0.0

    def load(self) -> Encoder:
        if self._encoder is None:
            note = self._listener.note
            self._encoder = Encoder(self._checkpoint, self._settings, cache_folder=self._cache.folder, note=note)
            self.conversion_seconds = self._encoder.conversion_seconds
        return self._encoder


class _Whole(Listener):
    """Tells of all buckets as if they were one.

    Attributes
    ----------
    before
        Texts computed in the buckets before this one.
    """

    def __init__(self, listener: Listener, cached: int, distinct: int) -> None:
        self._listener, self._missing, self._arithmetic = listener, distinct - cached, False
        self.before = 0
        listener.started(cached, distinct)

    def computing(self, arithmetic: Arithmetic) -> None:
        if not self._arithmetic:
            self._listener.computing(arithmetic)
        self._arithmetic = True

    def progress(self, done: int, total: int) -> None:  # noqa: ARG002  of one bucket
        self._listener.progress(self.before + done, max(self._missing, self.before + done))

    def note(self, line: str) -> None:
        self._listener.note(line)
