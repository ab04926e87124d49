"""The report on a terminal: the comparison, and the classes behind it.

Imports cautions, comparisons, labels, truncation and words. Cells are `rich.text.Text`, so that no label is read as
markup. Numbers are never cut: on a narrow terminal long names fold, and then the less important columns go.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from frozenhead.labels import shown
from frozenhead.report.cautions import cautions, copies_advice, regroup
from frozenhead.report.comparisons import trusted
from frozenhead.report.truncation import fate, in_windows, longer, longer_share
from frozenhead.report.words import NOTHING, SPLIT_NAMES, count, excess, many, percent, score, seconds, span

MOST_CLASSES = 8  # with more classes, only the selected head's worst are listed
WORST = 10
MOST_FEATURES = 6  # named in a line on their length

_GAP = 2
_FOLD = 16  # a column of names is as wide as its longest name, but may be folded down to this

_Column = tuple[str, str | None, str, int]
# title, split, score, and how early the column goes on a narrow terminal (0: never)
_COLUMNS: Sequence[_Column] = (
    ("val\nF1", "val", "macro_f1", 0),
    ("test\nacc.", "test", "accuracy", 4),
    ("test\nF1", "test", "macro_f1", 0),
    ("95 % of\ntest F1", "test", "intervals", 1),
    ("test\nloss", "test", "weighted_log_loss", 3),
    ("clean\nacc.", "test_without_copies", "accuracy", 5),
    ("clean\nF1", "test_without_copies", "macro_f1", 2),
    ("fit\nsec.", None, "fit_seconds", 6),
)
_WITHOUT_TEST: Sequence[_Column] = (
    ("val\nacc.", "val", "accuracy", 4),
    ("val\nF1", "val", "macro_f1", 0),
    ("95 % of\nval F1", "val", "intervals", 1),
    ("val\nloss", "val", "weighted_log_loss", 3),
    ("fit\nsec.", None, "fit_seconds", 6),
)


def terminal_table(evidence: Mapping[str, Any], *, width: int = 100, every_class: bool = False) -> list[RenderableType]:
    """Return what the terminal shows of the evidence, to be printed one after the other.

    Parameters
    ----------
    evidence : mapping
        What `gather` returned.
    width : int
        Characters in a line of the terminal. 80 hold every column beside names such as `softmax` and `minilm.pooler`.
    every_class : bool
        Every class of every head, however many; by default above 8 classes the lowest of the selected head, and of
        long texts those with the largest share.

    Returns
    -------
    list of rich renderables
        The comparison of heads, notes, long texts per class and encoder, and scores per class.
    """
    dataset, heads = evidence["dataset"], evidence["heads"]
    copied = _copied(evidence) > 0
    columns = [column for column in _COLUMNS if copied or column[1] != "test_without_copies"]
    comparison = _comparison(heads, columns if dataset["judged_split"] == "test" else _WITHOUT_TEST, width=width)
    rows: list[RenderableType] = [comparison, *_notes(evidence), Text()]
    rows += _short_texts(dataset["lengths"].values())
    for group in dataset["lengths"].values():
        if longer(group["truncation"]):
            rows += [*_long_texts(group, every_class=every_class), Text()]
    if every_class or len(dataset["classes"]) <= MOST_CLASSES:
        return [*rows, _classes(heads, dataset["judged_split"])]
    return [*rows, *_worst_classes(heads[0], dataset["judged_split"])]


def _comparison(heads: Sequence[Mapping[str, Any]], columns: Sequence[_Column], *, width: int) -> Table:
    names = {
        "head": [shown(entry["head"], width=24) for entry in heads],
        "feature": [shown(entry["feature"], width=40) for entry in heads],
    }
    numbers = {(title, goes): [_number(entry, split, key) for entry in heads] for title, split, key, goes in columns}
    room = width - sum(min(_width(*column), _FOLD) + _GAP for column in names.items())
    for column in sorted(numbers, key=lambda column: -column[1]):
        needed = sum(_width(title, cells) + _GAP for (title, _), cells in numbers.items()) - _GAP
        if needed <= room or column[1] == 0:
            break
        del numbers[column]
    table = new_table(names, {title: cells for (title, _), cells in numbers.items()})
    for number, entry in enumerate(heads):
        cells = [column[number] for column in (*names.values(), *numbers.values())]
        table.add_row(*map(Text, cells), style="bold" if number == 0 and entry["val"] else "")
    return table


def _number(entry: Mapping[str, Any], split: str | None, key: str) -> str:
    if split is None:
        return seconds(entry[key])
    found = (entry[split] or {}).get(key)
    return interval((found or {}).get("macro_f1")) if key == "intervals" else score(found)


def interval(ends: Sequence[float] | None) -> str:
    """`0.948–0.981`; a dash for None."""
    return span(ends) or NOTHING


def _notes(evidence: Mapping[str, Any]) -> Iterable[Text]:
    dataset, first = evidence["dataset"], evidence["heads"][0]
    if first["val"]:
        yield Text(f"Selected by macro F1 on the validation split: {_title(first)}.")
    else:
        yield Text("No validation split: no head is selected.")
    for said in cautions(evidence):
        yield Text(said, style="yellow")
    yield from _compared(evidence)
    legend = "F1 is the macro F1, loss the log loss with balanced class weights"
    clean = "; clean: the test rows that copy no training text" if _copied(evidence) else ""
    yield Text(f"{legend}{clean}.", style="dim")
    yield from _copies(evidence)
    yield from repeat_notes(evidence["copies"]["within"][dataset["judged_split"]], dataset["judged_split"])


def _compared(evidence: Mapping[str, Any]) -> Iterable[Text]:
    """The selected head against the baseline in a sentence, and how many heads it cannot be told from."""
    comparisons, goes_by, selected = evidence["comparisons"], trusted(evidence), evidence["selected"]
    if comparisons is None or goes_by is None:
        return
    own = [pair for pair in comparisons["pairs"] if selected in (pair["a"], pair["b"])]
    for pair in own:
        if pair["against"] == "baseline" or len(own) == 1:
            yield Text(pair["sentence"])
    if len(own) > 1:
        equal = sum(
            pair["verdict"] == "no difference" for pair in goes_by["pairs"] if selected in (pair["a"], pair["b"])
        )
        rows = many(goes_by["rows"], "row", "rows")
        rows += " without copies" if goes_by["rows"] < comparisons["rows"] else ""
        yield Text(
            f"Of the {len(own)} other heads {equal} show no difference in accuracy to it that {rows} could show "
            f"(McNemar, Holm over {comparisons['tests']} comparisons)."
        )
    if comparisons["note"]:
        yield Text(f"No test split: scores on validation are too kind. {comparisons['note']}", style="yellow")


def repeat_notes(within: Mapping[str, Any], split: str) -> Iterable[Text]:
    """Rows of the judged split that repeat one another, where there are any."""
    if within["repeats"]:
        name = SPLIT_NAMES[split]
        yield Text(
            f"{many(within['repeats'], f'{name} row repeats', f'{name} rows repeat')} another {name} row; intervals "
            "and tests treat them as independent, so they are too narrow, those of accuracy by "
            f"{excess(within['widening'])} of their width.",
            style="yellow",
        )


def _copied(evidence: Mapping[str, Any]) -> int:
    """Test rows that copy a training text, be it nearly."""
    counts = evidence["copies"]["splits"].get("test")
    return counts["exact"] + counts["folded"] + counts["near"] if counts else 0


def _copies(evidence: Mapping[str, Any]) -> Iterable[Text]:
    """Test rows, or validation rows where there are none, that stand in the training split as well."""
    copies, split = evidence["copies"], evidence["dataset"]["judged_split"]
    counts = copies["splits"].get(split)
    if counts is None or not counts["exact"] + counts["folded"] + counts["near"]:
        if copies["feature"] is None:
            yield Text(f"Near copies were not looked for: {evidence['vectors']['reason']}.", style="dim")
        return
    share = percent(counts["exact"], counts["rows"])
    near = "near copies were not looked for"
    if copies["feature"] is not None:
        near = f"{count(counts['near'])} more nearly (cosine of at least {copies['threshold']:g})"
    command = regroup(evidence) if counts["exact"] else None
    advice = f" To make another run that keeps exact copies in one split: {command}" if command else ""
    trust = f" {copies_advice(counts)}" if evidence["heads"][0]["test_without_copies"] else ""
    yield Text(
        f"{count(counts['exact'])} of {count(counts['rows'])} {SPLIT_NAMES[split]} rows ({share}) stand word for word "
        f"in the training split, {count(counts['folded'])} more but for case and spaces, {near}.{trust}{advice}",
        style="yellow",
    )


def _short_texts(groups: Iterable[Mapping[str, Any]]) -> list[RenderableType]:
    """The feature sets whose limit no text exceeds, in a line for each limit."""
    features: dict[int, list[str]] = {}
    for group in groups:
        if not longer(group["truncation"]):
            features.setdefault(group["max_length"], []).extend(group["features"])
    lines: list[RenderableType] = [
        Text(f"No text is longer than the {count(limit)} tokens of {_names(names)}.", style="dim")
        for limit, names in sorted(features.items())
    ]
    return [*lines, Text()] if lines else []


def _names(features: Sequence[str]) -> str:
    named = ", ".join(shown(name, width=40) for name in features[:MOST_FEATURES])
    return f"{named} and {len(features) - MOST_FEATURES} more" if len(features) > MOST_FEATURES else named


def _long_texts(group: Mapping[str, Any], *, every_class: bool) -> Iterable[RenderableType]:
    """How many texts of each class are longer than the limit, and what became of them."""
    block, name = group["truncation"], _names(group["features"])
    became = f"read in {count(block['windows'])} windows" if in_windows(block) else "cut"
    yield Text(
        f"{count(longer(block))} of {count(block['rows'])} texts ({percent(longer_share(block))}) are longer than the "
        f"{count(group['max_length'])} tokens of {name} and were {became}."
    )
    classes = list(block["per_class"].items())
    if len(classes) > MOST_CLASSES and not every_class:
        classes = sorted(classes, key=lambda item: -longer_share(item[1]))[:WORST]
        yield Text(f"The {WORST} classes with the largest share; --per-class and report.html have more.")
    columns = {
        "rows": [count(of_class["rows"]) for _, of_class in classes],
        fate(block): [count(longer(of_class)) for _, of_class in classes],
        "share": [percent(longer_share(of_class)) for _, of_class in classes],
    }
    names = [shown(label, width=40) for label, _ in classes]
    table = new_table({"class (all rows)": names}, columns)
    for cells in zip(names, *columns.values(), strict=True):
        table.add_row(*map(Text, cells))
    yield table


def _classes(heads: Sequence[Mapping[str, Any]], split: str) -> Table:
    rows: list[tuple[str, Mapping[str, Any] | None]] = []
    for entry in heads:
        rows.append((_title(entry), None))
        rows += [(f"  {shown(name, width=40)}", row) for name, row in entry[split]["per_class"].items()]
    return _class_table(f"class ({SPLIT_NAMES[split]} rows)", rows)


def _worst_classes(entry: Mapping[str, Any], split: str) -> Iterable[RenderableType]:
    per_class = entry[split]["per_class"]
    worst = sorted(per_class, key=lambda name: per_class[name]["f1"])[:WORST]
    yield Text(f"The lowest F1 of {_title(entry)}; --per-class and report.json have all {count(len(per_class))}.")
    yield _class_table(
        f"class ({SPLIT_NAMES[split]} rows)", [(shown(name, width=40), per_class[name]) for name in worst]
    )


def _class_table(title: str, rows: Sequence[tuple[str, Mapping[str, Any] | None]]) -> Table:
    keys = ("precision", "recall", "f1", "support")
    cells = [
        ["" if row is None else (count if key == "support" else score)(row[key]) for key in keys] for _, row in rows
    ]
    columns = dict(zip(("precision", "recall", "F1", "support"), zip(*cells, strict=True), strict=True))
    table = new_table({title: [name for name, _ in rows]}, columns)
    for (name, row), numbers in zip(rows, cells, strict=True):
        table.add_row(*map(Text, (name, *numbers)), style="bold" if row is None else "")
    return table


def _title(entry: Mapping[str, Any]) -> str:
    return f"{shown(entry['head'], width=24)} on {shown(entry['feature'], width=40)}"


def _width(title: str, cells: Iterable[str]) -> int:
    return max(map(cell_len, (*title.split("\n"), *cells)))


def new_table(names: Mapping[str, Sequence[str]], numbers: Mapping[str, Sequence[str]]) -> Table:
    """An empty table with columns for these cells: names may fold, numbers may not."""
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title, cells in names.items():
        least = min(_width(title, cells), _FOLD)
        table.add_column(Text(title), overflow="fold", vertical="bottom", min_width=least)
    for title, cells in numbers.items():
        table.add_column(Text(title), justify="right", no_wrap=True, min_width=_width(title, cells))
    return table
