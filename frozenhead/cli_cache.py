"""`frozenhead cache ...` on the command line: parse, call, print; no logic."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from frozenhead.cli_options import CacheDir, Json, Quiet
from frozenhead.errors import CacheDamaged, UsageError
from frozenhead.terminal import (
    TerminalVoice,
    many,
    output_console,
    plain_table,
    print_json,
    print_lines,
    print_notice,
    print_renderables,
    size_text,
)

cache_app = typer.Typer(
    name="cache", help="Look after the cache of vectors.", no_args_is_help=True, rich_markup_mode=None
)

_TABLE_WIDTH = 100

Spaces = Annotated[
    list[str] | None, typer.Option("--space", metavar="ID", help="Its id, or the first digits; repeatable.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would go, and do nothing.")]


@cache_app.command("ls")
def cache_ls(cache_dir: CacheDir = None, as_json: Json = False, quiet: Quiet = False) -> None:  # noqa: ARG001
    """List the spaces."""
    from frozenhead.commands.caches import list_spaces

    result = list_spaces(cache_dir)
    if as_json:
        print_json(result)
        return
    spaces = result["spaces"]
    if spaces and output_console().width >= _TABLE_WIDTH:
        columns = ("space", "encoder", "pooling", "length", "precision", "rows", "shards", "size", "last use", "runs")
        right = ("length", "rows", "shards", "size", "runs")
        print_renderables([plain_table(columns, [_cells(s) for s in spaces], right=right)])
    else:
        print_lines([line for s in spaces for line in _space_lines(_cells(s))])
    bad = sum(s["quarantined"] for s in spaces)
    total = size_text(sum(s["bytes"] for s in spaces))
    quarantined = f", {many(bad, 'file')} in quarantine" if bad else ""
    print_lines([f"{many(len(spaces), 'space')}, {total} in {result['folder']}{quarantined}"])
    if count := result["models"]["count"]:
        size = size_text(result["models"]["bytes"])
        print_lines([f"{many(count, 'converted encoder')}, {size}, beside them (`cache prune --models` removes them)"])


@cache_app.command("verify")
def cache_verify(cache_dir: CacheDir = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Hash every shard anew; set bad ones aside."""
    from frozenhead.commands.caches import verify_shards

    result = verify_shards(cache_dir, TerminalVoice(quiet=quiet))
    bad = result["bad"]
    if as_json:
        print_json(result)
    else:
        print_lines([f"bad: {b['space'][:12]} {b['shard'][:12]}: {b['reason']}" for b in bad])
        rate = size_text(result["bytes"] / max(result["seconds"], 1e-3))
        print_lines(
            [
                f"{many(result['shards'], 'shard')} in {result['folder']}: {result['shards'] - len(bad):,} sound, "
                f"{len(bad):,} bad; {size_text(result['bytes'])} hashed in {result['seconds']:.1f} s ({rate}/s)"
                + (f"; {many(result['quarantined'], 'file')} in quarantine" if result["quarantined"] else "")
            ]
        )
    if bad:
        raise CacheDamaged(
            f"{many(len(bad), 'bad shard')}, set aside in quarantine where the cache can be written. "
            "Run the same `frozenhead embed` commands again: they compute the missing vectors.\n"
            "`frozenhead cache prune --quarantine` removes the bad files."
        )


