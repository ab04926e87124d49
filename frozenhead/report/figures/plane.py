"""The map: vectors laid flat on their two principal components."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from frozenhead.report.figures.style import GREY, PALETTE, columns, legend_height, legend_label, short
from frozenhead.report.svg import INK, house_style, to_svg

COLOURS = (*PALETTE, "#7A5C00")
MOST_COLOURED = 8  # classes with a colour each, the eighth grey; of more, the largest 7 and the rest in grey

_WIDTH = 4.8
_DOT, _RING = 3.2, 5.6  # points across


def map_figure(plane: Mapping[str, Any], classes: Sequence[str], *, name: str) -> str:
    """Draw texts as dots in the colours of their classes; a dot that the selected head got wrong has a ring.

    Parameters
    ----------
    plane : mapping
        `map` of the evidence.
    classes : sequence of str
    name : str
    """
    points = np.column_stack([plane["x"], plane["y"]])  # (n, 2)
    label = np.array(plane["label"])  # (n,)
    wrong = np.array([bool(one) for one in plane["wrong"]])  # (n,)  None: was not judged
    counts = np.bincount(label, minlength=len(classes))  # (K,)
    order = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]]
    coloured = order[: len(COLOURS)]
    rest = order[len(COLOURS) :]
    parts = [
        (legend_label(f"{short(classes[c])} ({counts[c]:,})"), label == c, COLOURS[i]) for i, c in enumerate(coloured)
    ]
    if rest:
        named = short(classes[rest[0]]) if len(rest) == 1 else f"{len(rest)} other classes"
        parts.append((legend_label(f"{named} ({counts[rest].sum():,})"), np.isin(label, rest), GREY))
    with house_style():
        names = [text for text, _, _ in parts]
        figure = Figure(figsize=(_WIDTH, 4.1 + legend_height(names, _WIDTH)), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlim=_span(points[:, 0]), ylim=_span(points[:, 1]), xticks=[], yticks=[])
        for _, mask, colour in sorted(parts, key=lambda part: -part[1].sum()):  # rare classes on top
            _dots(axes, points[mask & ~wrong], colour, _DOT, opacity=0.75)
        _dots(axes, points[wrong], INK, _RING, opacity=1.0)  # what shows of it round the dot is the ring
        for _, mask, colour in parts:
            _dots(axes, points[mask & wrong], colour, _DOT, opacity=1.0)
        for axis, share in zip((axes.xaxis, axes.yaxis), plane["variance"], strict=True):
            axis.set_label_text(f"{100 * share:.1f} % of the variance")
        handles = [
            Line2D([], [], ls="", marker="o", color=colour, markersize=4, label=text) for text, _, colour in parts
        ]
        if wrong.any():
            ring = Line2D([], [], ls="", marker="o", color=INK, markerfacecolor="none", markersize=5)
            ring.set_label(f"labelled wrongly ({wrong.sum():,})")
            handles.append(ring)
        figure.legend(
            handles=handles, loc="outside upper left", ncols=columns(names, _WIDTH), fontsize=8, handletextpad=0.3
        )
        of = f"{plane['shown']:,} of {plane['rows']:,} texts"
        alt = f"Map of {of} by the vectors of {short(plane['feature'])}, two principal components that hold "
        alt += (
            f"{100 * sum(plane['variance']):.1f} % of the variance; {wrong.sum():,} ringed texts were labelled wrongly."
        )
        return to_svg(figure, name=name, alt=alt)


def _span(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.03 * (high - low) or 1.0
    return low - room, high + room


def _dots(axes: Axes, points: NDArray[np.float64], colour: str, size: float, *, opacity: float) -> None:
    """Points (d, 2) as one path of strokes of no length with round ends, which `to_svg` writes in ten bytes each."""
    points = points[np.argsort(points[:, 0], kind="stable")]  # the next is near
    if len(points):
        codes = np.tile([Path.MOVETO, Path.LINETO], len(points)).astype(Path.code_type)
        path = Path(np.repeat(points, 2, axis=0), codes)
        path.should_simplify = False  # which would drop strokes of no length
        axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=size, capstyle="round", alpha=opacity))
