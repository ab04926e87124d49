"""`cache`: what is in the cache, is it sound, what may go, and a way out for the vectors."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from frozenhead.cache import SpaceStore, SpaceSummary, VectorCache, compact
from frozenhead.cache.cache import cache_place
from frozenhead.cache.remote import is_url
from frozenhead.cache.upkeep import utc_time
from frozenhead.commands.vectors import view_records
from frozenhead.commands.voice import Silence, Voice
from frozenhead.errors import CacheDamaged, RunDamaged, UsageError
from frozenhead.files import new_file, storage_errors, temporary_name
from frozenhead.runs import Run

_MIB = 2**20
_DAY = 24 * 3600.0
_WRITE_IT_ANEW = "Run the `frozenhead embed` command that made the space again: it writes the file anew."


def list_spaces(cache_dir: str | Path | None) -> dict[str, Any]:
    """The cache's folder and its spaces, with rows, shards and bytes as their headers say, and its converted models."""
    cache = VectorCache(cache_dir)
    return {
        "folder": _named(cache),
        "spaces": [_described(s) for s in cache.spaces()],
        "models": {"count": len(sizes := cache.model_bytes()), "bytes": sum(sizes)},
    }


def verify_shards(cache_dir: str | Path | None, voice: Voice | None = None) -> dict[str, Any]:
    """Hash every shard anew; bad ones go to quarantine."""
    cache = VectorCache(cache_dir)
    begun = time.perf_counter()
    with (voice or Silence()).bar("verify", unit="MiB") as progress:
        checked = cache.check_all(lambda done, whole: progress(done // _MIB, whole // _MIB))
    return {
        "folder": _named(cache),
        "shards": checked.shards,
        "bytes": checked.bytes,
        "seconds": round(time.perf_counter() - begun, 3),
        "bad": [asdict(bad) for bad in checked.bad],
        "quarantined": sum(s.quarantined for s in cache.spaces()),
    }


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """What `cache prune` is to remove.

    Parameters
    ----------
    spaces : tuple of str
        Spaces by the start of their ids.
    unused_days : float, optional
        Spaces not used for so many days.
    temporary, quarantine : bool
        Files of stopped processes and pins of runs that are gone; files that failed verification. If nothing
        at all is named, these two are meant.
    models : bool
        Encoders converted for another backend.
    pinned : bool
        Spaces that runs refer to as well.
    """

    spaces: tuple[str, ...] = ()
    unused_days: float | None = None
    temporary: bool = False
    quarantine: bool = False
    models: bool = False
    pinned: bool = False

    def __post_init__(self) -> None:
        if self.unused_days is not None and not self.unused_days >= 0:
            raise UsageError(f"--unused is {self.unused_days}; it takes a number of days, 0 or more.")


def prune(cache_dir: str | Path | None, options: PruneOptions, *, dry_run: bool) -> dict[str, Any]:
    """Remove what was named, or tell what would go.

    Raises
    ------
    UsageError
        A space was named that is not there, or that runs refer to. Nothing is removed then.
    """
    cache = VectorCache(cache_dir)
    there = {s.id: s for s in cache.spaces()}
    ids = tuple(one_space(tuple(there), prefix) for prefix in options.spaces)
    for space in (there[i] for i in ids if there[i].pinned and not options.pinned):
        raise UsageError(
            f"Space {space.id[:12]} is used by {_runs(space)}. Pass --pinned to remove it all the same; "
            "those runs then need `frozenhead embed` again."
        )
    named = options.spaces or options.temporary or options.quarantine or options.models
    unnamed = not named and options.unused_days is None
    pruned = cache.prune(
        spaces=ids,
        unused_seconds=None if options.unused_days is None else options.unused_days * _DAY,
        temporary=options.temporary or unnamed,
        quarantine=options.quarantine or unnamed,
        models=options.models,
        pinned=options.pinned,
        dry_run=dry_run,
    )
    return {
        "folder": _named(cache),
        "dry_run": dry_run,
        "bytes": sum(item.bytes for item in pruned.items),
        "items": [{"path": i.url or str(i.path), "reason": i.reason, "bytes": i.bytes} for i in pruned.items],
        "kept": [{"space": name, "used_by": _runs(there[name])} for name in pruned.kept],
    }


def compact_spaces(
    cache_dir: str | Path | None, *, spaces: tuple[str, ...], dry_run: bool, voice: Voice | None = None
) -> dict[str, Any]:
    """Merge the small shards of each space, or of those named by the start of their ids.

    Raises
    ------
    UsageError
        No such space, or the cache is an object store: runs of other machines go by its shards.
    """
    cache = VectorCache(cache_dir)
    if cache.url is not None:
        raise UsageError(
            f"{cache.url} cannot be compacted: runs on other machines go by its shards. They may stay as they are; or "
            "copy the place to a folder (`aws s3 sync`, say), and compact that with --cache-dir."
        )
    there = {s.id: s for s in cache.spaces()}
    ids = tuple(one_space(tuple(there), prefix) for prefix in spaces)
    wanted = [s for s in there.values() if s.id in ids or not ids]
    if ids and (unknown := [s.id[:12] for s in wanted if s.space is None]):
        raise CacheDamaged(f"space.json of {', '.join(unknown)} cannot be read. {_WRITE_IT_ANEW}")
    done = []
    for summary in wanted:
        if summary.space is None:
            continue
        with (voice or Silence()).bar(f"compact {summary.id[:12]}", unit="shards") as progress:
            repin = partial(_repin, cache.folder, summary.id)
            result = compact(cache.space(summary.space), repin=repin, dry_run=dry_run, progress=progress)
        done.append({**asdict(result), "removed": len(result.removed), "written": len(result.written)})
    skipped = [s.id for s in wanted if s.space is None]
    return {"folder": _named(cache), "dry_run": dry_run, "spaces": done, "skipped": skipped}


def export(
    cache_dir: str | Path | None, *, space: str, out: Path, to: Literal["parquet", "npy"] | None = None
) -> dict[str, Any]:
    """Write a space's vectors, each key once.

    Parquet has the columns `key` (hexadecimal), `tokens` and `vector`. With npy, `out` is the array (n, D), and
    `<out>.keys.npy` beside it holds the keys, uint8 (n, 32), row for row.

    Raises
    ------
    UsageError
        No such space, or a file name that does not say what it is to be.
    CacheDamaged
        The space's description cannot be read, or shards went while they were read. Files that were there stay.
    StorageError
        The disk does not take the file.
    """
    to = to or ("npy" if out.suffix == ".npy" else "parquet")
    if out.suffix != f".{to}":
        raise UsageError(f"{out}: the name must end in .parquet or .npy, as --to says.")
    cache = VectorCache(cache_dir)
    space_id = one_space(tuple(s.id for s in cache.spaces()), space)
    try:
        store = cache.open_space(space_id)
    except LookupError as error:
        raise CacheDamaged(f"{error}. {_WRITE_IT_ANEW}") from error
    rows = _export_npy(store, out) if to == "npy" else _export_parquet(store, out)
    [quarantined] = [s.quarantined for s in cache.spaces() if s.id == space_id]
    return {
        "space": store.space.id,
        "rows": rows,
        "dim": store.space.dim,
        "out": str(out),
        "quarantined": quarantined,
    }


def cache_path(cache_dir: str | Path | None) -> dict[str, Any]:
    """The folder of the cache, and the URL whose mirror it is, or None."""
    folder, url = cache_place(cache_dir)
    return {"folder": str(folder), "url": url}


def one_space(ids: tuple[str, ...], prefix: str) -> str:
    """The one space id that starts with `prefix`. Raises `UsageError`."""
    fitting = [i for i in ids if i.startswith(prefix)]
    if len(fitting) != 1 or not prefix:
        listed = ", ".join(i[:12] for i in ids) or "none"
        raise UsageError(
            f"{len(fitting)} spaces start with {prefix!r}; give more or other digits. There are: {listed}."
        )
    return fitting[0]


def _described(summary: SpaceSummary) -> dict[str, Any]:
    space, used = summary.space, None if summary.last_used is None else utc_time(summary.last_used)
    return {
        "id": summary.id,
        "encoder": summary.recorded.get("name"),
        "pooling": space.pooling if space else None,
        "layer": space.layer if space else None,
        "prefix": space.prefix if space else None,
        "normalize": space.normalize if space else None,
        "view": asdict(space.view) if space and space.view else None,
        "max_length": space.max_length if space else None,
        "long": space.long if space else None,
        "precision": space.precision if space else None,
        "dim": space.dim if space else None,
        "rows": summary.rows,
        "shards": summary.shards,
        "bytes": summary.bytes,
        "quarantined": summary.quarantined,
        "last_used": used.isoformat(timespec="seconds") if used else None,
        "pinned": summary.pinned,
        "runs": sorted({str(path.parent.parent) for path in summary.runs}),
    }


def _named(cache: VectorCache) -> str:
    """The cache as its user knows it."""
    return cache.url or str(cache.folder)


def _runs(summary: SpaceSummary) -> str:
    """The runs that refer to a space, for people."""
    runs = sorted({str(path.parent.parent) for path in summary.runs})
    return ", ".join(runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "") or "a run whose pin is damaged"


def _repin(cache: Path, space: str, holder: Path, new: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Change a list of shards in a run's feature set, unless the run goes by another cache that is still there.

    A copy of a cache has the pins of runs that go by the original.
    """
    run = Run.open(holder.parent.parent)
    record = run.features(damaged="skip").get(holder.stem)
    if record is None:
        raise RunDamaged(f"{holder} is no feature set of a run.")
    own = Path(record["cache"])
    if is_url(record["cache"]) or (own.exists() and not own.samefile(cache)):
        raise RunDamaged(f"{holder} goes by the cache {record['cache']}.")
    views = [entry for _, entry in view_records(record, holder.stem)]
    entry = next((one for one in (record, *views) if one["space"] == space), None)
    if entry is None:
        raise RunDamaged(f"{holder} goes by no vectors of {space}.")
    entry["shards"] = sorted({s for name in entry["shards"] for s in new.get(name, (name,))})
    run.write_feature(holder.stem, record)
    return tuple(entry["shards"])


def _export_parquet(store: SpaceStore, out: Path) -> int:
    schema = pa.schema(
        [
            ("key", pa.string()),
            ("tokens", pa.int32()),
            ("vector", pa.list_(pa.from_numpy_dtype(store.space.dtype), store.space.dim)),
        ]
    )
    count = 0
    with new_file(out) as file, pq.ParquetWriter(file, schema) as writer:
        for keys, vectors, tokens in store.rows(strict=True):
            values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), store.space.dim)
            writer.write_table(pa.Table.from_arrays([_hexadecimal(keys), pa.array(tokens), values], schema=schema))
            count += len(keys)
    return count


def _export_npy(store: SpaceStore, out: Path) -> int:
    beside = out.with_name(temporary_name())
    keys_file = out.with_suffix(".keys.npy")
    with storage_errors(out, "write"), new_file(keys_file) as file:
        try:
            keys, shards = store.keys(strict=True), store.pin()
            if not store.lookup_into(beside, keys, shards=shards).found.all():
                raise CacheDamaged(f"Shards of {store.folder} went while they were read; nothing was written.")
            np.save(file, keys, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
            keys_file.unlink(missing_ok=True)  # vectors without keys are seen, vectors beside other keys are not
            os.replace(beside, out)  # the keys follow when the block ends: nearly at once
        finally:
            beside.unlink(missing_ok=True)
    return len(keys)


def _hexadecimal(keys: NDArray[np.uint8]) -> pa.Array:
    """Keys (n, 32) as n strings of 64 digits."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.stack([digits[keys >> 4], digits[keys & 15]], axis=2).reshape(len(keys), 64)  # (n, 32, 2) -> (n, 64)
    offsets = np.arange(0, 64 * len(keys) + 1, 64, dtype=np.int32)
    return pa.StringArray.from_buffers(len(keys), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text)))
