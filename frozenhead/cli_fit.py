"""`frozenhead fit` on the command line: parse, call, print; no logic."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from frozenhead.cli_options import Features, Json, Quiet, RunCacheDir, RunFolder, split_names
from frozenhead.errors import DataError
from frozenhead.shell import quoted
from frozenhead.terminal import (
    TerminalVoice,
    plain_table,
    print_json,
    print_lines,
    print_notice,
    print_renderables,
)

Grid = Annotated[
    list[str] | None,
    typer.Option(
        "--grid",
        metavar="NAME=V1,V2",
        help="Values to choose from on validation, as --set takes one; repeatable: all combinations. hidden=256,512x9",
    ),
]


def fit(
    run: RunFolder,
    head: Annotated[
        str,
        typer.Option(
            "--head",
            metavar="NAMES",
            help="dense, softmax, logreg, svm, ridge, centroid, knn, tfidf, majority, shuffled, or all; with commas.",
        ),
    ] = "dense",
    features: Features = "all",
    class_weight: Annotated[
        str, typer.Option("--class-weight", help="balanced, none, or a JSON file {label: weight}.")
    ] = "balanced",
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A head's own option: lr=3e-4, or dense.lr=3e-4; repeatable."),
    ] = None,
    grids: Grid = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", help="Heads of each setting (default 1) or curve point (default 3), from --seed on."),
    ] = None,
    halving: Annotated[
        bool, typer.Option("--halving", help="Drop the worse half of a grid's dense heads after 1, 2, 4, ... epochs.")
    ] = False,
    folds: Annotated[
        int, typer.Option("--folds", help="Predict every row by heads that never saw it, in so many folds.")
    ] = 0,
    curve: Annotated[
        bool, typer.Option("--curve", help="Train on 1, 2, 5, 10, 25, 50 and 100 % of the training rows.")
    ] = False,
    views: Annotated[
        bool, typer.Option("--views", help="Train on the dropout views of `embed --views`, another one each epoch.")
    ] = False,
    calibrate: Annotated[
        str, typer.Option("--calibrate", help="temperature (fitted on validation) or none.")
    ] = "temperature",
    threshold: Annotated[
        str | None,
        typer.Option("--threshold", help="For two classes: f1, precision:0.95, recall:0.9 or costs:1:10 (FP:FN)."),
    ] = None,
    positive: Annotated[
        str | None, typer.Option("--positive", metavar="LABEL", help="Of the threshold; default the second class.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, order and dropout.")] = 2018,
    jobs: Annotated[int, typer.Option("--jobs", help="Other than dense heads trained at the same time.")] = 1,
    refit: Annotated[bool, typer.Option("--refit", help="Train heads again that are stored just so.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Begin a search of more than 10 minutes.")] = False,
    cache_dir: RunCacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train heads on the cached vectors."""
    from frozenhead.commands.fit import FitOptions
    from frozenhead.commands.fit import fit as run_fit

    options = FitOptions(
        run=run, heads=split_names(head), features=split_names(features), class_weight=class_weight,
        sets=tuple(sets or ()), grids=tuple(grids or ()), seed=seed, seeds=seeds, halving=halving, folds=folds,
        curve=curve, calibrate=calibrate, threshold=threshold, positive=positive, views=views, jobs=jobs, refit=refit,
        yes=yes, cache_dir=cache_dir,
    )  # fmt: skip
    result = run_fit(options, TerminalVoice(quiet=quiet))
    if as_json:
        print_json(result)
    else:
        for one in result["heads"]:
            _print_search(one)
            _print_further(one)
        _print_heads(result)
        print_lines([f"next: frozenhead report {quoted(str(run))}"])
    for one in result["failed"]:
        print_notice(f"warning: {one['head']} on {one['feature']} was not stored: {one['error']}")
    if result["failed"]:
        raise typer.Exit(DataError.exit_code)


def _print_heads(result: Mapping[str, Any]) -> None:
    """One line a head; what calibration and a threshold changed stands beside what was before."""
    titles = ["features", "head", "val accuracy", "val macro F1", "val log loss", "temperature", "seconds"]
    with_threshold = any(one["threshold"] for one in result["heads"])
    if with_threshold:
        titles.insert(-1, "threshold")
    rows = []
    for one in result["heads"]:
        val, before = one["val"], one["val_before"]
        cells = [_change(before, val, name) for name in ("accuracy", "macro_f1", "log_loss")] if val else ["-"] * 3
        cells.append(f"{one['temperature']:.3g}")
        if with_threshold:
            cells.append(f"{one['threshold']['value']:.4f}" if one["threshold"] else "-")
        seconds = "as before" if one["known"] else f"{one['fit_seconds']:.2f}"
        rows.append((one["feature"], one["head"], *cells, seconds))
    print_renderables([plain_table(titles, rows, right=titles[2:])])


def _change(before: Mapping[str, Any] | None, after: Mapping[str, Any], name: str) -> str:
    """`0.2431 -> 0.1874`, or one number where nothing changed."""
    old, new = f"{before[name]:.4f}" if before else "", f"{after[name]:.4f}"
    return new if old in ("", new) else f"{old} -> {new}"