@cache_app.command("prune")
def cache_prune(
    space: Spaces = None,
    unused: Annotated[
        float | None, typer.Option("--unused", metavar="DAYS", help="Spaces that were not used for so many days.")
    ] = None,
    temporary: Annotated[
        bool, typer.Option("--temporary", help="Files of stopped processes, and pins of runs that are gone.")
    ] = False,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="Files that failed verification.")] = False,
    models: Annotated[bool, typer.Option("--models", help="Encoders converted for another backend.")] = False,
    pinned: Annotated[bool, typer.Option("--pinned", help="Spaces that runs refer to, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,  # noqa: ARG001
) -> None:
    """Remove what you name; by itself, --temporary and --quarantine."""
    from frozenhead.commands.caches import PruneOptions, prune

    options = PruneOptions(
        spaces=tuple(space or ()),
        unused_days=unused,
        temporary=temporary,
        quarantine=quarantine,
        models=models,
        pinned=pinned,
    )
    plan = prune(cache_dir, options, dry_run=True)
    declined = False
    if not as_json:
        print_lines([_item_line(item, plan["folder"]) for item in plan["items"]])
        print_lines([f"kept: {k['space'][:12]}, used by {k['used_by']} (--pinned removes it)" for k in plan["kept"]])
    if not dry_run and plan["items"]:
        question = f"Remove {many(len(plan['items']), 'item')}, {size_text(plan['bytes'])}, from {plan['folder']}?"
        dry_run = declined = not _agreed(question, yes=yes)
    result = plan if dry_run else prune(cache_dir, options, dry_run=False)
    if as_json:
        print_json(result)
    elif not result["items"]:
        print_lines([f"nothing to remove in {result['folder']}"])
    elif not declined:
        gone = f"{many(len(result['items']), 'item')}, {size_text(result['bytes'])}"
        print_lines([f"{gone} would go from {result['folder']}" if dry_run else f"removed {gone}"])
    if declined:
        print_notice("nothing was removed")


@cache_app.command("compact")
def cache_compact(
    space: Spaces = None,
    dry_run: DryRun = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Merge many small shards into few."""
    from frozenhead.commands.caches import compact_spaces

    result = compact_spaces(cache_dir, spaces=tuple(space or ()), dry_run=dry_run, voice=TerminalVoice(quiet=quiet))
    if as_json:
        print_json(result)
        return
    print_lines([_compaction_line(one, dry_run=dry_run) for one in result["spaces"]])
    print_lines([f"{name[:12]}: skipped, its space.json cannot be read" for name in result["skipped"]])
    if not result["spaces"] and not result["skipped"]:
        print_lines([f"no spaces in {result['folder']}"])


@cache_app.command("path")
def cache_path(cache_dir: CacheDir = None, as_json: Json = False, quiet: Quiet = False) -> None:  # noqa: ARG001
    """Print the cache folder; of a URL, its mirror on this machine."""
    from frozenhead.commands.caches import cache_path as find_path

    result = find_path(cache_dir)
    if as_json:
        print_json(result)
        return
    print_lines([result["folder"]])
    if result["url"]:
        print_notice(f"this is the mirror of {result['url']}")


@cache_app.command("export")
def cache_export(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Its id, or the first digits.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A .parquet or .npy file.")],
    to: Annotated[
        Literal["parquet", "npy"] | None,
        typer.Option("--to", help="Default by FILE's ending. With npy, x.npy gets the keys in x.keys.npy."),
    ] = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,  # noqa: ARG001
) -> None:
    """Write a space's keys and vectors."""
    from frozenhead.commands.caches import export

    result = export(cache_dir, space=space, out=out, to=to)
    if as_json:
        print_json(result)
    else:
        keys = f", and their keys to {out.with_suffix('.keys.npy')}" if out.suffix == ".npy" else ""
        print_lines([f"wrote {many(result['rows'], 'vector')} of {result['dim']} numbers to {out}{keys}"])
    if result["quarantined"]:
        print_notice(
            f"warning: {many(result['quarantined'], 'file')} in quarantine; vectors that only they held are missing"
        )


def _agreed(question: str, *, yes: bool) -> bool:
    """Whether the user agrees. Where nobody can be asked, `--yes` is needed."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can be asked here: pass --yes, or --dry-run to only look.")
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # the terminal has gone, or the answer was ^D
        return False


def _item_line(item: dict[str, Any], folder: str) -> str:
    return f"{item['path'].removeprefix(folder).lstrip(os.sep)} ({item['reason']}, {size_text(item['bytes'])})"


def _cells(one: dict[str, Any]) -> tuple[object, ...]:
    """What `ls` shows of a space; what is not known is `?`."""
    facts = ("encoder", "pooling", "max_length", "precision", "rows", "shards")
    used = (one["last_used"] or "?")[:10]
    runs = len(one["runs"]) or ("?" if one["pinned"] else 0)  # a damaged pin does not tell whose it is
    said = {"max_length": f"windows of {one['max_length']}"} if one["long"] == "windows" else {}
    said["pooling"] = ", ".join([str(one["pooling"]), *_particulars(one)])
    known = ("?" if one[name] is None else said.get(name, one[name]) for name in facts)
    return one["id"][:12], *known, size_text(one["bytes"]), used, runs


def _particulars(one: dict[str, Any]) -> list[str]:
    """Where a space is not as most are: `layer -2`, `prefix "query: "`, `normalised`, `view 1 of seed 2018`."""
    prefix, view = one["prefix"], one["view"]
    parts = {
        f"layer {one['layer']}": one["layer"] not in (None, -1),
        f"prefix {json.dumps(prefix, ensure_ascii=False)}": bool(prefix),
        "normalised": bool(one["normalize"]),
        f"view {view['index']} of seed {view['seed']}" if view else "": bool(view),
    }
    return [part for part, said in parts.items() if said]


def _space_lines(cells: tuple[object, ...]) -> list[str]:
    """A space where the table would be too wide."""
    words = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells]
    name, encoder, pooling, length, precision, rows, shards, size, used, runs = words
    return [
        f"{name}  {encoder}, {pooling}, {length} tokens, {precision}",
        f"{'':12}  rows {rows}, shards {shards}, {size}, last use {used}, runs {runs}",
    ]


def _compaction_line(one: dict[str, Any], *, dry_run: bool) -> str:
    begin, shards = f"{one['space'][:12]}: ", many(one["before"], "shard")
    kept = f"; {many(one['kept'], 'small one')} in use by runs cannot be merged" if one["kept"] else ""
    if not one["removed"]:
        return f"{begin}{shards}, nothing to merge{kept}"
    return f"{begin}{shards} {'would become' if dry_run else 'became'} {one['after']:,}{kept}"
