"""The report as one HTML file: no script, no request, nothing that is not in the evidence.

Imports figures (its type), truncation and labels. The words and the layout are in `templates/report.html.j2`; this
module reads it, gives it filters, and picks the rows that a long table shows.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from frozenhead.labels import shown
from frozenhead.report.figures import MOST_ANNOTATED, Figures
from frozenhead.report.truncation import fate, in_windows, longer, longer_share

MOST_ROWS = 20  # classes that the tables on leakage and truncation show
MOST_SIDE_BY_SIDE = 6  # classes in confusion tables that stand in one grid, not one under the other
MOST_CONFUSIONS = 12  # pairs listed beside a heat map without words
NOTHING = "–"


def render(evidence: Mapping[str, Any], figures: Figures) -> str:
    """Return the report page.

    Parameters
    ----------
    evidence : mapping
        What `gather` returned.
    figures : Figures
        What `draw` made of it.

    Returns
    -------
    str
        One HTML document, to be written as UTF-8. Every string of the evidence is escaped.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(score=score, percent=percent, count=count, seconds=seconds, shown=shown)
    environment.filters.update(fate=fate, longer=longer, longer_share=longer_share)
    environment.tests.update(in_windows=in_windows)
    template = resources.files("frozenhead.report").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    dataset, heads = evidence["dataset"], evidence["heads"]
    split = dataset["judged_split"]
    annotated = len(dataset["classes"]) <= MOST_ANNOTATED
    return environment.from_string(template).render(
        dataset=dataset,
        heads=heads,
        run=evidence["run"],
        advice=evidence["advice"],
        chosen=heads[0],
        baseline=next((entry for entry in heads if entry["feature"] == "text"), None),
        split=split,
        split_name={"test": "test", "val": "validation"}[split],
        split_rows=dataset["split_counts"][split],
        leaking=dataset["leakage"]["test_rows_in_train"] > 0,
        leak_rows=_first(dataset["leakage"]["per_class"], lambda row: row["in_train"]),
        cut_rows={
            key: _first(group["truncation"]["per_class"], longer_share) for key, group in dataset["lengths"].items()
        },
        confused=None if annotated else [_confusions(entry[split], dataset["classes"]) for entry in heads],
        figures=figures,
        side_by_side=len(dataset["classes"]) <= MOST_SIDE_BY_SIDE,
        few_classes=len(dataset["classes"]) <= MOST_ROWS,
        most_rows=MOST_ROWS,
    )


def score(value: float | None) -> str:
    """Four decimals, as scores and losses are compared; a dash for None."""
    return NOTHING if value is None else f"{value:.4f}"


def percent(part: float, whole: float = 1.0) -> str:
    """`part` of `whole` in per cent with one decimal; a dash when there is no whole."""
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole else NOTHING


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def seconds(value: float | None) -> str:
    """Seconds, with no more decimals than matter; a dash for None."""
    if value is None:
        return NOTHING
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _first(
    per_class: Mapping[str, Mapping[str, Any]], by: Callable[[Mapping[str, Any]], float]
) -> list[tuple[str, Mapping[str, Any]]]:
    """All classes in order if they are few, else those with the most of `by`."""
    rows = list(per_class.items())
    if len(rows) <= MOST_ROWS:
        return rows
    return sorted(rows, key=lambda row: -by(row[1]))[:MOST_ROWS]


def _confusions(block: Mapping[str, Any], classes: Sequence[str]) -> list[tuple[str, str, int]]:
    """The most frequent mistakes as (true, predicted, rows)."""
    mistakes = [(classes[row], classes[column], rows) for row, column, rows in block["confusion"] if row != column]
    return sorted(mistakes, key=lambda mistake: -mistake[2])[:MOST_CONFUSIONS]
