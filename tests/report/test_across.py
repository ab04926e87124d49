"""Heads of several runs are compared on the same rows, or not at all."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from frozenhead.errors import DataError, HeadNotFound
from frozenhead.report import HeadEvidence, gather
from frozenhead.report.across import RunEvidence, gather_runs, match_rows
from frozenhead.report.markdown import runs_to_markdown
from frozenhead.report.table_across import runs_table
from tests.report.examples import RUN, make_corpus, make_head, random_corpus

AB = ["a", "b"]


@pytest.fixture
def corpus() -> pd.DataFrame:
    return random_corpus(AB, rows=200, copies=30)


def make_run(name: str, corpus: pd.DataFrame, *heads: HeadEvidence, classes: list[str] = AB) -> RunEvidence:
    heads = heads or (make_head(corpus, classes, skill=1.0), make_head(corpus, classes, head="tfidf", feature="text"))
    return RunEvidence(name=name, info={**RUN, "classes": classes}, corpus=corpus, heads=heads)


def shuffled(run: RunEvidence, name: str, seed: int = 1) -> RunEvidence:
    """The same run with its rows in another order and under other numbers."""
    corpus = run.corpus.sample(frac=1, random_state=seed)
    numbers = dict(zip(corpus["row"], range(500, 500 + len(corpus)), strict=True))
    corpus = corpus.assign(row=corpus["row"].map(numbers))
    heads = [
        replace(head, predictions=head.predictions.assign(row=head.predictions["row"].map(numbers)))
        for head in run.heads
    ]
    return replace(run, name=name, corpus=corpus, heads=heads)


def block(evidence: dict[str, Any], run: str, head: str) -> dict[str, Any]:
    (found,) = [e["test"] for e in evidence["heads"] if (e["run"], e["head"]) == (run, head)]
    return dict(found)


def test_the_same_rows_in_another_order_are_the_same_rows(corpus: pd.DataFrame) -> None:
    run = make_run("one", corpus)
    found = gather_runs([run, shuffled(run, "two")], draws=50)
    alone = gather(corpus=corpus, features={}, heads=run.heads, run=run.info, draws=50)
    for entry in alone["heads"]:
        for name in ("one", "two"):
            other = block(found, name, entry["head"])
            for score in ("accuracy", "macro_f1", "confusion", "per_class", "rows"):
                assert other[score] == entry["test"][score]
            for score in ("log_loss", "weighted_log_loss", "brier"):  # sums in another order
                assert other[score] == pytest.approx(entry["test"][score], rel=1e-12)
    twins = [pair for pair in found["comparisons"]["pairs"] if pair["a"]["head"] == pair["b"]["head"]]
    assert twins
    for pair in twins:
        assert (pair["only_a_right"], pair["only_b_right"], pair["macro_f1"]["interval"]) == (0, 0, [0.0, 0.0])
    assert found["runs"][1]["same_training_rows"] is True
    assert {pair["a"]["run"] for pair in found["comparisons"]["pairs"]} | {"one"} == {"one", "two"}


def test_pairs_are_counted_row_by_row(corpus: pd.DataFrame) -> None:
    one, two = (
        make_run("one", corpus, make_head(corpus, AB, skill=1.0)),
        make_run("two", corpus, make_head(corpus, AB, skill=1.0, seed=7)),
    )
    (pair,) = gather_runs([one, shuffled(two, "two")], draws=50)["comparisons"]["pairs"]
    rights = {}
    for run in (one, two):
        table = run.heads[0].predictions.query("split == 'test'").set_index("row").sort_index()
        rights[run.name] = (table["label"] == table["predicted"]).to_numpy()
    a, b = rights[pair["a"]["run"]], rights[pair["b"]["run"]]
    assert (pair["only_a_right"], pair["only_b_right"]) == ((a & ~b).sum(), (b & ~a).sum())
    assert pair["only_a_right"] + pair["only_b_right"] > 0
    assert f"of {pair['a']['run']}" in pair["sentence"]


def test_equal_texts_are_matched_one_by_one() -> None:
    rows = make_corpus(["x", "x", "y", "x"], ["a", "a", "a", "b"], ["test"] * 4)
    turned = make_corpus(["y", "x", "x", "x"], ["a", "b", "a", "a"], ["test"] * 4)
    assert match_rows(rows, turned).tolist() == [2, 3, 0, 1]
    assert match_rows(rows, turned.iloc[:3]).tolist() == [2, -1, 0, 1]


def test_other_test_rows_are_refused_with_the_first_that_differs(corpus: pd.DataFrame) -> None:
    run = make_run("one", corpus)
    test = corpus.index[corpus["split"] == "test"]
    text = corpus.assign(text=corpus["text"].where(corpus.index != test[3], "other"))
    text["key"] = [t.encode() for t in text["text"]]
    row = corpus["row"][test[3]]
    with pytest.raises(DataError, match=rf"Row {row} of one \(text .*labelled .\) is not among the test rows of two"):
        gather_runs([run, make_run("two", text)])
    turned = {"a": "b", "b": "a"}
    label = corpus.assign(label=corpus["label"].where(corpus.index != test[0], turned[corpus["label"][test[0]]]))
    with pytest.raises(DataError, match=f"Row {corpus['row'][test[0]]} of one .*labelled {corpus['label'][test[0]]}"):
        gather_runs([run, make_run("two", label)])
    more = corpus.assign(split=corpus["split"].where(corpus.index != corpus.index[corpus["split"] == "val"][0], "test"))
    with pytest.raises(DataError, match=r"of two .*is not among the test rows of one"):
        gather_runs([run, make_run("two", more)])


def test_other_classes_and_other_splits_are_refused(corpus: pd.DataFrame) -> None:
    run = make_run("one", corpus)
    three = random_corpus(["a", "b", "c"], rows=60)
    with pytest.raises(DataError, match=r"one has 2 classes and two 3: only two has c"):
        gather_runs([run, make_run("two", three, classes=["a", "b", "c"])])
    with pytest.raises(DataError, match="one is judged on its test rows and two is not"):
        gather_runs([run, make_run("two", corpus[corpus["split"] != "test"])])
    with pytest.raises(HeadNotFound, match="frozenhead fit two"):
        gather_runs([run, replace(run, name="two", heads=[])])


def test_heads_are_selected_on_validation_only_where_its_rows_are_the_same(corpus: pd.DataFrame) -> None:
    weak, strong = make_head(corpus, AB, skill=0.3), make_head(corpus, AB, skill=4.0, seed=2)
    same = gather_runs([make_run("one", corpus, weak), make_run("two", corpus, strong)], draws=50)
    assert same["selection"] == {"by": "validation", "reason": None}
    assert same["selected"]["run"] == "two"
    assert same["heads"][0]["val"]["macro_f1"] > same["heads"][1]["val"]["macro_f1"]
    val = np.flatnonzero(corpus["split"] == "val")
    fewer = corpus.drop(corpus.index[val[0]])
    other = gather_runs(
        [make_run("one", corpus, weak), make_run("two", fewer, make_head(fewer, AB, skill=4.0, seed=2))], draws=50
    )
    assert other["selection"]["by"] == "first run"
    assert f"Row {corpus['row'].iloc[val[0]]} of one" in other["selection"]["reason"]
    assert other["selected"]["run"] == "one"
    assert all(entry["val"] is None for entry in other["heads"])


def test_other_training_rows_and_leaks_are_told_of_each_run(corpus: pd.DataFrame) -> None:
    train = np.flatnonzero(corpus["split"] == "train")
    fewer = corpus.drop(corpus.index[train[:40]])
    one, two = gather_runs([make_run("one", corpus), make_run("two", fewer)], draws=50)["runs"]
    assert (one["same_training_rows"], two["same_training_rows"]) == (True, False)
    for run, rows in ((one, corpus), (two, fewer)):
        train_texts = set(rows[rows["split"] == "train"]["text"])
        assert run["test_rows_in_train"] == rows[rows["split"] == "test"]["text"].isin(train_texts).sum() > 0


def test_without_a_test_split_the_validation_rows_judge(corpus: pd.DataFrame) -> None:
    rows = corpus[corpus["split"] != "test"]
    found = gather_runs([make_run("one", rows), make_run("two", rows)], draws=50)
    assert found["dataset"]["judged_split"] == "val"
    assert found["heads"][0]["val"]["intervals"] is not None
    assert found["heads"][0]["test"] is None


def test_a_row_that_any_run_trained_on_is_left_out_of_the_verdicts_without_copies(corpus: pd.DataFrame) -> None:
    corpus = corpus.drop_duplicates("text")
    one = make_run("one", corpus)
    test = corpus[corpus["split"] == "test"]
    more = test.iloc[:5].assign(split="train", row=range(900, 905))  # which only the second run has
    more.loc[more.index[0], "text"] = f" {test['text'].iloc[0].upper()}"
    more.loc[more.index[0], "key"] = b"folded"
    two = replace(make_run("two", pd.concat([corpus, more], ignore_index=True)), heads=one.heads)
    found = gather_runs([one, shuffled(two, "two")], draws=50)
    whole, without = found["comparisons"], found["comparisons_without_copies"]
    assert (whole["rows"], without["rows"]) == (len(test), len(test) - 5)
    assert "5 of these rows copy a training text; without them:" in whole["pairs"][0]["sentence"]
    assert f"On the same {len(test) - 5} rows without copies of a training text of any run" in runs_to_markdown(found)
    turned = gather_runs([shuffled(two, "two"), one], draws=50)
    assert turned["comparisons_without_copies"]["rows"] == len(test) - 5
    alone = gather_runs([one, replace(one, name="two")], draws=50)
    assert alone["comparisons_without_copies"] == alone["comparisons"]
    fresh = ~test["row"].isin(test["row"].iloc[:5])
    right = [
        (table["label"] == table["predicted"]).to_numpy()
        for table in (head.predictions.set_index("row").loc[test.loc[fresh, "row"]] for head in one.heads)
    ]
    scores = {h.head: r.mean() for h, r in zip(one.heads, right, strict=True)}
    for pair in without["pairs"]:
        assert pair["accuracy"]["a"] == pytest.approx(scores[pair["a"]["head"]])
    for entry in found["heads"]:
        assert entry["without_copies"]["accuracy"] == pytest.approx(scores[entry["head"]])
        assert f"{entry['without_copies']['macro_f1']:.4f}" in runs_to_markdown(found)
    assert any("clean" in str(part) for part in runs_table(found))
    assert [entry["without_copies"] for entry in alone["heads"]] == [None] * 4
    assert "without copies" not in runs_to_markdown(alone)
    assert not any("clean" in str(part) for part in runs_table(alone))


def test_shared_rows_that_repeat_one_another_are_counted(corpus: pd.DataFrame) -> None:
    found = gather_runs([make_run("one", corpus), make_run("two", corpus)], draws=50)
    test = corpus.loc[corpus["split"] == "test", "text"]
    assert found["dataset"]["within"]["repeats"] == len(test) - test.nunique()
