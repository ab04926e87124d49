"""One small run, shared by the tests that only look."""

from typing import Any

import pytest

from frozenhead.report import gather
from tests.report.examples import HOSTILE, RUN, make_corpus, make_feature, make_head, random_corpus

CLASSES = ["ham", "spam"]


@pytest.fixture(scope="session")
def evidence() -> dict[str, Any]:
    """Two classes, four heads of which two are twins, a fifth of the rows copies."""
    corpus = random_corpus(CLASSES, rows=200, copies=40)
    heads = [
        make_head(corpus, CLASSES, head="dense", epochs=4),
        make_head(corpus, CLASSES, head="dense", epochs=4, feature="minilm.mean"),
        make_head(corpus, CLASSES, head="logreg", seed=1),
        make_head(corpus, CLASSES, head="tfidf", feature="text", seed=2),
    ]
    return gather(corpus=corpus, features={"minilm.pooler": make_feature(corpus, CLASSES)}, heads=heads, run=RUN)


@pytest.fixture(scope="session")
def hostile_evidence() -> dict[str, Any]:
    """A run in which every string that comes from outside is out to do harm."""
    labels = list(HOSTILE) * 8
    splits = (["train"] * len(HOSTILE) + ["test"] * len(HOSTILE)) * 3 + ["val"] * 2 * len(HOSTILE)
    corpus = make_corpus([f"text {i}" for i in range(len(labels))], labels, splits)
    bad = HOSTILE[0]
    run = {**RUN, "command": bad, "versions": {bad: bad}, "options": {bad: [bad]}, "split": {"rule": bad}}
    run["sources"] = [{"path": bad + "\udcff", "sha256": bad, "role": bad, "rows": 1}]
    heads = [make_head(corpus, HOSTILE, head=bad, feature=HOSTILE[2], epochs=2)]
    features = {bad: make_feature(corpus, HOSTILE, encoder=bad)}
    return gather(corpus=corpus, features=features, heads=heads, run=run)
