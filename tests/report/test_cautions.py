"""What must be known before any score is trusted stands in every form of the report."""

from typing import Any

import pytest
from sklearn.metrics import f1_score

from frozenhead.report import terminal_table
from frozenhead.report.cautions import cautions, copies_advice, regroup
from frozenhead.report.markdown import to_markdown
from tests.report import page_examples
from tests.report.reading import page_of, section
from tests.report.test_schema import make_evidence


def forms(evidence: dict[str, Any]) -> list[str]:
    """The terminal and the Markdown."""
    return [" ".join(map(str, terminal_table(evidence))), to_markdown(evidence)]


def test_a_class_without_a_judged_row_caps_macro_f1_and_every_form_says_so() -> None:
    evidence = make_evidence("one class in test")
    said, *_ = cautions(evidence)
    assert said == "Class b has no test row: it has no scores, and macro F1 cannot exceed 1 / 2 = 0.5."
    assert all(said in form for form in forms(evidence))
    best = f1_score(["a"] * 9, ["a"] * 9, labels=["a", "b"], average="macro", zero_division=0)
    assert best == 0.5


def test_very_few_judged_rows_are_told_in_every_form() -> None:
    evidence = make_evidence("three test rows")
    said = "There are only 3 test rows: no score is sure."
    assert said in cautions(evidence)
    assert all(said in form for form in forms(evidence))


def test_the_first_screen_has_the_cautions_and_names_no_class_twice() -> None:
    evidence = page_examples.make_evidence(("ham", "spam"))
    assert cautions(evidence) == []
    for scores in ("test", "test_without_copies"):
        evidence["heads"][0][scores]["per_class"]["spam"]["support"] = 0
    evidence["dataset"]["class_counts"]["spam"]["test"] = 0
    text = section(page_of(evidence), "answer")
    assert "Class spam has no test row: it has no scores, and macro F1 cannot exceed 1 / 2 = 0.5." in text
    assert "spam has 0 test rows" not in text


def test_a_class_that_only_copies_have_is_told() -> None:
    evidence = page_examples.make_evidence(("a", "b", "c", "d", "e", "f"))
    for name in "bcdef":
        evidence["heads"][0]["test_without_copies"]["per_class"][name]["support"] = 0
    assert cautions(evidence) == [
        "5 classes have no test row without copies (b, c, d and 2 more): they have no scores, and macro F1 cannot "
        "exceed 1 / 6 = 0.167."
    ]


@pytest.mark.parametrize(
    ("exact", "folded", "near", "trusted"),
    [(1, 0, 0, True), (0, 0, 1, False), (1, 1, 2, True), (1, 1, 3, False), (4, 3, 100, False)],
)
def test_scores_without_copies_are_to_be_trusted_unless_most_copies_are_only_near(
    exact: int, folded: int, near: int, trusted: bool
) -> None:
    counts = {"exact": exact, "folded": folded, "near": near}
    assert (copies_advice(counts) == "Trust the scores without them.") is trusted
    evidence = page_examples.make_evidence()
    evidence["copies"]["splits"]["test"].update(counts)
    texts = [section(page_of(evidence), "answer"), *forms(make_near(counts))]
    for text in texts:
        assert ("Trust the scores without them." in text) is trusted
        assert ("may be too low" in text) is not trusted


def make_near(counts: dict[str, int]) -> dict[str, Any]:
    """Evidence of a run with these copies in its test split."""
    evidence = make_evidence("plain")
    evidence["copies"]["splits"]["test"].update(counts)
    return evidence


def test_the_command_stands_on_the_page_only_where_there_are_exact_copies_that_it_can_move() -> None:
    evidence = page_examples.make_evidence()
    command = evidence["advice"]["group"]
    assert regroup(evidence) == command
    assert command in section(page_of(evidence), "copies")
    evidence["advice"]["group"] = None
    assert "another run" not in section(page_of(evidence), "copies")
    evidence["advice"]["group"] = command
    for counts in evidence["copies"]["splits"].values():
        counts["exact"] = 0
    assert regroup(evidence) is None
    assert command not in section(page_of(evidence), "copies")


def test_a_run_of_text_baselines_alone_does_not_speak_of_heads_on_vectors() -> None:
    evidence = page_examples.make_evidence(heads=("tfidf", "majority"))
    assert "only text baselines were" in section(page_of(evidence), "answer")
    evidence = page_examples.make_evidence(heads=("tfidf", "logreg"))
    assert "no head on an encoder's vectors does better" in section(page_of(evidence), "answer")


def test_where_no_labels_were_looked_for_no_sentence_says_that_every_row_was_judged() -> None:
    evidence = page_examples.make_evidence()
    assert "had never seen it" in section(page_of(evidence), "labels")
    evidence["label_issues"].update(rows=[], total=0, shown=0, reason="No folds.", command="frozenhead fit run")
    text = section(page_of(evidence), "labels")
    assert "had never seen it" not in text
    assert "None was found" not in text
