"""The data: how long the texts are and where they are cut, and how many rows each class has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from frozenhead.report.figures.style import PALETTE, columns, legend_label, short
from frozenhead.report.svg import INK, house_style, to_svg
from frozenhead.report.truncation import fate, longer_share

MOST_OVERLAID = len(PALETTE)  # classes in one histogram
MOST_NAMED = 30  # classes with a bar of their own

_MOST_BINS = 48
_MOST_BARS = 250


def lengths_figure(group: Mapping[str, Any], classes: Sequence[str], *, name: str) -> str:
    """Draw how long the texts are, in tokens, and where the encoder's limit cuts them.

    Each class is drawn as shares of its own rows, so that a rare class is seen; above `MOST_OVERLAID` classes all
    rows are one outline. The longest half per cent lies beyond the right edge.
    """
    counts = {label: {int(n): rows for n, rows in group["per_class"].get(label, {}).items()} for label in classes}
    total: dict[int, int] = {}
    for of_class in counts.values():
        for tokens, rows in of_class.items():
            total[tokens] = total.get(tokens, 0) + rows
    limit, truncation = group["max_length"], group["truncation"]
    with house_style():
        figure = Figure(figsize=(5.6, 3.3), layout="constrained")
        axes = figure.add_subplot()
        edges = _bin_edges(total)
        if len(classes) <= MOST_OVERLAID:
            for (label, of_class), colour in zip(counts.items(), PALETTE, strict=False):
                block = truncation["per_class"].get(label)
                share = longer_share(block) if block else 0.0
                text = legend_label(f"{short(label)}: {100 * share:.1f} % {fate(truncation)}")
                _outline(axes, of_class, edges, colour, text)
        else:
            _outline(axes, total, edges, PALETTE[0], "all classes")
        cut = f"limit {limit} tokens: {100 * longer_share(truncation):.1f} % of all rows {fate(truncation)}"
        seen = edges[0] <= limit + 0.5 <= edges[-1]
        axes.plot([], [], color=INK, linestyle="--", linewidth=1, label=cut)
        if seen:
            axes.axvline(limit + 0.5, color=INK, linestyle="--", linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="tokens per text, [CLS] and [SEP] included", ylabel="% of the class's rows")
        names = [str(text) for text in axes.get_legend_handles_labels()[1]]
        figure.legend(loc="outside upper left", ncols=columns(names, 5.6), fontsize=8)
        alt = f"Tokens per text for {group['encoder']}; {cut}."
        return to_svg(figure, name=name, alt=alt)


def _bin_edges(total: Mapping[int, int]) -> NDArray[np.float64]:
    """Edges between whole numbers, equally far apart: [2.5, 4.5, 6.5] counts 3 and 4, then 5 and 6."""
    if not total:
        return np.array([0.5, 1.5])
    tokens = np.array(sorted(total))
    below = np.cumsum([total[n] for n in tokens])
    low, high = int(tokens[0]), int(tokens[int(np.searchsorted(below, 0.995 * below[-1]))])
    width = -(-(high - low + 1) // _MOST_BINS)
    bins = -(-(high - low + 1) // width)
    return low - 0.5 + width * np.arange(bins + 1, dtype=np.float64)


def _outline(axes: Axes, of_class: Mapping[int, int], edges: NDArray[np.float64], colour: str, label: str) -> None:
    rows = np.array(list(of_class.values()), dtype=np.float64)
    heights, _ = np.histogram(list(of_class), bins=edges, weights=rows)
    share = 100 * heights / max(rows.sum(), 1.0)
    axes.stairs(share, edges, fill=True, color=colour, alpha=0.22)
    axes.stairs(share, edges, color=colour, linewidth=1.4, label=label)


def balance_figure(class_counts: Mapping[str, Mapping[str, int]], weights: Mapping[str, float], *, name: str) -> str:
    """Draw the rows of each class, by split, with the class's balanced weight.

    Above `MOST_NAMED` classes the bars are sorted by size and bear no names.
    """
    with house_style():
        named = len(class_counts) <= MOST_NAMED
        figure = _named_bars(class_counts, weights) if named else _sorted_bars(class_counts)
        return to_svg(figure, name=name, alt=f"Rows of each of {len(class_counts)} classes, by split.")


_SPLITS = (("train", PALETTE[0]), ("val", PALETTE[4]), ("test", PALETTE[1]))


def _named_bars(class_counts: Mapping[str, Mapping[str, int]], weights: Mapping[str, float]) -> Figure:
    K = len(class_counts)
    figure = Figure(figsize=(5.6, 0.9 + 0.3 * K), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(K)
    for split, colour in _SPLITS:
        rows = np.array([counts[split] for counts in class_counts.values()], dtype=np.float64)
        axes.barh(range(K), rows, left=left, color=colour, height=0.62, label=split)
        left += rows
    for position, label in enumerate(class_counts):
        text = f"{left[position]:,.0f} rows, weight {weights[label]:.4g}"
        axes.annotate(text, (left[position], position), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(K), [short(label) for label in class_counts])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.5 * left.max())
    axes.set(xlabel="rows")
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def _sorted_bars(class_counts: Mapping[str, Mapping[str, int]]) -> Figure:
    ordered = sorted(class_counts.values(), key=lambda counts: -counts["all"])
    bars = np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_BARS)).round().astype(int)  # of many, some
    edges = np.append(bars, len(ordered))
    figure = Figure(figsize=(5.6, 2.8), layout="constrained")
    axes = figure.add_subplot()
    base = np.zeros(len(bars))
    for split, colour in _SPLITS:
        top = base + [ordered[bar][split] for bar in bars]
        axes.stairs(top, edges, baseline=base, fill=True, color=colour, label=split)
        base = top
    axes.set(xlabel="classes, the largest first", ylabel="rows", xlim=(0, len(ordered)))
    figure.legend(loc="outside upper right", ncols=3)
    return figure
