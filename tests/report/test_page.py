"""The page says what the evidence says, and what is missing."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from frozenhead.report.figures import draw
from frozenhead.report.page import render
from frozenhead.report.page_view import MOST_LISTED, MOST_ROWS
from frozenhead.report.words import p_value, percent, seconds, signed, signed_span, span
from tests.report.drawing_examples import make_figures
from tests.report.page_examples import make_evidence
from tests.report.reading import Reader, page_of, section


@pytest.fixture(scope="module")
def evidence() -> dict[str, Any]:
    return make_evidence()


@pytest.fixture(scope="module")
def page(evidence: dict[str, Any]) -> str:
    return page_of(evidence)


def test_the_first_screen_says_which_head_how_sure_and_what_is_wrong(evidence: dict[str, Any], page: str) -> None:
    text = section(page, "answer")
    chosen = evidence["heads"][0]
    assert text.count(f"{chosen['head']} on {chosen['feature']}") >= 1
    for block in (chosen["test"], chosen["test_without_copies"]):
        low, high = block["intervals"]["accuracy"]
        assert (
            f"{percent(block['accuracy'])} 95 % interval {100 * low:.1f} to {percent(high)}".replace("\xa0", " ")
            in text
        )
        low, high = block["intervals"]["macro_f1"]
        assert f"{block['macro_f1']:.4f} 95 % interval {low:.3f} to {high:.3f}" in text
    found = evidence["comparisons_without_copies"]
    pairs = {pair["a"]["head"]: pair for pair in found["pairs"] if pair["against"] == "best"}
    for name, head in (("TF-IDF baseline", "tfidf on text"), ("Runner-up on validation", "dense on minilm.pooler")):
        accuracy, f1 = (pairs[head.split()[0]][key] for key in ("accuracy", "macro_f1"))
        said = (
            f"{name}, {head} : {percent(accuracy['a'])} right against {percent(accuracy['b'])}, macro F1 {f1['a']:.4f} "
            f"against {f1['b']:.4f}. No difference in accuracy that 91 rows without copies could show (p = 0.8100)."
        )
        assert " ".join(said.split()) in text
    for finding in (
        "9 of 100 test rows (9.0 %) repeat a training text: 4 word for word, 2 but for case or spaces, 3 nearly",
        "3 texts bear more than one label (6 rows)",
        "33.3 % of the texts are cut at 25 tokens; of the class ham it is 50.0 %",
        "3 labels look wrong",
        "5 test rows repeat another one, yet all count as independent: intervals and tests are too narrow, those of",
    ):
        assert finding in text


def test_a_runner_up_that_is_the_baseline_is_told_once() -> None:
    text = section(page_of(make_evidence(heads=("logreg", "tfidf", "dense"))), "answer")
    assert "TF-IDF baseline, tfidf on text" in text
    assert "Runner-up" not in text


@pytest.mark.parametrize(
    ("first", "verdict", "said"),
    [
        ("rival", "worse", "logreg on minilm.pooler is more accurate"),
        ("rival", "better", "logreg on minilm.pooler is less accurate"),
        ("selected", "better", "logreg on minilm.pooler is more accurate"),
        ("selected", "worse", "logreg on minilm.pooler is less accurate"),
    ],
)
def test_the_first_screen_tells_the_winner_whichever_head_a_pair_names_first(
    first: str, verdict: str, said: str
) -> None:
    evidence = make_evidence(heads=("logreg", "tfidf"))
    (pair,) = evidence["comparisons_without_copies"]["pairs"]
    pair.update(verdict=verdict, p_adjusted=0.0004)
    pair["accuracy"] = {**pair["accuracy"], "a": 0.81, "b": 0.72}
    rival, own = "81.0 %", "72.0 %"
    if first == "selected":
        pair.update(a=pair["b"], b=pair["a"], against="baseline")
        rival, own = own, rival
    text = section(page_of(evidence), "answer")
    assert f"tfidf on text : {rival} right against {own}" in text
    assert f"{said} on 91 rows without copies, by more than chance explains (p = 0.0004)" in text
    assert "With the copies counted it would be no difference (p = 0.8100)" in text


@pytest.mark.parametrize(("verdict", "said"), [("better", "called less accurate"), ("worse", "called more accurate")])
def test_the_first_screen_says_what_copies_would_change(verdict: str, said: str) -> None:
    evidence = make_evidence(heads=("logreg", "tfidf"))
    evidence["comparisons"]["pairs"][0].update(verdict=verdict, p_adjusted=0.00002)
    text = section(page_of(evidence), "answer")
    assert "No difference in accuracy that 91 rows without copies could show (p = 0.8100). With the copies" in text
    assert f"With the copies counted it would be {said} (p < 0.0001)." in text
    evidence["comparisons_without_copies"]["pairs"][0].update(verdict=verdict, p_adjusted=0.0002)
    assert "With the copies counted" not in section(page_of(evidence), "answer")


def test_on_rows_that_the_head_was_chosen_on_no_verdict_is_called_more_than_chance() -> None:
    evidence = make_evidence(heads=("logreg", "tfidf"))
    for name in ("comparisons", "comparisons_without_copies"):
        evidence[name].update(p_values_valid=False, note="No p-value here is valid.")
        evidence[name]["pairs"][0].update(verdict="worse", p_adjusted=0.0004)
    page = page_of(evidence)
    text = section(page, "answer")
    assert (
        "more accurate on 91 rows without copies, on which the heads were chosen (p = 0.0004, not valid there)." in text
    )
    assert "by more than chance explains" not in text
    assert "No p-value here is valid." in section(page, "pairs")


def test_good_data_is_called_good() -> None:
    evidence = make_evidence()
    evidence["copies"] = {**evidence["copies"], "rows": [], "total": 0, "shown": 0}
    for part in evidence["copies"]["splits"].values():
        part.update(exact=0, folded=0, near=0)
    evidence["conflicts"] = {"texts": 0, "rows": 0, "shown": 0, "examples": []}
    evidence["label_issues"] = {**evidence["label_issues"], "rows": [], "total": 0}
    for group in evidence["dataset"]["lengths"].values():
        group["truncation"]["truncated"] = 0
    text = section(page_of(evidence), "answer")
    for finding in ("No test row repeats", "No text bears two labels", "No label looks wrong", "No text is cut"):
        assert finding in text
    assert "Trust the scores without them" not in text


def test_the_table_holds_every_head_with_the_selected_one_first(evidence: dict[str, Any], page: str) -> None:
    rows = re.findall(r"<tr( class=\"best\")?><th scope=\"row\">(.*?)</tr>", page, re.DOTALL)[: len(evidence["heads"])]
    assert [bool(best) for best, _ in rows] == [True, False, False, False]
    for (_, row), entry in zip(rows, evidence["heads"], strict=True):
        cells = [word for word in Reader(row).words if word.strip()]
        test, clean = entry["test"], entry["test_without_copies"]
        assert cells[:3] == [entry["head"], entry["feature"], f"{entry['val']['macro_f1']:.4f}"]
        assert cells[3:5] == [f"{test['accuracy']:.4f}", span(test["intervals"]["accuracy"])]
        assert cells[11:13] == [f"{clean['accuracy']:.4f}", span(clean["intervals"]["accuracy"])]


def test_every_pair_stands_there_with_its_sentence(evidence: dict[str, Any], page: str) -> None:
    text = section(page, "pairs")
    assert len(evidence["comparisons"]["pairs"]) == 5
    for pair, clean in zip(
        evidence["comparisons"]["pairs"], evidence["comparisons_without_copies"]["pairs"], strict=True
    ):
        assert pair["sentence"] in text
        difference = f"{signed(clean['accuracy']['difference'])} {signed_span(clean['accuracy']['interval'])}"
        p_values = f"{p_value(clean['p_value'])} {p_value(clean['p_adjusted'])} {clean['verdict']}"
        assert difference in text
        assert f"{p_values} {pair['verdict']} {p_value(pair['p_adjusted'])}" in text


def test_without_copies_in_the_test_split_a_pair_has_one_verdict() -> None:
    evidence = make_evidence()
    evidence["comparisons_without_copies"] = evidence["comparisons"]
    text = section(page_of(evidence), "pairs")
    assert "without copies" not in text
    assert signed_span(evidence["comparisons"]["pairs"][0]["accuracy"]["interval"]) in text


def test_the_run_is_told_with_the_commands_that_are_known_and_how_intervals_are_made() -> None:
    evidence = make_evidence()
    evidence["heads"][0]["test"]["intervals"]["methods"] = {"ece": "by a new way", "accuracy": "old", "mcc": "old"}
    text = section(page_of(evidence), "run")
    assert f"{evidence['run']['command']} {evidence['run']['report_command']}" in text
    assert "by a new way: ECE" in text
    assert "old: accuracy, MCC" in text
    evidence["run"] = {}
    assert "frozenhead report" not in section(page_of(evidence), "run")


def test_a_negative_number_has_a_minus_sign_and_no_hyphen(evidence: dict[str, Any], page: str) -> None:
    assert "−0.0" in section(page, "pairs")
    figure = draw(evidence).differences or ""
    assert "−0.0" in figure
    words = [section(page, "pairs"), section(page, "answer"), " ".join(re.findall(r">([^<]*)<", figure))]
    assert [re.findall(r"(?<![\w.])-\d", text) for text in words] == [[], [], []]


def test_a_page_of_one_head_has_no_differences() -> None:
    evidence = make_evidence()
    evidence.update(comparisons=None, comparisons_without_copies=None)
    page = page_of(evidence)
    assert 'id="pairs"' not in page
    assert 'href="#pairs"' not in page


def test_without_folds_the_page_says_how_to_get_label_issues() -> None:
    evidence = make_evidence()
    command = "frozenhead fit run --folds 5"
    evidence["label_issues"].update(rows=[], total=0, shown=0, reason="No head has folds.", command=command)
    page = page_of(evidence)
    assert f"No head has folds. {command}" in section(page, "labels")
    assert "Wrong labels were not looked for : No head has folds." in section(page, "answer")


def test_without_a_baseline_the_page_says_how_to_train_one() -> None:
    evidence = make_evidence()
    evidence["baseline"] = None
    assert f"Run {evidence['advice']['baselines']} ." in section(page_of(evidence), "answer")


def test_without_vectors_the_page_says_why() -> None:
    evidence = make_evidence()
    reason = "The vectors are not in the cache: run frozenhead embed again."
    evidence["vectors"] = {"feature": None, "reason": reason}
    evidence["copies"].update(feature=None)
    page = page_of(evidence)
    for name in ("answer", "copies", "run"):
        assert reason in section(page, name)


def test_a_page_of_the_barest_evidence_is_still_a_page() -> None:
    evidence = make_evidence(heads=("logreg",), mistakes=0)
    entry = evidence["heads"][0]
    entry.update(val=None, test_without_leaks=None, test_without_copies=None, fit_seconds=None, seed=None, params={})
    entry["test"]["intervals"] = None
    for name in ("roc_auc", "average_precision", "log_loss", "mcc"):
        entry["test"][name] = None
    evidence["dataset"].update(lengths={}, sources=[], split_rule=None, truncation={})
    evidence["copies"].update(feature=None, threshold=None)
    evidence["vectors"] = {"feature": None, "reason": None}
    evidence.update(comparisons=None, comparisons_without_copies=None, map=None, baseline=None, run={})
    figures = make_figures(evidence)
    nothing: dict[str, Any] = dict.fromkeys(("forest", "differences", "roc", "precision_recall", "efficiency", "map"))
    figures = replace(figures, balance="", lengths={}, confusion=[""], curves=[None], reliability=[None], **nothing)
    text = Reader(render(evidence, figures)).text
    assert "There is no validation split" in text
    assert "Only one head was trained" in text
    assert "every test row is labelled correctly" in text
    assert "That is every test row" in text


def test_without_a_test_split_the_page_says_that_it_is_too_kind() -> None:
    evidence = make_evidence()
    evidence["dataset"]["judged_split"] = "val"
    for entry in evidence["heads"]:
        entry.update(test=None, test_without_leaks=None, test_without_copies=None)
    text = Reader(page_of(evidence)).text
    assert "There is no test split" in text
    assert "100 validation rows" in text
    assert "the test split had no say" not in text


def test_the_most_frequent_mistakes_stand_beside_a_picture_without_labels() -> None:
    classes = [f"class {c}" for c in range(21)]
    evidence = make_evidence(classes, rows=21 * 8)
    text = section(page_of(evidence), "confusion")
    assert "true predicted rows of the class class 0 class 1 2 100.0 %" in text
    assert text.count(" class 2 class 3 1 ") == len(evidence["heads"])
    assert "class 14" not in text.replace("class 14 class 15", "")  # the rest is in report.json


def test_long_tables_are_cut_and_say_so() -> None:
    classes = [f"class {c}" for c in range(3 * MOST_ROWS)]
    evidence = make_evidence(classes, rows=8 * len(classes), texts=[f"text {i}" for i in range(2 * MOST_LISTED)])
    page = page_of(evidence)
    copies = section(page, "copies")
    assert f"The {MOST_ROWS} classes with the most copies; report.json has all." in copies
    assert section(page, "conflicts").count("×1") == 4 * MOST_LISTED
    assert f"The first {MOST_LISTED} are shown." in section(page, "conflicts")


def test_of_very_many_classes_those_of_the_lowest_f1_stand_there() -> None:
    classes = [f"class {c:03}" for c in range(MOST_LISTED + 2)]
    evidence = make_evidence(classes, heads=("logreg",), rows=8 * len(classes))
    per_class = evidence["heads"][0]["test"]["per_class"]
    best = sorted(classes, key=lambda name: -per_class[name]["f1"])[:2]
    text = section(page_of(evidence), "classes")
    assert f"The {MOST_LISTED} classes of the lowest F1; report.json has all 102." in text
    assert {name for name in classes if name in text} == set(classes) - set(best)


def test_the_search_is_told_best_first_and_the_chosen_one_marked(page: str) -> None:
    text = section(page, "search")
    places = [text.index(score) for score in ("0.9500", "0.9300", "0.9100", "loss is not finite")]
    assert places == sorted(places)
    assert "chosen" in text[places[0] : places[1]]


def test_label_efficiency_gives_the_range_of_the_seeds(page: str) -> None:
    assert "dense on minilm.pooler – 0.101–0.102 0.501–0.502" in section(page, "efficiency")


def test_texts_of_the_browser_are_those_of_the_evidence(evidence: dict[str, Any], page: str) -> None:
    data = json.loads(Reader(page).sources["script"][0])
    mistakes = evidence["mistakes"]
    assert data["rows"] == mistakes["rows"]
    assert data["texts"] == mistakes["texts"]
    assert data["classes"] == evidence["dataset"]["classes"]


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234")])
def test_seconds_have_no_more_decimals_than_matter(value: float | None, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize("windows", [False, True])
def test_long_texts_stand_there_by_class_with_what_became_of_them(windows: bool) -> None:
    evidence = make_evidence()
    (group,) = evidence["dataset"]["lengths"].values()
    facts = group["truncation"]
    if windows:
        for block in (facts, *facts["per_class"].values()):
            block.update(
                windowed=block["truncated"],
                windowed_share=block["share"],
                windows=2 * block["truncated"],
                truncated=0,
                share=0.0,
            )
    page = page_of(evidence)
    text = section(page, "lengths")
    number, share = ("windowed", "windowed_share") if windows else ("truncated", "share")
    fate = f"read in {facts['windows']} windows; nothing was cut" if windows else "cut"
    total = f"{facts[number]} of 400 texts ({percent(facts[share])}) are longer than the limit and were {fate}."
    assert " ".join(total.split()) in text
    assert ("class rows in windows share windows ham" if windows else "class rows cut share ham") in text
    for name, row in facts["per_class"].items():
        cells = [name, str(row["rows"]), str(row[number]), percent(row[share])]
        cells += [str(row["windows"])] if windows else []
        assert " ".join(" ".join(cells).split()) in text
    assert ("read whole, in windows" in section(page, "answer")) is windows
