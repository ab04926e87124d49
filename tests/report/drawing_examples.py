"""Small drawings for every place on the page that has one."""

from functools import cache
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from frozenhead.report import Figures
from frozenhead.report.svg import house_style, to_svg

Json = dict[str, Any]


def make_figures(evidence: Json) -> Figures:
    """One small drawing for every place on the page that has one."""
    heads = evidence["heads"]
    return Figures(
        balance=_drawing("balance"),
        lengths={key: _drawing(f"lengths{number}") for number, key in enumerate(evidence["dataset"]["lengths"])},
        confusion=[_drawing(f"confusion{number}") for number in range(len(heads))],
        curves=[_drawing(f"curves{n}") if entry["history"] else None for n, entry in enumerate(heads)],
        forest=_drawing("forest"),
        differences=_drawing("differences"),
        reliability=[_drawing("reliability"), *[None] * (len(heads) - 1)],
        roc=_drawing("roc"),
        precision_recall=_drawing("precision"),
        efficiency=_drawing("efficiency"),
        map=_drawing("map"),
    )


@cache
def _drawing(name: str) -> str:
    with house_style():
        figure = Figure(figsize=(4.4, 2.7), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="#0072B2", label="<b>bold</b>")
        axes.imshow(np.eye(2), extent=(0.0, 0.4, 0.6, 1.0))
        axes.legend()
        return to_svg(figure, name=name, alt=f"The drawing {name}.")
