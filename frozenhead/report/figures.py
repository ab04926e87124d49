"""The report's figures, each a pure function from numbers to one inline SVG string.

Imports metrics (confusion tables), svg, truncation and labels. No pyplot: nothing global is drawn on. Colours are
Okabe and Ito's (2008), which people with colour-blind eyes tell apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from frozenhead.labels import shown
from frozenhead.report.metrics import confusion_matrix
from frozenhead.report.svg import INK, house_style, to_svg
from frozenhead.report.truncation import fate, longer_share

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

MOST_ANNOTATED = 20  # classes in a confusion table whose cells still hold readable numbers
MOST_OVERLAID = len(PALETTE)  # classes in one histogram
MOST_NAMED = 30  # classes with a bar of their own

_LABEL_WIDTH = 18
_MOST_BINS = 48


@dataclass(frozen=True, kw_only=True)
class Figures:
    """SVG strings for the page; `confusion` and `curves` stand in the order of the evidence's heads.

    `curves` holds None for a head without epochs; `lengths` has the keys of the evidence's lengths.
    """

    balance: str
    lengths: Mapping[str, str]
    confusion: Sequence[str]
    curves: Sequence[str | None]


def draw(evidence: Mapping[str, Any]) -> Figures:
    """Draw every figure of the report from what `gather` returned."""
    dataset = evidence["dataset"]
    classes, split = dataset["classes"], dataset["judged_split"]
    confusion, curves = [], []
    for number, entry in enumerate(evidence["heads"]):
        title = f"{entry['head']} on {entry['feature']}"
        table = confusion_matrix(entry[split], len(classes)).tolist()
        confusion.append(confusion_figure(table, classes, name=f"confusion{number}", title=title))
        curve = None
        if entry["history"]:
            curve = curves_figure(entry["history"], entry["best_epoch"], name=f"curves{number}", title=title)
        curves.append(curve)
    return Figures(
        balance=balance_figure(dataset["class_counts"], dataset["class_weights"], name="balance"),
        lengths={
            key: lengths_figure(group, classes, name=f"lengths{number}")
            for number, (key, group) in enumerate(dataset["lengths"].items())
        },
        confusion=confusion,
        curves=curves,
    )


def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[str], *, name: str, title: str) -> str:
    """Draw a confusion table (K, K), rows true: colour is the share of the row, and each cell says both numbers.

    Above `MOST_ANNOTATED` classes it is a heat map without a word.
    """
    counts = np.asarray(confusion, dtype=np.float64)  # (K, K)
    rows = counts.sum(axis=1, keepdims=True)  # (K, 1)
    rates = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)  # (K, K)
    annotated = len(classes) <= MOST_ANNOTATED
    with house_style():
        figure = Figure(figsize=_confusion_size(classes) if annotated else (4.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(_shade(rates))
        axes.set(xlabel="predicted", ylabel="true")
        if annotated:
            _annotate(axes, counts, rates, classes)
        else:
            axes.set(xticks=[], yticks=[])
        hits = f"{counts.trace():.0f} of {counts.sum():.0f} rows on the diagonal"
        return to_svg(figure, name=name, alt=f"Confusion table of {title}: {hits}.")


def _shade(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blue (K, K, 4) whose opacity, at most 0.6, is the rate: ink stays legible on it in light and in dark."""
    shade = np.empty((*rates.shape, 4))
    shade[..., :3] = (0.0, 0.45, 0.70)
    shade[..., 3] = 0.6 * np.sqrt(rates)  # the root lifts the rare errors, which are what one looks for
    return shade


def _annotate(axes: Axes, counts: NDArray[np.float64], rates: NDArray[np.float64], classes: Sequence[str]) -> None:
    names = [_short(label) for label in classes]
    axes.set_xticks(range(len(classes)), names, rotation=90 if _upright(names) else 0)
    axes.set_yticks(range(len(classes)), names)
    axes.tick_params(length=0)
    for row, column in np.ndindex(*counts.shape):
        count = int(counts[row, column])
        text = f"{count:,}\n{100 * rates[row, column]:.1f} %" if count else "0"
        axes.text(
            column, row, text, ha="center", va="center", fontsize=_cell(names) * 12.5, alpha=None if count else 0.5
        )


