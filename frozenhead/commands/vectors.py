"""Between a command and the vectors it needs: embed what is missing, said aloud, or read what a run has pinned."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import Space, SpaceStore, VectorCache, text_keys
from frozenhead.cache.keys import KEY_BYTES
from frozenhead.commands.voice import Advance, Voice
from frozenhead.embedder import (
    Arithmetic,
    Checkpoint,
    Embedded,
    EmbedSettings,
    Listener,
    decide,
    embed_texts,
)
from frozenhead.errors import CacheDamaged, RunDamaged, StorageError
from frozenhead.runs import Run

if TYPE_CHECKING:
    import pandas as pd


def embed_aloud(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    keys: NDArray[np.uint8] | None = None,
    settings: EmbedSettings,
    cache: VectorCache,
    voice: Voice,
) -> Embedded:
    """`embed_texts` with a line about what is cached and a bar for what is not."""

    with voice.bar(checkpoint.name, unit="texts") as advance:
        encoder = f"{checkpoint.name} ({', '.join(settings.poolings)}; {decide(settings, checkpoint).precision})"
        listener = _Teller(voice, advance, encoder)
        return embed_texts(checkpoint, texts, keys=keys, settings=settings, cache=cache, listener=listener)


class _Teller(Listener):
    """Tells a voice what goes on."""

    def __init__(self, voice: Voice, advance: Advance, encoder: str) -> None:
        self._voice, self._advance, self._encoder = voice, advance, encoder

    def started(self, cached: int, distinct: int) -> None:
        if cached == distinct:
            self._voice.say(f"all {distinct:,} texts cached; no forward pass")
        elif cached:
            self._voice.say(f"resuming: {cached:,} of {distinct:,} texts cached, {distinct - cached:,} to embed")
        else:
            self._voice.say(f"embedding {distinct:,} texts with {self._encoder}")

    def computing(self, arithmetic: Arithmetic) -> None:
        self._voice.say(str(arithmetic))

    def progress(self, done: int, total: int) -> None:
        self._advance(done, total)

    def note(self, line: str) -> None:
        self._voice.say(line)


def run_vectors(
    run: Run, record: dict[str, Any], corpus: "pd.DataFrame", *, name: str, cache_dir: Path | None
) -> NDArray[Any]:
    """The vectors of a run's rows, from the shards that the run has pinned: (N, D) of the stored dtype.

    Raises
    ------
    CacheDamaged
        A pinned shard or a vector is missing.
    """
    store = feature_store(record, name=name, cache_dir=cache_dir)
    keys = (
        text_keys(corpus["text"], prefix=store.space.prefix)
        if store.space.prefix
        else np.frombuffer(b"".join(corpus["key"]), np.uint8).reshape(-1, KEY_BYTES)
    )
    try:
        lookup = store.lookup(keys, shards=record["shards"])
    except CacheDamaged:
        record, old = run.features().get(name, record), record["shards"]
        if record["shards"] == old:
            raise
        lookup = store.lookup(keys, shards=record["shards"])  # `cache compact` has merged them since they were listed
    if lookup.vectors is None or not lookup.found.all():
        raise CacheDamaged(
            f"{int((~lookup.found).sum()):,} vectors of {name} are not in the shards that the run uses.\n"
            "Run the same `frozenhead embed` command again."
        )
    note_pin(store, run.feature_path(name), record["shards"])  # again: the run may have been moved
    return lookup.vectors


def note_pin(store: SpaceStore, holder: Path, shards: Sequence[str]) -> None:
    """Let `cache prune` and `compact` know that a run refers to these shards, where the cache can be written."""
    with suppress(StorageError):  # nobody prunes what nobody can write
        store.refer(holder, shards)


def write_pinned(run: Run, record: dict[str, Any], *, name: str, store: SpaceStore, keys: NDArray[np.uint8]) -> None:
    """Write a feature set and note its shards; `record` gets others if `cache compact` merged some meanwhile."""
    for _ in range(3):
        run.write_feature(name, record)  # first: a pin counts only when its run names the space
        note_pin(store, run.feature_path(name), record["shards"])
        if set(record["shards"]) <= set(store.pin()):
            return
        record["shards"] = list(store.lookup(keys, with_vectors=False).shards)


def feature_store(record: dict[str, Any], *, name: str, cache_dir: Path | None) -> SpaceStore:
    """The store of a feature set of a run. Raises `RunDamaged` if the record does not hold together."""
    space = recorded_space(record, name)
    return VectorCache(cache_dir or record["cache"]).space(space)


def recorded_space(record: dict[str, Any], name: str) -> Space:
    """The space that a record describes, checked against the id beside it."""
    try:
        space = Space.from_dict(record["identity"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDamaged(f"The space of {name} cannot be read ({error}). Run `frozenhead embed` again.") from error
    if space.id != record["space"]:
        raise RunDamaged(f"The space of {name} does not match its id. Run `frozenhead embed` again.")
    return space
