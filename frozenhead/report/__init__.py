"""Predictions become evidence: scores, figures, the page, the terminal table and Markdown.

Imports neither torch nor transformers, and of the package only errors and labels.
"""

from frozenhead.report.displays import (
    calibration_display,
    confusion_display,
    efficiency_display,
    precision_recall_display,
    roc_display,
)
from frozenhead.report.evidence import gather
from frozenhead.report.figures import Figures, draw
from frozenhead.report.markdown import to_markdown
from frozenhead.report.metrics import balanced_weights, score_block
from frozenhead.report.page import render
from frozenhead.report.predictions import HeadEvidence
from frozenhead.report.table import terminal_table

__all__ = [
    "Figures",
    "HeadEvidence",
    "balanced_weights",
    "calibration_display",
    "confusion_display",
    "draw",
    "efficiency_display",
    "gather",
    "precision_recall_display",
    "render",
    "roc_display",
    "score_block",
    "terminal_table",
    "to_markdown",
]