def _confusion_size(classes: Sequence[str]) -> tuple[float, float]:
    """Width and height in inches that leave every cell the room its two lines need."""
    names = [_short(label) for label in classes]
    cells, beside = _cell(names) * max(len(names), 2), 0.08 * max(map(len, names))
    return cells + beside + 0.6, cells + (beside if _upright(names) else 0.2) + 0.7


def _cell(names: Sequence[str]) -> float:
    return 0.66 if len(names) <= 10 else 0.54


def _upright(names: Sequence[str]) -> bool:
    return max(map(len, names)) > 7


def curves_figure(history: Sequence[Mapping[str, Any]], best_epoch: int | None, *, name: str, title: str) -> str:
    """Draw training and validation loss by epoch; a loss that is None leaves a gap. The epoch kept is marked."""
    epochs = [epoch["epoch"] for epoch in history]
    with house_style():
        figure = Figure(figsize=(4.4, 2.7), layout="constrained")
        axes = figure.add_subplot()
        for key, colour, label in (("train_loss", PALETTE[1], "training"), ("val_loss", PALETTE[0], "validation")):
            losses = [np.nan if epoch.get(key) is None else epoch[key] for epoch in history]
            axes.plot(epochs, losses, color=colour, label=label, marker="o", markersize=3, linewidth=1.4)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        alt = f"Training and validation loss of {title} over {len(epochs)} epochs."
        return to_svg(figure, name=name, alt=alt)


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
        figure = Figure(figsize=(6.6, 3.1), layout="constrained")
        axes = figure.add_subplot()
        edges = _bin_edges(total)
        if len(classes) <= MOST_OVERLAID:
            for (label, of_class), colour in zip(counts.items(), PALETTE, strict=False):
                block = truncation["per_class"].get(label)
                share = longer_share(block) if block else 0.0
                _outline(axes, of_class, edges, colour, f"{_short(label)}: {100 * share:.1f} % {fate(truncation)}")
        else:
            _outline(axes, total, edges, PALETTE[0], "all classes")
        cut = f"limit {limit} tokens: {100 * longer_share(truncation):.1f} % of all rows {fate(truncation)}"
        seen = edges[0] <= limit + 0.5 <= edges[-1]
        axes.plot([], [], color=INK, linestyle="--", linewidth=1, label=cut)
        if seen:
            axes.axvline(limit + 0.5, color=INK, linestyle="--", linewidth=1)
        axes.set(xlabel="tokens per text, [CLS] and [SEP] included", ylabel="% of the class's rows")
        axes.legend()
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
    figure = Figure(figsize=(6.6, 0.9 + 0.3 * K), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(K)
    for split, colour in _SPLITS:
        rows = np.array([counts[split] for counts in class_counts.values()], dtype=np.float64)
        axes.barh(range(K), rows, left=left, color=colour, height=0.62, label=split)
        left += rows
    for position, label in enumerate(class_counts):
        text = f"{left[position]:,.0f} rows, weight {weights[label]:.4g}"
        axes.annotate(text, (left[position], position), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(K), [_short(label) for label in class_counts])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.42 * left.max())
    axes.set(xlabel="rows")
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def _sorted_bars(class_counts: Mapping[str, Mapping[str, int]]) -> Figure:
    ordered = sorted(class_counts.values(), key=lambda counts: -counts["all"])
    figure = Figure(figsize=(6.6, 2.8), layout="constrained")
    axes = figure.add_subplot()
    base = np.zeros(len(ordered))
    for split, colour in _SPLITS:
        top = base + [counts[split] for counts in ordered]
        axes.stairs(top, baseline=base, fill=True, color=colour, label=split)
        base = top
    axes.set(xlabel="classes, the largest first", ylabel="rows", xlim=(0, len(ordered)))
    axes.legend(ncols=3)
    return figure


def _short(label: str) -> str:
    return shown(label, width=_LABEL_WIDTH)
