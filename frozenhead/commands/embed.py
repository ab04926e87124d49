"""`embed`: read, check and split labelled texts, and compute the vectors that the cache lacks."""

import dataclasses
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import Space, VectorCache, distinct_keys, text_keys
from frozenhead.commands.fleet import embed_by_ray, embed_share, job_note, read_corpus
from frozenhead.commands.lengths import settle_length, token_facts
from frozenhead.commands.options import DEFAULT_MODEL, EmbedOptions
from frozenhead.commands.vectors import embed_aloud, recorded_space, write_pinned
from frozenhead.commands.views import ViewWork, embed_views, plan_views, sound_views
from frozenhead.commands.voice import Silence, Voice
from frozenhead.corpus import Corpus
from frozenhead.embedder import Checkpoint, Embedded, find_checkpoint, follow_folder, space_of
from frozenhead.embedder.modules import MODULES
from frozenhead.embedder.pooling import Pooling
from frozenhead.embedder.settings import AUTO
from frozenhead.errors import RunDamaged, UsageError
from frozenhead.files import check_writable
from frozenhead.runs import FEATURE_FORMAT, SPLITS, Run, check_place, same_values

_E5 = re.compile(r"(^|[-_])e5([-_]|$)")

_VERSIONS = ("frozenhead", "torch", "transformers", "tokenizers", "safetensors", "scikit-learn", "numpy", "pandas")


def embed(options: EmbedOptions, voice: Voice | None = None) -> dict[str, Any]:
    """Embed a corpus into a run.

    Returns
    -------
    dict
        run, rows, distinct, splits, classes, and for each feature set its space and truncation;
        how many texts were cached and how many computed, on what, in how many seconds; and `views`, the dropout views
        asked for, if any: their seed, training rows, and how many passes of single texts were cached and computed.

        Of a worker: what `embed_share` returns.

    Raises
    ------
    FrozenheadError
        See `frozenhead.errors` for the tree. Vectors that were committed stay in the cache.
    """
    voice = voice or Silence()
    check_place(options.out)
    corpus = read_corpus(options)
    for note in corpus.notes:
        voice.say(note)
    checkpoint = find_checkpoint(options.model, revision=options.revision)
    cache = VectorCache(options.cache_dir)
    job = job_note(cache, options, corpus)
    options = _follow_aloud(options, checkpoint, voice)
    run = _same_run(options, corpus)
    options = settle_length(options, checkpoint, corpus.texts, run, voice)
    there = run.features(damaged="skip") if run else {}  # a damaged one is about to be written anew
    names = _feature_names(options, checkpoint, there)
    keys = _encoder_keys(options, corpus)
    if options.worker is not None:
        return embed_share(
            options, options.worker, checkpoint=checkpoint, corpus=corpus, keys=keys, job=job, cache=cache, voice=voice
        )
    asked = {name: there[name] for name in names.values() if name in there}
    work = plan_views(options, checkpoint, texts=corpus.texts, keys=keys, splits=corpus.splits, there=asked)
    if options.dry_run:
        return _dry_run(options, corpus, checkpoint, cache, work)
    check_writable(options.out)
    spaces = [space_of(checkpoint, pooling, options.settings) for pooling in names]
    if remark := job.difference(spaces):
        voice.say(remark)
    if options.ray is not None:
        embedded, engine = embed_by_ray(
            options, options.ray, checkpoint=checkpoint, corpus=corpus, keys=keys, cache=cache, voice=voice
        )
    else:
        engine = None
        embedded = embed_aloud(
            checkpoint, corpus.texts, keys=keys, settings=options.settings, cache=cache, voice=voice,
            devices=options.devices,
        )  # fmt: skip
    if run is None:  # only now: until the vectors are there, --overwrite has taken nothing away
        run = Run.create(options.out, info=_run_info(options, corpus), corpus=corpus.table)
    for pooling, name in names.items():
        _write_feature(run, name, embedded, pooling, options=options, corpus=corpus, checkpoint=checkpoint, cache=cache)
    job.conclude(spaces)
    views = embed_views(run, work, names, cache, voice) if work else None
    records = run.features(damaged="skip")
    return {
        "run": str(options.out),
        **_counts(corpus, embedded.distinct),
        "cached": embedded.cached,
        "computed": embedded.computed,
        "arithmetic": dataclasses.asdict(embedded.arithmetic) if embedded.arithmetic else None,
        "seconds": round(embedded.seconds, 3),
        **({"ray": engine} if engine else {}),
        "views": views,
        "features": {
            name: {
                **{k: records[name][k] for k in ("space", "dim", "max_length", "auto_length", "truncation")},
                "views": len(records[name].get("views", [])),
            }
            for name in names.values()
        },
    }


