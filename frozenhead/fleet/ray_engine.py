"""Embedding by Ray: its readers, its shuffle, its actors, its retries; and our cache, which makes retries safe.

    read (text column) -> distinct texts, owner -> repartition by owner -> actors embed -> counts

The shuffle ends before the actors begin: it wants the same cores, and what it leaves, blocks that share no text, is
then there to be tried again. Ray moves texts; vectors go from the actors into the cache, and counts come back.
"""

import dataclasses
import functools
import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frozenhead.cache import VectorCache
from frozenhead.corpus import CorpusOptions, Format
from frozenhead.embedder import Checkpoint, EmbedSettings, Listener
from frozenhead.errors import FleetError, FrozenheadError, UsageError
from frozenhead.fleet.ray_actor import OWNER, EmbedActor, owned_texts
from frozenhead.fleet.ray_cluster import Crew, RayOptions, connected, crew_of
from frozenhead.fleet.station import Orders, probe_file

# Of a block: few enough that a count comes now and then and workers end together, many enough to sort by length.
MOST_TEXTS, FEWEST_TEXTS = 2**16, 2**8
BLOCKS_EACH = 4
TASK_RETRIES = 3  # of a block whose process was killed; then it is one that fails for ever
_CSV_BYTES = 8 * 2**20  # no row may be longer
_EXTENSIONS: dict[Format, tuple[str, ...]] = {
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq"),
}


@dataclass(kw_only=True)
class RayWork:
    """What Ray has done.

    Attributes
    ----------
    workers : dict of str to int
        Texts that each process embedded, by `host:pid`.
    arithmetic : list of str
        What they computed with, each once.
    computed : int
    errors : list of str
        Why blocks failed, each reason once.
    startup_seconds, seconds : float
        Until the cluster was there, and from then on.
    """

    workers: dict[str, int] = field(default_factory=dict)
    arithmetic: list[str] = field(default_factory=list)
    computed: int = 0
    errors: list[str] = field(default_factory=list)
    startup_seconds: float = 0.0
    seconds: float = 0.0


def embed_with_ray(
    checkpoint: Checkpoint,
    sources: Sequence[str],
    *,
    column: str,
    corpus: CorpusOptions,
    settings: EmbedSettings,
    cache: VectorCache,
    missing: int,
    options: RayOptions,
    listener: Listener,
) -> RayWork:
    """Make sure that the cache holds the vectors of all texts in some files, folders or URLs, if nothing fails.

    Parameters
    ----------
    sources : sequence of str
    column : str
        Of the texts.
    corpus : CorpusOptions
        Format, encoding and delimiter.
    settings : EmbedSettings
        Everything decided but the device.
    missing : int
        Distinct texts that the cache lacks: they decide how many blocks there are.

    Raises
    ------
    FleetError
        The cluster cannot be reached; a worker does not share the cache, or has other spaces.
    UsageError
        Ray is not installed, or has no reader for a source.
    """
    for source in sources:
        format_of(source, corpus)
    begun, work = time.perf_counter(), RayWork()
    address = options.cluster
    listener.note(f"ray: {f'connecting to {address}' if address else 'starting'}")
    with connected(options, listener.note) as ray, probe_file(cache) as probe, _listening(work):
        work.startup_seconds = time.perf_counter() - begun
        crew = crew_of(ray, options)
        listener.note(_words(crew))
        device = "cuda" if crew.gpus else "cpu"
        orders = Orders.of(checkpoint, dataclasses.replace(settings, device=device), cache, probe=probe)
        texts = _read(ray, sources, column, corpus)
        owned = texts.map_batches(
            functools.partial(owned_texts, column=column, prefix=settings.prefix or ""),
            batch_format="pyarrow", batch_size=None, zero_copy_batch=True,
        )  # fmt: skip
        with _failures():
            count = _blocks(missing, crew)
            blocks = owned.repartition(count, keys=[OWNER]).materialize()
            # Fewer blocks than workers: Ray would start, and warn of, workers that have nothing to do.
            busy = dataclasses.replace(crew, now=min(crew.now, count), asked=min(crew.asked, count))
            _add_up(_embed(ray, blocks, orders, busy), work, missing, listener)
    work.seconds = time.perf_counter() - begun - work.startup_seconds
    return work


def _embed(ray: Any, blocks: Any, orders: Orders, crew: Crew) -> Any:
    """The blocks, handed out to actors: a dataset of counts, computed while it is read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of `ray_remote_args_fn`, before 2.64 has another way
        return blocks.map_batches(
            EmbedActor,
            fn_constructor_args=(dataclasses.asdict(orders), 0 if crew.gpus else crew.cpus),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=crew.cpus,
            num_gpus=crew.gpus or None,
            # One block at a time: one that kills its process would take those that wait there with it.
            compute=ray.data.ActorPoolStrategy(
                min_size=crew.now, max_size=crew.asked, initial_size=crew.now, max_tasks_in_flight_per_actor=1
            ),
            ray_remote_args_fn=_retries,
        )


def _add_up(counts: Any, work: RayWork, missing: int, listener: Listener) -> None:
    """Add up what comes back."""
    listener.progress(0, missing)
    for row in counts.iter_rows():
        _count(row, work, listener)
        listener.progress(min(work.computed, missing), missing)


@contextmanager
def _failures() -> Iterator[None]:
    """Whatever ends Ray's work, as an error of ours: workers that cannot start, above all."""
    try:
        yield
    except FrozenheadError:
        raise
    except Exception as error:  # Ray passes on whatever ended a worker, in kinds that it makes when they are raised
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise FleetError(
            f"Ray cannot go on: {reason}\n"
            "Install the same version of frozenhead on every host. What was embedded is kept."
        ) from error


