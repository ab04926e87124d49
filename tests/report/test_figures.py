"""Figures are well-formed, deterministic, legible in dark, and nobody else's settings matter."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from frozenhead.report.figures import (
    _bin_edges,
    balance_figure,
    confusion_figure,
    curves_figure,
    lengths_figure,
)
from tests.report.examples import HOSTILE, make_feature, random_corpus

HISTORY: list[dict[str, Any]] = [
    {"epoch": 1, "train_loss": 0.5, "val_loss": 0.4},
    {"epoch": 2, "train_loss": 0.4, "val_loss": None},
]


def confusion(classes: list[str], name: str = "c") -> str:
    K = len(classes)
    return confusion_figure((np.eye(K, dtype=int) * 9 + 1).tolist(), classes, name=name, title=classes[0])


def curves(classes: list[str], name: str = "c") -> str:
    return curves_figure(HISTORY, 1, name=name, title=classes[0])


def lengths(classes: list[str], name: str = "c") -> str:
    feature = make_feature(random_corpus(classes, rows=40 * len(classes)), classes)
    group = {**feature, "encoder": classes[0], "per_class": feature["lengths"]}
    return lengths_figure(group, classes, name=name)


def balance(classes: list[str], name: str = "c") -> str:
    counts = {label: {"train": 3, "val": 1, "test": 0, "all": 4} for label in classes}
    return balance_figure(counts, dict.fromkeys(classes, 1.0), name=name)


Drawing = Callable[..., str]
every_figure = pytest.mark.parametrize("drawing", [confusion, curves, lengths, balance])


def words(svg: str) -> list[str]:
    tree = ET.fromstring(svg)
    return [element.text or "" for element in tree.iter("{http://www.w3.org/2000/svg}text")]


@every_figure
@pytest.mark.parametrize("K", [1, 7, 31])
def test_a_figure_is_one_well_formed_svg_with_a_name_for_those_who_do_not_see_it(drawing: Drawing, K: int) -> None:
    svg = drawing([f"class {c}" for c in range(K)])
    tree = ET.fromstring(svg)
    assert svg.startswith("<svg")
    assert tree.get("role") == "img"
    assert "<metadata" not in svg  # it would hold the date
    assert tree.get("aria-label")
    assert tree[0].tag.endswith("title")
    assert tree[0].text == tree.get("aria-label")


@every_figure
def test_a_figure_is_drawn_the_same_twice_whatever_the_users_settings(drawing: Drawing) -> None:
    classes = ["ham", "spam"]
    first = drawing(classes)
    with mpl.rc_context({"svg.fonttype": "path", "axes.grid": True, "font.size": 30, "figure.facecolor": "red"}):
        before = dict(mpl.rcParams)
        second = drawing(classes)
        assert dict(mpl.rcParams) == before
    assert first == second


@every_figure
def test_ids_start_with_the_name_and_every_reference_is_met(drawing: Drawing) -> None:
    svg = drawing(["ham", "spam"], "left")
    ids = re.findall(r'\bid="([^"]*)"', svg)
    references = re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    assert all(name.startswith("left-") for name in ids)
    assert {one or other for one, other in references} == set(ids)
    assert svg.replace("left-", "right-") == drawing(["ham", "spam"], "right")


@every_figure
def test_hostile_labels_are_only_text(drawing: Drawing) -> None:
    svg = drawing([*HOSTILE, "\ud800"])
    tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(svg).iter()}
    assert tags <= {"svg", "title", "defs", "clipPath", "g", "path", "rect", "use", "image", "text", "tspan"}
    assert not re.search(r'(?:href|src)="(?!#|data:)', svg)
    svg.encode("utf-8")


def test_dollars_and_colour_codes_in_labels_stay_as_they_are() -> None:
    classes = ["$\\frac{1}{0}$", "#010203 <b>", "fill: #010203"]
    for label in classes:
        assert label in words(confusion(classes))


@every_figure
def test_ink_is_the_colour_of_the_page(drawing: Drawing) -> None:
    svg = drawing(["ham", "spam"])
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert "fill: #ffffff" not in svg  # no white ground
    for text in re.findall(r"<text[^>]*>", svg):
        assert "currentColor" in text


@pytest.mark.parametrize("K", [2, 11])
def test_every_cell_of_a_small_confusion_table_says_its_count(K: int) -> None:
    counts = np.arange(K * K).reshape(K, K)
    svg = confusion_figure(counts.tolist(), [f"c{c}" for c in range(K)], name="c", title="t")
    numbers = {text for word in words(svg) for text in word.split()}
    assert {f"{count:,}" for count in counts.flat} <= numbers


def test_a_cell_gives_its_share_of_the_true_class() -> None:
    svg = confusion_figure([[7, 1], [0, 4]], ["a", "b"], name="c", title="t")
    assert {"7", "87.5 %", "1", "12.5 %", "0", "4", "100.0 %"} <= set(words(svg))


def test_a_large_confusion_table_is_a_compact_picture_without_labels() -> None:
    classes = [f"class {c}" for c in range(77)]
    svg = confusion(classes)
    assert words(svg) == ["predicted", "true"]
    assert svg.count("<image") == 1
    assert len(svg) < 10_000


def test_the_truncation_line_says_what_is_cut() -> None:
    classes = ["ham", "spam"]
    truncation = make_feature(random_corpus(classes, rows=80), classes)["truncation"]
    drawn = words(lengths(classes))
    assert f"limit 25 tokens: {100 * truncation['share']:.1f} % of all rows cut" in drawn
    for name, row in truncation["per_class"].items():
        assert f"{name}: {100 * row['share']:.1f} % cut" in drawn


def test_texts_in_windows_are_not_called_cut() -> None:
    corpus = random_corpus(["ham", "spam"], rows=80)
    feature = make_feature(corpus, ["ham", "spam"], windows=True)
    group = {**feature, "encoder": "e", "per_class": feature["lengths"]}
    drawn = words(lengths_figure(group, ["ham", "spam"], name="l"))
    share = 100 * feature["truncation"]["windowed_share"]
    assert f"limit 25 tokens: {share:.1f} % of all rows in windows" in drawn
    assert "cut" not in " ".join(drawn)


@pytest.mark.parametrize("total", [{3: 1}, {3: 1, 4: 1}, {2: 990, 900: 10}, {n: n for n in range(5, 600, 3)}])
def test_bins_hold_as_many_whole_numbers_each_and_nearly_all_rows(total: dict[int, int]) -> None:
    edges = _bin_edges(total)
    width = np.diff(edges)
    assert (width == width[0]).all()
    assert width[0] == int(width[0])
    assert (edges % 1 == 0.5).all()
    inside = sum(rows for tokens, rows in total.items() if edges[0] < tokens < edges[-1])
    assert inside >= 0.99 * sum(total.values())
