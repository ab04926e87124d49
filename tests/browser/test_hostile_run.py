"""A corpus out to do harm, through `embed`, `fit` and `report` as typed: what it holds is seen, and does nothing."""

import os
import re
import string
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from frozenhead.commands.embed import embed
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.options import embed_options
from frozenhead.commands.report import report
from frozenhead.labels import shown
from frozenhead.report.page_view import TEXT_WIDTH
from frozenhead.runs import Run
from tests.browser.conftest import CHROMIUM, Opener, open_details
from tests.test_cli import EXECUTABLE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome in PATH"),
]

BAD = (
    "<script>alert(1)</script>",
    "</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "<style>body{display:none}</style>",
    "{{7*7}}",
    "${7*7}",
    "$x$",
    "\u202egnp.exe\u202c \u2066\u200fx",
    "essay " * 50,
    "two\nlines | and\r\n| cells",
    "\"quoted\" 'words' `ticks`",
    "\x1b[31mred\x07\x08 \x7f\x9b",
)
TEXT_COLUMN = '<img src=x onerror=alert("column")>\u202e\x1b[31m|'
LABEL_COLUMN = "</script><script>alert('column')</script>{{7*7}}\n"
FILE = "<img src=x onerror=alert(1)>${7*7}{{7*7}}$x$\u202e\x1b[31m\n\"'`|.csv"  # a name has no slash
ROWS = 14  # of each class, some of them copies


def make_texts(labels: Sequence[str]) -> pd.DataFrame:
    """Each text holds its own label and another; copies stand under their own label and under another."""
    rows = [
        (f"{labels[(k + i) % len(labels)]} {label} {i % 5} the cat", label)
        for i in range(ROWS - 2)
        for k, label in enumerate(labels)
    ]
    copies = rows[: len(labels)]
    others = [(text, labels[(k + 1) % len(labels)]) for k, (text, _) in enumerate(copies)]
    return pd.DataFrame([*rows, *copies, *others])


