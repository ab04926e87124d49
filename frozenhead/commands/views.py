"""Dropout views of a run: stochastic passes over its training texts, each a space of its own.

`fit` may train on another view each epoch. Validation and test rows have none: heads are judged, and used, on
eval-mode vectors.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import VectorCache, distinct_keys
from frozenhead.cache.space import View
from frozenhead.commands.options import EmbedOptions
from frozenhead.commands.vectors import view_records, write_pinned
from frozenhead.commands.voice import Advance, Voice
from frozenhead.embedder import Arithmetic, Checkpoint, Embedded, EmbedSettings, Listener, embed_texts, space_of
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.pooling import Pooling
from frozenhead.errors import RunDamaged, UsageError
from frozenhead.runs import SPLITS, Run
from frozenhead.texts import Chosen


@dataclass(frozen=True, kw_only=True)
class ViewWork:
    """The views that an `embed` is to make.

    Parameters
    ----------
    checkpoint : Checkpoint
    settings : EmbedSettings
        Of the eval-mode vectors; all but the view is the same.
    views : tuple of View
    texts : sequence of str (n,)
        Of the training rows.
    keys : uint8 array (n, 32)
    """

    checkpoint: Checkpoint
    settings: EmbedSettings
    views: tuple[View, ...]
    texts: Sequence[str]
    keys: NDArray[np.uint8]

    def facts(self, to_compute: int) -> dict[str, Any]:
        """For the result of `embed`: views, their seed, training rows, and passes of single texts, cached ones too."""
        passes = len(self.views) * len(distinct_keys(self.keys)[0])
        return {
            "views": len(self.views),
            "seed": self.views[0].seed,
            "rows": len(self.keys),
            "passes": passes,
            "cached": passes - to_compute,
        }

    def of_view(self, view: View) -> EmbedSettings:
        """The settings of one view."""
        return dataclasses.replace(self.settings, view=view, backend="torch")

    def missing(self, cache: VectorCache) -> int:
        """Passes that the cache lacks: texts, counted in every view."""
        distinct, lacking = self.keys[distinct_keys(self.keys)[0]], 0
        for view in self.views:
            settings = self.of_view(view)
            stores = [cache.space(space_of(self.checkpoint, p, settings)) for p in settings.poolings]
            found = [store.lookup(distinct, with_vectors=False).found for store in stores]
            lacking += int((~np.logical_and.reduce(found)).sum())
        return lacking


def plan_views(
    options: EmbedOptions,
    checkpoint: Checkpoint,
    *,
    texts: Sequence[str],
    keys: NDArray[np.uint8],
    splits: NDArray[np.int8],
    there: Mapping[str, Mapping[str, Any]],
) -> ViewWork | None:
    """The views asked for; None if there are none.

    Parameters
    ----------
    texts, keys, splits
        Of all rows: (N,), (N, 32), and positions in `SPLITS`, (N,).
    there : dict of name to record
        The feature sets asked for that the run holds already.

    Raises
    ------
    UsageError
        The run holds views of another seed, or no row is a training row.
    """
    if not options.views:
        return None
    rows = np.flatnonzero(splits == SPLITS.index("train"))
    if not len(rows):
        raise UsageError("Dropout views are of training rows, and no row is one. Leave --views out.")
    seed = _seed(options, there)
    return ViewWork(
        checkpoint=checkpoint,
        settings=options.settings,
        views=tuple(View(seed=seed, index=i + 1) for i in range(options.views)),
        texts=Chosen(texts, rows),
        keys=keys[rows],
    )


def _seed(options: EmbedOptions, there: Mapping[str, Mapping[str, Any]]) -> int:
    """The seed asked for, or that of the views that are there, or that of the split."""
    seeds = {name: view.seed for name, record in there.items() for view, _ in sound_views(record, name)}
    wanted = options.view_seed
    if wanted is None:
        wanted = next(iter(seeds.values()), options.corpus.seed)
    for name, seed in seeds.items():
        if seed != wanted:
            raise UsageError(
                f"{name} in {options.out} has dropout views of seed {seed}, not {wanted}.\n"
                f"Go on with --view-seed {seed}, or keep both with another --name, or start anew with --overwrite."
            )
    return wanted


def sound_views(record: Mapping[str, Any], name: str) -> list[tuple[View, dict[str, Any]]]:
    """The views of a feature set that is about to be written anew; damaged ones are no loss."""
    try:
        return view_records(record, name)
    except RunDamaged:
        return []


def embed_views(
    run: Run, work: ViewWork, names: Mapping[Pooling, str], cache: VectorCache, voice: Voice
) -> dict[str, Any]:
    """Compute what the cache lacks, view by view, and note each in the run when it is done; the facts, and seconds."""
    begun = time.perf_counter()
    voice.say(
        f"{len(work.views):,} dropout views (seed {work.views[0].seed}) of the {len(work.keys):,} training rows; "
        "validation and test rows keep eval-mode vectors alone"
    )
    encoder = _OneEncoder(work, cache, voice)
    computed = 0
    for view in work.views:
        with voice.bar(f"view {view.index} of {len(work.views)}", unit="texts") as advance:
            embedded = embed_texts(
                work.checkpoint,
                work.texts,
                keys=work.keys,
                settings=work.of_view(view),
                cache=cache,
                encoder=lambda view=view: encoder.of_view(view),  # type: ignore[misc]
                listener=_Teller(voice, advance),
            )
        computed += embedded.computed
        for pooling, name in names.items():
            _note_view(run, name, embedded, pooling)
    return {**work.facts(computed), "computed": computed, "seconds": round(time.perf_counter() - begun, 3)}


def _note_view(run: Run, name: str, embedded: Embedded, pooling: Pooling) -> None:
    """Add a view to a feature set, or renew it. Its record is read again: `cache compact` may have changed it."""
    store = embedded.stores[pooling]
    entry = {"space": store.space.id, "identity": store.space.to_dict(), "shards": list(embedded.shards[pooling])}
    record = run.features(damaged="skip").get(name)
    if record is None:
        raise RunDamaged(f"{run.feature_path(name)} went while views were computed. Run the same command again.")
    others = [old for _, old in sound_views(record, name) if old["space"] != entry["space"]]
    record["views"] = sorted([*others, entry], key=lambda one: int(one["identity"]["view"]["index"]))

    def holding() -> tuple[str, ...]:
        return store.lookup(embedded.keys, with_vectors=False).shards

    write_pinned(run, record, name=name, store=store, holding=holding, entry=entry)


class _OneEncoder:
    """Loads the encoder when the first view needs it, once for all of them."""

    def __init__(self, work: ViewWork, cache: VectorCache, voice: Voice) -> None:
        self._work, self._cache, self._voice = work, cache, voice
        self._encoder: Encoder | None = None

    def of_view(self, view: View) -> Encoder:
        if self._encoder is None:
            self._encoder = Encoder(self._work.checkpoint, self._work.of_view(view), cache_folder=self._cache.folder)
            self._voice.say(f"dropout views: {self._encoder.arithmetic}")
        return self._encoder.of_view(view)


class _Teller(Listener):
    """Moves a bar, and passes on what people should know."""

    def __init__(self, voice: Voice, advance: Advance) -> None:
        self._voice, self._advance = voice, advance

    def computing(self, arithmetic: Arithmetic) -> None:
        """Said once for all views."""

    def progress(self, done: int, total: int) -> None:
        self._advance(done, total)

    def note(self, line: str) -> None:
        self._voice.say(line)
