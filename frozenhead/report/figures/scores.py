"""Heads side by side: each one's score with its interval, and what it lacks to the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from frozenhead.report.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    Entry,
    first,
    legend_label,
    named,
    same,
    short,
)
from frozenhead.report.svg import INK, house_style, to_svg
from frozenhead.report.words import MINUS, SPLIT_NAMES, signed

MOST_LISTED = 12  # heads in one figure, so that it fits into a first screen

_NAME_WIDTH = 27
_REACH = 0.2  # heads of the worse half that lie further from the best, and than twice its interval, are off the scale


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One line of a forest plot; `colour`, `heavy` and `shaded` tell the heads that matter from the others."""

    label: str
    value: float
    interval: Sequence[float] | None
    text: str
    colour: str = INK
    heavy: bool = False
    shaded: bool = False
    second: float | None = None


def forest_figure(
    entries: Sequence[Entry], split: str, selected: Entry | None, baseline: Entry | None, *, name: str
) -> str:
    """Draw each head's macro F1 on the judged split with its interval, in the order given.

    The selected head is blue, the baseline orange, with a vertical line; a hollow mark is the score without copies of
    training rows. At most `MOST_LISTED` heads, the baseline among them.
    """
    rows, line, level = [], None, 0.95
    for place in first(entries, MOST_LISTED, baseline):
        entry = entries[place]
        block = entry[split]
        intervals = block.get("intervals") or {}
        level = intervals.get("level", level)
        colour = BLUE if same(entry, selected) else ORANGE if same(entry, baseline) else INK
        line = block["macro_f1"] if same(entry, baseline) else line
        rows.append(
            _Row(
                label=short(f"{entry['head']} on {entry['feature']}", _NAME_WIDTH),
                value=block["macro_f1"],
                interval=intervals.get("macro_f1"),
                text=f"{block['macro_f1']:.4f}",
                colour=colour,
                heavy=colour != INK,
                shaded=colour != INK,
                second=_without_copies(entry, split),
            )
        )
    n, where = entries[0][split]["rows"], SPLIT_NAMES[split]
    xlabel = f"macro F1 on the {n:,} {where} rows, {100 * level:g} % interval"
    with house_style():
        line_label = f"baseline: {short(baseline['head'])}" if baseline else ""
        figure = _forest(rows, xlabel=xlabel, line=line, line_label=line_label, hidden=len(entries) - len(rows))
        words = "; ".join(f"{row.label} {row.text}{_in_words(row.interval)}" for row in rows[:5])
        return to_svg(figure, name=name, alt=f"Macro F1 of {len(entries)} heads on the {where} split: {words}.")


def differences_figure(comparisons: Mapping[str, Any] | None, *, name: str) -> str | None:
    """Draw how far each head's macro F1 lies from that of the best on the same rows, with the paired interval.

    Blue heads are better, orange ones worse, by the test that `comparisons` made. None without a pair.
    """
    pairs = [pair for pair in (comparisons or {}).get("pairs", []) if pair["against"] == "best"]
    if not pairs or comparisons is None:
        return None
    best, colours = pairs[0]["b"], {"better": BLUE, "worse": ORANGE}
    rows = [
        _Row(
            label=short(f"{pair['a']['head']} on {pair['a']['feature']}", _NAME_WIDTH),
            value=pair["macro_f1"]["difference"],
            interval=pair["macro_f1"]["interval"],
            text=signed(pair["macro_f1"]["difference"]),
            colour=colours.get(pair["verdict"], INK),
            heavy=pair["verdict"] in colours,
        )
        for pair in pairs[:MOST_LISTED]
    ]
    verdicts = [pair["verdict"] for pair in pairs]
    counted = [f"{verdicts.count(verdict)} {verdict}" for verdict in ("better", "worse", "no difference")]
    with house_style():
        figure = _forest(
            rows,
            xlabel=f"macro F1 less the best head's, on {comparisons['rows']:,} rows",
            line=0.0,
            line_label=named(best),
            hidden=len(pairs) - len(rows),
        )
        words = "; ".join(f"{row.label} {row.text}{_in_words(row.interval)}" for row in rows[:4])
        return to_svg(figure, name=name, alt=f"Macro F1 against {named(best)} ({', '.join(counted)}): {words}.")


