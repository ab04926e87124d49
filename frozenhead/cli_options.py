"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from frozenhead.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No lines and no bars on stderr, only warnings and errors.")]
CacheDir = Annotated[
    str | None,
    typer.Option(
        "--cache-dir",
        metavar="DIR|URL",
        help="The cache, also s3://...; default FROZENHEAD_CACHE_DIR or the user's cache folder.",
    ),
]
RunCacheDir = Annotated[
    str | None,
    typer.Option("--cache-dir", metavar="DIR|URL", help="The cache, if it moved since embed; default the run's."),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder that embed made.")]
Features = Annotated[str, typer.Option("--features", metavar="NAMES", help="Feature sets, comma-separated, or all.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Devices = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda or cuda:N; several, as cuda:0,cuda:1, take a process each.")
]
Worker = Annotated[
    str | None,
    typer.Option(
        "--worker", metavar="I/N", help="Embed share I (from 0) of N into the cache; embed without it makes the run."
    ),
]
Engine = Annotated[str, typer.Option("--engine", help="local: this host; or ray: many hosts, or a local Ray.")]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="HOST:PORT", help="Of a Ray cluster, or auto; default RAY_ADDRESS, else one on this host."
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Of Ray; default one per GPU, or per host.")
]
GpusPerWorker = Annotated[
    float | None, typer.Option("--gpus-per-worker", help="Of Ray; default 1 where there are any.")
]
CpusPerWorker = Annotated[int | None, typer.Option("--cpus-per-worker", help="Of Ray; default a host's, divided.")]
Format = Annotated[
    str | None, typer.Option("--format", help="csv, tsv, jsonl or parquet; default by name, else by content.")
]
Encoding = Annotated[str, typer.Option("--encoding", help="Of text files.")]
Delimiter = Annotated[str | None, typer.Option("--delimiter", help="Between fields, such as ';'.")]


def split_names(value: str) -> tuple[str, ...]:
    """`a, b` as ("a", "b")."""
    names = tuple(part.strip() for part in value.split(",") if part.strip())
    if not names:
        raise UsageError("An empty list of names; give one or more, separated by commas.")
    return names
