"""What the page's templates read: the evidence, and which part of a long table they show.

Imports cautions, comparisons, figures, truncation, words and labels. Nothing is scored here; rows are picked, paired
and counted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from frozenhead.labels import shown
from frozenhead.report.cautions import cautions, regroup
from frozenhead.report.comparisons import pairs_beside_copies, trusted
from frozenhead.report.figures import MOST_ANNOTATED, Figures
from frozenhead.report.truncation import longer_share
from frozenhead.report.words import FEW_ROWS, SPLIT_NAMES, interval_methods

MOST_ROWS = 20  # classes that the tables on leakage and truncation show
MOST_CONFUSIONS = 12  # pairs of classes listed beside a confusion table
MOST_LISTED = 100  # copies, conflicts, label issues, the grid's heads and classes by score; report.json has all
TEXT_WIDTH = 300  # characters of a text that are shown

Block = Mapping[str, Any]


def view(evidence: Mapping[str, Any], figures: Figures) -> dict[str, Any]:
    """Return the names that the templates know, for evidence of format 2."""
    dataset, heads, split = evidence["dataset"], evidence["heads"], evidence["dataset"]["judged_split"]
    chosen, classes = heads[0], dataset["classes"]
    baseline = _entry(heads, evidence["baseline"])
    return {
        **{name: evidence[name] for name in _BLOCKS},
        "heads": heads,
        "chosen": chosen,
        "block": chosen[split],
        "without": chosen["test_without_copies"] if split == "test" else None,
        "baseline": baseline,
        "majority": next((entry for entry in heads if entry["head"] == "majority"), None),
        "split": split,
        "split_name": SPLIT_NAMES[split],
        "cautions": cautions(evidence),
        "on_vectors": any(entry["feature"] != "text" for entry in heads),
        "regroup": regroup(evidence),
        "copied": evidence["copies"]["splits"].get(split),
        "copied_how": _kinds(evidence["copies"]["splits"].get(split)),
        "repeated": evidence["copies"]["within"][split],
        "verdicts": trusted(evidence),
        "beside": _beside(evidence, baseline),
        "versus": _versus(evidence, chosen, baseline),
        "methods": interval_methods(chosen[split]),
        "copy_rows": _first(_copies_of(evidence["copies"], split), _copy_total),
        "cut": _cut(dataset["lengths"], chosen["feature"]),
        "cut_rows": {
            key: _first(group["truncation"]["per_class"], longer_share) for key, group in dataset["lengths"].items()
        },
        "rare": _rare(dataset["class_counts"], split),
        "class_rows": [_lowest(entry[split]["per_class"]) for entry in heads],
        "confusions": [_confusions(entry[split], dataset["class_counts"], classes, split) for entry in heads],
        "annotated": len(classes) <= MOST_ANNOTATED,
        "few_classes": len(classes) <= MOST_ROWS,
        "searched": [(entry, _best_first(entry["search"]["rows"])) for entry in heads if entry["search"]],
        "folds": [entry for entry in heads if entry["folds"]],
        "shares": _shares(heads),
        "figures": figures,
        **_LIMITS,
    }


_LIMITS = {"most_rows": MOST_ROWS, "most_listed": MOST_LISTED, "few": FEW_ROWS, "text_width": TEXT_WIDTH}
_BLOCKS = (
    "dataset",
    "copies",
    "conflicts",
    "mistakes",
    "label_issues",
    "map",
    "vectors",
    "comparisons",
    "comparisons_without_copies",
    "advice",
    "run",
)


def browser_rows(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the row browser reads: the mistakes with every string as a person may see it."""
    mistakes = evidence["mistakes"]
    return {
        "classes": [shown(name) for name in evidence["dataset"]["classes"]],
        "heads": mistakes["heads"],
        "rows": [{**row, "text": shown(row["text"], width=TEXT_WIDTH)} for row in mistakes["rows"]],
        "texts": {
            row: {**text, "text": shown(text["text"], width=TEXT_WIDTH)} for row, text in mistakes["texts"].items()
        },
    }


def _entry(heads: Sequence[Block], name: Block | None) -> Block | None:
    return next((entry for entry in heads if name is not None and _same(entry, name)), None)


def _same(one: Block, other: Block) -> bool:
    return (one["feature"], one["head"]) == (other["feature"], other["head"])


def _beside(evidence: Block, baseline: Block | None) -> list[dict[str, Any]]:
    """The heads that the first screen names beside the selected one: the baseline and the runner-up, once each.

    `verdict` says how the selected head does beside the other, whichever of them the pair names first, on the rows to
    go by; `with_copies` says it of all rows, where that is another verdict.
    """
    heads, found = evidence["heads"], trusted(evidence)
    if found is None:
        return []
    rivals: list[tuple[str, Block]] = [] if baseline is None else [("TF-IDF baseline", baseline)]
    if not any(_same(heads[1], entry) for _, entry in rivals):
        rivals.append(("Runner-up on validation", heads[1]))
    beside = []
    for name, entry in rivals:
        said, of_all = (_against(one["pairs"], heads[0], entry) for one in (found, evidence["comparisons"]))
        if said and of_all:
            other = None if of_all["verdict"] == said["verdict"] else of_all
            beside.append(
                {"name": name, "feature": entry["feature"], "head": entry["head"], **said, "with_copies": other}
            )
    return beside


