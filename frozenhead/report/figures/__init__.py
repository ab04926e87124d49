"""The report's figures, each a pure function from numbers to one inline SVG string.

Imports svg, curves, truncation and labels. No pyplot: nothing global is drawn on.
"""

from frozenhead.report.figures.confusion import MOST_ANNOTATED, confusion_figure
from frozenhead.report.figures.dataset import balance_figure, lengths_figure
from frozenhead.report.figures.drawing import Figures, draw
from frozenhead.report.figures.plane import map_figure
from frozenhead.report.figures.probabilities import lines_figure, reliability_figure
from frozenhead.report.figures.scores import differences_figure, forest_figure
from frozenhead.report.figures.training import curves_figure, efficiency_figure

__all__ = [
    "MOST_ANNOTATED",
    "Figures",
    "balance_figure",
    "confusion_figure",
    "curves_figure",
    "differences_figure",
    "draw",
    "efficiency_figure",
    "forest_figure",
    "lengths_figure",
    "lines_figure",
    "map_figure",
    "reliability_figure",
]
