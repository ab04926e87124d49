"""What `gather` counts, ranks and refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score
from statsmodels.stats.contingency_tables import mcnemar

from frozenhead.errors import CacheDamaged, DataError, HeadNotFound, RunDamaged, UsageError
from frozenhead.report import HeadEvidence, draw, gather, render, score_block, terminal_table, to_markdown
from frozenhead.report.metrics import confusion_matrix
from frozenhead.report.words import percent
from tests.report.examples import RUN, make_corpus, make_feature, make_head, random_corpus
from tests.report.reading import section

AB = ["a", "b"]

# text, label, split: "one" leaks into test twice, "two" into validation, "three" bears two labels
HAND_MADE = [
    ("one", "a", "train"),
    ("two", "b", "train"),
    ("three", "a", "train"),
    ("four", "a", "train"),
    ("two", "b", "val"),
    ("five", "a", "val"),
    ("one", "a", "test"),
    ("one", "a", "test"),
    ("three", "b", "test"),
    ("six", "a", "test"),
    ("seven", "b", "test"),
]


def judge(corpus: pd.DataFrame, *heads: HeadEvidence, **features: Any) -> dict[str, Any]:
    return gather(corpus=corpus, features=features, heads=heads, run=RUN)


@pytest.fixture
def corpus() -> pd.DataFrame:
    texts, labels, splits = zip(*HAND_MADE, strict=True)
    return make_corpus(texts, labels, splits)


def test_leaked_rows_are_those_whose_text_is_in_training(corpus: pd.DataFrame) -> None:
    dataset = judge(corpus, make_head(corpus, AB))["dataset"]
    assert dataset["leakage"] == {
        "test_rows": 5,
        "test_rows_in_train": 3,
        "val_rows": 2,
        "val_rows_in_train": 1,
        "per_class": {"a": {"test_rows": 3, "in_train": 2}, "b": {"test_rows": 2, "in_train": 1}},
    }
    assert dataset["duplicates"] == {"distinct_texts": 7, "duplicate_rows": 4, "conflicting_texts": 1}


def test_the_corpus_is_counted_by_class_and_split(corpus: pd.DataFrame) -> None:
    dataset = judge(corpus, make_head(corpus, AB))["dataset"]
    assert dataset["class_counts"] == {
        "a": {"train": 3, "val": 1, "test": 3, "all": 7},
        "b": {"train": 1, "val": 1, "test": 2, "all": 4},
    }
    assert dataset["split_counts"] == {"train": 4, "val": 2, "test": 5}
    assert dataset["class_weights"] == {"a": 4 / (2 * 3), "b": 4 / (2 * 1)}


def test_scores_without_leaks_are_the_scores_of_the_other_test_rows() -> None:
    corpus = random_corpus(AB, rows=120, copies=50)
    head = make_head(corpus, AB, skill=1.0)
    evidence = judge(corpus, head)
    train_texts = set(corpus.loc[corpus["split"] == "train", "text"])
    fresh = corpus[(corpus["split"] == "test") & ~corpus["text"].isin(train_texts)]
    table = head.predictions[head.predictions["row"].isin(fresh["row"])]
    expected = score_block(
        table["label"].tolist(),
        table[["prob_a", "prob_b"]].to_numpy(dtype=np.float64),
        AB,
        evidence["dataset"]["class_weights"],
    )
    assert 0 < len(fresh) < evidence["dataset"]["split_counts"]["test"]
    found = evidence["heads"][0]["test_without_leaks"]
    assert expected is not None
    assert found | {"intervals": None} == expected
    assert found["intervals"]["accuracy"][0] < found["accuracy"] < found["intervals"]["accuracy"][1]
    assert evidence["heads"][0]["test"]["rows"] > found["rows"]


def test_no_scores_are_left_when_every_test_row_leaks() -> None:
    corpus = make_corpus(["x", "y", "x", "y"], ["a", "b", "a", "b"], ["train", "train", "test", "test"])
    entry = judge(corpus, make_head(corpus, AB))["heads"][0]
    assert entry["test"]["rows"] == 2
    assert entry["test_without_leaks"] is None


def heads_right_on(corpus: pd.DataFrame, **right: tuple[str, float]) -> list[HeadEvidence]:
    """Heads that are right, with this probability, on one split, and wrong on the other."""
    judged = corpus[corpus["split"] != "train"]
    heads = []
    for name, (split, certainty) in right.items():
        hit = (judged["split"] == split).to_numpy()
        is_a = (judged["label"] == "a").to_numpy()
        of_a = np.where(hit == is_a, certainty, 1 - certainty)
        heads.append(make_head(corpus, AB, head=name, probabilities=np.stack([of_a, 1 - of_a], axis=1)))
    return heads


def test_heads_are_ranked_on_validation_alone(corpus: pd.DataFrame) -> None:
    evidence = judge(corpus, *heads_right_on(corpus, on_test=("test", 0.9), on_val=("val", 0.9)))
    assert [entry["head"] for entry in evidence["heads"]] == ["on_val", "on_test"]
    assert evidence["selected"] == {"feature": "minilm.pooler", "head": "on_val"}


def test_ties_go_to_the_lower_validation_loss_then_to_the_first(corpus: pd.DataFrame) -> None:
    heads = heads_right_on(corpus, unsure=("val", 0.6), sure=("val", 0.9), twin=("val", 0.9))
    assert [entry["head"] for entry in judge(corpus, *heads)["heads"]] == ["sure", "twin", "unsure"]


def test_the_index_of_the_corpus_does_not_matter(corpus: pd.DataFrame) -> None:
    head = make_head(corpus, AB)
    assert judge(corpus.set_index(np.zeros(len(corpus))), head) == judge(corpus, head)


def test_the_order_of_predictions_and_of_the_corpus_does_not_matter(corpus: pd.DataFrame) -> None:
    head = make_head(corpus, AB)
    shuffled = replace(head, predictions=head.predictions.sample(frac=1, random_state=1))
    assert judge(corpus, shuffled) == judge(corpus, head)
    for column in ("val", "test", "test_without_leaks"):
        turned = judge(corpus.iloc[::-1], head)["heads"][0][column]
        assert turned["confusion"] == judge(corpus, head)["heads"][0][column]["confusion"]
        assert turned["accuracy"] == judge(corpus, head)["heads"][0][column]["accuracy"]


def thresholded(head: HeadEvidence, positive: str, value: float) -> HeadEvidence:
    """The same probabilities, decided by a threshold."""
    other = "a" if positive == "b" else "b"
    labels = np.where(head.predictions[f"prob_{positive}"] >= value, positive, other).astype(object)
    info = {**head.info, "threshold": {"positive": positive, "value": value, "rule": "f1"}}
    return replace(head, info=info, predictions=head.predictions.assign(predicted=labels))


@pytest.mark.parametrize("positive", AB)
@pytest.mark.parametrize("value", [0.0, 0.2, 0.9, np.nextafter(1.0, 2.0)])
def test_a_thresholded_head_is_scored_by_what_it_predicted(corpus: pd.DataFrame, positive: str, value: float) -> None:
    head = thresholded(make_head(corpus, AB), positive, value)
    [entry] = judge(corpus, head)["heads"]
    table = head.predictions.set_index("row")
    for split in ("val", "test"):
        rows = corpus[corpus["split"] == split]
        predicted = table.loc[rows["row"], "predicted"]
        assert entry[split]["accuracy"] == np.mean(predicted.to_numpy() == rows["label"].to_numpy())
        confusion = [
            [int(((rows["label"] == t).to_numpy() & (predicted == p).to_numpy()).sum()) for p in AB] for t in AB
        ]
        assert confusion_matrix(entry[split], len(AB)).tolist() == confusion
    assert entry["threshold"]["value"] == value


def test_labels_that_the_threshold_does_not_give_are_refused(corpus: pd.DataFrame) -> None:
    head = make_head(corpus, AB)
    spoilt = replace(thresholded(head, "b", 0.0), predictions=head.predictions.assign(predicted="a"))
    with pytest.raises(RunDamaged, match=r"row 104 is not the one that the threshold 0\.0000 gives"):
        judge(corpus, spoilt)
    strange = thresholded(head, "b", 0.5)
    strange = replace(strange, info={**strange.info, "threshold": {"positive": "c", "value": 0.5}})
    with pytest.raises(RunDamaged, match="threshold is for 'c'"):
        judge(corpus, strange)


def without_a_row(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[1:]


def with_a_row_twice(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.iloc[:1]])


def with_a_training_row(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.iloc[:1].assign(row=100)])


def with_another_label(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(label=table["label"].iloc[::-1].to_numpy())


def with_another_split(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(split="test")


def with_another_prediction(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(predicted=table["predicted"].map({"a": "b", "b": "a"}))


def with_an_unknown_prediction(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(predicted="c")


def with_nan(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(prob_a=np.nan)


def without_a_class(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="prob_b")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (without_a_row, "row 104 is in the validation or test split but is not predicted"),
        (with_a_row_twice, "row 104 is predicted twice"),
        (with_a_training_row, "row 100 is predicted but is not in the validation or test split"),
        (with_another_label, "has another label in the corpus"),
        (with_another_split, "row 104 has another split in the corpus"),
        (with_another_prediction, "predicted for row 104 is not the one of the largest probability"),
        (with_an_unknown_prediction, "predicted for row 104 is not the one of the largest probability"),
        (with_nan, "does not hold probabilities"),
        (without_a_class, "the column 'prob_b' is missing"),
    ],
)
def test_predictions_of_another_corpus_are_refused(
    corpus: pd.DataFrame, damage: Callable[[pd.DataFrame], pd.DataFrame], found: str
) -> None:
    head = make_head(corpus, AB)
    damaged = replace(head, head="softmax", predictions=damage(head.predictions))
    with pytest.raises(RunDamaged, match=f"softmax on minilm.pooler .*{found}.*frozenhead fit"):
        judge(corpus, head, damaged)


@pytest.mark.parametrize("probability", [0.4, 1.5, -0.5])
def test_what_is_no_probability_is_refused_with_its_row_and_file(corpus: pd.DataFrame, probability: float) -> None:
    head = make_head(corpus, AB)
    table = head.predictions.copy()
    table.loc[table["row"] == 108, "prob_a"] = probability
    table.loc[table["row"] == 108, "prob_b"] = 0.5
    damaged = replace(head, predictions=table, file="run/heads/x/predictions.parquet")
    with pytest.raises(RunDamaged, match=r"\(run/heads/x/predictions\.parquet\).*row 108 does not hold probabilities"):
        judge(corpus, damaged)


def test_heads_with_other_classes_are_refused(corpus: pd.DataFrame) -> None:
    head = make_head(corpus, AB)
    turned = replace(head, head="turned", info={**head.info, "classes": ["b", "a"]})
    with pytest.raises(RunDamaged, match=r"turned on minilm\.pooler"):
        judge(corpus, head, turned)
    with pytest.raises(RunDamaged, match="it knows 3 classes"):
        gather(corpus=corpus, features={}, heads=[make_head(corpus, ["a", "b", "c"])], run={**RUN, "classes": AB})
    with pytest.raises(RunDamaged, match="label 'b'"):
        judge(corpus, make_head(corpus[corpus["label"] == "a"], ["a"]))
    with pytest.raises(RunDamaged, match="no training row has the label 'c'"):
        judge(corpus, make_head(corpus, ["a", "b", "c"]))


def test_there_must_be_something_to_judge(corpus: pd.DataFrame) -> None:
    with pytest.raises(HeadNotFound, match="frozenhead fit"):
        judge(corpus)
    train = corpus[corpus["split"] == "train"]
    with pytest.raises(DataError, match="neither validation nor test"):
        judge(train, make_head(train, AB))


@pytest.mark.parametrize(("kept", "judged"), [("val", "val"), ("test", "test")])
def test_one_split_is_enough_to_judge(corpus: pd.DataFrame, kept: str, judged: str) -> None:
    corpus = corpus[corpus["split"].isin(["train", kept])]
    evidence = judge(corpus, make_head(corpus, AB, head="first"), make_head(corpus, AB, head="second"))
    assert evidence["dataset"]["judged_split"] == judged
    assert [entry["head"] for entry in evidence["heads"]] == ["first", "second"]
    assert {name for name in ("val", "test") if evidence["heads"][0][name]} == {kept}


def test_lengths_stand_once_per_encoder_and_limit(corpus: pd.DataFrame) -> None:
    features = {
        "minilm.pooler": make_feature(corpus, AB),
        "minilm.mean": make_feature(corpus, AB),
        "minilm.long": make_feature(corpus, AB, limit=128),
        "minilm-25-windows.mean": make_feature(corpus, AB, windows=True),
        "bert.cls": make_feature(corpus, AB, encoder="bert"),
    }
    dataset = gather(corpus=corpus, features=features, heads=[make_head(corpus, AB)], run=RUN)["dataset"]
    assert {key: group["features"] for key, group in dataset["lengths"].items()} == {
        "minilm@25": ["minilm.pooler", "minilm.mean"],
        "minilm@128": ["minilm.long"],
        "minilm@25 in windows": ["minilm-25-windows.mean"],
        "bert@25": ["bert.cls"],
    }
    assert list(dataset["truncation"]) == list(features)


def test_the_evidence_is_plain_json(corpus: pd.DataFrame) -> None:
    head = make_head(corpus, AB)
    history = [{"epoch": np.int64(1), "train_loss": np.float32(0.5), "val_loss": float("inf")}]
    info = {**head.info, "params": {"sizes": (512, np.int64(2)), "early": np.bool_(True)}}
    evidence = judge(corpus, replace(head, history=history, info=info))
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence
    assert evidence["heads"][0]["history"] == [{"epoch": 1, "train_loss": 0.5, "val_loss": None}]
    assert evidence["heads"][0]["params"] == {"sizes": [512, 2], "early": True}


def unit_vectors(corpus: pd.DataFrame, pairs: dict[int, int]) -> NDArray[np.float64]:
    """Vectors (N, 64) at random, each row's own; `pairs` lie next to one another, at a cosine of 0.999 or more."""
    vectors = np.random.default_rng(5).normal(size=(len(corpus), 64))
    for copy, original in pairs.items():
        vectors[copy] = vectors[original] + 0.01 * vectors[copy]
    return vectors


