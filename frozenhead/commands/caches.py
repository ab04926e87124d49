"""`cache`: what is in the cache, is it sound, what may go, and a way out for the vectors."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from frozenhead.cache import VectorCache
from frozenhead.errors import UsageError
from frozenhead.files import write_file


def list_spaces(cache_dir: Path | None) -> dict[str, Any]:
    """The cache's folder and its spaces, with rows, shards and bytes as their headers say."""
    cache = VectorCache(cache_dir)
    spaces = [
        {
            "id": s.id,
            "encoder": s.recorded.get("name"),
            "pooling": s.space.pooling if s.space else None,
            "max_length": s.space.max_length if s.space else None,
            "dim": s.space.dim if s.space else None,
            "precision": s.space.precision if s.space else None,
            "rows": s.rows,
            "shards": s.shards,
            "bytes": s.bytes,
            "quarantined": s.quarantined,
        }
        for s in cache.spaces()
    ]
    return {"folder": str(cache.folder), "spaces": spaces}


def verify_shards(cache_dir: Path | None) -> dict[str, Any]:
    """Hash every shard anew; bad ones go to quarantine."""
    cache = VectorCache(cache_dir)
    bad = cache.check_all()
    listed = [{"space": space, "shard": name, "reason": why} for space, shards in bad.items() for name, why in shards]
    return {"folder": str(cache.folder), "shards": sum(s.shards for s in cache.spaces()), "bad": listed}


def prune(cache_dir: Path | None, *, spaces: tuple[str, ...], dry_run: bool) -> dict[str, Any]:
    """Remove leavings and quarantined files, and the spaces named by the start of their ids."""
    cache = VectorCache(cache_dir)
    ids = [_one_space(cache, prefix) for prefix in spaces]
    items = cache.prune(spaces=ids, dry_run=dry_run)
    listed = [{"path": str(i.path), "reason": i.reason, "bytes": i.bytes} for i in items]
    return {"folder": str(cache.folder), "dry_run": dry_run, "bytes": sum(i.bytes for i in items), "items": listed}


def export(cache_dir: Path | None, *, space: str, out: Path) -> dict[str, Any]:
    """Write a space as Parquet: `key` (hexadecimal), `tokens`, `vector`; each key once."""
    if out.suffix != ".parquet":
        raise UsageError(f"{out}: cache export writes Parquet; the name must end in .parquet.")
    cache = VectorCache(cache_dir)
    try:
        store = cache.open_space(_one_space(cache, space))
    except LookupError as error:
        raise UsageError(f"{error}. Run the same `frozenhead embed` again to write it anew.") from error
    seen: set[bytes] = set()
    buffer, rows = io.BytesIO(), 0
    schema = pa.schema(
        [
            ("key", pa.string()),
            ("tokens", pa.int32()),
            ("vector", pa.list_(pa.from_numpy_dtype(store.space.dtype), store.space.dim)),
        ]
    )
    with pq.ParquetWriter(buffer, schema) as writer:
        for keys, vectors, tokens in store.rows():
            names = [key.tobytes() for key in keys]
            new = np.array([name not in seen for name in names])
            seen.update(names)
            values = pa.array(vectors[new].ravel())
            columns = [
                pa.array([name.hex() for name, fresh in zip(names, new, strict=True) if fresh]),
                pa.array(tokens[new]),
                pa.FixedSizeListArray.from_arrays(values, store.space.dim),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            rows += int(new.sum())
    write_file(out, buffer.getbuffer())
    return {"space": store.space.id, "rows": rows, "dim": store.space.dim, "out": str(out)}


def _one_space(cache: VectorCache, prefix: str) -> str:
    """The one space id that starts with `prefix`."""
    ids = [s.id for s in cache.spaces()]
    fitting = [i for i in ids if i.startswith(prefix)]
    if len(fitting) != 1 or not prefix:
        listed = ", ".join(i[:12] for i in ids) or "none"
        raise UsageError(
            f"{len(fitting)} spaces start with {prefix!r}; give more or other digits. There are: {listed}."
        )
    return fitting[0]
