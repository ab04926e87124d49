"""The comparison of several runs on a terminal.

Imports labels, table and words.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from frozenhead.labels import shown
from frozenhead.report.table import interval, new_table, repeat_notes
from frozenhead.report.words import SPLIT_NAMES, count, score

MOST_PAIRS = 20
_NAME = 40


def runs_table(evidence: Mapping[str, Any], *, width: int = 100) -> list[RenderableType]:
    """Return what the terminal shows of several runs.

    Parameters
    ----------
    evidence : mapping
        What `gather_runs` returned.
    width : int
        Characters in a line of the terminal; names fold, numbers do not.
    """
    dataset, heads = evidence["dataset"], evidence["heads"]
    split = dataset["judged_split"]
    names = {
        "run": [shown(entry["run"], width=_NAME) for entry in heads],
        "head": [shown(entry["head"], width=_NAME) for entry in heads],
        "feature": [shown(entry["feature"], width=_NAME) for entry in heads],
    }
    numbers = {
        "acc.": [score(entry[split]["accuracy"]) for entry in heads],
        "F1": [score(entry[split]["macro_f1"]) for entry in heads],
        "95 % of\nF1": [interval(entry[split]["intervals"]["macro_f1"]) for entry in heads],
        "loss": [score(entry[split]["weighted_log_loss"]) for entry in heads],
    }
    clean = any(entry["without_copies"] for entry in heads)
    if clean:
        numbers["clean\nF1"] = [score((entry["without_copies"] or {}).get("macro_f1")) for entry in heads]
    if width < 80:
        del numbers["acc."], numbers["loss"]
    table = new_table(names, numbers)
    for number, cells in enumerate(zip(*names.values(), *numbers.values(), strict=True)):
        table.add_row(*map(Text, cells), style="bold" if number == 0 else "")
    legend = [Text("clean: the rows that copy no training text of any run", style="dim")] if clean else []
    return [table, *legend, *_notes(evidence)]


def _notes(evidence: Mapping[str, Any]) -> Iterable[Text]:
    dataset, chosen, selection = evidence["dataset"], evidence["selected"], evidence["selection"]
    rows = f"the same {count(dataset['rows'])} {SPLIT_NAMES[dataset['judged_split']]} rows"
    name = f"{shown(chosen['head'])} on {shown(chosen['feature'])} of {shown(chosen['run'])}"
    if selection["by"] == "validation":
        yield Text(f"On {rows}. Selected by macro F1 on the validation rows, which are the same too: {name}.")
    else:
        yield Text(f"On {rows}. No head is selected across the runs: {selection['reason']}")
        yield Text(f"Compared with the best of the first run by its own validation rows: {name}.")
    for run in evidence["runs"]:
        if run["test_rows_in_train"]:
            yield Text(
                f"{count(run['test_rows_in_train'])} test rows stand word for word in the training split of "
                f"{shown(run['run'])}.",
                style="yellow",
            )
    yield from repeat_notes(dataset["within"], dataset["judged_split"])
    pairs = evidence["comparisons"]["pairs"] if evidence["comparisons"] else []
    for pair in pairs[:MOST_PAIRS]:
        yield Text(pair["sentence"])
    if len(pairs) > MOST_PAIRS:
        yield Text(f"{len(pairs) - MOST_PAIRS} more comparisons: --format json or markdown.", style="dim")
