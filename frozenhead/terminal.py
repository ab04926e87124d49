"""What a person sees: lines and bars on stderr, results on stdout.

Bars vanish when stderr is no terminal, `--quiet` silences both, and NO_COLOR is honoured (by rich).
"""

import json
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from frozenhead.commands.voice import Advance
from frozenhead.labels import shown, visible
from frozenhead.shell import quoted

SHOWN_CLASSES = 10  # more than these have their weights in the report
WORST_CLASSES = 5  # of more classes than that, those cut most often
MOST_FREQUENT = 5  # and those predicted most often
PIPE_WIDTH = 120  # columns of a table that goes into a file or pipe


class TerminalVoice:
    """Speaks on stderr.

    Parameters
    ----------
    quiet : bool
        Say nothing and show no bar; warnings and errors still come.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, soft_wrap=True)

    def say(self, line: str) -> None:
        """One line on stderr, above the bar if one is running."""
        if not self._quiet:
            self._console.print(Text(visible(line)))

    @contextmanager
    def bar(self, title: str, *, unit: str) -> Iterator[Advance]:
        """A bar with how many are done, the rate, and the time left."""
        columns = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Rate(unit)]
        if self._quiet or not self._console.is_terminal:
            yield lambda done, total: None  # noqa: ARG005
            return
        with Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True) as progress:
            task = progress.add_task(title, total=None, visible=False)
            yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


class _Rate(ProgressColumn):
    """Units per second, averaged over the last half minute as rich does."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self._unit}/s" if speed else "")


def listen_to_library() -> None:
    """Show what the library logs and warns as one line each on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    logger = logging.getLogger("frozenhead")
    logger.handlers[:] = [handler]

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {visible(' '.join(str(message).split()))}", file=sys.stderr)  # noqa: T201

    warnings.showwarning = show


def print_error(message: str) -> None:
    """One to three lines on stderr."""
    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), visible(message)))


def print_notice(message: str) -> None:
    """A plain line on stderr, also under `--quiet`."""
    Console(stderr=True, soft_wrap=True).print(Text(visible(message)))


def print_json(result: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(result, ensure_ascii=False, allow_nan=False))  # noqa: T201


def print_lines(lines: Iterable[str]) -> None:
    """Plain lines on stdout."""
    for line in lines:
        print(line)  # noqa: T201


def print_renderables(renderables: Iterable[RenderableType]) -> None:
    """Tables and texts on stdout, as wide as the terminal, or `PIPE_WIDTH` where there is none."""
    console = output_console()
    for renderable in renderables:
        console.print(renderable)


def output_console() -> Console:
    """A console on stdout."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """A table of plain cells; numbers get thousands separators, columns named in `right` are set to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row))
    return table


