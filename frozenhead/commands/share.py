"""`embed --worker I/N`: the keys of one share go into the cache, and no run is made."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import VectorCache, distinct_keys
from frozenhead.commands.options import EmbedOptions
from frozenhead.commands.vectors import embed_aloud
from frozenhead.commands.voice import Voice
from frozenhead.corpus import Corpus
from frozenhead.embedder import Checkpoint, space_of
from frozenhead.fleet import JobNote, Share
from frozenhead.texts import Chosen


def job_note(cache: VectorCache, stated: EmbedOptions, corpus: Corpus) -> JobNote:
    """The note of the job that embeds this corpus with these options, as they were stated.

    The number of workers is not part of it, so that the `embed` that makes the run finds it. Device and backend are
    none either: they may differ, and do not change a space.
    """
    settings = dataclasses.asdict(stated.settings)
    del settings["device"], settings["backend"]
    return JobNote(
        cache,
        {
            "sources": [[source["role"], source["sha256"]] for source in corpus.sources],
            "column": corpus.columns["text"],
            "model": stated.model,
            "revision": stated.revision,
            "settings": settings,
            "auto_length": stated.auto_length,
        },
    )


def embed_share(
    options: EmbedOptions,
    share: Share,
    *,
    checkpoint: Checkpoint,
    corpus: Corpus,
    keys: NDArray[np.uint8],
    job: JobNote,
    cache: VectorCache,
    voice: Voice,
) -> dict[str, Any]:
    """Make sure that the cache holds the vectors of one share of a corpus.

    Parameters
    ----------
    options : EmbedOptions
        Decided: nothing is left to `auto` but device and precision.
    keys : uint8 array (N, 32)
        Of all rows, as the encoder sees them.

    Returns
    -------
    dict
        worker, rows and distinct (of the share), cached, computed, spaces, arithmetic, seconds.

    Raises
    ------
    FleetError
        An earlier worker of this job has another space.
    """
    spaces = {pooling: space_of(checkpoint, pooling, options.settings) for pooling in options.settings.poolings}
    rows = share.rows(keys)
    facts: dict[str, Any] = {"worker": str(share), "rows": len(rows), "spaces": {p: s.id for p, s in spaces.items()}}
    if options.dry_run:
        distinct = keys[rows][distinct_keys(keys[rows])[0]]
        found = [cache.space(space).lookup(distinct, with_vectors=False).found for space in spaces.values()]
        cached = int(np.logical_and.reduce(found).sum())
        counts = {"distinct": len(distinct), "cached": cached, "to_embed": len(distinct) - cached}
        return {**facts, **counts, "dry_run": True}
    job.agree(list(spaces.values()))
    voice.say(f"worker {share}: {len(rows):,} of {len(keys):,} rows; vectors go into the cache, and no run is made")
    embedded = embed_aloud(
        checkpoint, Chosen(corpus.texts, rows), keys=keys[rows], settings=options.settings, cache=cache, voice=voice,
        devices=options.devices,
    )  # fmt: skip
    return {
        **facts,
        "distinct": embedded.distinct,
        "cached": embedded.cached,
        "computed": embedded.computed,
        "arithmetic": dataclasses.asdict(embedded.arithmetic) if embedded.arithmetic else None,
        "seconds": round(embedded.seconds, 3),
    }
