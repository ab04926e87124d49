"""The model card of an exported head: what it is, how good, on what, and where it ends.

The words are in `templates/card.md.j2`; whatever is not the template's own is escaped: labels, file and column names
come from data and may hold anything. No text of the corpus is in it.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from frozenhead.labels import shown
from frozenhead.report.markup import Markdown, code, fenced, markdown
from frozenhead.report.truncation import fate, in_windows, longer, longer_share
from frozenhead.report.words import FEW_ROWS, SPLIT_NAMES, count, percent, score
from frozenhead.shell import joined

MOST_NAMED = 10
MINILM_ON_HUB = "sentence-transformers/all-MiniLM-L6-v2"

_SCORES = (
    ("accuracy", "accuracy"),
    ("balanced accuracy (mean recall)", "balanced_accuracy"),
    ("macro F1", "macro_f1"),
    ("log loss (nats)", "log_loss"),
)

POOLINGS = {
    "pooler": Markdown("BERT's pooled [CLS] (`pooler_output`)"),
    "cls": Markdown("the last state of [CLS] (`last_hidden_state[:, 0]`)"),
    "mean": Markdown("the mean over tokens"),
    "max": Markdown("the maximum over tokens"),
    "last4": Markdown("the [CLS] states of the last four layers, joined"),
}


def render_card(
    evidence: Mapping[str, Any],
    *,
    description: Mapping[str, Any],
    encoder: Mapping[str, Any] | None,
    commands: Sequence[str],
    heads_compared: int,
    sha256: Mapping[str, str],
) -> str:
    """The card as Markdown with a front matter of YAML.

    Parameters
    ----------
    evidence : mapping
        What `gather` returned for this head alone.
    description : mapping
        `head.json`.
    encoder : mapping, optional
        `encoder.json`; None for a head that reads texts.
    commands : sequence of str
        What makes the head again.
    heads_compared : int
        Heads in the run that it was chosen from.
    sha256 : mapping of str to str
        Of the files beside the card.
    """
    environment = Environment(  # noqa: S701 (Markdown: `finalize` escapes it)
        finalize=markdown, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(score=score, percent=percent, count=count, fate=fate, longer=longer)
    environment.filters.update(longer_share=longer_share, code=code)
    environment.tests.update(in_windows=in_windows)
    template = resources.files("frozenhead.commands").joinpath("templates/card.md.j2").read_text(encoding="utf-8")
    dataset, entry = evidence["dataset"], evidence["heads"][0]
    split = dataset["judged_split"]
    support = {name: row["support"] for name, row in entry[split]["per_class"].items()}
    few = [name for name, rows in support.items() if rows < FEW_ROWS]
    return environment.from_string(template).render(
        front=Markdown(front_matter(evidence, encoder=encoder)),
        dataset=dataset,
        entry=entry,
        judged=entry[split],
        split=SPLIT_NAMES[split],
        clean=entry["test_without_leaks"] if split == "test" and dataset["leakage"]["test_rows_in_train"] else None,
        scores=_SCORES,
        intervals=entry[split]["intervals"],
        description=description,
        temperature=None if description["temperature"] == 1 else description["temperature"],
        threshold=description["threshold"],
        encoder=encoder,
        pooling=POOLINGS.get(encoder["identity"]["pooling"], encoder["identity"]["pooling"]) if encoder else None,
        truncation=next(iter(dataset["truncation"].values()), None),
        few=few[:MOST_NAMED],
        few_more=max(0, len(few) - MOST_NAMED),
        few_rows=FEW_ROWS,
        example=Markdown(fenced(example(encoder), "python")),
        shell=Markdown(fenced(shell_example(encoder), "sh")),
        commands=Markdown(fenced("\n".join(commands), "sh")),
        heads_compared=heads_compared,
        sha256=sha256,
        versions={**evidence["run"].get("versions", {}), **description["versions"]},
    )  # fmt: skip


def front_matter(evidence: Mapping[str, Any], *, encoder: Mapping[str, Any] | None) -> str:
    """What the Hugging Face hub reads: https://github.com/huggingface/hub-docs/blob/main/modelcard.md.

    The licence of the head is its owner's to state, so there is no `license`.
    """
    dataset, entry = evidence["dataset"], evidence["heads"][0]
    split, block = dataset["judged_split"], entry[dataset["judged_split"]]
    name = f"{shown(entry['head'])} on {shown(entry['feature'])}"
    result = {
        "task": {"type": "text-classification", "name": "Text classification"},
        # the hub wants an id of its data sets here, and a table of one's own has none
        "dataset": {
            "type": "unknown",
            "name": ", ".join(shown(source["path"]) for source in dataset["sources"]) or "unknown",
            "split": {"test": "test", "val": "validation"}[split],
        },
        "metrics": [
            {"type": "accuracy", "value": round(block["accuracy"], 4), "name": "Accuracy"},
            {"type": "f1", "value": round(block["macro_f1"], 4), "name": "Macro F1"},
        ],
    }
    base = encoder and (MINILM_ON_HUB if encoder["model"] == "minilm" else encoder["model"])
    fields = {
        "library_name": "frozenhead",
        "pipeline_tag": "text-classification",
        "tags": ["text-classification", "frozenhead", *(["frozen-encoder"] if encoder else [])],
        **({"base_model": base} if base else {}),
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": name, "results": [result]}],
    }
    return str(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=10**6))


def example(encoder: Mapping[str, Any] | None) -> str:
    """The usage example: what a stranger runs first, standing in the exported folder."""
    beside = _beside(encoder)
    where = f", model={json.dumps(beside)}" if beside else ""
    comment = "this folder, and the encoder's beside it" if beside else "this folder"
    return f"""\
from frozenhead import load_pipeline

classifier = load_pipeline("."{where})  # {comment}
texts = ["a first text to label", "and another one"]

labels = classifier.predict(texts)
probabilities = classifier.predict_proba(texts)  # (N, K), columns as in classifier.classes_
for text, label, row in zip(texts, labels, probabilities):
    print(f"{{label!r}} ({{row.max():.3f}}): {{text}}")
"""


def shell_example(encoder: Mapping[str, Any] | None) -> str:
    """The same on the command line."""
    beside = _beside(encoder)
    words = ["frozenhead", "predict", ".", "../new.csv", *(["--model", beside] if beside else [])]
    return joined([*words, "-o", "../labelled.csv"])


def _beside(encoder: Mapping[str, Any] | None) -> str | None:
    """Where the examples look for an encoder that no name finds."""
    return f"../{encoder['name']}" if encoder and encoder["model"] is None else None
