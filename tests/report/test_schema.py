"""report.json is what its schema says, and the schema says all of it."""

import copy
import json
from importlib import resources
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from frozenhead.report import gather
from frozenhead.report.across import RunEvidence, gather_runs
from tests.conftest import REPOSITORY
from tests.report.examples import RUN, make_corpus, make_feature, make_head, random_corpus

SCHEMA: dict[str, Any] = json.loads(
    resources.files("frozenhead.report").joinpath("report.schema.json").read_text(encoding="utf-8")
)
AB = ["a", "b"]


def problems(content: Any, schema: dict[str, Any] = SCHEMA) -> list[str]:
    """Where the content is not what the schema says."""
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(content)]


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every part of a schema that names properties."""
    if isinstance(schema, list):
        return [found for part in schema for found in objects(part)]
    if not isinstance(schema, dict):
        return []
    inner = [found for part in schema.values() for found in objects(part)]
    return [schema, *inner] if "properties" in schema else inner


def extras_of(seed: int) -> dict[str, Any]:
    """What `fit` writes on the side, as its files have it."""
    val = {"macro_f1": 0.9, "accuracy": 0.95, "log_loss": 0.2}
    row = {"stamp": "s", "setting": 0, "options": {"lr": 0.1}, "seed": seed, "best_epoch": 2, "seconds": 0.5}
    rows = [
        {**row, "val": val, "dropped_after": None, "error": None},
        {**row, "val": None, "dropped_after": 1, "error": "loss is not finite"},
    ]
    points = [
        {"share": 0.1, "rows": 3, "seed": seed, "val": val, "error": None},
        {"share": 0.01, "rows": 1, "seed": seed, "val": None, "error": "one class"},
    ]
    return {
        "search": {"format": 1, "halving": True, "best": 0, "heads": rows},
        "curve": {"format": 1, "seed": seed, "seeds": 1, "points": points},
        "fold_scores": {"format": 1, "folds": 3, "seed": None, "all": {"rows": 200, **val}, "each": []},
    }


def make_evidence(kind: str) -> dict[str, Any]:
    """The evidence of a run of this kind."""
    classes = [f"class{c}" for c in range(77)] if kind == "many classes" else AB
    corpus = random_corpus(classes, rows=max(200, 4 * len(classes)), copies=30)
    if kind == "three test rows":
        corpus = make_corpus(list("abcdefg"), list("ababaab"), ["train"] * 2 + ["val"] * 2 + ["test"] * 3)
    if kind in ("no val", "no test"):
        corpus = corpus[corpus["split"] != kind[3:]]
    if kind == "one class in test":
        corpus = corpus[(corpus["split"] != "test") | (corpus["label"] == "a")]
    vectors = np.random.default_rng(0).normal(size=(len(corpus), 16))
    heads = [
        make_head(corpus, classes, head="dense", epochs=3),
        make_head(corpus, classes, head="tfidf", feature="text", seed=2),
    ]
    if kind == "all extras":
        corpus.loc[corpus.index[:2], "text"] = "one text"  # of two labels
        heads = [type(head)(**{**vars(head), **extras_of(s)}) for s, head in enumerate(heads)]
    return gather(
        corpus=corpus, features={"minilm.pooler": make_feature(corpus, classes, windows=kind == "no val")},
        heads=heads[:1] if kind == "one head" else heads, run={} if kind == "one head" else RUN, draws=100,
        vectors=None if kind == "no vectors" else lambda name: vectors,
    )  # fmt: skip


KINDS = (
    "plain", "many classes", "three test rows", "no val", "no test", "one class in test", "all extras", "one head",
    "no vectors",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_evidence_is_what_the_schema_says(kind: str) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert problems(make_evidence(kind)) == []


def test_a_field_that_is_not_in_the_schema_fails_wherever_it_stands() -> None:
    content = make_evidence("all extras")
    places: list[tuple[str | int, ...]] = [
        (), ("dataset",), ("heads", 0), ("heads", 0, "test"), ("heads", 0, "test", "intervals"), ("copies",),
        ("heads", 0, "curves"), ("heads", 0, "search", "rows", 0), ("comparisons", "pairs", 0), ("mistakes",),
        ("label_issues",), ("map",), ("conflicts", "examples", 0), ("vectors",), ("advice",), ("run",),
    ]  # fmt: skip
    for place in places:
        spoilt = copy.deepcopy(content)
        at: Any = spoilt
        for step in place:
            at = at[step]
        at["undocumented"] = 1
        assert len(problems(spoilt)) > 0, place
    assert all(part.get("additionalProperties") is False for part in objects(SCHEMA))


def test_a_field_that_is_gone_or_of_another_kind_fails() -> None:
    content = make_evidence("plain")
    for name in SCHEMA["required"]:
        assert problems({key: value for key, value in content.items() if key != name})
        assert problems({**content, name: "klingon"})


def test_several_runs_are_what_the_schema_says() -> None:
    corpus = random_corpus(AB, rows=120)
    heads = [make_head(corpus, AB), make_head(corpus, AB, head="tfidf", feature="text", seed=1)]
    info = {**RUN, "classes": AB}
    runs = [RunEvidence(name=name, info=info, corpus=corpus, heads=heads) for name in ("one", "two")]
    schema = {"$ref": "#/$defs/runs", "$defs": SCHEMA["$defs"]}
    found = gather_runs(runs, draws=50)
    assert problems(found, schema) == []
    assert problems({**found, "undocumented": 1}, schema)


def test_every_field_of_the_schema_is_in_the_document() -> None:
    page = (REPOSITORY / "docs" / "report.md").read_text()
    names = {name for part in objects(SCHEMA) for name in part["properties"]}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
