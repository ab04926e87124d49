"""Every figure of a report, from its evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frozenhead.report.comparisons import trusted
from frozenhead.report.figures.confusion import confusion_figure
from frozenhead.report.figures.dataset import balance_figure, lengths_figure
from frozenhead.report.figures.plane import map_figure
from frozenhead.report.figures.probabilities import lines_figure, reliability_figure
from frozenhead.report.figures.scores import differences_figure, forest_figure
from frozenhead.report.figures.style import Entry, first, named, same
from frozenhead.report.figures.training import curves_figure, efficiency_figure
from frozenhead.report.metrics import confusion_matrix

MOST_TABLES = 12  # heads with a confusion table or a learning curve
MOST_LARGE_TABLES = 3  # heads with a confusion table of more than `FEW_CLASSES` classes: 0.3 s and 100 kB each
FEW_CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Figures:
    """SVG strings for the page, by section; None, or no key, where there is nothing to draw.

    Parameters
    ----------
    forest : str
        Every head's macro F1 with its interval: for the first screen. The first 12 heads and the baseline.
    differences : str or None
        Macro F1 against the best head, with paired intervals. None with one head.
    balance : str
        Rows and weights of the classes.
    lengths : mapping
        Tokens per text; has the keys of the evidence's `lengths`.
    confusion : sequence of str or None
        In the order of the evidence's heads. Of many heads or classes only the first ones and the baseline have one.
    curves : sequence of str or None
        Loss by epoch, likewise; None for a head without epochs too.
    efficiency : str or None
        Validation macro F1 by the share of training rows, of the heads that have a curve.
    reliability : sequence of str or None
        In the order of the evidence's heads: the selected head and the baseline have one.
    roc, precision_recall : str or None
        Two classes: all heads in one figure. More: the selected head, class by class.
    map : str or None
        The vectors on two principal components.
    """

    forest: str
    differences: str | None
    balance: str
    lengths: Mapping[str, str]
    confusion: Sequence[str | None]
    curves: Sequence[str | None]
    efficiency: str | None
    reliability: Sequence[str | None]
    roc: str | None
    precision_recall: str | None
    map: str | None


def draw(evidence: Mapping[str, Any]) -> Figures:
    """Draw every figure of the report from what `gather` returned."""
    dataset, entries, baseline = evidence["dataset"], evidence["heads"], evidence["baseline"]
    classes, split = dataset["classes"], dataset["judged_split"]
    return Figures(
        forest=forest_figure(entries, split, evidence["selected"], baseline, name="forest"),
        differences=differences_figure(trusted(evidence), name="differences"),
        balance=balance_figure(dataset["class_counts"], dataset["class_weights"], name="balance"),
        lengths={
            key: lengths_figure(group, classes, name=f"lengths{number}")
            for number, (key, group) in enumerate(dataset["lengths"].items())
        },
        confusion=_confusions(entries, classes, split, baseline),
        curves=_curves(entries, baseline),
        efficiency=efficiency_figure(entries, baseline, name="efficiency"),
        reliability=_reliabilities(entries, classes, baseline),
        roc=lines_figure(entries, "roc", classes, baseline, name="roc"),
        precision_recall=lines_figure(entries, "precision_recall", classes, baseline, name="precision-recall"),
        map=map_figure(evidence["map"], classes, name="map") if evidence["map"] else None,
    )


def _confusions(
    entries: Sequence[Entry], classes: Sequence[str], split: str, baseline: Entry | None
) -> list[str | None]:
    figures: list[str | None] = [None] * len(entries)
    for place in first(entries, MOST_TABLES if len(classes) <= FEW_CLASSES else MOST_LARGE_TABLES, baseline):
        entry = entries[place]
        table = confusion_matrix(entry[split], len(classes))
        figures[place] = confusion_figure(table, classes, name=f"confusion{place}", title=named(entry))
    return figures


def _curves(entries: Sequence[Entry], baseline: Entry | None) -> list[str | None]:
    figures: list[str | None] = [None] * len(entries)
    for place in first(entries, MOST_TABLES, baseline):
        entry = entries[place]
        if entry["history"]:
            name, title = f"curves{place}", named(entry)
            figures[place] = curves_figure(entry["history"], entry["best_epoch"], name=name, title=title)
    return figures


def _reliabilities(entries: Sequence[Entry], classes: Sequence[str], baseline: Entry | None) -> list[str | None]:
    figures: list[str | None] = [None] * len(entries)
    for place, entry in enumerate(entries):
        if place == 0 or same(entry, baseline):
            bins, lowest = entry["curves"]["reliability"], 0.5 if len(classes) == 2 else 0.0
            figures[place] = reliability_figure(bins, name=f"reliability{place}", title=named(entry), lowest=lowest)
    return figures