def _against(pairs: Sequence[Block], own: Block, other: Block) -> dict[str, Any] | None:
    """The pair of these two, told from the first one's side; None if they are not compared."""
    pair = next((pair for pair in pairs if _are(pair, own, other)), None)
    if pair is None:
        return None
    a, b = ("a", "b") if _same(pair["a"], own) else ("b", "a")
    turned = {"better": "worse", "worse": "better"}
    scores = {key: pair[key][b] for key in ("accuracy", "macro_f1")}
    scores |= {f"own_{key}": pair[key][a] for key in ("accuracy", "macro_f1")}
    verdict = pair["verdict"] if a == "a" else turned.get(pair["verdict"], pair["verdict"])
    return {**scores, "verdict": verdict, "p_adjusted": pair["p_adjusted"]}


def _are(pair: Block, one: Block, other: Block) -> bool:
    return (_same(pair["a"], one) and _same(pair["b"], other)) or (_same(pair["a"], other) and _same(pair["b"], one))


def _versus(
    evidence: Block, chosen: Block, baseline: Block | None
) -> list[tuple[Block, list[tuple[Block, Block | None]]]]:
    """All pairs, each beside what it is without copies, in a group for each head that the others are held against."""
    groups = [
        (entry, [both for both in pairs_beside_copies(evidence) if both[0]["against"] == against])
        for entry, against in ((chosen, "best"), (baseline, "baseline"))
    ]
    return [(entry, group) for entry, group in groups if entry is not None and group]


def _copies_of(copies: Block, split: str) -> Mapping[str, Block]:
    found: Mapping[str, Block] = (copies["splits"].get(split) or {}).get("per_class", {})
    return found


def _kinds(copied: Block | None) -> list[tuple[int, str]]:
    """How many rows are copies of which kind, for the kinds that there are."""
    kinds = {"exact": "word for word", "folded": "but for case or spaces", "near": "nearly"}
    return [(copied[kind], words) for kind, words in kinds.items() if copied and copied[kind]]


def _copy_total(row: Block) -> float:
    return float(row["exact"] + row["folded"] + row["near"])


def _cut(lengths: Mapping[str, Block], feature: str) -> dict[str, Any] | None:
    """Of the texts that the selected head's encoder reads, the class that is longest: its name, block and group."""
    group = next((group for group in lengths.values() if feature in group["features"]), None)
    group = group or next(iter(lengths.values()), None)
    if group is None:
        return None
    label, row = max(group["truncation"]["per_class"].items(), key=lambda item: longer_share(item[1]))
    return {"group": group, "label": label, "row": row}


def _rare(class_counts: Mapping[str, Mapping[str, int]], split: str) -> list[tuple[str, int]]:
    """Classes whose rows of the judged split are too few for a sure score, the rarest first."""
    rows = [(name, counts[split]) for name, counts in class_counts.items() if 0 < counts[split] < FEW_ROWS]
    return sorted(rows, key=lambda row: row[1])


def _lowest(per_class: Mapping[str, Block]) -> list[tuple[str, Block]]:
    """All classes in order, or if they are very many those of the lowest F1: a thousand of ten heads are 5 MB."""
    rows = list(per_class.items())
    return rows if len(rows) <= MOST_LISTED else sorted(rows, key=lambda row: row[1]["f1"])[:MOST_LISTED]


def _first(per_class: Mapping[str, Block], by: Callable[[Block], float]) -> list[tuple[str, Block]]:
    """All classes in order if they are few, else those with the most of `by`."""
    rows = list(per_class.items())
    if len(rows) <= MOST_ROWS:
        return rows
    return sorted(rows, key=lambda row: -by(row[1]))[:MOST_ROWS]


def _confusions(
    block: Block, class_counts: Mapping[str, Mapping[str, int]], classes: Sequence[str], split: str
) -> list[dict[str, int]]:
    """The most frequent mistakes: positions of the true and the predicted class, rows, and rows of the true class."""
    mistakes = [
        {"truth": truth, "predicted": predicted, "rows": rows, "of": class_counts[classes[truth]][split]}
        for truth, predicted, rows in block["confusion"]
        if truth != predicted
    ]
    return sorted(mistakes, key=lambda mistake: -mistake["rows"])[:MOST_CONFUSIONS]


def _best_first(rows: Sequence[Block]) -> list[Block]:
    """The candidates by macro F1 on validation, those that could not be trained last."""
    return sorted(rows, key=lambda row: -row["val"]["macro_f1"] if row["val"] else 1.0)


def _shares(heads: Sequence[Block]) -> dict[str, Any] | None:
    """Macro F1 on validation by head and share of the training rows: one value for each seed."""
    drawn = [entry for entry in heads if entry["curve"]]
    if not drawn:
        return None
    columns = sorted({(point["share"], point["rows"]) for entry in drawn for point in entry["curve"]["points"]})
    cells = [
        [
            sorted(
                point["val"]["macro_f1"]
                for point in entry["curve"]["points"]
                if (point["share"], point["rows"]) == column and point["val"]
            )
            for column in columns
        ]
        for entry in drawn
    ]
    return {"columns": columns, "rows": list(zip(drawn, cells, strict=True))}
