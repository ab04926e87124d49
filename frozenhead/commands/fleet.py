"""`embed` by many: a share of the keys, as `--worker I/N` embeds it, or all of them by Ray.

A worker makes no run. Ray fills the cache, and the run is then made in the ordinary way, of vectors that are all there.
"""

import dataclasses
import json
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import SpaceStore, VectorCache, distinct_keys
from frozenhead.commands.options import EmbedOptions
from frozenhead.commands.vectors import Teller, embed_aloud
from frozenhead.commands.voice import Voice
from frozenhead.corpus import Corpus, load_corpus
from frozenhead.embedder import Checkpoint, Embedded, decide, space_of
from frozenhead.errors import FleetError
from frozenhead.files import make_folder, write_file
from frozenhead.fleet import JobNote, RayOptions, RayWork, Share, embed_with_ray
from frozenhead.fleet.sources import local_copy
from frozenhead.texts import Chosen

_LISTED = 5  # keys in a message
_SHOWN = 80  # characters of a text in the list of those that failed


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


def read_corpus(options: EmbedOptions) -> Corpus:
    """`load_corpus`, also of URLs: they are copied for the time of reading, and named as sources all the same."""
    with ExitStack() as stack:
        given = {"data": options.data, "val": options.corpus.val, "test": options.corpus.test}
        here = {role: stack.enter_context(local_copy(path)) if path else path for role, path in given.items()}
        corpus = load_corpus(
            here["data"] or "", dataclasses.replace(options.corpus, val=here["val"], test=here["test"])
        )
    return dataclasses.replace(corpus, sources=[{**s, "path": given[str(s["role"])] or ""} for s in corpus.sources])


def embed_by_ray(
    options: EmbedOptions,
    ray: RayOptions,
    *,
    checkpoint: Checkpoint,
    corpus: Corpus,
    keys: NDArray[np.uint8],
    cache: VectorCache,
    voice: Voice,
) -> tuple[Embedded, dict[str, Any]]:
    """Have Ray embed what the cache lacks of a corpus; what it has embedded, and facts about that.

    Raises
    ------
    FleetError
        Some texts could not be embedded. They are listed in a file beside the run; all others are in the cache.
    """
    settings = decide(options.settings, checkpoint)
    first, _ = distinct_keys(keys)
    stores = [cache.space(space_of(checkpoint, pooling, settings)) for pooling in settings.poolings]
    missing = _missing(stores, keys, first)
    work = RayWork()
    if len(missing):
        for store in stores:
            store.check_writable()
        with voice.bar(checkpoint.name, unit="texts") as advance:
            work = embed_with_ray(
                checkpoint, [str(source["path"]) for source in corpus.sources], column=corpus.columns["text"] or "",
                corpus=options.corpus, settings=settings, cache=cache, missing=len(missing), options=ray,
                listener=Teller(voice, advance, checkpoint.name),
            )  # fmt: skip
        left = _missing(stores, keys, first)
        if len(left) and work.errors:
            raise _failed(options, work, corpus, keys, left, done=len(missing) - len(left))
        if len(left):
            voice.say(f"{len(left):,} texts that Ray's reader reads otherwise are embedded here")
    embedded = embed_aloud(checkpoint, corpus.texts, keys=keys, settings=settings, cache=cache, voice=voice)
    facts = {
        "workers": work.workers,
        "arithmetic": work.arithmetic,
        "startup_seconds": round(work.startup_seconds, 3),
        "seconds": round(work.seconds, 3),
    }
    embedded = dataclasses.replace(
        embedded,
        cached=len(first) - len(missing),
        computed=len(missing),
        seconds=embedded.seconds + work.seconds,
    )
    return embedded, facts


def _missing(stores: Sequence[SpaceStore], keys: NDArray[np.uint8], first: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rows of the distinct keys, `first`, that some space lacks."""
    found = [store.lookup(keys[first], with_vectors=False).found for store in stores]
    present: NDArray[np.bool_] = np.logical_and.reduce(found)
    return first[~present]


def _failed(
    options: EmbedOptions,
    work: RayWork,
    corpus: Corpus,
    keys: NDArray[np.uint8],
    left: NDArray[np.intp],
    *,
    done: int,
) -> FleetError:
    """The texts that could not be embedded: the first here, all in a file."""
    path = options.out.with_name(f"{options.out.name}.failed.jsonl")
    lines = (
        json.dumps({"row": int(row), "key": keys[row].tobytes().hex(), "text": corpus.texts[int(row)][:_SHOWN]})
        for row in left
    )
    make_folder(path.parent)
    write_file(path, "".join(f"{line}\n" for line in lines).encode())
    some = ", ".join(f"{keys[row].tobytes().hex()[:12]} (row {row:,})" for row in left[:_LISTED])
    more = ", ..." if len(left) > _LISTED else ""
    return FleetError(
        f"{len(left):,} texts could not be embedded, {done:,} were and are kept. Why: {'; '.join(work.errors[:3])}\n"
        f"Their keys: {some}{more}; all are in {path}.\n"
        "Run the same command again, or drop these rows; no run was made."
    )
