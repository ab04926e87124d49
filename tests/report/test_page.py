"""The page stands alone, says what the evidence says, and lets no label out of its place."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from frozenhead.report import Figures, draw, gather, render
from frozenhead.report.page import percent, seconds
from tests.report.examples import HOSTILE, RUN, make_corpus, make_feature, make_head, random_corpus


class Reader(HTMLParser):
    """Tags, attributes and words of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def words(evidence: dict[str, Any]) -> str:
    """The words of the page of this evidence, drawn without figures."""
    nothing = [""] * len(evidence["heads"])
    return Reader(render(evidence, Figures(balance="", lengths={}, confusion=nothing, curves=nothing))).text


@pytest.fixture(scope="session")
def hostile_page(hostile_evidence: dict[str, Any]) -> str:
    return render(hostile_evidence, draw(hostile_evidence))


@pytest.fixture(params=["page", "hostile_page"])
def any_page(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def test_the_page_asks_for_nothing_and_runs_nothing(any_page: str) -> None:
    reader = Reader(any_page)
    assert not {"script", "link", "iframe", "object", "embed", "img", "form", "base"} & set(reader.tags)
    for name, value in reader.attributes:
        assert not name.startswith("on")
        if name in {"src", "href", "xlink:href", "action", "poster", "srcset"}:
            assert value.startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"url\(\s*['\"]?(?!#)|@import", any_page)
    policies = [value for name, value in reader.attributes if name == "content" and "default-src" in value]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_ids_are_unique_over_the_page(any_page: str) -> None:
    ids = [value for name, value in Reader(any_page).attributes if name == "id"]
    assert len(ids) > 10
    assert len(ids) == len(set(ids))


def test_hostile_strings_are_read_as_text(hostile_page: str) -> None:
    assert "<script" not in hostile_page
    assert "<img" not in hostile_page
    text = Reader(hostile_page).text
    for label in (
        HOSTILE[0],
        "{{7*7}}",
        "[bold]markup[/bold]",
        "$\\frac{1}{0}$",
        HOSTILE[4],
        "(empty)",
        "&amp; #010203",
    ):
        assert label in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x00]", hostile_page)
    hostile_page.encode("utf-8")


def test_the_page_is_written_the_same_twice(evidence: dict[str, Any], page: str) -> None:
    assert render(evidence, draw(evidence)) == page


def test_the_headline_gives_the_selected_heads_scores_with_and_without_leaks(
    evidence: dict[str, Any], page: str
) -> None:
    text = Reader(page).text
    chosen = evidence["heads"][0]
    assert chosen["test"]["macro_f1"] != chosen["test_without_leaks"]["macro_f1"]
    for block in (chosen["test"], chosen["test_without_leaks"]):
        assert f"{percent(block['accuracy'])}" in page
        assert f"macro F1 of {block['macro_f1']:.4f}" in text
    leakage = evidence["dataset"]["leakage"]
    assert f"{leakage['test_rows_in_train']} of the {leakage['test_rows']} test rows" in text


def test_the_table_holds_every_head_with_the_selected_one_first(evidence: dict[str, Any], page: str) -> None:
    rows = re.findall(r"<tr( class=\"best\")?><th scope=\"row\">(.*?)</tr>", page)[: len(evidence["heads"])]
    assert [bool(best) for best, _ in rows] == [True, False, False, False]
    for (_, row), entry in zip(rows, evidence["heads"], strict=True):
        cells = Reader(row).words
        assert cells[:2] == [entry["head"], entry["feature"]]
        assert f"{entry['val']['macro_f1']:.4f}" == cells[2]
        assert f"{entry['test_without_leaks']['macro_f1']:.4f}" == cells[9]


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (["train", "val"], "There is no test split"),
        (["train", "test"], "There is no validation split"),
        (["train", "val", "test"], "none of these texts stands in the training split"),
    ],
)
def test_the_page_says_what_is_missing(splits: list[str], sentence: str) -> None:
    labels = ["a", "b"] * len(splits)
    corpus = make_corpus([f"text {i}" for i in range(len(labels))], labels, [name for name in splits for _ in "ab"])
    evidence = gather(corpus=corpus, features={}, heads=[make_head(corpus, ["a", "b"])], run={})
    assert sentence in words(evidence)


