"""The confusion table: what was taken for what, in rows and in shares of the true class."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from frozenhead.report.figures.style import short
from frozenhead.report.svg import house_style, to_svg

MOST_ANNOTATED = 20  # classes in a confusion table whose cells still hold readable numbers
MOST_ZEROS = 10  # classes in a table that says its zeros as well; more leave them blank
MOST_CELLS = 250  # a side of the heat map: about a pixel each


def confusion_figure(confusion: ArrayLike, classes: Sequence[str], *, name: str, title: str) -> str:
    """Draw a confusion table (K, K), rows true: colour is the share of the row, and each cell says both numbers.

    Above `MOST_ZEROS` classes an empty cell says nothing; above `MOST_ANNOTATED` it is a heat map without a word.
    """
    counts = np.asarray(confusion, dtype=np.float64)  # (K, K)
    rows = counts.sum(axis=1, keepdims=True)  # (K, 1)
    rates = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)  # (K, K)
    annotated = len(classes) <= MOST_ANNOTATED
    with house_style():
        figure = Figure(figsize=_size(classes) if annotated else (4.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(_shade(rates if annotated else _coarse(rates)))
        axes.set(xlabel="predicted", ylabel="true")
        if annotated:
            _annotate(axes, counts, rates, classes)
        else:
            axes.set(xticks=[], yticks=[])
        return to_svg(figure, name=name, alt=f"Confusion table of {title}: {_in_words(counts, classes)}.")


def _in_words(counts: NDArray[np.float64], classes: Sequence[str]) -> str:
    """The diagonal, and the most frequent mistake."""
    text = f"{counts.trace():,.0f} of {counts.sum():,.0f} rows on the diagonal"
    mistakes = counts - np.diag(counts.diagonal())
    row, column = divmod(int(mistakes.argmax()), len(classes))
    if mistakes[row, column]:
        took = f"{short(classes[row])} taken for {short(classes[column])}"
        text += f"; the most frequent mistake is {took}, {mistakes[row, column]:,.0f} times"
    return text


def _coarse(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most `MOST_CELLS` cells a side, each the largest of those it stands for: a lone mistake stays in sight."""
    step = -(-len(rates) // MOST_CELLS)
    starts = np.arange(0, len(rates), step)
    coarse: NDArray[np.float64] = np.maximum.reduceat(np.maximum.reduceat(rates, starts, axis=0), starts, axis=1)
    return coarse


def _shade(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blue (K, K, 4) whose opacity, at most 0.6, is the rate: ink stays legible on it in light and in dark."""
    shade = np.empty((*rates.shape, 4))
    shade[..., :3] = (0.0, 0.45, 0.70)
    shade[..., 3] = 0.6 * np.sqrt(rates)  # the root lifts the rare errors, which are what one looks for
    return shade


def _annotate(axes: Axes, counts: NDArray[np.float64], rates: NDArray[np.float64], classes: Sequence[str]) -> None:
    names = [short(label) for label in classes]
    axes.set_xticks(range(len(classes)), names, rotation=90 if _upright(names) else 0)
    axes.set_yticks(range(len(classes)), names)
    axes.tick_params(length=0)
    size = _cell(names) * 12.5
    for row, column in np.ndindex(*counts.shape):
        count = int(counts[row, column])
        if not count and len(names) > MOST_ZEROS:
            continue
        text = f"{count:,}\n{100 * rates[row, column]:.1f} %" if count else "0"
        alpha = None if count else 0.5
        cell = axes.text(column, row, text, ha="center", va="center", fontsize=size, alpha=alpha)
        cell.set_in_layout(False)  # it is within the axes; measuring 400 of them takes half the time


def _size(classes: Sequence[str]) -> tuple[float, float]:
    """Width and height in inches that leave every cell the room its two lines need."""
    names = [short(label) for label in classes]
    cells, beside = _cell(names) * max(len(names), 2), 0.08 * max(map(len, names))
    return cells + beside + 0.6, cells + (beside if _upright(names) else 0.2) + 0.7


def _cell(names: Sequence[str]) -> float:
    return 0.66 if len(names) <= 10 else 0.54


def _upright(names: Sequence[str]) -> bool:
    return max(map(len, names)) > 7
