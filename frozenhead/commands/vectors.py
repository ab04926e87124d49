"""Between a command and the vectors it needs: embed what is missing, said aloud, or read what a run has pinned."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import Lookup, Space, SpaceStore, VectorCache, text_keys
from frozenhead.cache.keys import KEY_BYTES
from frozenhead.cache.space import View
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
from frozenhead.fleet import embed_on_devices
from frozenhead.runs import Run

if TYPE_CHECKING:
    import pandas as pd


ROWS_AT_ONCE = 2**14


def embed_aloud(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    keys: NDArray[np.uint8] | None = None,
    settings: EmbedSettings,
    cache: VectorCache,
    voice: Voice,
    devices: Sequence[str] = (),
) -> Embedded:
    """`embed_texts` with a line about what is cached and a bar for what is not; on several devices, as processes."""
    with voice.bar(checkpoint.name, unit="texts") as advance:
        listener = teller(voice, advance, checkpoint, settings)
        if devices:
            keys = text_keys(texts, prefix=settings.prefix or "") if keys is None else keys
            return embed_on_devices(
                checkpoint, texts, keys=keys, settings=settings, devices=devices, cache=cache, listener=listener
            )
        return embed_texts(checkpoint, texts, keys=keys, settings=settings, cache=cache, listener=listener)


def teller(voice: Voice, advance: Advance, checkpoint: Checkpoint, settings: EmbedSettings) -> Listener:
    """A listener that tells a voice what goes on, and moves its bar."""
    encoder = f"{checkpoint.name} ({', '.join(settings.poolings)}; {decide(settings, checkpoint).precision})"
    return _Teller(voice, advance, encoder)


class _Teller(Listener):
    """Tells a voice what goes on."""

    def __init__(self, voice: Voice, advance: Advance, encoder: str) -> None:
        self._voice, self._advance, self._encoder = voice, advance, encoder

    def started(self, cached: int, distinct: int) -> None:
        if cached == distinct:
            self._voice.say(f"{_all(distinct)} cached; no forward pass")
        elif cached:
            self._voice.say(f"resuming: {cached:,} of {distinct:,} texts cached, {distinct - cached:,} to embed")
        else:
            self._voice.say(f"embedding {distinct:,} text{'' if distinct == 1 else 's'} with {self._encoder}")

    def computing(self, arithmetic: Arithmetic) -> None:
        self._voice.say(str(arithmetic))

    def progress(self, done: int, total: int) -> None:
        self._advance(done, total)

    def note(self, line: str) -> None:
        self._voice.say(line)


def _all(distinct: int) -> str:
    return "the text is" if distinct == 1 else f"all {distinct:,} texts"


def run_vectors(
    run: Run, record: dict[str, Any], corpus: "pd.DataFrame", *, name: str, cache_dir: str | Path | None
) -> NDArray[Any]:
    """The vectors of a run's rows, from the shards that the run has pinned: (N, D) of the stored dtype.

    Raises
    ------
    CacheDamaged
        A pinned shard or a vector is missing.
    """
    return _pinned_vectors(run, record, _row_keys(corpus, record, name), name=name, cache_dir=cache_dir)


def check_finite(
    run: Run,
    record: dict[str, Any],
    rows: "pd.DataFrame",
    vectors: NDArray[Any],
    *,
    name: str,
    cache_dir: str | Path | None,
) -> None:
    """Raise `CacheDamaged` for a vector of these rows (n, D) that is not finite, naming its row and its shard.

    We write none, so the shard is another's; it is whole by its hash, and only taking it away heals the cache.
    `rows` (n,) has a column `row`, the number in the corpus.
    """
    first = first_not_finite(vectors)
    if first is not None:
        row = int(rows["row"].iloc[first])
        raise not_finite(run, record, row, name=name, cache_dir=cache_dir)


def first_not_finite(vectors: NDArray[Any]) -> int | None:
    """The first row of vectors (n, D) that holds NaN or infinity."""
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        finite = np.isfinite(vectors[start : start + ROWS_AT_ONCE]).all(axis=1)
        if not finite.all():
            return start + int(finite.argmin())
    return None


def not_finite(
    run: Run, record: dict[str, Any], row: int, *, name: str, cache_dir: str | Path | None, view: View | None = None
) -> CacheDamaged:
    """The error for a row of the corpus whose vector is not finite: it names the row and its shard."""
    bad = run.corpus_table(["key", "text"]).slice(row, 1).to_pandas(use_threads=False)
    entry = _entry(run.features().get(name, record), view, name)
    store = VectorCache(cache_dir or record["cache"]).space(recorded_space(entry, name))
    found = store.lookup(_row_keys(bad, record, name), shards=entry["shards"], with_vectors=False)
    return CacheDamaged(
        f"The vector of row {row} in {name}{f', view {view},' if view else ''} holds NaN or "
        f"infinity. It stands in {store.shard(found.shards[0])}.\n"
        "Delete that file and run the same `frozenhead embed` command again."
    )


def view_vectors(
    run: Run, record: dict[str, Any], rows: "pd.DataFrame", *, view: View, name: str, cache_dir: str | Path | None
) -> NDArray[Any]:
    """One view of some training rows of the corpus (n,), from its pinned shards: (n, D) of the stored dtype.

    Raises
    ------
    CacheDamaged
        A pinned shard or a vector is missing.
    """
    keys = _row_keys(rows, record, name)
    return _pinned_vectors(run, record, keys, name=name, cache_dir=cache_dir, view=view)


def view_records(record: Mapping[str, Any], name: str) -> list[tuple[View, dict[str, Any]]]:
    """The dropout views of a feature set, each with its `space`, `identity` and `shards`; checked, by index."""
    entries, found = record.get("views", []), {}
    for entry in entries if isinstance(entries, list) else [entries]:
        space = recorded_space(entry, f"a view of {name}")
        if space.view is None or not isinstance(entry.get("shards"), list):
            raise RunDamaged(f"The views of {name} cannot be read. Run `frozenhead embed` again.")
        found[space.view] = entry
    return sorted(found.items(), key=lambda pair: pair[0].index)


def _row_keys(corpus: "pd.DataFrame", record: dict[str, Any], name: str) -> NDArray[np.uint8]:
    """Keys of the texts as the encoder sees them, with their prefix: uint8 (n, 32)."""
    prefix = recorded_space(record, name).prefix
    if prefix:
        return text_keys(corpus["text"], prefix=prefix)
    return np.frombuffer(b"".join(corpus["key"]), np.uint8).reshape(-1, KEY_BYTES)


def _pinned_vectors(
    run: Run,
    record: dict[str, Any],
    keys: NDArray[np.uint8],
    *,
    name: str,
    cache_dir: str | Path | None,
    view: View | None = None,
) -> NDArray[Any]:
    """Vectors (n, D) of a feature set or of one of its views, from the shards that the run has pinned."""
    look = partial(SpaceStore.lookup, keys=keys)
    return np.asarray(look_up(run, record, look, name=name, cache_dir=cache_dir, view=view).vectors)


def look_up(
    run: Run,
    record: dict[str, Any],
    look: Callable[..., Lookup],
    *,
    name: str,
    cache_dir: str | Path | None,
    view: View | None = None,
) -> Lookup:
    """What `look(store, shards=...)` finds of a feature set or one of its views in the shards that the run has pinned.

    Raises
    ------
    CacheDamaged
        A pinned shard or a vector is missing.
    """
    entry = _entry(record, view, name)
    store = VectorCache(cache_dir or record["cache"]).space(recorded_space(entry, name))
    try:
        lookup = look(store, shards=entry["shards"])
    except CacheDamaged:
        entry, old = _entry(run.features().get(name, record), view, name), entry["shards"]
        if entry["shards"] == old:
            raise
        lookup = look(store, shards=entry["shards"])  # `cache compact` has merged them since they were listed
    if lookup.vectors is None or not lookup.found.all():
        raise CacheDamaged(
            f"{int((~lookup.found).sum()):,} vectors of {name}{f', view {view},' if view else ''} "
            "are not in the shards that the run uses.\nRun the same `frozenhead embed` command again."
        )
    note_pin(store, run.feature_path(name), entry["shards"])  # again: the run may have been moved
    return lookup


def _entry(record: dict[str, Any], view: View | None, name: str) -> dict[str, Any]:
    """Where space and shards stand: in the record itself, or in that of a view."""
    if view is None:
        return record
    entry = dict(view_records(record, name)).get(view)
    if entry is None:
        raise CacheDamaged(f"{name} has no view {view} any more. Run the same `frozenhead embed` command again.")
    return entry


def note_pin(store: SpaceStore, holder: Path, shards: Sequence[str]) -> None:
    """Let `cache prune` and `compact` know that a run refers to these shards, where the cache can be written."""
    with suppress(StorageError):  # nobody prunes what nobody can write
        store.refer(holder, shards)


def write_pinned(
    run: Run,
    record: dict[str, Any],
    *,
    name: str,
    store: SpaceStore,
    holding: Callable[[], Iterable[str]],
    entry: dict[str, Any] | None = None,
) -> None:
    """Write a feature set and note its shards; `record` gets others if `cache compact` merged some meanwhile.

    `holding` says which shards hold its vectors now. With `entry`, which stands in `record`, they are those of a view.
    """
    entry = record if entry is None else entry
    for _ in range(3):
        run.write_feature(name, record)  # first: a pin counts only when its run names the space
        note_pin(store, run.feature_path(name), entry["shards"])
        if set(entry["shards"]) <= set(store.pin()):
            return
        entry["shards"] = list(holding())


def recorded_space(record: Mapping[str, Any], name: str) -> Space:
    """The space that a record describes, checked against the id beside it."""
    try:
        space, known = Space.from_dict(record["identity"]), record["space"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDamaged(f"The space of {name} cannot be read ({error}). Run `frozenhead embed` again.") from error
    if space.id != known:
        raise RunDamaged(f"The space of {name} does not match its id. Run `frozenhead embed` again.")
    return space