@dataclass(frozen=True)
class Reported:
    """A run with its page, and what `report` said of it."""

    run: Path
    table: str
    markdown: str


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Reported:
    """The commands as a user types them, each a process of its own, none of which may print what a terminal obeys."""
    folder = tmp_path_factory.mktemp("hostile")
    make_texts(BAD).set_axis([TEXT_COLUMN, LABEL_COLUMN], axis=1).to_csv(folder / FILE, index=False)
    commands = (
        ("embed", FILE, "--text", TEXT_COLUMN, "--label", LABEL_COLUMN, "--out", "run", "--model", str(tiny_folder),
         "--pooling", "mean", "--device", "cpu"),
        ("fit", "run", "--head", "softmax,tfidf,majority"),
        ("report", "run", "--per-class"),
        ("report", "run", "--markdown"),
    )  # fmt: skip
    said = []
    for words in commands:
        environment = {**os.environ, "FROZENHEAD_CACHE_DIR": str(folder / "cache")}
        done = subprocess.run(
            [*EXECUTABLE, *words], cwd=folder, env=environment, capture_output=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        assert_harmless(done.stdout.decode() + done.stderr.decode())
        said.append(done.stdout.decode())
    return Reported(folder / "run", *said[2:])


@pytest.fixture(scope="module")
def tame_page(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """The page of a run of the same shape whose strings are plain words."""
    folder = tmp_path_factory.mktemp("tame")
    labels = [f"kind {letter}" for letter in string.ascii_lowercase[: len(BAD)]]
    make_texts(labels).set_axis(["text", "label"], axis=1).to_csv(folder / "texts.csv", index=False)
    embed(
        embed_options(
            data=str(folder / "texts.csv"), out=folder / "run", recipe=None, model=str(tiny_folder), pooling="mean",
            max_length=None, precision=None, backend="auto", device="cpu", cache_dir=folder / "cache",
            corpus={"split": None, "seed": None},
        )
    )  # fmt: skip
    fit(FitOptions(run=folder / "run", heads=("softmax", "tfidf", "majority")))
    report(folder / "run")
    return folder / "run" / "report.html"


def assert_harmless(text: str) -> None:
    """No control or format character but the end of a line."""
    hidden = {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    assert hidden <= {"\n"}


@pytest.mark.parametrize("scripts", [True, False])
def test_no_element_is_made_from_data(opened: Opener, hostile: Reported, tame_page: Path, scripts: bool) -> None:
    tags = []
    for path in (hostile.run / "report.html", tame_page):
        page = opened(path, scripts=scripts)
        if scripts:
            open_details(page)
        tags.append(Counter(page.locator("*").evaluate_all("all => all.map(one => one.localName)")))
    assert tags[0].keys() == tags[1].keys() >= {"script", "style", "table", "svg"}
    for tag in ("html", "head", "body", "meta", "style", "script", "img", "iframe", "section", "h2", "nav", "input"):
        assert tags[0][tag] == tags[1][tag]


def test_every_string_stands_on_the_page_as_it_is(opened: Opener, hostile: Reported) -> None:
    page = opened(hostile.run / "report.html")
    corpus = Run.open(hostile.run).corpus()
    assert set(corpus["label"]) == set(BAD)
    labels = page.locator("#balance tbody th bdi").evaluate_all("all => all.map(one => one.textContent)")
    assert sorted(labels) == sorted(map(shown, BAD))
    assert page.locator(".eyebrow bdi").evaluate("one => one.textContent") == shown(FILE, width=120)
    facts = page.locator("#run dd").evaluate_all("all => all.map(one => one.textContent)")
    assert facts[0].startswith(f"{shown(FILE, width=400)}, {len(corpus)} rows")
    for column in (TEXT_COLUMN, LABEL_COLUMN):
        assert any(shown(column) in fact for fact in facts)
    texts = dict(zip(corpus["row"].astype(str), corpus["text"], strict=True))
    cards = page.locator("#mistakes-list > li")
    seen = cards.evaluate_all("all => all.map(one => [one.dataset.row, one.querySelector('.text').textContent])")
    assert len(seen) > 5
    assert [text for _, text in seen] == [shown(texts[row], width=TEXT_WIDTH) for row, _ in seen]
    known = cards.locator("details li bdi:nth-of-type(2)").evaluate_all("all => all.map(one => one.textContent)")
    assert len(known) > 5
    assert set(known) <= {shown(text, width=TEXT_WIDTH) for text in texts.values()}
    assert_harmless(page.evaluate("document.documentElement.textContent"))


def test_hostile_rows_are_filtered_and_searched(opened: Opener, hostile: Reported) -> None:
    page = opened(hostile.run / "report.html")
    everything = page.locator("#mistakes-status").inner_text()
    options = page.locator("#mistakes-truth option").all_inner_texts()
    counts = {re.sub(r" \(\d+\)$", "", text): text for text in options[1:]}
    assert set(counts) <= set(map(shown, BAD))
    label = max(counts, key=lambda name: int(counts[name].split("(")[-1].rstrip(")")))
    page.locator("#mistakes-truth").select_option(label=counts[label])
    found = page.locator("#mistakes-list > li .meta span:first-child bdi").all_inner_texts()
    assert set(found) == {label}
    page.locator("#mistakes-clear").click()
    assert page.locator("#mistakes-status").inner_text() == everything
    page.locator("#mistakes-search").fill("onerror=alert(1)>")
    page.wait_for_function("words => document.getElementById('mistakes-status').textContent !== words", arg=everything)
    texts = page.locator("#mistakes-list > li .text").all_inner_texts()
    assert texts
    assert all("onerror=alert(1)>" in text for text in texts)


def test_the_advised_command_is_one_that_a_shell_reads_as_it_was_typed(hostile: Reported) -> None:
    lines = " ".join(hostile.table.split())
    assert "keeps exact copies in one split: frozenhead embed $'<img" in lines
    block = hostile.markdown.split("```sh\n")[1].split("\n```")[0]
    read = subprocess.run(["bash", "-c", f"printf '%s\\0' {block}"], capture_output=True, check=True).stdout.decode()
    words = read.split("\0")
    assert [words[2], words[4], words[6]] == [FILE, TEXT_COLUMN, LABEL_COLUMN]


def test_markdown_tables_keep_their_cells(hostile: Reported) -> None:
    outside = re.sub(r"```sh\n.*?\n```", "", hostile.markdown, flags=re.DOTALL)
    tables = re.findall(r"(?:^\|.*\n)+", outside, flags=re.MULTILINE)
    assert len(tables) == 5
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert not re.search(r"<(script|img|style|!--)|\{\{|\$", outside)
    classes = [line.split("|")[1].strip() for line in tables[-1].splitlines()[2:]]
    numbers = re.compile(r"&#(\d+);")
    assert {numbers.sub(lambda found: chr(int(found[1])), name) for name in classes} == {
        shown(label, width=300).strip() for label in BAD
    }


def test_the_terminal_shows_every_class_in_its_tables(hostile: Reported) -> None:
    for label in BAD:
        name = shown(label, width=40)
        of_class = [line for line in hostile.table.splitlines() if line.startswith(f"  {name} ")]
        assert len(of_class) == 3  # heads
        assert all(len(line.removeprefix(f"  {name} ").split()) == 4 for line in of_class)
