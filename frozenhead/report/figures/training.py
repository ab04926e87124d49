"""Training: the loss by epoch, and the score by the number of training rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from frozenhead.report.figures.style import (
    BLUE,
    LINES,
    MOST_LINES,
    ORANGE,
    Entry,
    columns,
    first,
    legend_height,
    legend_label,
    named,
)  # fmt: skip
from frozenhead.report.svg import INK, house_style, to_svg

_WIDTH = 4.8


def curves_figure(history: Sequence[Mapping[str, Any]], best_epoch: int | None, *, name: str, title: str) -> str:
    """Draw training and validation loss by epoch; a loss that is None leaves a gap. The epoch kept is marked."""
    epochs = [epoch["epoch"] for epoch in history]
    with house_style():
        figure = Figure(figsize=(4.4, 2.7), layout="constrained")
        axes = figure.add_subplot()
        for key, colour, label in (("train_loss", ORANGE, "training"), ("val_loss", BLUE, "validation")):
            losses = [np.nan if epoch.get(key) is None else epoch[key] for epoch in history]
            axes.plot(epochs, losses, color=colour, label=label, marker="o", markersize=3, linewidth=1.4)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper left", ncols=3, fontsize=8)
        return to_svg(figure, name=name, alt=f"Loss of {title} over {len(epochs)} epochs. {_loss_in_words(history)}")


def _loss_in_words(history: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for key, label in (("train_loss", "training"), ("val_loss", "validation")):
        losses = [(epoch[key], epoch["epoch"]) for epoch in history if epoch.get(key) is not None]
        if losses:
            low, when = min(losses)
            parts.append(
                f"{label} loss from {losses[0][0]:.3g} to {losses[-1][0]:.3g}, lowest {low:.3g} in epoch {when}"
            )
    return "; ".join(parts)


def efficiency_figure(entries: Sequence[Entry], baseline: Entry | None, *, name: str) -> str | None:
    """Draw validation macro F1 by the share of the training rows: the median of the seeds, and their range.

    Of more than `MOST_LINES` heads with a curve, the first ones and the baseline. None if no head has one.
    """
    known = [entry for entry in entries if entry.get("curve") and _by_share(entry["curve"])]
    if not known:
        return None
    words = []
    with house_style():
        drawn = [known[place] for place in first(known, MOST_LINES, baseline)]
        names = [legend_label(named(entry)) for entry in drawn]
        figure = Figure(figsize=(_WIDTH, 2.8 + legend_height(names, _WIDTH)), layout="constrained")
        axes = figure.add_subplot()
        shares: set[float] = set()
        for entry, label, (colour, dashes) in zip(drawn, names, LINES, strict=False):
            points = _by_share(entry["curve"])
            xs = sorted(points)
            middle = [float(np.median(points[x])) for x in xs]
            axes.plot(xs, middle, color=colour, linestyle=dashes, marker="o", markersize=3, label=label)
            if any(len(scores) > 1 for scores in points.values()):
                low, high = ([by(points[x]) for x in xs] for by in (min, max))
                axes.fill_between(xs, low, high, color=colour, alpha=0.16, linewidth=0)
            shares |= set(xs)
            words.append(
                f"{named(entry)} {middle[0]:.3f} at {_percent(xs[0])} and {middle[-1]:.3f} at {_percent(xs[-1])}"
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted(shares)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(sorted(shares), [_percent(share) for share in sorted(shares)])
        axes.set(xlabel="share of the training rows (log scale)", ylabel="validation macro F1")
        figure.legend(loc="outside upper left", ncols=columns(names, _WIDTH), fontsize=8)
        return to_svg(figure, name=name, alt=f"Validation macro F1 by share of the training rows: {'; '.join(words)}.")


def _by_share(curve: Mapping[str, Any]) -> dict[float, list[float]]:
    """Scores of every seed at each share; a point whose training failed has none."""
    found: dict[float, list[float]] = {}
    for point in curve["points"]:
        score = (point.get("val") or {}).get("macro_f1")
        if score is not None:
            found.setdefault(point["share"], []).append(score)
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
