"""What a notebook plots is what the evidence says, and a wrong name is answered with the right one."""

import io
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import auc

from frozenhead.errors import HeadNotFound, UsageError
from frozenhead.report import (
    calibration_display,
    confusion_display,
    efficiency_display,
    precision_recall_display,
    roc_display,
)
from tests.conftest import REPOSITORY
from tests.report.examples import HOSTILE
from tests.report.figure_examples import make_evidence

CLASSES = ["ham", "news", "spam"]
DISPLAYS = [calibration_display, confusion_display, efficiency_display, precision_recall_display, roc_display]
every_display = pytest.mark.parametrize("make", DISPLAYS)

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """scikit-learn's `plot` imports pyplot, which keeps figures it opens."""
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def evidence() -> dict[str, Any]:
    return make_evidence(CLASSES, heads=4, rows=90)


@every_display
def test_a_display_plots_on_the_axes_it_is_given(make: Make, evidence: dict[str, Any]) -> None:
    figure = Figure()
    axes = figure.add_subplot()
    options = {"score_type": "test"} if make is efficiency_display else {}
    make(evidence).plot(ax=axes, **options)
    assert axes.has_data()
    figure.savefig(io.BytesIO())


@every_display
def test_hostile_names_are_drawn_as_they_are(make: Make) -> None:
    classes = [*HOSTILE, "$x$", "a $ b", "$\\undefined{$"]
    display = make(make_evidence(classes, heads=1, rows=100, names="$\\frac{1}{0}$ <script>"))
    figure = Figure()
    display.plot(ax=figure.add_subplot(), **({"score_type": "test"} if make is efficiency_display else {}))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from|Matplotlib currently does not", UserWarning)
        figure.savefig(io.BytesIO())


@every_display
def test_a_wrong_head_is_answered_with_the_nearest(make: Make, evidence: dict[str, Any]) -> None:
    with pytest.raises(HeadNotFound, match=r"no head named 'tfdif' \(did you mean 'tfidf'\?\); it has head0, "):
        make(evidence, head="tfdif")
    with pytest.raises(HeadNotFound, match=r"no feature named 'minilm\.men' \(did you mean 'minilm\.mean'\?\)"):
        make(evidence, feature="minilm.men")
    with pytest.raises(HeadNotFound, match=r"no feature of tfidf named 'minilm\.mean'; it has text"):
        make(evidence, head="tfidf", feature="minilm.mean")


def test_the_selected_head_is_meant_unless_another_is_named(evidence: dict[str, Any]) -> None:
    for wanted, place in (({}, 0), ({"head": "head1"}, 1), ({"feature": "minilm.pooler"}, 1), ({"head": "tfidf"}, 3)):
        table = confusion_display(evidence, **wanted).confusion_matrix
        expected = {(t, p): rows for t, p, rows in evidence["heads"][place]["test"]["confusion"]}
        assert {tuple(cell): int(table[cell]) for cell in zip(*np.nonzero(table), strict=True)} == expected


def test_lines_are_those_of_the_evidence(evidence: dict[str, Any]) -> None:
    curves = evidence["heads"][1]["curves"]
    roc = roc_display(evidence, head="head1", label="news")
    assert [roc.fpr.tolist(), roc.tpr.tolist(), roc.roc_auc] == [curves["roc"][1][key] for key in ("x", "y", "area")]
    assert auc(roc.fpr, roc.tpr) == pytest.approx(roc.roc_auc, abs=1e-3)
    both = precision_recall_display(evidence, head="head1", label="news")
    line = curves["precision_recall"][1]
    assert [both.recall[::-1].tolist(), both.precision[::-1].tolist()] == [line["x"], line["y"]]
    steps = -float(np.sum(np.diff(both.recall) * both.precision[:-1]))  # the area under what scikit-learn draws
    assert steps == pytest.approx(both.average_precision, abs=1e-2)
    assert both.prevalence_pos_label == 30 / 90
    assert (np.diff(both.recall) <= 0).all()


def test_a_class_without_a_line_is_refused_with_those_that_have_one(evidence: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"'spm' has no line \(did you mean 'spam'\?\); those that have are ham, news"):
        roc_display(evidence, label="spm")
    with pytest.raises(UsageError, match="one class only"):
        precision_recall_display(make_evidence(["ham", "spam"], rows=3, absent=1))


def test_calibration_can_be_seen_before_scaling_where_there_was_any(evidence: dict[str, Any]) -> None:
    bins = evidence["heads"][0]["curves"]["reliability"]
    for before, key in ((False, "after"), (True, "before")):
        display = calibration_display(evidence, before=before)
        assert display.prob_true.tolist() == bins[key]["accuracy"]
        assert display.prob_pred.tolist() == bins[key]["confidence"]
        assert len(display.y_prob) == 90
    with pytest.raises(UsageError, match=r"head1 on minilm\.pooler were not scaled"):
        calibration_display(evidence, head="head1", before=True)


def test_efficiency_holds_every_seed_and_a_gap_where_training_failed(evidence: dict[str, Any]) -> None:
    lost = {"share": 0.1, "rows": 100, "seed": 0, "error": "one class"}
    points = [lost if (p["rows"], p["seed"]) == (100, 0) else p for p in evidence["heads"][0]["curve"]["points"]]
    display = efficiency_display({"heads": [evidence["heads"][0] | {"curve": {"seeds": 2, "points": points}}]})
    assert display.train_sizes.tolist() == [10, 100, 1000]
    assert display.test_scores.shape == (3, 2)
    assert np.isnan(display.test_scores).tolist() == [[False, False], [True, False], [False, False]]
    assert display.test_scores[2].tolist() == [1.0, 0.9]
    with pytest.raises(HeadNotFound, match="--curve"):
        efficiency_display({"heads": [evidence["heads"][0] | {"curve": None}]})
    with pytest.raises(HeadNotFound, match=r"head0 on minilm\.mean has no label-efficiency curve"):
        efficiency_display({"heads": [evidence["heads"][0] | {"curve": None}]}, head="head0")


def test_the_document_shows_plots_that_a_notebook_makes(tmp_path: Path, evidence: dict[str, Any]) -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in sorted((REPOSITORY / "docs").glob("*.md")))
    programs = re.findall(r"```python\n(.*?)```", pages, re.DOTALL)
    (program,) = [program for program in programs if "from frozenhead.report import" in program]
    (tmp_path / "runs" / "spam").mkdir(parents=True)
    (tmp_path / "runs" / "spam" / "report.json").write_text(json.dumps(evidence), encoding="utf-8")
    setting = {**os.environ, "MPLBACKEND": "Agg"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, env=setting)
    assert (tmp_path / "heads.png").stat().st_size > 10_000
