"""The terminal table fits, cuts no number, and reads no label as markup."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from frozenhead.labels import shown
from frozenhead.report import gather, terminal_table
from tests.report.examples import HOSTILE, RUN, make_corpus, make_feature, make_head, random_corpus


def printed(evidence: dict[str, Any], width: int, *, colour: bool = False, every_class: bool = False) -> str:
    console = Console(
        width=width, file=io.StringIO(), force_terminal=colour, color_system="truecolor" if colour else None
    )
    for part in terminal_table(evidence, width=width, every_class=every_class):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def first_table(text: str) -> str:
    return text.partition("Selected")[0]


@pytest.mark.parametrize("width", [100, 80, 60, 45, 40])
def test_no_number_is_cut_and_no_line_is_too_long(evidence: dict[str, Any], width: int) -> None:
    text = printed(evidence, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for entry in evidence["heads"]:
        row = next(line for line in first_table(text).splitlines() if line.startswith(f"{entry['head']} "))
        numbers = re.findall(r"(?<=  )[\d.]+", row)
        assert f"{entry['val']['macro_f1']:.4f}" == numbers[0]
        assert f"{entry['test']['macro_f1']:.4f}" in numbers
        assert all(re.fullmatch(r"\d+\.\d{4}|1\.25|\d\.\d{3}", number) for number in numbers)


@pytest.mark.parametrize("width", [80, 100])
def test_of_all_columns_80_characters_hold_those_that_matter_most(evidence: dict[str, Any], width: int) -> None:
    text = first_table(printed(evidence, width))
    row = next(line for line in text.splitlines() if line.startswith("dense"))
    dense = next(entry for entry in evidence["heads"] if entry["head"] == "dense")
    low, high = dense["test"]["intervals"]["macro_f1"]
    cells = {
        "feature": "minilm.pooler",
        "val": f"{dense['val']['macro_f1']:.4f}",
        "accuracy": f"{dense['test']['accuracy']:.4f}",
        "test": f"{dense['test']['macro_f1']:.4f}",
        "interval": f"{low:.3f}–{high:.3f}",
        "loss": f"{dense['test']['weighted_log_loss']:.4f}",
        "clean accuracy": f"{dense['test_without_copies']['accuracy']:.4f}",
        "clean": f"{dense['test_without_copies']['macro_f1']:.4f}",
        "seconds": "1.25",
    }
    gone = {"clean accuracy", "seconds"} if width == 80 else set()
    assert row.split() == ["dense", *(cell for name, cell in cells.items() if name not in gone)]


def test_columns_without_copies_stand_only_where_there_are_copies(evidence: dict[str, Any]) -> None:
    corpus = random_corpus(["a", "b"], rows=40)
    clean = gather(corpus=corpus, features={}, heads=[make_head(corpus, ["a", "b"])], run=RUN)
    assert "clean" in printed(evidence, 100)
    assert "clean" not in printed(clean, 100)


def test_labels_are_never_markup_nor_escape_sequences(hostile_evidence: dict[str, Any]) -> None:
    text = printed(hostile_evidence, 100, colour=True)
    labels = text.partition("class (test rows)")[2]
    for label in HOSTILE:
        assert shown(label, width=40) in labels
    assert "\x1b[31m" not in text
    assert "\u202e" not in text


def test_few_classes_are_shown_for_every_head(evidence: dict[str, Any]) -> None:
    lines = printed(evidence, 100).splitlines()
    for entry in evidence["heads"]:
        start = lines.index(f"{entry['head']} on {entry['feature']}".ljust(len(lines[-1])))
        for line, (name, row) in zip(lines[start + 1 :], entry["test"]["per_class"].items(), strict=False):
            scores = [f"{row[key]:.4f}" for key in ("precision", "recall", "f1")]
            assert line.split() == [name, *scores, str(row["support"])]


def test_of_many_classes_the_ten_worst_are_shown() -> None:
    classes = [f"class{c}" for c in range(12)]
    corpus = random_corpus(classes, rows=480)
    evidence = gather(corpus=corpus, features={}, heads=[make_head(corpus, classes)], run=RUN)
    text = printed(evidence, 100)
    per_class = evidence["heads"][0]["test"]["per_class"]
    worst = sorted(classes, key=lambda name: per_class[name]["f1"])[:10]
    assert re.findall(r"^class\d+", text, flags=re.MULTILINE) == worst
    assert "--per-class and report.json have all 12" in text


def test_every_class_of_every_head_is_shown_when_asked_for() -> None:
    classes = [f"class{c}" for c in range(12)]
    corpus = random_corpus(classes, rows=480)
    evidence = gather(corpus=corpus, features={}, heads=[make_head(corpus, classes)], run=RUN)
    text = printed(evidence, 100, every_class=True)
    assert re.findall(r"^ +(class\d+)", text, flags=re.MULTILINE) == classes


def long_texts(classes: list[str], *, every_class: bool = False, **kind: Any) -> tuple[dict[str, Any], list[str]]:
    """The facts of a run with these classes, and the lines that the terminal has on its long texts."""
    corpus = random_corpus(classes, rows=40 * len(classes))
    feature = make_feature(corpus, classes, **kind)
    heads = [make_head(corpus, classes)]
    evidence = gather(corpus=corpus, features={"minilm.pooler": feature}, heads=heads, run=RUN)
    text = printed(evidence, 100, every_class=every_class)
    section = text.partition("balanced class weights")[2].partition("\n\n")[2].partition("\n\n")[0]
    return feature["truncation"], section.splitlines()


def test_what_was_cut_stands_there_by_class() -> None:
    facts, lines = long_texts(["ham", "spam"])
    share = 100 * facts["share"]
    assert lines[0].startswith(f"{facts['truncated']} of 80 texts ({share:.1f}\xa0%) are longer than the 25 tokens of")
    assert lines[0].endswith("were cut.")
    assert lines[1].split() == ["class", "(all", "rows)", "rows", "cut", "share"]
    for line, (name, row) in zip(lines[-2:], facts["per_class"].items(), strict=True):
        assert line.split() == [name, "40", str(row["truncated"]), f"{100 * row['share']:.1f}", "%"]


def test_texts_in_windows_are_not_called_cut() -> None:
    facts, lines = long_texts(["ham", "spam"], windows=True)
    assert " ".join(lines).count("cut") == 0
    assert f"were read in {facts['windows']} windows." in lines[0]
    for line, (name, row) in zip(lines[-2:], facts["per_class"].items(), strict=True):
        assert line.split() == [name, "40", str(row["windowed"]), f"{100 * row['windowed_share']:.1f}", "%"]


def test_no_long_texts_are_said_in_a_line() -> None:
    _, lines = long_texts(["ham", "spam"], limit=40)
    assert lines == ["No text is longer than the 40 tokens of minilm.pooler."]


def test_equal_lines_on_lengths_are_one_that_names_the_feature_sets() -> None:
    corpus = random_corpus(["ham", "spam"], rows=80)
    limits = {
        "a.mean": 40,
        "a.cls": 40,
        "b.mean": 40,
        "c.mean": 25,
        "d.mean": 50,
        **{f"e{i}.cls": 60 for i in range(9)},
    }
    features = {
        name: make_feature(corpus, ["ham", "spam"], encoder=name.split(".")[0], limit=limit)
        for name, limit in limits.items()
    }
    evidence = gather(corpus=corpus, features=features, heads=[make_head(corpus, ["ham", "spam"])], run=RUN)
    text = printed(evidence, 120)
    assert [line for line in text.splitlines() if line.startswith("No text")] == [
        "No text is longer than the 40 tokens of a.mean, a.cls, b.mean.",
        "No text is longer than the 50 tokens of d.mean.",
        "No text is longer than the 60 tokens of e0.cls, e1.cls, e2.cls, e3.cls, e4.cls, e5.cls and 3 more.",
    ]
    assert "longer than the 25 tokens of c.mean and were cut." in text


def plain_words(evidence: dict[str, Any]) -> str:
    return " ".join(printed(evidence, 100).split())


def test_the_selected_head_is_compared_in_words(evidence: dict[str, Any]) -> None:
    selected, comparisons = evidence["selected"], evidence["comparisons"]
    own = [pair for pair in comparisons["pairs"] if selected in (pair["a"], pair["b"])]
    (with_baseline,) = [pair for pair in own if evidence["baseline"] in (pair["a"], pair["b"])]
    fresh = evidence["comparisons_without_copies"]
    equal = sum(pair["verdict"] == "no difference" for pair in fresh["pairs"] if selected in (pair["a"], pair["b"]))
    text = plain_words(evidence)
    assert with_baseline["sentence"] in text
    rows = f"{fresh['rows']} rows without copies could show"
    assert f"Of the {len(own)} other heads {equal} show no difference in accuracy to it that {rows}" in text
    assert len(own) == len(evidence["heads"]) - 1


def test_two_heads_are_compared_in_one_sentence() -> None:
    corpus = random_corpus(["a", "b"], rows=80)
    heads = [make_head(corpus, ["a", "b"]), make_head(corpus, ["a", "b"], head="tfidf", feature="text", seed=3)]
    found = gather(corpus=corpus, features={}, heads=heads, run=RUN)
    assert found["comparisons"]["pairs"][0]["sentence"] in plain_words(found)
    assert "other heads" not in plain_words(found)


def test_copies_are_counted_by_kind(evidence: dict[str, Any]) -> None:
    counts = evidence["copies"]["splits"]["test"]
    text = plain_words(evidence)
    assert f"{counts['exact']} of {counts['rows']} test rows" in text
    assert f"{counts['folded']} more but for case and spaces, near copies were not looked for" in text
    near = {**evidence, "copies": {**evidence["copies"], "feature": "minilm.pooler"}}
    near["copies"]["splits"] = {"test": {**counts, "near": 12}}
    assert "12 more nearly (cosine of at least 0.95). " in plain_words(near)
    near["copies"]["splits"] = {"test": {**counts, "exact": 0, "near": 12}}
    assert "12 more nearly (cosine of at least 0.95). " in plain_words(near)


def test_the_advice_on_copies_is_a_whole_command(evidence: dict[str, Any]) -> None:
    assert "frozenhead embed messages.csv --max-length 25 --out RUN-grouped --group-duplicates" in " ".join(
        printed(evidence, 100).split()
    )


@pytest.mark.parametrize("every_class", [False, True])
def test_of_many_classes_those_cut_most_are_shown(every_class: bool) -> None:
    classes = [f"class{c}" for c in range(13)]
    facts, lines = long_texts(classes, every_class=every_class)
    shown_first = re.findall(r"^class\d+", "\n".join(lines), flags=re.MULTILINE)
    by_share = sorted(classes, key=lambda name: -facts["per_class"][name]["share"])
    assert shown_first == (classes if every_class else by_share[:10])


def test_a_run_without_validation_selects_nothing() -> None:
    corpus = make_corpus(["x", "y", "z", "w"], ["a", "b", "a", "b"], ["train", "train", "test", "test"])
    evidence = gather(corpus=corpus, features={}, heads=[make_head(corpus, ["a", "b"])], run=RUN)
    assert "no head is selected" in printed(evidence, 100)


def test_without_a_test_split_the_columns_are_those_of_validation() -> None:
    corpus = random_corpus(["a", "b"], rows=80, copies=20)
    corpus = corpus[corpus["split"] != "test"]
    evidence = gather(corpus=corpus, features={}, heads=[make_head(corpus, ["a", "b"])], run=RUN)
    row = next(line for line in first_table(printed(evidence, 100)).splitlines() if line.startswith("dense"))
    block = evidence["heads"][0]["val"]
    low, high = block["intervals"]["macro_f1"]
    scores = [f"{block[name]:.4f}" for name in ("accuracy", "macro_f1", "weighted_log_loss")]
    assert row.split() == ["dense", "minilm.pooler", *scores[:2], f"{low:.3f}–{high:.3f}", scores[2], "1.25"]
