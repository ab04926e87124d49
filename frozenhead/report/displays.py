"""The report's plots in a notebook: scikit-learn's Display objects, made of evidence.

Imports labels and errors, and scikit-learn only when a display is asked for. `evidence` is what `gather` returns, or
the content of report.json. Every display has `plot(ax=...)`; names and labels
are plain text to matplotlib, dollar signs included.
"""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from frozenhead.errors import HeadNotFound, UsageError
from frozenhead.labels import shown

if TYPE_CHECKING:
    from sklearn.calibration import CalibrationDisplay
    from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay
    from sklearn.model_selection import LearningCurveDisplay

Evidence = Mapping[str, Any]


def confusion_display(
    evidence: Evidence, *, feature: str | None = None, head: str | None = None
) -> "ConfusionMatrixDisplay":
    """Return the confusion table (K, K) of the judged split, rows true.

    Parameters
    ----------
    evidence : mapping
    feature, head : str, optional
        Default the selected head; of several that fit, the best on validation.

    Raises
    ------
    HeadNotFound
        No such head; the nearest right name is given.
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    entry, dataset = _entry(evidence, feature, head), evidence["dataset"]
    K = len(dataset["classes"])
    table = np.zeros((K, K), dtype=np.int64)
    for true, predicted, rows in entry[dataset["judged_split"]]["confusion"]:
        table[true, predicted] = rows
    return ConfusionMatrixDisplay(table, display_labels=np.array([_text(name) for name in dataset["classes"]]))


def roc_display(
    evidence: Evidence, *, feature: str | None = None, head: str | None = None, label: str | None = None
) -> "RocCurveDisplay":
    """Return the ROC line of one class against the rest on the judged split, with the exact area.

    Parameters
    ----------
    evidence : mapping
    feature, head : str, optional
        As for `confusion_display`.
    label : str, optional
        The class. Default the first that has a line: the second of two classes, of more than eight the one of the
        smallest area.

    Raises
    ------
    HeadNotFound
    UsageError
        The class has no line.
    """
    from sklearn.metrics import RocCurveDisplay

    entry = _entry(evidence, feature, head)
    line = _line(entry, "roc", label)
    x, y = np.array(line["x"]), np.array(line["y"])
    return RocCurveDisplay(fpr=x, tpr=y, roc_auc=line["area"], name=_name(entry), pos_label=_text(line["label"]))


def precision_recall_display(
    evidence: Evidence, *, feature: str | None = None, head: str | None = None, label: str | None = None
) -> "PrecisionRecallDisplay":
    """Return the precision-recall line of one class against the rest on the judged split; as `roc_display`."""
    from sklearn.metrics import PrecisionRecallDisplay

    entry = _entry(evidence, feature, head)
    line = _line(entry, "precision_recall", label)
    block = entry[evidence["dataset"]["judged_split"]]
    prevalence = block["per_class"][line["label"]]["support"] / block["rows"]
    # scikit-learn 1.9 renamed it, and warns of the old name.
    named = "name" if "name" in inspect.signature(PrecisionRecallDisplay).parameters else "estimator_name"
    return PrecisionRecallDisplay(
        precision=np.array(line["y"])[::-1],  # from recall 1 to 0, as scikit-learn has it and draws its steps
        recall=np.array(line["x"])[::-1],
        average_precision=line["area"],
        pos_label=_text(line["label"]),
        prevalence_pos_label=prevalence,
        **{named: _name(entry)},
    )


def calibration_display(
    evidence: Evidence, *, feature: str | None = None, head: str | None = None, before: bool = False
) -> "CalibrationDisplay":
    """Return the reliability of the largest probability on the judged split: the share that is right, by bins.

    Parameters
    ----------
    evidence : mapping
    feature, head : str, optional
        As for `confusion_display`.
    before : bool
        Of the probabilities before temperature scaling.

    Returns
    -------
    CalibrationDisplay
        Its `y_prob` (n,) holds each row's mean confidence of its bin.

    Raises
    ------
    HeadNotFound
    UsageError
        `before`, of a head whose probabilities were not scaled.
    """
    from sklearn.calibration import CalibrationDisplay

    entry = _entry(evidence, feature, head)
    bins = entry["curves"]["reliability"]["before" if before else "after"]
    if bins is None:
        raise UsageError(f"The probabilities of {_name(entry)} were not scaled; leave out before=True.")
    share, mean = np.array(bins["accuracy"]), np.array(bins["confidence"])
    return CalibrationDisplay(share, mean, np.repeat(mean, bins["rows"]), estimator_name=_name(entry))


def efficiency_display(
    evidence: Evidence, *, feature: str | None = None, head: str | None = None
) -> "LearningCurveDisplay":
    """Return validation macro F1 by the number of training rows, from `frozenhead fit --curve`.

    Parameters
    ----------
    evidence : mapping
    feature, head : str, optional
        As for `confusion_display`; default the first head that has a curve.

    Returns
    -------
    LearningCurveDisplay
        `train_sizes` (t,) and `test_scores` (t, seeds), NaN where training failed. Training scores were not measured:
        `train_scores` is NaN, so plot with `score_type="test"`.

    Raises
    ------
    HeadNotFound
        No such head, or none with a curve.
    """
    from sklearn.model_selection import LearningCurveDisplay

    known = [entry for entry in evidence["heads"] if entry["curve"]]
    if feature is None and head is None and not known:
        raise HeadNotFound("No head has a label-efficiency curve. Run `frozenhead fit` with --curve.")
    entry = known[0] if feature is None and head is None else _entry(evidence, feature, head)
    if not entry["curve"]:
        raise HeadNotFound(f"{_name(entry)} has no label-efficiency curve. Run `frozenhead fit` with --curve.")
    points = entry["curve"]["points"]
    sizes, seeds = sorted({point["rows"] for point in points}), sorted({point["seed"] for point in points})
    scores = np.full((len(sizes), len(seeds)), np.nan)
    for point in points:
        if point.get("val"):
            scores[sizes.index(point["rows"]), seeds.index(point["seed"])] = point["val"]["macro_f1"]
    return LearningCurveDisplay(
        train_sizes=np.array(sizes),
        train_scores=np.full_like(scores, np.nan),
        test_scores=scores,
        score_name="Macro F1",
    )


def _entry(evidence: Evidence, feature: str | None, head: str | None) -> Mapping[str, Any]:
    entries: list[Mapping[str, Any]] = list(evidence["heads"])
    for key, wanted in (("head", head), ("feature", feature)):
        if wanted is not None:
            names = list(dict.fromkeys(entry[key] for entry in entries))
            entries = [entry for entry in entries if entry[key] == wanted]
            if not entries:
                of = f" of {head}" if key == "feature" and head is not None else ""
                raise HeadNotFound(
                    f"The evidence has no {key}{of} named {shown(wanted)!r}{_nearest(wanted, names)}; "
                    f"it has {', '.join(shown(name) for name in names)}."
                )
    return entries[0]


def _line(entry: Mapping[str, Any], kind: str, label: str | None) -> Mapping[str, Any]:
    lines: list[Mapping[str, Any]] = entry["curves"][kind]
    labels = [line["label"] for line in lines]
    if not lines:
        raise UsageError("The judged split holds one class only: there is no line to draw.")
    if label is not None and label not in labels:
        raise UsageError(
            f"The class {shown(label)!r} has no line{_nearest(label, labels)}; "
            f"those that have are {', '.join(shown(name) for name in labels)}."
        )
    return lines[0 if label is None else labels.index(label)]


def _nearest(wrong: str, right: Iterable[str]) -> str:
    names = {name.casefold(): name for name in right}
    close = difflib.get_close_matches(wrong.casefold(), list(names), n=1)
    return f" (did you mean {shown(names[close[0]])!r}?)" if close else ""


def _name(entry: Mapping[str, Any]) -> str:
    return f"{_text(entry['head'])} on {_text(entry['feature'])}"


def _text(label: str) -> str:
    """The label as matplotlib draws it word for word, and not as a formula."""
    return shown(label).replace("$", r"\$")
