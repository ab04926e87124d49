"""The report in Markdown: short, whole, and nothing in it but what we wrote."""

from typing import Any

import pytest
from markdown_it import MarkdownIt

from frozenhead.labels import shown
from frozenhead.report.across import RunEvidence, gather_runs
from frozenhead.report.markdown import runs_to_markdown, sentence, to_markdown
from frozenhead.report.words import p_value, signed, signed_span
from tests.report.examples import HOSTILE, RUN, make_head, random_corpus
from tests.report.test_schema import make_evidence

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tables(text: str) -> list[list[list[str]]]:
    """Every table as a reader sees it: rows of cells."""
    found: list[list[list[str]]] = []
    inside = False
    for token in READER.parse(text):
        if token.type == "table_open":
            found.append([])
        if token.type == "tr_open":
            found[-1].append([])
        inside = (inside or token.type in ("th_open", "td_open")) and token.type not in ("th_close", "td_close")
        if inside and token.type == "inline":
            found[-1][-1].append("".join(child.content for child in token.children or ()))
    return found


def test_the_scores_stand_with_their_intervals(evidence: dict[str, Any]) -> None:
    text = to_markdown(evidence)
    chosen = evidence["heads"][0]
    assert text.startswith(f"## {chosen['head']} on {chosen['feature']}\n")
    scores, heads, pairs, *_ = tables(text)
    block = chosen["test"]
    row = next(row for row in scores if row[0] == "macro F1")
    low, high = block["intervals"]["macro_f1"]
    clean = chosen["test_without_copies"]
    without = [f"{clean['macro_f1']:.4f}", "{:.4f} to {:.4f}".format(*clean["intervals"]["macro_f1"])]
    assert row == ["macro F1", f"{block['macro_f1']:.4f}", f"{low:.4f} to {high:.4f}", *without]
    assert [row[:2] for row in heads[1:]] == [[entry["head"], entry["feature"]] for entry in evidence["heads"]]
    assert heads[1][-2:] == without
    assert len(pairs) - 1 == len(evidence["comparisons"]["pairs"])
    both = zip(evidence["comparisons"]["pairs"], evidence["comparisons_without_copies"]["pairs"], strict=True)
    for row, (pair, fresh) in zip(pairs[1:], both, strict=True):
        assert row[2:4] == [
            signed(fresh["macro_f1"]["difference"]), signed_span(fresh["macro_f1"]["interval"], digits=4),
        ]  # fmt: skip
        assert row[4:] == [p_value(fresh["p_adjusted"]), fresh["verdict"], p_value(pair["p_adjusted"]), pair["verdict"]]
    assert f"On the same {evidence['comparisons_without_copies']['rows']} rows without copies" in text


def test_of_many_pairs_some_of_either_kind_are_shown_and_the_rest_is_counted(evidence: dict[str, Any]) -> None:
    pair = evidence["comparisons"]["pairs"][0]
    many = [{**pair, "against": "best"}] * 50 + [{**pair, "against": "baseline", "verdict": "worse"}] * 30
    comparisons = {**evidence["comparisons"], "pairs": many}
    text = to_markdown({**evidence, "comparisons": comparisons, "comparisons_without_copies": comparisons})
    _, _, pairs, *_ = tables(text)
    assert [row[-1] for row in pairs[1:]] == [pair["verdict"]] * 20 + ["worse"] * 20
    assert "40 more pairs are in report.json." in text


def test_every_row_of_every_table_is_as_long_as_its_head(evidence: dict[str, Any], hostile_evidence: Any) -> None:
    for one in (evidence, hostile_evidence):
        found = tables(to_markdown(one))
        assert len(found) >= 4
        for table in found:
            assert {len(row) for row in table} == {len(table[0])}


def test_hostile_strings_are_read_as_text(hostile_evidence: dict[str, Any]) -> None:
    text = to_markdown(hostile_evidence)
    kinds = {token.type for token in READER.parse(text)}
    inner = {child.type for token in READER.parse(text) for child in token.children or ()}
    assert not {"html_block", "html_inline", "image", "link_open"} & (kinds | inner)
    classes = next(table for table in tables(text) if table[0][0] == "class")
    read = [" ".join(row[0].split()) for row in classes[1:]]
    assert read == [" ".join(shown(label, width=300).split()) for label in HOSTILE]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no val", "No validation split: none of the 2 heads is selected"),
        ("no test", "**There is no test split**"),
        ("no vectors", "Near copies were not looked for: the vectors of minilm.pooler were not given."),
        ("one head", "Selected among 1 heads"),
        ("many classes", "The 20 of lowest F1 among 77."),
        ("three test rows", "2 of 2 classes have fewer than 30 test rows"),
    ],
)
def test_what_a_reader_must_know_is_said(kind: str, said: str) -> None:
    text = to_markdown(make_evidence(kind))
    assert said.replace("1 heads", "1 head") in text.replace("&#42;&#42;", "**")
    assert "None" not in text
    assert "Undefined" not in text


def test_several_runs_in_markdown() -> None:
    corpus = random_corpus(["a", "b"], rows=120)
    bad = "a|b<script>`x`"
    runs = [
        RunEvidence(
            name=name, info={**RUN, "classes": ["a", "b"]}, corpus=corpus, heads=[make_head(corpus, ["a", "b"], seed=i)]
        )
        for i, name in enumerate(("one", bad))
    ]
    found = gather_runs(runs, draws=50)
    text = runs_to_markdown(found)
    about, heads, pairs = tables(text)
    assert {row[0] for row in about[1:]} == {row[0] for row in heads[1:]} == {"one", bad}
    assert len(pairs) == 2
    assert "<script>" not in text
    assert "The best on validation" in text


def test_a_negative_number_has_a_minus_sign_and_no_hyphen(evidence: dict[str, Any]) -> None:
    pairs = tables(to_markdown(evidence))[2]
    assert any("−" in cell for row in pairs[1:] for cell in row)
    assert not any(cell.startswith("-") or " -" in cell for row in pairs[1:] for cell in row)


def test_columns_without_copies_stand_only_where_a_row_is_left_out(evidence: dict[str, Any]) -> None:
    assert "without copies" in to_markdown(evidence)
    chosen = evidence["heads"][0]
    whole = [{**entry, "test_without_copies": entry["test"]} for entry in evidence["heads"]]
    same = {**evidence, "heads": whole, "comparisons_without_copies": evidence["comparisons"]}
    text = to_markdown(same)
    assert chosen["test"]["rows"] > chosen["test_without_copies"]["rows"]
    assert "without copies" not in text
    assert "Trust the scores" not in text


def test_the_command_against_copies_stands_only_where_it_helps(evidence: dict[str, Any]) -> None:
    def told(group: str | None, exact: int) -> bool:
        splits = {name: {**counts, "exact": exact} for name, counts in evidence["copies"]["splits"].items()}
        copies, advice = {**evidence["copies"], "splits": splits}, {**evidence["advice"], "group": group}
        return "To make another run" in to_markdown({**evidence, "copies": copies, "advice": advice})

    assert told("frozenhead embed a", exact=1)
    assert not told("frozenhead embed a", exact=0)
    assert not told(None, exact=1)


def test_words_and_numbers_are_kept_short() -> None:
    assert (p_value(0.25), p_value(1e-7)) == ("0.2500", "< 0.0001")
    assert (sentence("gone"), sentence("gone.")) == ("gone.", "gone.")
