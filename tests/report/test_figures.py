"""Figures are well-formed, deterministic, legible in dark, and nobody else's settings matter."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from frozenhead.report.figures import (
    Figures,
    balance_figure,
    confusion_figure,
    curves_figure,
    differences_figure,
    draw,
    efficiency_figure,
    forest_figure,
    lengths_figure,
    lines_figure,
    map_figure,
    reliability_figure,
)
from frozenhead.report.figures.dataset import _bin_edges
from frozenhead.report.figures.drawing import MOST_LARGE_TABLES, MOST_TABLES
from frozenhead.report.figures.scores import MOST_LISTED
from tests.report.examples import HOSTILE, make_feature, random_corpus
from tests.report.figure_examples import make_evidence, make_map

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


def forest(classes: list[str], name: str = "c") -> str:
    evidence = make_evidence(["ham", "spam"], names=classes[0])
    return forest_figure(evidence["heads"], "test", evidence["selected"], evidence["baseline"], name=name)


def differences(classes: list[str], name: str = "c") -> str:
    return differences_figure(make_evidence(["ham", "spam"], names=classes[-1])["comparisons"], name=name) or ""


def efficiency(classes: list[str], name: str = "c") -> str:
    return efficiency_figure(make_evidence(["ham", "spam"], names=classes[0])["heads"], None, name=name) or ""


def reliability(classes: list[str], name: str = "c") -> str:
    bins = make_evidence(["ham", "spam"])["heads"][0]["curves"]["reliability"]
    return reliability_figure(bins, name=name, title=classes[0])


def lines(classes: list[str], name: str = "c", kind: str = "roc") -> str:
    evidence = make_evidence(classes if len(classes) > 1 else [*classes, "other"], names=classes[0])
    known = evidence["dataset"]["classes"]
    return lines_figure(evidence["heads"], kind, known, evidence["baseline"], name=name) or ""


def precision_recall(classes: list[str], name: str = "c") -> str:
    return lines(classes, name, kind="precision_recall")


def plane(classes: list[str], name: str = "c") -> str:
    return map_figure(make_map(np.random.default_rng(0), len(classes), 60), classes, name=name)


Drawing = Callable[..., str]
DRAWINGS = [
    confusion,
    curves,
    lengths,
    balance,
    forest,
    differences,
    efficiency,
    reliability,
    lines,
    precision_recall,
    plane,
]
every_figure = pytest.mark.parametrize("drawing", DRAWINGS)


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
    assert "\u202e" not in svg
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
    assert {f"{count:,}" for count in counts.flat if count} <= numbers
    assert ("0" in numbers) == (K <= 10)  # in larger ones nothing stands for none


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


@pytest.mark.parametrize(("K", "heads"), [(2, 1), (2, 15), (3, 2), (40, 5)])
def test_every_place_of_the_page_has_its_figure(K: int, heads: int) -> None:
    evidence = make_evidence([f"class {c}" for c in range(K)], heads=heads, rows=3 * K, absent=K // 3)
    figures = draw(evidence)
    drawn = [figure is not None for figure in figures.confusion]
    tables = min(heads, MOST_TABLES if K <= 10 else MOST_LARGE_TABLES)
    assert sum(drawn) == tables
    assert drawn[0]
    assert drawn[-1]  # the baseline
    assert [figure is not None for figure in figures.reliability] == [n in {0, heads - 1} for n in range(heads)]
    assert len(figures.curves) == len(figures.confusion) == heads
    assert (figures.differences is None) == (heads == 1)
    for svg in every_string(figures):
        ET.fromstring(svg)
    ids = [found for svg in every_string(figures) for found in re.findall(r'\bid="([^"]*)"', svg)]
    assert len(ids) == len(set(ids))


def every_string(figures: Figures) -> list[str]:
    groups = [
        list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        for value in vars(figures).values()
    ]
    return [svg for group in groups for svg in group if svg is not None]


def test_a_split_of_three_rows_of_one_class_has_no_lines_and_every_other_figure() -> None:
    figures = draw(make_evidence(["ham", "spam"], heads=2, rows=3, absent=1, points=1))
    assert figures.roc is figures.precision_recall is None
    assert figures.map
    assert all(figures.reliability)


def test_what_is_not_in_the_evidence_is_not_drawn() -> None:
    evidence = make_evidence(["ham", "spam"]) | {
        "map": None,
        "comparisons": None,
        "comparisons_without_copies": None,
        "baseline": None,
    }
    for entry in evidence["heads"]:
        entry["curve"], entry["history"], entry["test_without_copies"] = None, [], None
        entry["test"]["intervals"] = None
    figures = draw(evidence)
    assert figures.map is figures.differences is figures.efficiency is None
    assert figures.curves == [None] * 3
    assert "baseline" not in " ".join(words(figures.forest))


@pytest.mark.parametrize("K", [2, 300])
def test_many_heads_and_classes_stay_small(K: int) -> None:
    figures = draw(make_evidence([f"label_{c}" for c in range(K)], heads=40, rows=2 * K, points=5000))
    assert len(figures.map or "") < 100_000
    assert sum(map(len, every_string(figures))) < 1_000_000


def test_the_forest_lists_the_first_heads_and_the_baseline_with_their_scores() -> None:
    evidence = make_evidence(["ham", "spam"], heads=20, rows=100)
    svg = forest_figure(evidence["heads"], "test", evidence["selected"], evidence["baseline"], name="f")
    listed = [*evidence["heads"][: MOST_LISTED - 1], evidence["heads"][-1]]
    drawn = words(svg)
    for entry in listed:
        assert f"{entry['head']} on {entry['feature']}" in drawn
        assert f"{entry['test']['macro_f1']:.4f}" in drawn
    assert "baseline: tfidf" in drawn
    assert "8 more heads in the table" in drawn
    assert "100 test rows, 95 % interval" in " ".join(drawn)
    low, high = evidence["heads"][0]["test"]["intervals"]["macro_f1"]
    assert f"[{low:.3f}, {high:.3f}]" in (ET.fromstring(svg).get("aria-label") or "")


def test_a_head_far_below_the_others_is_an_arrow_beside_its_number() -> None:
    evidence = make_evidence(["ham", "spam"], heads=5, rows=100)
    for entry, score in zip(evidence["heads"], (0.9, 0.89, 0.88, 0.87, 0.1), strict=True):
        entry["test"] |= {"macro_f1": score, "intervals": {"macro_f1": [score - 0.01, score + 0.01]}}
    svg = forest_figure(evidence["heads"], "test", evidence["selected"], None, name="f")
    drawn = words(svg)
    assert "0.1000" in drawn
    ticks = [float(word) for word in drawn if re.fullmatch(r"0\.\d{1,3}", word)]
    assert min(ticks) > 0.5  # the scale is that of the others


def test_lines_say_their_areas_and_never_1_for_less() -> None:
    evidence = make_evidence(["ham", "spam"], heads=4)
    heads = evidence["heads"]
    heads[0]["curves"]["roc"][0]["area"] = 0.99999
    drawn = words(lines_figure(heads, "roc", ["ham", "spam"], evidence["baseline"], name="r") or "")
    assert "head0 on minilm.mean: 0.9999" in drawn
    assert f"tfidf on text: {heads[-1]['curves']['roc'][0]['area']:.4f}" in drawn
    assert "2 other heads" in drawn
    heads[0]["curves"]["roc"][0]["area"] = None
    assert "no area" in (lines_figure(heads, "roc", ["ham", "spam"], None, name="r") or "")


def test_the_efficiency_line_is_the_median_of_the_seeds_that_trained() -> None:
    heads = make_evidence(["ham", "spam"], heads=1)["heads"]
    heads[0]["curve"]["points"] = [
        {"share": share, "rows": 10, "seed": seed, "val": {"macro_f1": score}}
        for share, scores in ((0.1, (0.2, 0.3, 0.7)), (1.0, (0.9, 0.8, 0.5)))
        for seed, score in enumerate(scores)
    ] + [{"share": 0.1, "rows": 10, "seed": 3, "error": "one class"}]
    svg = efficiency_figure(heads, None, name="e") or ""
    assert "head0 on minilm.mean 0.300 at 10 % and 0.800 at 100 %" in (ET.fromstring(svg).get("aria-label") or "")
    heads[0]["curve"]["points"] = [{"share": 1.0, "rows": 10, "seed": 0, "error": "failed"}]
    assert efficiency_figure(heads, None, name="e") is None


@pytest.mark.parametrize("drawing", [lengths, efficiency, lines, precision_recall, plane])
def test_labels_that_start_with_an_underscore_stand_in_the_legend(drawing: Drawing) -> None:
    assert "_one" in " ".join(words(drawing(["_one", "_two", "_three"])))


@pytest.mark.parametrize("K", [2, 8, 9, 40])
def test_the_map_has_a_dot_for_every_text_and_a_ring_for_every_mistake(K: int) -> None:
    plane = make_map(np.random.default_rng(0), K, 200)
    svg = map_figure(plane, [f"_{c}" for c in range(K)], name="m")
    wrong = sum(map(bool, plane["wrong"]))
    assert svg.count("h0") == 200 + wrong
    drawn = words(svg)
    assert f"labelled wrongly ({wrong})" in drawn
    named = [word for word in drawn if "_" in word]
    assert len(named) == (K if K <= 8 else 7)
    assert (f"{K - 7} other classes" in " ".join(drawn)) == (K > 8)


def test_dots_stand_where_the_points_are() -> None:
    rng = np.random.default_rng(1)
    plane = make_map(rng, 1, 100) | {"wrong": [None] * 100}
    svg = map_figure(plane, ["a"], name="m")
    moves = re.findall(r"m(-?[\d.]+) (-?[\d.]+)h0", svg)
    drawn = np.cumsum(np.array(moves, dtype=np.float64), axis=0)  # (100, 2)
    order = np.argsort(plane["x"], kind="stable")
    x, y = np.array(plane["x"])[order], np.array(plane["y"])[order]
    for values, placed in ((x, drawn[:, 0]), (-y, drawn[:, 1])):  # SVG counts from the top
        scale, shift = np.polyfit(values, placed, 1)
        np.testing.assert_allclose(placed, scale * values + shift, rtol=0, atol=0.06)  # tenths of a point
        assert scale > 0


def test_reliability_says_both_errors() -> None:
    bins = make_evidence(["ham", "spam"])["heads"][0]["curves"]["reliability"]
    drawn = " ".join(words(reliability_figure(bins, name="r", title="t")))
    assert f"before calibration: ECE {bins['before']['ece']:.3f}" in drawn
    assert f"after calibration: ECE {bins['after']['ece']:.3f}" in drawn
    uncalibrated = " ".join(words(reliability_figure(bins | {"before": None}, name="r", title="t")))
    assert "calibration" not in uncalibrated


def test_text_takes_the_fonts_of_the_readers_system() -> None:
    svg = balance(["ham", "spam"])
    assert "DejaVu" not in svg
    assert "font-family:system-ui, sans-serif" in svg
