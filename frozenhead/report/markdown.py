"""The report in short as Markdown: for a pull request, an issue or a model card.

Imports markup, truncation and words. The words are in `templates/report.md.j2`; whatever is not
the template's own is escaped. No text of the corpus is in it.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from frozenhead.report.cautions import cautions, copies_advice, regroup
from frozenhead.report.comparisons import pairs_beside_copies
from frozenhead.report.markup import Markdown, fenced, markdown
from frozenhead.report.truncation import fate, in_windows, longer, longer_share
from frozenhead.report.words import (
    FEW_ROWS,
    NOTHING,
    SCORE_TITLES,
    SPLIT_NAMES,
    count,
    excess,
    many,
    p_value,
    percent,
    score,
    signed,
    signed_span,
)

MOST_HEADS = 20
MOST_PAIRS = 20  # against the baseline, and as many against the best head
MOST_CLASSES = 20  # with more, those of the lowest F1


def to_markdown(evidence: Mapping[str, Any]) -> str:
    """Return the evidence in short, as Markdown with tables (GitHub's).

    Parameters
    ----------
    evidence : mapping
        What `gather` returned.

    Returns
    -------
    str
        Headings start at the second level, so that it stands well inside another document.
    """
    dataset, heads = evidence["dataset"], evidence["heads"]
    split, chosen = dataset["judged_split"], heads[0]
    block, comparisons = chosen[split], evidence["comparisons"]
    pairs = [pair for group in ("best", "baseline") for pair in _against(evidence, group)]
    per_class = sorted(block["per_class"].items(), key=lambda item: item[1]["f1"])
    command = regroup(evidence)
    few = sum(row["support"] < FEW_ROWS for row in block["per_class"].values())
    return render_markdown(
        "report.md.j2",
        dataset=dataset,
        heads=heads[:MOST_HEADS],
        more_heads=max(0, len(heads) - MOST_HEADS),
        total_heads=len(heads),
        chosen=chosen,
        block=block,
        split=split,
        split_name=SPLIT_NAMES[split],
        clean=_clean(chosen) if split == "test" else None,
        cautions=cautions(evidence),
        trust=_trust(evidence) if split == "test" else None,
        pairs=pairs,
        titles=[(key, title) for key, title in SCORE_TITLES.items() if key in block],
        clean_rows=_clean_rows(evidence),
        repeated=evidence["copies"]["within"][split],
        more_pairs=len(comparisons["pairs"]) - len(pairs) if comparisons else 0,
        comparisons=comparisons,
        copies=evidence["copies"],
        group=Markdown(fenced(command, "sh")) if command else None,
        conflicts=evidence["conflicts"],
        classes=per_class[:MOST_CLASSES] if len(per_class) > MOST_CLASSES else list(block["per_class"].items()),
        all_classes=len(per_class),
        few=few,
        few_rows=FEW_ROWS,
        cut=[group for group in dataset["lengths"].values() if longer(group["truncation"])],
        vectors=evidence["vectors"],
    )


def _against(evidence: Mapping[str, Any], group: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any] | None]]:
    """The first pairs of a group (against the TF-IDF baseline, or the best head), each beside itself without copies."""
    return [both for both in pairs_beside_copies(evidence) if both[0]["against"] == group][:MOST_PAIRS]


def _clean_rows(evidence: Mapping[str, Any]) -> int | None:
    """The rows of the comparisons without copies, where they are others than those with copies."""
    whole, without = evidence["comparisons"], evidence["comparisons_without_copies"]
    return without["rows"] if whole and without and without["rows"] < whole["rows"] else None


def _clean(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The scores without copies, where any row is left out, and any is left."""
    without: Mapping[str, Any] | None = entry["test_without_copies"]
    return without if without and without["rows"] < entry["test"]["rows"] else None


def _trust(evidence: Mapping[str, Any]) -> str | None:
    """Which scores to trust, where there are some without copies."""
    return copies_advice(evidence["copies"]["splits"]["test"]) if _clean(evidence["heads"][0]) else None


def render_markdown(template: str, **values: Any) -> str:
    """A template of this room with these values, every one escaped that is not `Markdown`."""
    environment = Environment(  # noqa: S701 (Markdown: `finalize` escapes it)
        finalize=markdown, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(
        score=score, percent=percent, count=count, interval=interval, signed=signed, signed_span=signed_span, fate=fate,
        longer=longer, longer_share=longer_share, p_value=p_value, excess=excess, names=names, sentence=sentence,
    )  # fmt: skip
    environment.globals.update(many=many)
    environment.filters.update(split_name=SPLIT_NAMES.__getitem__)
    environment.tests.update(in_windows=in_windows)
    source = resources.files("frozenhead.report").joinpath(f"templates/{template}").read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


def interval(ends: Sequence[float] | None) -> str:
    """`0.9590 to 0.9820`; a dash for None."""
    return NOTHING if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def sentence(text: str) -> str:
    """The text with one full stop."""
    return f"{text.rstrip('.')}."


def names(values: Sequence[str]) -> str:
    """`a, b, c`."""
    return ", ".join(values)


def runs_to_markdown(evidence: Mapping[str, Any]) -> str:
    """Return the comparison of several runs as Markdown.

    Parameters
    ----------
    evidence : mapping
        What `gather_runs` returned.
    """
    dataset, comparisons = evidence["dataset"], evidence["comparisons"]
    split = dataset["judged_split"]
    return render_markdown(
        "runs.md.j2",
        dataset=dataset,
        runs=evidence["runs"],
        heads=evidence["heads"],
        selected=evidence["selected"],
        selection=evidence["selection"],
        split=split,
        split_name=SPLIT_NAMES[split],
        block=evidence["heads"][0][split],
        pairs=pairs_beside_copies(evidence),
        clean_scores=evidence["heads"][0]["without_copies"] is not None,
        clean_rows=_clean_rows(evidence),
        comparisons=comparisons,
    )