def test_the_page_advises_whole_commands(page: str) -> None:
    assert f"{RUN['command']} --group-duplicates --overwrite" in Reader(page).text
    corpus = make_corpus(["x", "y", "z", "w"], ["a", "b", "a", "b"], ["train", "train", "val", "val"])
    alone = gather(corpus=corpus, features={}, heads=[make_head(corpus, ["a", "b"])], run=RUN, folder="my run")
    assert "frozenhead fit 'my run' --head tfidf,majority" in words(alone)


def test_the_page_says_so_when_every_test_row_leaks() -> None:
    corpus = make_corpus(["x", "y", "x", "y"], ["a", "b", "a", "b"], ["train", "train", "test", "test"])
    evidence = gather(corpus=corpus, features={}, heads=[make_head(corpus, ["a", "b"])], run=RUN)
    assert "says nothing about new texts" in words(evidence)


def test_the_most_frequent_mistakes_stand_beside_a_picture_without_labels() -> None:
    classes = [f"class {c}" for c in range(21)]
    corpus = random_corpus(classes, rows=21 * 8)
    truth = corpus.loc[corpus["split"] != "train", "label"].map(classes.index).to_numpy()
    certain = np.eye(21)[np.where(truth == 4, 9, truth)]  # every "class 4" is taken for "class 9"
    evidence = gather(corpus=corpus, features={}, heads=[make_head(corpus, classes, probabilities=certain)], run=RUN)
    text = words(evidence)
    rows = evidence["dataset"]["class_counts"]["class 4"]["test"]
    assert f"true predicted rows class 4 class 9 {rows} " in text


def test_a_page_of_twelve_heads_and_77_classes_stays_under_3_mb() -> None:
    classes = [f"a_class_with_a_long_name_{c}" for c in range(77)]
    corpus = random_corpus(classes, rows=77 * 8, copies=50)
    heads = [make_head(corpus, classes, head=f"head{seed}", seed=seed, epochs=3) for seed in range(12)]
    features = {"minilm.pooler": make_feature(corpus, classes)}
    evidence = gather(corpus=corpus, features=features, heads=heads, run=RUN)
    assert len(render(evidence, draw(evidence)).encode()) < 3_000_000


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234")])
def test_seconds_have_no_more_decimals_than_matter(value: float | None, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize("windows", [False, True])
def test_long_texts_stand_there_by_class_with_what_became_of_them(windows: bool) -> None:
    corpus = random_corpus(["ham", "spam"], rows=80)
    feature = make_feature(corpus, ["ham", "spam"], windows=windows)
    heads = [make_head(corpus, ["ham", "spam"])]
    evidence = gather(corpus=corpus, features={"minilm.pooler": feature}, heads=heads, run=RUN)
    section = render(evidence, draw(evidence)).partition('<section id="lengths">')[2].partition("</section>")[0]
    text, facts = Reader(re.sub(r"<svg.*?</svg>", "", section, flags=re.DOTALL)).text, feature["truncation"]
    number, share = ("windowed", "windowed_share") if windows else ("truncated", "share")
    fate = f"read in {facts['windows']} windows; nothing was cut" if windows else "cut"
    total = f"{facts[number]} of 80 texts ({percent(facts[share])}) are longer than the limit and were {fate}."
    assert " ".join(total.split()) in text
    assert ("class rows in windows share windows ham" if windows else "class rows cut share ham") in text
    for name, row in facts["per_class"].items():
        cells = [name, str(row["rows"]), str(row[number]), percent(row[share])]
        cells += [str(row["windows"])] if windows else []
        assert " ".join(" ".join(cells).split()) in text
