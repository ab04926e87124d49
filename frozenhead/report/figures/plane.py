"""The map: vectors laid flat on their two principal components."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

COLOURS = (*PALETTE, "#7A5C00")  # of the largest 7 classes; the rest is grey, an eighth under its own name

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
    wrong = np.array([bool(one) for one in plane["wrong"]])  # (n,)  None: was not judged
    parts = _parts(np.array(plane["label"]), classes)
    names = [part.text for part in parts]
    with house_style():
        figure = Figure(figsize=(_WIDTH, 4.1 + legend_height(names, _WIDTH)), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlim=_span(points[:, 0]), ylim=_span(points[:, 1]), xticks=[], yticks=[])
        for part in sorted(parts, key=lambda part: -part.rows.sum()):  # rare classes on top
            _dots(axes, points[part.rows & ~wrong], part.colour, _DOT, opacity=0.75)
        _dots(axes, points[wrong], INK, _RING, opacity=1.0)  # what shows of it round the dot is the ring
        for part in parts:
            _dots(axes, points[part.rows & wrong], part.colour, _DOT, opacity=1.0)
        for axis, share in zip((axes.xaxis, axes.yaxis), plane["variance"], strict=True):
            axis.set_label_text(f"{100 * share:.1f} % of the variance")
        handles = [_mark(part.text, part.colour) for part in parts]
        if wrong.any():
            handles.append(_mark(f"labelled wrongly ({wrong.sum():,})", INK, hollow=True))
        ncols = columns(names, _WIDTH)
        figure.legend(handles=handles, loc="outside upper left", ncols=ncols, fontsize=8, handletextpad=0.3)
        alt = f"Map of {plane['shown']:,} of {plane['rows']:,} texts by the vectors of {short(plane['feature'])}, "
        alt += f"two principal components that hold {100 * sum(plane['variance']):.1f} % of the variance; "
        return to_svg(figure, name=name, alt=f"{alt}{wrong.sum():,} ringed texts were labelled wrongly.")


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The texts of one colour: a mask of all texts (n,)."""

    text: str
    rows: NDArray[np.bool_]
    colour: str


def _parts(label: NDArray[np.int64], classes: Sequence[str]) -> list[_Part]:
    """One for each of the largest classes, and one for the rest."""
    counts = np.bincount(label, minlength=len(classes))  # (K,)
    order = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]]
    rest = order[len(COLOURS) :]
    parts = [
        _Part(text=legend_label(f"{short(classes[c])} ({counts[c]:,})"), rows=label == c, colour=colour)
        for c, colour in zip(order, COLOURS, strict=False)
    ]
    if rest:
        name = short(classes[rest[0]]) if len(rest) == 1 else f"{len(rest)} other classes"
        text = legend_label(f"{name} ({counts[rest].sum():,})")
        parts.append(_Part(text=text, rows=np.isin(label, rest), colour=GREY))
    return parts


def _mark(text: str, colour: str, *, hollow: bool = False) -> Line2D:
    face = "none" if hollow else colour
    return Line2D([], [], ls="", marker="o", color=colour, markerfacecolor=face, markersize=4 + hollow, label=text)


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
