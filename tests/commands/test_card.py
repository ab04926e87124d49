"""The card: whatever the data call their classes, columns and files, it shows that and nothing else."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import ModelCard
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from frozenhead.commands.card import front_matter
from frozenhead.labels import shown
from frozenhead.report.markup import code, fenced, markdown
from frozenhead.runs import Run
from tests.commands.conftest import make_table
from tests.commands.shipping import make_trained_run, ship

HOSTILE = [
    "---",
    "<script>alert(1)</script>",
    "a|b\\|c",
    "[x](javascript:y)",
    "![x](http://y/z.png)",
    "`|` ``",
    "# one",
]
HOSTILE += [
    "&lt;b&gt;",
    "line\nbreak",
    "\"quoted\" 'too'",
    "*a* _b_ ~~c~~",
    "1. one",
    "- x",
    "\x1b[31mred",
    "www.x.org",
]
HOSTILE += ["$$x$$", "{{ 7 * 7 }}", "{% raw %}", "| --- |", "<!-- ", "http://x.org", "::: x", "\\"]

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tokens(text: str) -> list[Any]:
    """Every token of a Markdown text, those inside others too."""
    return [inner for token in READER.parse(text) for inner in (token, *(token.children or ()))]


def cells(text: str) -> list[list[str]]:
    """The words of every row of every table, as a reader sees them."""
    rows: list[list[str]] = []
    inside = False
    for token in READER.parse(text):
        if token.type == "tr_open":
            rows.append([])
        inside = (inside or token.type in ("th_open", "td_open")) and token.type not in ("th_close", "td_close")
        if inside and token.type == "inline":
            rows[-1].append("".join(t.content for t in token.children or ()))
    return rows


@given(st.text(max_size=20) | st.sampled_from(HOSTILE))
@example("a_b__c")
@example(" x ")
def test_a_value_in_a_table_reads_as_it_is_and_makes_no_markup(text: str) -> None:
    written = f"| {markdown(text)} | 7 |"
    table = f"| a | b |\n| --- | --- |\n{written}\n"
    assert [[" ".join(cell.split()) for cell in row] for row in cells(table)] == [
        ["a", "b"],
        [" ".join(shown(text).split()), "7"],
    ]
    markup = {t.type for t in tokens(table) if t.nesting != -1} - {"inline", "text", "paragraph_open"}
    assert markup <= {"table_open", "thead_open", "tbody_open", "tr_open", "th_open", "td_open", "text_special"}


@given(st.text(max_size=20) | st.sampled_from(HOSTILE))
def test_a_value_at_the_start_of_a_line_makes_no_block(text: str) -> None:
    kinds = [token.type for token in READER.parse(f"{markdown(text)}\n\nend\n") if token.level == 0]
    assert set(kinds) <= {"paragraph_open", "inline", "paragraph_close"} or not text.strip()


@given(st.text(alphabet="`ab \n", max_size=20))
def test_code_cannot_be_closed_from_within(text: str) -> None:
    (block,) = READER.parse(fenced(text, "sh"))
    assert block.content.rstrip() == text.rstrip()
    (_, inline, _) = READER.parse(f"x{code(text)}x")
    assert [t.type for t in inline.children or ()] == ["text", "code_inline", "text"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> tuple[Path, list[str]]:
    """A run on data whose file, columns and classes are named to do harm, and its classes."""
    folder = tmp_path_factory.mktemp("hostile")
    table = make_table(len(HOSTILE) * 24)
    table["label"] = [HOSTILE[i % len(HOSTILE)] for i in range(len(table))]
    table["text"] = [f"{text} {i}" for i, text in enumerate(table["text"])]
    data = folder / "te`x|t's --- <b>.csv"
    table.rename(columns={"text": "```\nte|xt", "label": "<i>\"la'bel"}).to_csv(data, index=False)
    run = make_trained_run(
        folder, tiny_folder, heads=("logreg",), data=str(data), corpus={"text": "```\nte|xt", "label": "<i>\"la'bel"}
    )
    return run, Run.open(run).info["classes"]


def test_a_card_of_hostile_data_holds_only_the_markup_of_the_template(
    hostile: tuple[Path, list[str]], tmp_path: Path
) -> None:
    run, classes = hostile
    ship(run, tmp_path / "out", "logreg")
    body = ModelCard((tmp_path / "out" / "README.md").read_text()).text
    kinds = [token.type for token in tokens(body)]
    assert not {"html_block", "html_inline", "link_open", "image", "s_open", "em_open", "hr"} & set(kinds)
    assert kinds.count("fence") == 3
    titles = [t.children[0].content for t in READER.parse(body) if t.type == "inline" and t.level == 1 and t.children]
    assert "Limits" in titles
    assert kinds.count("heading_open") == 13
    first = [row[0] for row in cells(body)]
    for name in classes:
        assert " ".join(shown(name).split()) in [" ".join(cell.split()) for cell in first]
    rows = [row for row in cells(body) if len(row) == 13]
    assert len(rows) == len(classes) + 1


def test_the_front_matter_of_hostile_data_is_read_by_the_hub(hostile: tuple[Path, list[str]], tmp_path: Path) -> None:
    result = ship(hostile[0], tmp_path / "out", "logreg")
    data = ModelCard((tmp_path / "out" / "README.md").read_text()).data
    assert (data.library_name, data.pipeline_tag) == ("frozenhead", "text-classification")
    assert {"frozenhead", "text-classification"} <= set(data.tags)
    assert data.metrics == ["accuracy", "f1"]
    assert data.to_dict().get("license") is None
    accuracy, f1 = data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", round(result["scores"]["accuracy"], 4))
    assert (f1.metric_type, f1.metric_value) == ("f1", round(result["scores"]["macro_f1"], 4))
    assert (accuracy.dataset_name, accuracy.dataset_split) == ("te`x|t's --- <b>.csv", "test")


@pytest.mark.parametrize(
    ("encoder", "base"),
    [
        ({"model": "minilm"}, "sentence-transformers/all-MiniLM-L6-v2"),
        ({"model": "google-bert/bert-base-uncased"}, "google-bert/bert-base-uncased"),
        ({"model": None}, None),
        (None, None),
    ],
)
def test_the_hub_learns_of_the_encoder_if_it_has_it(encoder: Any, base: str | None) -> None:
    block = {"accuracy": 0.5, "macro_f1": 0.25}
    evidence = {
        "dataset": {"judged_split": "test", "sources": []},
        "heads": [{"head": "dense", "feature": "x.mean", "test": block}],
    }
    data = ModelCard(f"---\n{front_matter(evidence, encoder=encoder)}---\n").data
    assert data.base_model == base


def test_classes_with_few_rows_are_named(tmp_path: Path, tiny_folder: Path) -> None:
    table = pd.concat([make_table(400), pd.DataFrame({"text": ["red and blue"] * 40, "label": "odd"})])
    table.to_csv(tmp_path / "texts.csv", index=False)
    run = make_trained_run(tmp_path, tiny_folder, heads=("majority",))
    ship(run, tmp_path / "out", "majority")
    assert (
        "Fewer than 30 test rows stand behind the scores of odd, spam." in (tmp_path / "out" / "README.md").read_text()
    )
