"""What `fit` found on the side is shown as its files have it, and a long search by its best candidates."""

from typing import Any

import pytest

from frozenhead.report import extras
from frozenhead.report.extras import extras as extras_of
from tests.report.examples import make_head, random_corpus
from tests.report.test_schema import extras_of as written_by_fit


def candidate(number: int, f1: float | None) -> dict[str, Any]:
    val = None if f1 is None else {"macro_f1": f1, "accuracy": 0.5, "log_loss": 1.0}
    row = {"stamp": f"s{number}", "setting": number, "options": {"lr": number}, "seed": 1, "val": val}
    return {**row, "best_epoch": 1, "seconds": 0.1, "dropped_after": None, "error": None if val else "no"}


def shown_search(best: int, *scores: float | None) -> dict[str, Any]:
    corpus = random_corpus(["a", "b"], rows=40)
    head = make_head(corpus, ["a", "b"])
    rows = [candidate(number, f1) for number, f1 in enumerate(scores)]
    search = {"format": 1, "halving": False, "best": best, "heads": rows}
    found: dict[str, Any] = extras_of(type(head)(**{**vars(head), "search": search}))["search"]
    return found


def test_the_candidate_that_became_the_head_is_marked() -> None:
    found = shown_search(2, 0.9, 0.7, 0.9, None)
    assert [row["chosen"] for row in found["rows"]] == [False, False, True, False]
    assert [row["options"]["lr"] for row in found["rows"]] == [0, 1, 2, 3]
    assert (found["total"], found["shown"]) == (4, 4)


def test_of_many_candidates_the_chosen_one_and_the_best_are_shown_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras, "MOST_CANDIDATES", 3)
    found = shown_search(1, None, 0.2, 0.8, 0.1, 0.9)
    assert [row["setting"] for row in found["rows"]] == [1, 2, 4]
    assert (found["total"], found["shown"]) == (5, 3)


def test_a_head_without_them_has_none() -> None:
    corpus = random_corpus(["a", "b"], rows=40)
    head = make_head(corpus, ["a", "b"])
    assert extras_of(head) == {"folds": None, "curve": None, "search": None}
    full = extras_of(type(head)(**{**vars(head), **written_by_fit(0)}))
    assert full["folds"]["scores"]["mcc"] is None  # of an older fit, which did not write it
    assert full["folds"]["scores"]["accuracy"] == 0.95
    assert [point["error"] for point in full["curve"]["points"]] == [None, "one class"]
