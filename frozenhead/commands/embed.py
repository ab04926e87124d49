"""`embed`: read, check and split labelled texts, and compute the vectors that the cache lacks."""

import dataclasses
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from frozenhead.cache import Space, VectorCache
from frozenhead.commands.embedding import (
    AnyCorpus,
    Outcome,
    embed_corpus,
    encoder_keys,
    open_corpus,
    shards_holding,
    survey,
)
from frozenhead.commands.fleet import embed_by_ray, embed_share, job_note
from frozenhead.commands.lengths import settle_length
from frozenhead.commands.options import DEFAULT_MODEL, EmbedOptions
from frozenhead.commands.vectors import recorded_space, write_pinned
from frozenhead.commands.views import ViewWork, embed_views, plan_views, sound_views
from frozenhead.commands.voice import Silence, Voice
from frozenhead.corpus import Corpus
from frozenhead.embedder import Checkpoint, find_checkpoint, follow_folder, space_of
from frozenhead.embedder.modules import MODULES
from frozenhead.embedder.pooling import Pooling
from frozenhead.embedder.settings import AUTO
from frozenhead.errors import RunDamaged, UsageError
from frozenhead.files import check_writable
from frozenhead.runs import FEATURE_FORMAT, SPLITS, Run, check_place
from frozenhead.tables import in_parts, same_values

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
    check_place(options.out)
    with open_corpus(options) as corpus:
        return _embed(options, corpus, voice or Silence())


def _embed(options: EmbedOptions, corpus: AnyCorpus, voice: Voice) -> dict[str, Any]:
    for note in corpus.notes:
        voice.say(note)
    checkpoint = find_checkpoint(options.model, revision=options.revision)
    cache = VectorCache(options.cache_dir)
    job = job_note(cache, options, corpus)
    options = _follow_aloud(options, checkpoint, voice)
    run = _same_run(options, corpus) if options.worker is None else None  # a worker makes none
    options = settle_length(options, checkpoint, corpus, run, voice)
    there = run.features(damaged="skip") if run else {}  # a damaged one is about to be written anew
    names = _feature_names(options, checkpoint, there)
    if options.worker is not None:
        return embed_share(
            options, options.worker, checkpoint=checkpoint, corpus=corpus, job=job, cache=cache, voice=voice
        )
    work = _plan_views(options, corpus, checkpoint, {name: there[name] for name in names.values() if name in there})
    if options.dry_run:
        return _dry_run(options, corpus, checkpoint, cache, work)
    check_writable(options.out)
    spaces = [space_of(checkpoint, pooling, options.settings) for pooling in names]
    if remark := job.difference(spaces):
        voice.say(remark)
    embedded, engine = _fill(options, checkpoint, corpus, cache, voice)
    if run is None:  # only now: until the vectors are there, --overwrite has taken nothing away
        run = Run.create(options.out, info=_run_info(options, corpus), corpus=corpus.tables())
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


def _fill(
    options: EmbedOptions, checkpoint: Checkpoint, corpus: AnyCorpus, cache: VectorCache, voice: Voice
) -> tuple[Outcome, dict[str, Any] | None]:
    """Compute what the cache lacks, here or by Ray; what Ray did in the latter case."""
    if options.ray is not None:
        return embed_by_ray(options, options.ray, checkpoint=checkpoint, corpus=corpus, cache=cache, voice=voice)
    settings, devices = options.settings, options.devices
    return embed_corpus(checkpoint, corpus, settings=settings, cache=cache, voice=voice, devices=devices), None


def _write_feature(
    run: Run,
    name: str,
    embedded: Outcome,
    pooling: Pooling,
    *,
    options: EmbedOptions,
    corpus: AnyCorpus,
    checkpoint: Checkpoint,
    cache: VectorCache,
) -> None:
    """Write a feature set, and pin its shards. Dropout views that it has already stay."""
    store = embedded.stores[pooling]
    old = run.features(damaged="skip").get(name, {})
    record = {
        **_feature_identity(options, checkpoint, store.space),
        "cache": cache.location,
        "shards": embedded.shards[pooling],
        "rows": corpus.rows,
        "distinct": embedded.distinct,
        "auto_length": options.auto_length,
        **embedded.facts[pooling],
    }
    views = [entry for _, entry in sound_views(old, name)] if old.get("space") == store.space.id else []
    if views:
        record["views"] = views

    def holding() -> list[str]:
        return shards_holding(corpus, store, options.settings)

    write_pinned(run, record, name=name, store=store, holding=holding)


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


def _plan_views(
    options: EmbedOptions, corpus: AnyCorpus, checkpoint: Checkpoint, there: dict[str, dict[str, Any]]
) -> ViewWork | None:
    if not isinstance(corpus, Corpus):  # whose views were refused
        return None
    (bucket,) = corpus.buckets()
    keys = encoder_keys(bucket, options.settings)
    return plan_views(options, checkpoint, texts=corpus.texts, keys=keys, splits=corpus.splits, there=there)


def _same_run(options: EmbedOptions, corpus: AnyCorpus) -> Run | None:
    """The run that stands in `out` if it holds these very rows; None if there is none or it is to be replaced."""
    if options.overwrite or not Run.is_run(options.out):
        return None
    run = Run.open(options.out)
    names = {"key": "text", "label": "label", "split": "split"}  # equal keys are equal texts
    stored = run.corpus_rows()
    if stored == corpus.rows:
        given = (table.select(list(names)) for table in corpus.tables())
        differing = {
            name
            for ours, theirs in zip(in_parts(run.corpus_parts(list(names))), in_parts(given), strict=True)
            for name in names
            if not same_values(ours[name], theirs[name])
        }
        if not differing:
            return run
        what = f"another {' and '.join(what for name, what in names.items() if name in differing)} in some rows"
    else:
        what = f"{stored} rows, not {corpus.rows}"
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


def _run_info(options: EmbedOptions, corpus: AnyCorpus) -> dict[str, Any]:
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


def _split_counts(corpus: AnyCorpus) -> dict[str, int]:
    return dict(zip(SPLITS, corpus.counts.sum(axis=1).tolist(), strict=True))


def _counts(corpus: AnyCorpus, distinct: int) -> dict[str, Any]:
    return {
        "rows": corpus.rows,
        "distinct": distinct,
        "classes": corpus.classes,
        "class_weights": _balanced_weights(corpus),
        "splits": _split_counts(corpus),
        "split_rule": corpus.split_rule,
        "sources": corpus.sources,
        "columns": corpus.columns,
    }


def _balanced_weights(corpus: AnyCorpus) -> dict[str, float]:
    """As `balanced_weights` of the report, whose room would load matplotlib: n / (K n_c) of the training rows."""
    if corpus.labels is None:
        return {}
    counts = corpus.counts[SPLITS.index("train")]  # (K,)
    return dict(zip(corpus.classes, (counts.sum() / (len(counts) * counts)).tolist(), strict=True))


def _dry_run(
    options: EmbedOptions, corpus: AnyCorpus, checkpoint: Checkpoint, cache: VectorCache, work: ViewWork | None
) -> dict[str, Any]:
    distinct, cached = survey(checkpoint, corpus, options.settings, cache)
    return {
        "run": str(options.out),
        **_counts(corpus, distinct),
        "dry_run": True,
        "max_length": space_of(checkpoint, options.settings.poolings[0], options.settings).max_length,
        "cached": cached,
        "to_embed": distinct - cached,
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