def _write_feature(
    run: Run,
    name: str,
    embedded: Embedded,
    pooling: Pooling,
    *,
    options: EmbedOptions,
    corpus: Corpus,
    checkpoint: Checkpoint,
    cache: VectorCache,
) -> None:
    """Write a feature set, and pin its shards. Dropout views that it has already stay."""
    store = embedded.stores[pooling]
    old = run.features(damaged="skip").get(name, {})
    record = {
        **_feature_identity(options, checkpoint, store.space),
        "cache": str(cache.folder.resolve()),
        "shards": list(embedded.shards[pooling]),
        "rows": len(embedded.keys),
        "distinct": embedded.distinct,
        "auto_length": options.auto_length,
        **token_facts(embedded.tokens, corpus, store.space, checkpoint),
    }
    views = [entry for _, entry in sound_views(old, name)] if old.get("space") == store.space.id else []
    if views:
        record["views"] = views
    write_pinned(run, record, name=name, store=store, keys=embedded.keys)


def _follow_aloud(options: EmbedOptions, checkpoint: Checkpoint, voice: Voice) -> EmbedOptions:
    """The options with pooling `auto` decided and told of, and a word about a prefix that is missing."""
    settings = follow_folder(options.settings, checkpoint)
    if options.settings.poolings == AUTO:
        source = MODULES if checkpoint.modules else "a trained pooler" if checkpoint.has_pooler else "no trained pooler"
        taken = [*settings.poolings, *(["normalized"] if settings.normalize else [])]
        taken += [f"max_length {settings.max_length}"] if settings.max_length else []
        taken += [f"prefix {settings.prefix!r}"] if settings.prefix else []
        voice.say(f"pooling auto: {', '.join(taken)} ({source})")
    if not settings.prefix and _E5.search(checkpoint.name.lower()):
        voice.say(
            f"{checkpoint.name}: E5 encoders were trained with a prefix before every text; try --prefix 'query: '"
        )
    return dataclasses.replace(options, settings=settings)


def _encoder_keys(options: EmbedOptions, corpus: Corpus) -> NDArray[np.uint8]:
    """Keys of the texts as the encoder sees them, with their prefix: uint8 (N, 32)."""
    prefix = options.settings.prefix
    return text_keys(corpus.texts, prefix=prefix) if prefix else corpus.keys


def _same_run(options: EmbedOptions, corpus: Corpus) -> Run | None:
    """The run that stands in `out` if it holds these very rows; None if there is none or it is to be replaced."""
    if options.overwrite or not Run.is_run(options.out):
        return None
    run = Run.open(options.out)
    names = {"key": "text", "label": "label", "split": "split"}  # equal keys are equal texts
    stored, given = run.corpus_table(list(names)), corpus.table
    if len(stored) == len(given):
        differing = [what for name, what in names.items() if not same_values(stored[name], given[name])]
        if not differing:
            return run
        what = f"another {' and '.join(differing)} in some rows"
    else:
        what = f"{len(stored)} rows, not {len(given)}"
    raise UsageError(
        f"The run {options.out} holds {what}. Choose another --out, "
        "or pass --overwrite to replace it with its heads and reports (cached vectors stay)."
    )


