"""Probabilities: whether they can be believed, and how well they rank (ROC, precision against recall)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frozenhead.report.curves import BINS
from frozenhead.report.figures.style import (
    BLUE,
    GREY,
    LINES,
    ORANGE,
    Entry,
    columns,
    first,
    legend_height,
    legend_label,
    named,
    same,
    short,
)
from frozenhead.report.svg import house_style, to_svg


def reliability_figure(reliability: Mapping[str, Any], *, name: str, title: str, lowest: float = 0.0) -> str:
    """Draw the share that is right against the confidence, before and after calibration, over how many rows.

    Parameters
    ----------
    reliability : mapping
        `before` (or None) and `after`: bins as `curve_block` makes them.
    name, title : str
        Of the figure, and of the head.
    lowest : float
        Where the axis of confidence starts: with two classes none is below 0.5.
    """
    before, after = reliability["before"], reliability["after"]
    calibrated = before is not None
    with house_style():
        figure = Figure(figsize=(4.4, 4.0), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([lowest, 1], [lowest, 1], color=GREY, linewidth=1, linestyle=":", label="as confident as right")
        if calibrated:
            label = f"before calibration: ECE {before['ece']:.3f}"
            _bins(upper, lower, before, label, colour=ORANGE, filled=False)
        label = f"{'after calibration' if calibrated else 'as trained'}: ECE {after['ece']:.3f}"
        _bins(upper, lower, after, label, colour=BLUE, filled=True)
        upper.set(ylabel="share that is right", ylim=(-0.03, 1.03))
        lower.set(xlabel="confidence (largest probability)", ylabel="% of rows", xlim=(lowest - 0.01, 1.01))
        figure.legend(handles=upper.get_legend_handles_labels()[0], loc="outside upper left", fontsize=8)
        alt = f"Reliability of {title}: expected calibration error {after['ece']:.3f}"
        alt += f" after calibration, {before['ece']:.3f} before" if calibrated else ""
        surest = after["confidence"][-1], after["accuracy"][-1], after["rows"][-1]
        alt += f"; of the {surest[2]:,} surest rows, at {surest[0]:.3f}, {100 * surest[1]:.1f} % are right."
        return to_svg(figure, name=name, alt=alt)


def _bins(upper: Axes, lower: Axes, bins: Mapping[str, Any], label: str, *, colour: str, filled: bool) -> None:
    marker, face = ("o", colour) if filled else ("s", "none")
    x, y = bins["confidence"], bins["accuracy"]
    upper.plot(x, y, color=colour, lw=1.4, label=label, marker=marker, markersize=4, markerfacecolor=face)
    edges = np.linspace(0, 1, BINS + 1)
    which = np.searchsorted(edges[1:-1], bins["confidence"])
    share = np.zeros(BINS)
    share[which] = 100 * np.array(bins["rows"]) / sum(bins["rows"])
    lower.stairs(share, edges, fill=filled, color=colour, alpha=0.35 if filled else None, linewidth=1.2)


MOST_OVERLAID = 10  # heads in one figure

_LABELS = {
    "roc": ("false positive rate", "true positive rate", "ROC area"),
    "precision_recall": ("recall", "precision", "average precision"),
}


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One line of the evidence and how it looks; without a label it stands in no legend."""

    points: Mapping[str, Any]
    label: str
    colour: str
    dashes: Any = "-"
    width: float = 1.4


def lines_figure(
    entries: Sequence[Entry], kind: str, classes: Sequence[str], baseline: Entry | None, *, name: str
) -> str | None:
    """Draw the ROC (`kind` "roc") or precision-recall lines ("precision_recall") of the judged split.

    Two classes: of the first `MOST_OVERLAID` heads and the baseline, for the second class; the first head blue, the
    baseline orange, the others grey. More: of the first head, for the classes in its evidence. None without a line.
    """
    two = len(classes) == 2
    lines = _of_heads(entries, kind, baseline) if two else _of_classes(entries[0], kind)
    if not lines:
        return None
    xlabel, ylabel, measure = _LABELS[kind]
    with house_style():
        names = [line.label for line in lines if line.label]
        figure = Figure(figsize=(4.2, 3.6 if two else 3.4 + legend_height(names, 4.2)), layout="constrained")
        axes = figure.add_subplot()
        if kind == "roc":
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        for z, line in enumerate(reversed(lines), start=3):  # the first on top
            x, y = line.points["x"], line.points["y"]
            # Average precision is the area under steps, so steps are drawn.
            steps = "steps-pre" if kind == "precision_recall" else "default"
            label = line.label or None
            axes.plot(x, y, drawstyle=steps, color=line.colour, ls=line.dashes, lw=line.width, label=label, zorder=z)
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        handles = axes.get_legend_handles_labels()[0][::-1]
        if two:
            legend = axes.legend(handles=handles, fontsize=8, title=measure, title_fontsize=8, alignment="left")
            legend.set_loc("lower right" if kind == "roc" else "lower left")
        else:
            figure.legend(handles=handles, loc="outside upper left", ncols=columns(names, 4.2), fontsize=8)
        of = f"{short(classes[1])} against {short(classes[0])}" if two else f"{named(entries[0])}, class by class"
        return to_svg(figure, name=name, alt=f"{ylabel} by {xlabel}, {of}; {measure}: {'; '.join(names)}.")


def _of_heads(entries: Sequence[Entry], kind: str, baseline: Entry | None) -> list[_Line]:
    heavy, light = [], []
    for place in first(entries, MOST_OVERLAID, baseline):
        entry = entries[place]
        for points in entry["curves"][kind]:  # one, or none where a class has no row
            if place == 0 or same(entry, baseline):
                label = legend_label(f"{named(entry)}: {area(points)}")
                heavy.append(_Line(points=points, label=label, colour=ORANGE if place else BLUE, width=1.8))
            else:
                light.append(_Line(points=points, label="", colour=GREY, width=0.8))
    if light:
        light[0] = replace(light[0], label=f"{len(light)} other {'heads' if len(light) > 1 else 'head'}")
    return heavy + light


def _of_classes(entry: Entry, kind: str) -> list[_Line]:
    lines = []
    for points, (colour, dashes) in zip(entry["curves"][kind], LINES, strict=False):
        label = legend_label(f"{short(points['label'])}: {area(points)}")
        lines.append(_Line(points=points, label=label, colour=colour, dashes=dashes))
    return lines


def area(line: Mapping[str, Any]) -> str:
    """The area in four decimals; never 1.0000 for less than 1."""
    value = line["area"]
    if value is None:
        return "no area"
    return f"{value:.4f}" if value == 1 else f"{min(value, 0.9999):.4f}"
