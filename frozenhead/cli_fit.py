"""`frozenhead fit` on the command line: parse, call, print; no logic."""

import shlex
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from frozenhead.cli_options import Features, Json, Quiet, RunCacheDir, RunFolder, split_names
from frozenhead.errors import DataError
from frozenhead.terminal import (
    TerminalVoice,
    plain_table,
    print_json,
    print_lines,
    print_notice,
    print_renderables,
)

SHOWN_SETTINGS = 100

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
        int | None, typer.Option("--seeds", help="Heads of each setting, from --seed on. Default 1; of a curve 3.")
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
        print_lines([f"next: frozenhead report {shlex.quote(str(run))}"])
    for one in result["failed"]:
        print_notice(f"warning: {one['head']} on {one['feature']} was not trained: {one['error']}")
    if result["failed"]:
        raise typer.Exit(DataError.exit_code)


def _print_heads(result: Mapping[str, Any]) -> None:
    """One line a head; what calibration and a threshold changed stands beside what was before."""
    titles = ["features", "head", "val accuracy", "val macro F1", "val log loss", "T", "seconds"]
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
        seconds = "as before" if one.get("known") else f"{one['fit_seconds']:.2f}"
        rows.append((one["feature"], one["head"], *cells, seconds))
    print_renderables([plain_table(titles, rows, right=titles[2:])])


def _change(before: Mapping[str, Any] | None, after: Mapping[str, Any], name: str) -> str:
    """`0.2431 -> 0.1874`, or one number where nothing changed."""
    old, new = f"{before[name]:.4f}" if before else "", f"{after[name]:.4f}"
    return new if old in ("", new) else f"{old} -> {new}"


def _print_search(one: Mapping[str, Any]) -> None:
    """Every setting of a grid, the best first, its seeds together."""
    search = one.get("search")
    if not search:
        return
    lines = _setting_lines(search)
    options = list(search["heads"][0]["options"])
    titles = [*options, "seeds", "val macro F1", "range", "val log loss", "epoch", "note"]
    if not any(line[-1] for line in lines):
        titles.pop()
        lines = [line[:-1] for line in lines]
    count = len(search["heads"])
    print_lines([f"{one['head']} on {one['feature']}: {count:,} candidates, chosen by validation"])
    print_renderables([plain_table(titles, lines[:SHOWN_SETTINGS], right=titles[:-1])])
    if len(lines) > SHOWN_SETTINGS:
        print_lines([f"and {len(lines) - SHOWN_SETTINGS:,} more in search.json beside the head"])


def _setting_lines(search: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for row in search["heads"]:
        groups.setdefault(row["setting"], []).append(row)
    lines = []
    chosen = search["heads"][search["best"]]["setting"]
    for number, rows in groups.items():
        scored = [row["val"] for row in rows if row["val"]]
        f1, loss = ([val[name] for val in scored] for name in ("macro_f1", "log_loss"))
        mean = sum(f1) / len(f1) if f1 else -1.0
        errors = [row["error"] for row in rows if row["error"]]
        dropped = [row["dropped_after"] for row in rows if row["dropped_after"]]
        note = "chosen" if number == chosen else ""
        if errors:
            note = errors[0]
        elif dropped:
            note = f"dropped after epoch {max(dropped)}" if len(dropped) == len(rows) else note
        cells = (
            (f"{mean:.4f}", f"{min(f1):.4f} to {max(f1):.4f}", f"{sum(loss) / len(loss):.4f}")
            if f1
            else ("-", "-", "-")
        )
        epochs = sorted({row["best_epoch"] for row in rows if row["best_epoch"]})
        span = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else "".join(map(str, epochs))
        values = [_option_text(value) for value in rows[0]["options"].values()]
        lines.append((number != chosen, -mean, (*values, str(len(rows)), *cells, span, note)))
    return [line for _, _, line in sorted(lines, key=lambda line: line[:2])]


def _option_text(value: Any) -> str:
    return (
        "x".join(map(str, value))
        if isinstance(value, list | tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _print_further(one: Mapping[str, Any]) -> None:
    """What folds and a curve showed."""
    where = f"{one['head']} on {one['feature']}"
    if folds := one.get("folds"):
        scores = [block["macro_f1"] for block in folds["each"]]
        print_lines(
            [
                f"{where}, {folds['folds']} folds: accuracy {folds['all']['accuracy']:.4f}, macro F1 "
                f"{folds['all']['macro_f1']:.4f} over all {folds['all']['rows']:,} rows "
                f"(folds {min(scores):.4f} to {max(scores):.4f})"
            ]
        )
    if curve := one.get("curve"):
        print_lines([f"{where}, by share of the training rows (validation macro F1, mean and range over seeds):"])
        print_renderables(
            [plain_table(("share", "rows", "macro F1", "range"), _curve_rows(curve), right=("share", "rows"))]
        )


def _curve_rows(curve: Mapping[str, Any]) -> list[tuple[str, int, str, str]]:
    rows = []
    for share in dict.fromkeys(point["share"] for point in curve["points"]):
        points = [point for point in curve["points"] if point["share"] == share]
        f1 = [point["val"]["macro_f1"] for point in points if point["val"]]
        mean = f"{sum(f1) / len(f1):.4f}" if f1 else "-"
        span = f"{min(f1):.4f} to {max(f1):.4f}" if f1 else str(points[0]["error"])
        rows.append((f"{share:.0%}", points[0]["rows"], mean, span))
    return rows