def _feature_names(
    options: EmbedOptions, checkpoint: Checkpoint, there: dict[str, dict[str, Any]]
) -> dict[Pooling, str]:
    """Name of the feature set of each pooling; a name that means another space in this run is refused."""
    names: dict[Pooling, str] = {}
    for pooling in options.settings.poolings:
        space = space_of(checkpoint, pooling, options.settings)
        name = f"{options.name or checkpoint.name}.{pooling}{f'.layer{space.layer}' if space.layer != -1 else ''}"
        difference = _difference(there[name], space, name) if name in there else None
        if difference:
            raise UsageError(
                f"{name} in {options.out} is another space: it has {difference}.\n"
                f"Keep both with --name {checkpoint.name}-2 or the like, or start anew with --overwrite."
            )
        names[pooling] = name
    return names


def _difference(record: dict[str, Any], space: Space, name: str) -> str | None:
    """How a recorded space differs from another, for people; None if it does not, or is damaged and no loss."""
    if record["space"] == space.id:
        return None
    try:
        return recorded_space(record, name).difference(space)
    except RunDamaged:
        return None


def _run_info(options: EmbedOptions, corpus: Corpus) -> dict[str, Any]:
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": options.command,
        "recipe": options.recipe,
        "sources": corpus.sources,
        "columns": corpus.columns,
        "classes": corpus.classes,
        "split": {"rule": corpus.split_rule, "counts": _split_counts(corpus)},
        "options": {
            **dataclasses.asdict(options.corpus),
            "max_length": options.settings.max_length,
            "long": options.settings.long,
        },
        "versions": {**{name: version(name) for name in _VERSIONS}, "python": platform.python_version()},
    }


def _split_counts(corpus: Corpus) -> dict[str, int]:
    return dict(zip(SPLITS, np.bincount(corpus.splits, minlength=len(SPLITS)).tolist(), strict=True))


def _counts(corpus: Corpus, distinct: int) -> dict[str, Any]:
    return {
        "rows": len(corpus.texts),
        "distinct": distinct,
        "classes": corpus.classes,
        "class_weights": _balanced_weights(corpus),
        "splits": _split_counts(corpus),
        "split_rule": corpus.split_rule,
        "sources": corpus.sources,
        "columns": corpus.columns,
    }


def _balanced_weights(corpus: Corpus) -> dict[str, float]:
    """As `balanced_weights` of the report, whose room would load matplotlib: n / (K n_c) of the training rows."""
    if corpus.labels is None:
        return {}
    counts = np.bincount(corpus.labels[corpus.splits == SPLITS.index("train")], minlength=len(corpus.classes))  # (K,)
    return dict(zip(corpus.classes, (counts.sum() / (len(counts) * counts)).tolist(), strict=True))


def _dry_run(
    options: EmbedOptions, corpus: Corpus, checkpoint: Checkpoint, cache: VectorCache, work: ViewWork | None
) -> dict[str, Any]:
    keys = _encoder_keys(options, corpus)
    distinct = keys[distinct_keys(keys)[0]]
    stores = [cache.space(space_of(checkpoint, p, options.settings)) for p in options.settings.poolings]
    present = np.logical_and.reduce([s.lookup(distinct, with_vectors=False).found for s in stores])
    cached = int(present.sum())
    counts = _counts(corpus, len(distinct))
    return {
        "run": str(options.out),
        **counts,
        "dry_run": True,
        "max_length": stores[0].space.max_length,
        "cached": cached,
        "to_embed": len(distinct) - cached,
        "views": work.facts(work.missing(cache)) if work else None,
    }


def _feature_identity(options: EmbedOptions, checkpoint: Checkpoint, space: Space) -> dict[str, Any]:
    """The part of `features/<name>.json` that says what the vectors are; docs/run-folder.md explains each field."""
    by_name = checkpoint.commit is not None or options.model == DEFAULT_MODEL
    return {
        "format": FEATURE_FORMAT,
        "space": space.id,
        "identity": space.to_dict(),
        "encoder": {
            "name": options.name or checkpoint.name,
            "model": options.model if by_name else str(checkpoint.folder.resolve()),
            "revision": options.revision,
            "commit": checkpoint.commit,
        },
        "pooling": space.pooling,
        "max_length": space.max_length,
        "dim": space.dim,
    }