def _without_copies(entry: Entry, split: str) -> float | None:
    """Macro F1 without copies of training rows, where that leaves other rows than all."""
    block = entry.get("test_without_copies") if split == "test" else None
    return block["macro_f1"] if block and block["rows"] < entry[split]["rows"] else None


def _in_words(interval: Sequence[float] | None) -> str:
    return f" [{interval[0]:.3f}, {interval[1]:.3f}]".replace("-", MINUS) if interval else ""


def _forest(rows: Sequence[_Row], *, xlabel: str, line: float | None, line_label: str, hidden: int) -> Figure:
    """Rows from the top: name, mark with interval, value. Marks that are off the scale become an arrow."""
    names = 0.35 + 0.072 * max(len(row.label) for row in rows)
    low, high = _scale(rows, line)
    seconds = [row for row in rows if row.second is not None]
    legend = line is not None or bool(seconds)
    height = 0.215 * len(rows) + 0.52 + 0.3 * legend + 0.15 * bool(hidden)
    width = names + 2.75
    figure = Figure(figsize=(width, height))
    bottom, top = 0.45 + 0.15 * bool(hidden), 0.07 + 0.3 * legend
    axes = figure.add_axes((names / width, bottom / height, 2.1 / width, 1 - (bottom + top) / height))
    for place, row in enumerate(rows):
        _mark(axes, row, place, low, high)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
    axes.set_xlabel(xlabel + (f"\n{hidden:,} more {'heads' if hidden > 1 else 'head'} in the table" if hidden else ""))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if legend:
        _legend(figure, axes, line, line_label, bool(seconds))
    return figure


def _scale(rows: Sequence[_Row], line: float | None) -> tuple[float, float]:
    """What the axis spans: the line, the better half of the rows, and those near the best one, with intervals."""
    best = max(rows, key=lambda row: row.value)
    width = best.interval[1] - best.interval[0] if best.interval else 0.0
    half = sorted((row.value for row in rows), reverse=True)[(len(rows) - 1) // 2]
    near = [row for row in rows if row.value >= min(half, best.value - max(_REACH, 2 * width))]
    ends = [end for row in near for end in (row.value, row.second, line, *(row.interval or ())) if end is not None]
    low, high = min(ends), max(ends)
    room = 0.05 * (high - low) or 0.01
    return low - room, high + room


def _mark(axes: Axes, row: _Row, place: int, low: float, high: float) -> None:
    if row.shaded:
        axes.axhspan(place - 0.5, place + 0.5, color=row.colour, alpha=0.14, linewidth=0)
    if low <= row.value <= high:
        if row.interval:
            width = 2.2 if row.heavy else 1.3
            axes.plot(row.interval, [place, place], color=row.colour, lw=width, solid_capstyle="round")
        if row.second is not None:
            axes.plot([row.second], [place], marker="D", color=row.colour, markersize=4.5, markerfacecolor="none")
        axes.plot([row.value], [place], marker="o", color=row.colour, markersize=6 if row.heavy else 4.5)
    else:
        axes.plot([low + 0.02 * (high - low)], [place], marker="<", color=row.colour, markersize=5)
    beside = ("axes fraction", "data")
    axes.annotate(row.text, (1, place), (4, 0), beside, textcoords="offset points", va="center", fontsize=8.5)


def _legend(figure: Figure, axes: Axes, line: float | None, line_label: str, seconds: bool) -> None:
    handles = []
    if line is not None:
        axes.axvline(line, color=GREY, linestyle=(0, (4, 2)), linewidth=1, zorder=0)
        handles.append(Line2D([], [], color=GREY, linestyle=(0, (4, 2)), linewidth=1, label=legend_label(line_label)))
    if seconds:
        label = "without copies of training rows"
        handles.append(
            Line2D([], [], color=INK, ls="", marker="D", markersize=4.5, markerfacecolor="none", label=label)
        )
    figure.legend(handles=handles, loc="upper left", ncols=2, fontsize=8, borderpad=0.2, columnspacing=1.2)