def _retries() -> dict[str, Any]:
    return {"max_restarts": -1, "max_task_retries": TASK_RETRIES}


def _count(row: Mapping[str, Any], work: RayWork, listener: Listener) -> None:
    if row["refusal"]:
        raise FleetError(str(row["refusal"]))
    if row["error"] and row["error"] not in work.errors:
        work.errors.append(str(row["error"]))
    if row["arithmetic"] and row["arithmetic"] not in work.arithmetic:
        work.arithmetic.append(str(row["arithmetic"]))
        listener.note(str(row["arithmetic"]))
    work.computed += int(row["computed"])
    work.workers[row["worker"]] = work.workers.get(row["worker"], 0) + int(row["computed"])


def _words(crew: Crew) -> str:
    """`ray: 2 workers of 1 CPU`."""
    each = f"{crew.cpus} CPU{'s' if crew.cpus > 1 else ''}{f' and {crew.gpus:g} GPU' if crew.gpus else ''}"
    fewer = f", room for {crew.now} of them now" if crew.now < crew.asked else ""
    return f"ray: {crew.asked} worker{'s' if crew.asked > 1 else ''} of {each}{fewer}"


def _blocks(missing: int, crew: Crew) -> int:
    """How many blocks: some for each worker, none too large, and none too small."""
    most = max(1, math.ceil(missing / FEWEST_TEXTS))
    return max(min(crew.asked * BLOCKS_EACH, most), math.ceil(missing / MOST_TEXTS))


def format_of(source: str, corpus: CorpusOptions) -> Format:
    """What a file or a folder's files are, by option or name. Raises `UsageError` for what Ray has no reader for."""
    if corpus.format:
        return corpus.format
    path = Path(source)
    names = (
        sorted(p.name for p in path.iterdir() if not p.name.startswith((".", "_"))) if path.is_dir() else [path.name]
    )
    kinds = {kind for name in names for kind, ends in _EXTENSIONS.items() if name.removesuffix(".gz").endswith(ends)}
    if len(kinds) != 1:
        found = " and ".join(sorted(kinds)) or "no format"
        raise UsageError(
            f"The names in {source} tell of {found}. Name the one with --format csv, tsv, jsonl or parquet."
        )
    return kinds.pop()


def _read(ray: Any, sources: Sequence[str], column: str, corpus: CorpusOptions) -> Any:
    """The text column of all sources as one dataset of strings, nothing inferred."""
    parts = [_read_one(ray, _everywhere(source), format_of(source, corpus), column, corpus) for source in sources]
    return parts[0].union(*parts[1:]) if len(parts) > 1 else parts[0]


def _everywhere(source: str) -> str:
    """A path that means the same wherever a worker stands."""
    return source if "://" in source else str(Path(source).absolute())


def _read_one(ray: Any, source: str, kind: Format, column: str, corpus: CorpusOptions) -> Any:
    import pyarrow as pa
    from pyarrow import csv, json

    if kind == "parquet":
        return ray.data.read_parquet(source, file_extensions=None).select_columns([column])
    if kind == "jsonl":
        schema = pa.schema([(column, pa.string())])
        options = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        return ray.data.read_json(source, file_extensions=None, parse_options=options)
    delimiter = "\t" if corpus.delimiter in (None, r"\t") and kind == "tsv" else corpus.delimiter or ","
    return ray.data.read_csv(
        source,
        read_options=csv.ReadOptions(use_threads=False, encoding=corpus.encoding, block_size=_CSV_BYTES),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            include_columns=[column],
            column_types={column: pa.string()},
            strings_can_be_null=False,
        ),
    )


class _Errors(logging.Handler):
    """Keeps why Ray Data gave blocks up, each reason once."""

    def __init__(self, work: RayWork) -> None:
        super().__init__(logging.ERROR)
        self._work = work

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        lines = str(error if error is not None else record.getMessage()).strip().splitlines()
        if lines and lines[-1] not in self._work.errors:
            self._work.errors.append(lines[-1])


@contextmanager
def _listening(work: RayWork) -> Iterator[None]:
    """Ray Data set to go on whatever befalls a block, and its words kept from the terminal."""
    import ray.data

    logger = logging.getLogger("ray.data")
    handlers, ours = logger.handlers[:], _Errors(work)
    logger.handlers = [handler for handler in handlers if not _prints(handler)] + [ours]
    with warnings.catch_warnings():
        # Ray sets its own deprecated options, and with them warns of itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = 3
    context.execution_no_progress_timeout_s = -1  # a block takes as long as it takes
    try:
        yield
    finally:
        logger.handlers = handlers


def _prints(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
