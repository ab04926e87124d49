"""`embed` by many: a share of the keys, as `--worker I/N` embeds it, or all of them by Ray.

A worker makes no run. Ray fills the cache, and the run is then made in the ordinary way, of vectors that are all there.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from frozenhead.cache import VectorCache, distinct_keys
from frozenhead.commands.embedding import AnyCorpus, Outcome, SharedCorpus, embed_corpus, encoder_keys, survey
from frozenhead.commands.options import EmbedOptions
from frozenhead.commands.vectors import teller
from frozenhead.commands.voice import Voice
from frozenhead.embedder import Checkpoint, EmbedSettings, decide, space_of
from frozenhead.errors import FleetError
from frozenhead.files import make_folder, new_file
from frozenhead.fleet import JobNote, RayOptions, RayWork, Share, embed_with_ray

_LISTED = 5  # keys in a message
_SHOWN = 80  # characters of a text in the list of those that failed


def job_note(cache: VectorCache, stated: EmbedOptions, corpus: AnyCorpus) -> JobNote:
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
    corpus: AnyCorpus,
    job: JobNote,
    cache: VectorCache,
    voice: Voice,
) -> dict[str, Any]:
    """Make sure that the cache holds the vectors of one share of a corpus.

    Parameters
    ----------
    options : EmbedOptions
        Decided: nothing is left to `auto` but device and precision.

    Returns
    -------
    dict
        worker, rows (of the corpus), distinct (of the share), cached, computed, spaces, arithmetic, seconds.

    Raises
    ------
    FleetError
        An earlier worker of this job has another space.
    """
    spaces = {pooling: space_of(checkpoint, pooling, options.settings) for pooling in options.settings.poolings}
    facts: dict[str, Any] = {"worker": str(share), "rows": corpus.rows, "spaces": {p: s.id for p, s in spaces.items()}}
    shared = SharedCorpus(corpus, share, options.settings)
    if options.dry_run:
        distinct, cached = survey(checkpoint, shared, options.settings, cache)
        return {**facts, "distinct": distinct, "cached": cached, "to_embed": distinct - cached, "dry_run": True}
    job.agree(list(spaces.values()))
    voice.say(f"worker {share}: its share of {corpus.rows:,} rows; vectors go into the cache, and no run is made")
    embedded = embed_corpus(
        checkpoint, shared, settings=options.settings, cache=cache, voice=voice, devices=options.devices
    )
    return {
        **facts,
        "distinct": embedded.distinct,
        "cached": embedded.cached,
        "computed": embedded.computed,
        "arithmetic": dataclasses.asdict(embedded.arithmetic) if embedded.arithmetic else None,
        "seconds": round(embedded.seconds, 3),
    }


def embed_by_ray(
    options: EmbedOptions,
    ray: RayOptions,
    *,
    checkpoint: Checkpoint,
    corpus: AnyCorpus,
    cache: VectorCache,
    voice: Voice,
) -> tuple[Outcome, dict[str, Any]]:
    """Have Ray embed what the cache lacks of a corpus; what it has embedded, and facts about that.

    Raises
    ------
    FleetError
        Some texts could not be embedded. They are listed in a file beside the run; all others are in the cache.
    """
    settings = decide(options.settings, checkpoint)
    distinct, cached = survey(checkpoint, corpus, settings, cache)
    work, missing = RayWork(), distinct - cached
    if missing:
        for pooling in settings.poolings:
            cache.space(space_of(checkpoint, pooling, settings)).check_writable()
        with voice.bar(checkpoint.name, unit="texts") as advance:
            work = embed_with_ray(
                checkpoint, [str(source["path"]) for source in corpus.sources], column=corpus.columns["text"] or "",
                corpus=options.corpus, settings=settings, cache=cache, missing=missing, options=ray,
                listener=teller(voice, advance, checkpoint, settings),
            )  # fmt: skip
        _, there = survey(checkpoint, corpus, settings, cache)
        if there < distinct and work.errors:
            raise _failed(options, work, _left(checkpoint, corpus, settings, cache), done=there - cached)
        if there < distinct:
            voice.say(f"{distinct - there:,} texts that Ray's reader reads otherwise are embedded here")
    embedded = embed_corpus(checkpoint, corpus, settings=settings, cache=cache, voice=voice)
    _failures_file(options).unlink(missing_ok=True)  # of an earlier try: all texts are there now
    facts = {
        "workers": work.workers,
        "arithmetic": work.arithmetic,
        "startup_seconds": round(work.startup_seconds, 3),
        "seconds": round(work.seconds, 3),
    }
    embedded = dataclasses.replace(
        embedded,
        cached=cached,
        computed=missing,
        seconds=embedded.seconds + work.seconds,
    )
    return embedded, facts


def _left(
    checkpoint: Checkpoint, corpus: AnyCorpus, settings: EmbedSettings, cache: VectorCache
) -> Iterator[tuple[int, str, str]]:
    """Row, key in hex and text of each distinct text of which some space lacks the vector."""
    stores = [cache.space(space_of(checkpoint, pooling, settings)) for pooling in settings.poolings]
    for bucket in corpus.buckets():
        keys = encoder_keys(bucket, settings)
        first, _ = distinct_keys(keys)
        found = [store.lookup(keys[first], with_vectors=False).found for store in stores]
        for row in first[~np.logical_and.reduce(found)]:
            yield (
                int(row if bucket.rows is None else bucket.rows[row]),
                keys[row].tobytes().hex(),
                bucket.texts[int(row)],
            )


def _failures_file(options: EmbedOptions) -> Path:
    return options.out.with_name(f"{options.out.name}.failed.jsonl")


def _failed(options: EmbedOptions, work: RayWork, left: Iterator[tuple[int, str, str]], *, done: int) -> FleetError:
    """The texts that could not be embedded: the first here, all in a file."""
    path = _failures_file(options)
    make_folder(path.parent)
    count, some = 0, []
    with new_file(path) as file:
        for row, key, text in left:
            file.write(json.dumps({"row": row, "key": key, "text": text[:_SHOWN]}).encode() + b"\n")
            if count < _LISTED:
                some.append(f"{key[:12]} (row {row:,})")
            count += 1
    more = ", ..." if count > _LISTED else ""
    return FleetError(
        f"{count:,} texts could not be embedded, {done:,} were and are kept. Why: {'; '.join(work.errors[:3])}\n"
        f"Their keys: {', '.join(some)}{more}; all are in {path}.\n"
        "Run the same command again, or drop these rows; no run was made."
    )