def copied_run() -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Of 120 rows the test rows 3 and 7 (by position in the split) are a folded and a near copy; some are exact."""
    corpus = random_corpus(AB, rows=120, copies=10)
    train, test = (np.flatnonzero(corpus["split"] == name) for name in ("train", "test"))
    corpus.loc[test[3], "text"] = f"  {corpus['text'][train[5]].upper()} "
    corpus.loc[test[3], "key"] = b"folded"
    return corpus, unit_vectors(corpus, {int(test[7]): int(train[9])})


def test_scores_without_copies_are_those_of_rows_that_are_copies_of_no_kind() -> None:
    corpus, vectors = copied_run()
    head = make_head(corpus, AB, skill=1.0)
    evidence = gather(corpus=corpus, features={"f": {}}, heads=[head], run=RUN, vectors=lambda name: vectors)
    counts = evidence["copies"]["splits"]["test"]
    assert (counts["folded"], counts["near"]) == (1, 1)
    assert counts["exact"] == evidence["dataset"]["leakage"]["test_rows_in_train"] > 0
    copied = {row["row"] for row in evidence["copies"]["rows"] if row["split"] == "test"}
    rows = head.predictions[(head.predictions["split"] == "test") & ~head.predictions["row"].isin(copied)]
    entry = evidence["heads"][0]
    assert entry["test_without_copies"]["rows"] == len(rows) == entry["test_without_leaks"]["rows"] - 2
    assert entry["test_without_copies"]["accuracy"] == accuracy_score(rows["label"], rows["predicted"])


def test_vectors_are_those_of_the_best_head_that_has_any() -> None:
    corpus, vectors = copied_run()
    heads = heads_right_on(corpus, on_val=("val", 0.9), on_test=("test", 0.9))
    best, other = replace(heads[0], feature="text"), replace(heads[1], feature="second")
    asked: list[str] = []

    def read(name: str) -> NDArray[np.float64]:
        asked.append(name)
        return vectors

    features: dict[str, dict[str, Any]] = {"first": {}, "second": {}}
    found = gather(corpus=corpus, features=features, heads=[best, other], run=RUN, vectors=read)
    assert (found["selected"]["feature"], found["vectors"]) == ("text", {"feature": "second", "reason": None})
    only_texts = gather(corpus=corpus, features=features, heads=[best], run=RUN, vectors=read)
    assert only_texts["vectors"]["feature"] == "first"
    assert asked == ["second", "first"]
    assert [found[block]["feature"] for block in ("map", "copies")] == ["second", "second"]


def test_without_the_cache_all_but_what_needs_vectors_is_there() -> None:
    corpus, _ = copied_run()

    def gone(name: str) -> NDArray[np.float64]:
        raise CacheDamaged(f"{name} is gone.\nRun embed again.")

    head = make_head(corpus, AB)
    evidence = gather(corpus=corpus, features={"f": {}}, heads=[head], run=RUN, vectors=gone)
    assert evidence["vectors"] == {"feature": None, "reason": "f is gone. Run embed again."}
    assert evidence["map"] is None
    assert evidence["copies"]["feature"] is None
    assert evidence["copies"]["splits"]["test"]["exact"] > 0
    assert evidence["heads"][0]["test_without_copies"]["rows"] == evidence["heads"][0]["test_without_leaks"]["rows"] - 1


@pytest.mark.parametrize("near", [0.0, -1.0, 1.01, float("nan"), float("inf")])
def test_a_threshold_that_is_no_cosine_is_refused(corpus: pd.DataFrame, near: float) -> None:
    with pytest.raises(UsageError, match="expected a cosine above 0 and at most 1"):
        gather(corpus=corpus, features={}, heads=[make_head(corpus, AB)], run=RUN, near=near)


def test_the_tfidf_head_is_the_baseline_and_every_head_is_compared_with_the_best_and_with_it() -> None:
    corpus = random_corpus(AB, rows=200)
    heads = (
        make_head(corpus, AB, head="dense", skill=3.0),
        make_head(corpus, AB, head="logreg", seed=1),
        make_head(corpus, AB, head="tfidf", feature="text", seed=2),
    )
    evidence = judge(corpus, *heads)
    names = [{"feature": entry["feature"], "head": entry["head"]} for entry in evidence["heads"]]
    assert evidence["baseline"] == {"feature": "text", "head": "tfidf"}
    pairs = evidence["comparisons"]["pairs"]
    assert evidence["selected"] == names[0]
    assert {pair["b"]["head"] for pair in pairs} == {names[0]["head"], "tfidf"}
    table = {h["head"]: h["test"] for h in evidence["heads"]}
    for pair in pairs:
        for score in ("accuracy", "macro_f1"):
            a, b = (table[pair[side]["head"]][score] for side in "ab")
            assert (pair[score]["a"], pair[score]["b"], pair[score]["difference"]) == (a, b, a - b)
    assert judge(corpus, make_head(corpus, AB))["comparisons"] is None


def test_every_error_is_handed_over_with_the_kind_of_copy_it_is() -> None:
    corpus, vectors = copied_run()
    heads = [make_head(corpus, AB, skill=0.0), make_head(corpus, AB, head="other", skill=0.0, seed=9)]
    tables: list[pd.DataFrame] = []
    evidence = gather(
        corpus=corpus, features={"f": {}}, heads=heads, run=RUN, vectors=lambda name: vectors, take_errors=tables.append
    )
    [table] = tables
    best = next(head for head in heads if head.head == evidence["selected"]["head"])
    test = best.predictions[best.predictions["split"] == "test"]
    wrong = test[test["label"] != test["predicted"]]
    assert sorted(table["row"]) == sorted(wrong["row"])
    assert table["probability"].is_monotonic_decreasing
    kinds = {row["row"]: row["kind"] for row in evidence["copies"]["rows"]}
    assert [kinds.get(row) for row in table["row"]] == table["copy"].tolist()
    tables = [head.predictions.set_index("row").loc[table["row"]] for head in heads]
    misses = np.sum([(one["label"] != one["predicted"]).to_numpy() for one in tables], axis=0)
    assert table["wrong_heads"].tolist() == misses.tolist()
    assert [row["row"] for row in evidence["mistakes"]["rows"]] == table["row"].tolist()


def test_progress_is_told_to_the_end(corpus: pd.DataFrame) -> None:
    told: list[tuple[int, int]] = []
    gather(corpus=corpus, features={}, heads=[make_head(corpus, AB)], run=RUN, progress=lambda *at: told.append(at))
    assert told == [(done, told[0][1]) for done in range(told[0][1] + 1)]


def test_equal_seeds_give_equal_evidence_and_others_other_intervals() -> None:
    corpus = random_corpus(AB, rows=80)
    heads = [make_head(corpus, AB, skill=0.5), make_head(corpus, AB, head="other", skill=0.5, seed=3)]
    first, again, other = (
        gather(corpus=corpus, features={}, heads=heads, run=RUN, seed=s, draws=50) for s in (1, 1, 2)
    )
    assert first == again
    assert first["heads"][0]["test"]["intervals"]["ece"] != other["heads"][0]["test"]["intervals"]["ece"]
    assert (first["comparisons"]["draws"], first["comparisons"]["seed"]) == (50, 1)


def test_a_class_without_a_test_row_has_no_interval_and_the_rest_has() -> None:
    corpus = random_corpus(["a", "b", "c"], rows=120)
    corpus = corpus[(corpus["split"] != "test") | (corpus["label"] != "c")]
    block = judge(corpus, make_head(corpus, ["a", "b", "c"]))["heads"][0]["test"]
    assert block["per_class"]["c"]["support"] == 0
    assert block["intervals"]["per_class"]["c"]["recall"] is None
    assert block["intervals"]["per_class"]["a"]["recall"] is not None
    assert 0 < block["roc_auc"] < 1


def test_a_test_split_of_three_rows_is_judged() -> None:
    corpus = make_corpus(list("abcdefg"), list("ababaab"), ["train"] * 2 + ["val"] * 2 + ["test"] * 3)
    entry = judge(corpus, make_head(corpus, AB), make_head(corpus, AB, head="other", seed=4))["heads"][0]
    assert entry["test"]["rows"] == 3
    low, high = entry["test"]["intervals"]["accuracy"]
    assert high - low > 0.5


def test_a_thousand_classes_are_judged() -> None:
    classes = [f"class{c}" for c in range(1000)]
    corpus = random_corpus(classes, rows=4000)
    evidence = gather(corpus=corpus, features={}, heads=[make_head(corpus, classes, skill=9.0)], run=RUN, draws=50)
    assert len(evidence["heads"][0]["test"]["per_class"]) == 1000
    assert len(evidence["heads"][0]["curves"]["roc"]) == 8


def parrots() -> tuple[pd.DataFrame, list[HeadEvidence]]:
    """A corpus half of whose test rows are copies, a head that knows these by heart and else errs like the baseline."""
    train = [f"text {i}" for i in range(200)]
    texts = [*train, *(f"val {i}" for i in range(40)), *train[:100], *(f"new {i}" for i in range(100))]
    corpus = make_corpus(texts, AB * 220, ["train"] * 200 + ["val"] * 40 + ["test"] * 200)
    rng = np.random.default_rng(3)
    judged = corpus[corpus["split"] != "train"]
    copied, is_a = judged["text"].isin(train).to_numpy(), (judged["label"] == "a").to_numpy()
    on_val = (judged["split"] == "val").to_numpy()
    heads = []
    for name, feature in (("parrot", "minilm.pooler"), ("tfidf", "text")):
        wrong = (rng.random(len(judged)) < 0.3) & ~(on_val if name == "parrot" else False)  # the parrot is selected
        wrong &= ~copied if name == "parrot" else True
        of_a = np.where(is_a != wrong, 0.9, 0.1)
        probabilities = np.stack([of_a, 1 - of_a], axis=1)
        heads.append(make_head(corpus, AB, head=name, feature=feature, probabilities=probabilities))
    return corpus, heads


def test_a_head_that_knows_copies_by_heart_is_not_called_better_without_them() -> None:
    corpus, heads = parrots()
    evidence = gather(corpus=corpus, features={}, heads=heads, run=RUN, draws=200)
    assert evidence["selected"]["head"] == "parrot"
    [whole], [without] = (evidence[name]["pairs"] for name in ("comparisons", "comparisons_without_copies"))
    assert (whole["verdict"], without["verdict"]) == ("better", "no difference")
    assert (evidence["comparisons"]["rows"], evidence["comparisons_without_copies"]["rows"]) == (200, 100)
    fresh = corpus.loc[corpus["text"].str.startswith("new"), "row"]
    right = [
        (table["label"] == table["predicted"]).to_numpy()
        for table in (head.predictions.set_index("row").loc[fresh] for head in heads)
    ]
    expected = mcnemar([[int(((right[0] == x) & (right[1] == y)).sum()) for y in (True, False)] for x in (True, False)])
    assert without["p_value"] == without["p_adjusted"] == pytest.approx(expected.pvalue, rel=1e-9)
    blocks = [entry["test_without_copies"] for entry in evidence["heads"]]
    assert without["accuracy"]["difference"] == blocks[0]["accuracy"] - blocks[1]["accuracy"]
    assert "100 of these rows copy a training text; without them: no difference in accuracy" in whole["sentence"]
    first_screen = section(render(evidence, draw(evidence)), "answer")
    assert "No difference in accuracy that 100 rows without copies could show" in first_screen
    assert "With the copies counted it would be called more accurate (p < 0.0001)." in " ".join(first_screen.split())
    terminal = " ".join(str(part) for part in terminal_table(evidence))
    assert whole["sentence"] in terminal


def test_without_copies_the_comparisons_are_the_same() -> None:
    corpus = random_corpus(AB, rows=120)
    evidence = judge(corpus, make_head(corpus, AB), make_head(corpus, AB, head="tfidf", feature="text", seed=1))
    assert evidence["comparisons_without_copies"] == evidence["comparisons"]


def test_where_every_test_row_is_a_copy_no_comparison_is_left_without_them() -> None:
    corpus = make_corpus(["x", "y", "x", "y"], AB * 2, ["train", "train", "test", "test"])
    evidence = judge(corpus, make_head(corpus, AB), make_head(corpus, AB, head="tfidf", feature="text", seed=1))
    assert evidence["comparisons_without_copies"] is None
    assert "without them: no row is left." in evidence["comparisons"]["pairs"][0]["sentence"]
    page = render(evidence, draw(evidence))
    assert "Every one of these rows copies a training text" in section(page, "pairs")


def test_without_a_test_split_every_form_of_the_report_says_that_no_p_value_is_valid(corpus: pd.DataFrame) -> None:
    corpus = corpus[corpus["split"] != "test"]
    evidence = judge(corpus, make_head(corpus, AB), make_head(corpus, AB, head="tfidf", feature="text", seed=1))
    assert not evidence["comparisons"]["p_values_valid"]
    page = render(evidence, draw(evidence))
    assert "no p-value on them is valid" in section(page, "answer")
    note = evidence["comparisons"]["note"]
    assert note in section(page, "pairs")
    assert note in " ".join(map(str, terminal_table(evidence)))
    assert note in to_markdown(evidence)


def test_rows_that_repeat_one_another_are_told_in_every_form_of_the_report(corpus: pd.DataFrame) -> None:
    evidence = judge(corpus, make_head(corpus, AB))  # "one" stands in the test split twice
    within = evidence["copies"]["within"]["test"]
    assert within == {"repeats": 1, "widening": pytest.approx((7 / 5) ** 0.5)}
    page = render(evidence, draw(evidence))
    assert "1 test row repeats another one, yet all count as independent" in section(page, "answer")
    assert "1 row repeats another one, but for case and spaces." in section(page, "copies")
    by = f"so they are too narrow, those of accuracy by up to {percent(within['widening'] - 1)} of their width."
    terminal = " ".join(map(str, terminal_table(evidence)))
    assert f"1 test row repeats another test row; intervals and tests treat them as independent, {by}" in terminal
    assert by in to_markdown(evidence)
    distinct = corpus[corpus["row"] != 106]
    evidence = judge(distinct, make_head(distinct, AB))
    for form in (render(evidence, draw(evidence)), " ".join(map(str, terminal_table(evidence))), to_markdown(evidence)):
        assert "independent" not in form