def _print_search(one: Mapping[str, Any]) -> None:
    """Every setting of a search, the chosen one first, then by validation."""
    search = one["search"]
    if not search:
        return
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for i, row in enumerate(search["heads"]):  # halving drops candidates, so each of them is told of by itself
        groups.setdefault(i if search["halving"] else row["setting"], []).append(row)
    best = search["heads"][search["best"]]
    lines = sorted((_setting_line(rows, best) for rows in groups.values()), key=lambda line: line[0])
    titles = [*best["options"], "seed", "val macro F1", "range", "val log loss", "epoch", "note"]
    settings, seeds = (len({row[name] for row in search["heads"]}) for name in ("setting", "seed"))
    unneeded = {"seed", "range"} if seeds == 1 else {"range"} if search["halving"] else {"seed"}
    if not any(row["best_epoch"] for row in search["heads"]):
        unneeded.add("epoch")
    shown = [i for i, title in enumerate(titles) if i < len(best["options"]) or title not in unneeded]
    heads = f"{settings:,} setting{'s' * (settings > 1)}" + (f" x {seeds:,} seeds" if seeds > 1 else "")
    print_lines([f"{one['head']} on {one['feature']}: {heads}, chosen by validation"])
    cells = [[line[i] for i in shown] for _, line in lines]
    titles = [titles[i] for i in shown]
    print_renderables([plain_table(titles, cells, right=titles[:-1])])


def _setting_line(
    rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]
) -> tuple[tuple[bool, float, float], list[str]]:
    """A setting's place among the others, and its cells: options, seed, scores over its seeds, epochs, and a note."""
    scored = [row["val"] for row in rows if row["val"]]
    f1, loss = [val["macro_f1"] for val in scored], [val["log_loss"] for val in scored]
    chosen = best in rows
    values = [*(_option_text(value) for value in rows[0]["options"].values()), str(rows[0]["seed"])]
    epochs = sorted({row["best_epoch"] for row in rows if row["best_epoch"]})
    span = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else "".join(map(str, epochs))
    note = f"chosen, seed {best['seed']}" if chosen and len(rows) > 1 else "chosen" if chosen else _why_not(rows)
    if not scored:
        return (True, 1.0, 0.0), [*values, "-", "-", "-", span, note]
    mean, mean_loss = sum(f1) / len(f1), sum(loss) / len(loss)
    scores = [f"{mean:.4f}", f"{min(f1):.4f} to {max(f1):.4f}", f"{mean_loss:.4f}"]
    return (not chosen, -mean, mean_loss), [*values, *scores, span, note]


def _why_not(rows: Sequence[Mapping[str, Any]]) -> str:
    """Why a setting could not be chosen, if it was not for its scores."""
    errors = [row["error"] for row in rows if row["error"]]
    dropped = [row["dropped_after"] for row in rows if row["dropped_after"]]
    if errors:
        return f"{len(errors)} failed: {errors[0]}" if len(rows) > 1 else str(errors[0])
    return f"dropped after epoch {max(dropped)}" if len(dropped) == len(rows) else ""


def _option_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value)) or "0"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_further(one: Mapping[str, Any]) -> None:
    """What folds and a curve showed."""
    where = f"{one['head']} on {one['feature']}"
    if folds := one["folds"]:
        scores = [block["macro_f1"] for block in folds["each"]]
        everything = folds["all"]
        print_lines(
            [
                f"{where}, {folds['folds']} folds: accuracy {everything['accuracy']:.4f}, macro F1 "
                f"{everything['macro_f1']:.4f}, log loss {everything['log_loss']:.4f} over all "
                f"{everything['rows']:,} rows (macro F1 of folds {min(scores):.4f} to {max(scores):.4f})"
            ]
        )
    if curve := one["curve"]:
        print_lines([f"{where}, by share of the training rows, mean of {curve['seeds']} seeds on validation:"])
        titles = ("share", "rows", "macro F1", "range", "log loss", "note")
        print_renderables([plain_table(titles, _curve_rows(curve), right=titles[:-1])])


def _curve_rows(curve: Mapping[str, Any]) -> list[tuple[str, int, str, str, str, str]]:
    rows = []
    for share in dict.fromkeys(point["share"] for point in curve["points"]):
        points = [point for point in curve["points"] if point["share"] == share]
        scored = [point["val"] for point in points if point["val"]]
        f1, loss = [val["macro_f1"] for val in scored], [val["log_loss"] for val in scored]
        note = next((str(point["error"]) for point in points if point["error"]), "")
        cells = ("-", "-", "-")
        if f1:
            cells = (
                f"{sum(f1) / len(f1):.4f}", f"{min(f1):.4f} to {max(f1):.4f}", f"{sum(loss) / len(loss):.4f}"
            )  # fmt: skip
        rows.append((f"{share:.0%}", points[0]["rows"], *cells, note))
    return rows