def size_text(size: float) -> str:
    """Bytes as a person reads them: `0 B`, `512 B`, `1.5 KiB`, `62.0 MiB`."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def many(count: int, noun: str) -> str:
    """`1 shard`, `2 shards`."""
    plural = {"class": "classes"}.get(noun, f"{noun}s")
    return f"{count:,} {noun if count == 1 else plural}"


def counts_line(counts: Mapping[str, int]) -> str:
    """`train 3,900, val 836, test 836`; of more than ten the most frequent, and how many more."""
    named, rest = list(counts.items()), 0
    if len(named) > SHOWN_CLASSES:
        named = sorted(named, key=lambda item: -item[1])[:MOST_FREQUENT]
        rest = len(counts) - MOST_FREQUENT
    parts = [f"{shown(name)} {n:,}" for name, n in named]
    return ", ".join([*parts, *([f"and {rest:,} more classes"] if rest else [])])


def corpus_lines(result: Mapping[str, Any]) -> list[str]:
    """What `embed` read: rows, splits, class weights."""
    lines = [
        ", ".join(
            [many(result["rows"], "row"), many(result["distinct"], "distinct text")]
            + [many(len(result["classes"]), "class")] * bool(result["classes"])
        ),
        f"{counts_line(result['splits'])} ({result['split_rule']})",
    ]
    if 0 < len(result["classes"]) <= SHOWN_CLASSES:
        weights = ", ".join(f"{shown(label)} {weight:.8f}" for label, weight in result["class_weights"].items())
        lines.append(f"balanced class weights: {weights}")
    return lines


def view_lines(facts: Mapping[str, Any] | None) -> list[str]:
    """Dropout views: how many, of what, and how many passes of single texts were there; nothing if there are none."""
    if not facts:
        return []
    rest, done = facts["passes"] - facts["cached"], "seconds" in facts
    return [
        f"{facts['views']:,} dropout views of {facts['rows']:,} training rows, seed {facts['seed']}: {rest:,} passes "
        f"{'computed' if done else 'to compute'}, {facts['cached']:,} from the cache"
        + (f", {facts['seconds']:.1f} s" if done else "")
    ]


def feature_lines(feature: str, facts: Mapping[str, Any]) -> list[str]:
    """One feature set: its size, its dropout views, and how many texts of each class were cut, or read in windows."""
    views = f", and {facts['views']:,} dropout views" if facts.get("views") else ""
    return [f"{feature}: {facts['dim']} numbers per text{views}; {_long_texts(facts['truncation'])}"]


def _long_texts(facts: Mapping[str, Any]) -> str:
    """What became of the texts beyond the length; of many classes the worst are named."""
    windows = "windowed" in facts
    number, share = ("windowed", "windowed_share") if windows else ("truncated", "share")
    if not facts[number]:
        return f"no text is longer than {facts['max_length']} tokens"
    fate = f"read in {facts['windows']:,} windows" if windows else "cut"
    line = (
        f"{facts[number]:,} of {facts['rows']:,} texts ({facts[share]:.1%}) "
        f"are longer than {facts['max_length']} tokens and were {fate}"
    )
    classes = list(facts["per_class"].items())
    many = len(classes) > SHOWN_CLASSES
    if many:
        classes = sorted(classes, key=lambda item: -item[1][share])[:WORST_CLASSES]
    parts = ", ".join(f"{shown(label)} {part[share]:.1%}" for label, part in classes)
    return f"{line}{', most of' if many else ':'} {parts}" if parts else line


def export_lines(result: Mapping[str, Any]) -> list[str]:
    """What `export` made, what its owner still has to say, and the command that uses it."""
    low, high = result["intervals"]["macro_f1"]
    rows, split = result["scores"]["rows"], {"test": "test", "val": "validation"}[result["split"]]
    folder = quoted(result["folder"])
    model = " --model FOLDER" if result["local_encoder"] else ""
    return [
        f"{result['folder']}: {shown(result['head'])} on {shown(result['feature'])}, macro F1 "
        f"{result['scores']['macro_f1']:.4f} ({low:.4f} to {high:.4f}) on {rows:,} {split} rows",
        f"read its README.md and state the licence there{'; hand on the encoder too' if model else ''}",
        f"next: frozenhead predict {folder} NEW.csv{model} -o labelled.csv",
    ]


def worker_lines(result: Mapping[str, Any]) -> list[str]:
    """What a worker has done of its share, or would do."""
    share = f"worker {result['worker']}: {many(result['distinct'], 'distinct text')}, {result['cached']:,} cached"
    if result.get("dry_run"):
        return [f"{share}, {result['to_embed']:,} to embed; nothing was done"]
    return [
        f"{share}, {result['computed']:,} embedded, {result['seconds']:.1f} s",
        "next, when every worker is done: the same command without --worker makes the run",
    ]


def verdict_lines(result: Mapping[str, Any]) -> list[str]:
    """What `verify` found: the largest differences beside their tolerances, and the verdict."""
    lines = []
    for proof in result["features"]:
        v, t = proof["vectors"], proof["training"]
        lines += [
            f"{proof['feature']}",
            f"  vectors   {v['rows']} rows one by one: {v['measure']} {_size(v['largest_difference'])} "
            f"(tolerance {v['tolerance']:.0e}) {_verdict(v)}",
            *_view_verdict(proof["views"]),
            f"  losses    {t['steps']} training steps: largest difference {_size(t['largest_loss_difference'])} "
            f"(tolerance {t['tolerance']:.0e}) {_verdict(t)}",
            f"  weights   after them: largest difference {_size(t['largest_weight_difference'])}{_judged(proof)}",
            f"  encoder   the same bits before and after: {'yes' if proof['encoder_unchanged'] else 'NO'}",
        ]
    return [*lines, f"verdict: {'passed' if result['passed'] else 'FAILED'}"]


def _view_verdict(views: Mapping[str, Any] | None) -> list[str]:
    """How far dropout views are from passes of the plain encoder under the same masks."""
    if views is None:
        return []
    return [
        f"  views     {views['rows']} rows of {views['views']} dropout views one by one: {views['measure']} "
        f"{_size(views['largest_difference'])} (tolerance {views['tolerance']:.0e}) {_verdict(views)}"
    ]


def _judged(proof: Mapping[str, Any]) -> str:
    """Whether weights are within their tolerance, if they have one."""
    training = proof["training"]
    tolerance = training["weight_tolerance"]
    if tolerance is None:
        return f" (not judged in {proof['precision']})"
    return f" (tolerance {tolerance:.0e}) {_verdict(training)}"


def _size(difference: float | None) -> str:
    return "not finite" if difference is None else f"{difference:.2e}"


def _verdict(part: Mapping[str, Any]) -> str:
    return "ok" if part["passed"] else "FAILED"
