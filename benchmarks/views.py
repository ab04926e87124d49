"""Do dropout views make a better head? The dense head on eval-mode vectors and on views, many seeds each.

    frozenhead embed spamdata_v2.csv --recipe notebook --model minilm --views 10 --out RUN
    python benchmarks/views.py RUN [--seeds 10] [--json FILE]

The reference trains with BERT's own dropout on, on another vector of a text in each epoch: with as many views as epochs
that is training on views. Validation and test rows have eval-mode vectors in both cases. A seed decides the initial
weights, the order of rows and the head's own dropout, and is the same for both: differences are taken seed by seed.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rounds import circumstances
from scipy.stats import ttest_rel

from frozenhead.commands.vectors import run_vectors, run_views
from frozenhead.heads import DenseHead, Head, fit_many
from frozenhead.report import balanced_weights, score_block
from frozenhead.runs import Run

BINS = 10
MEASURES = (
    "lowest validation loss", "epoch of it", "test log loss", "test calibration error", "test accuracy",
    "test macro F1",
)  # fmt: skip


def calibration_error(labels: NDArray[Any], probabilities: NDArray[np.float64], classes: Sequence[str]) -> float:
    """Expected calibration error of the predicted class, 10 bins of equal width (Guo et al. 2017)."""
    sure, right = probabilities.max(axis=1), np.array(classes)[probabilities.argmax(axis=1)] == labels
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = (abs(right[bins == b].mean() - sure[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))
    return float(sum(gaps))


class Comparison:
    """Heads on one feature set of a run, with and without its views."""

    def __init__(self, run: Run, name: str) -> None:
        corpus, record = run.corpus(), run.features()[name]
        vectors = run_vectors(run, record, corpus, name=name, cache_dir=None)
        labels = corpus["label"].to_numpy(object)
        rows = {split: (corpus["split"] == split).to_numpy() for split in ("train", "val", "test")}
        self.train, self.val, self.test = ((vectors[r], labels[r]) for r in rows.values())
        self.views = run_views(run, record, corpus, name=name, cache_dir=None)
        self.classes = run.info["classes"]
        self.weights = balanced_weights(self.train[1], self.classes)

    def measured(self, seeds: int, *, views: bool) -> list[dict[str, float]]:
        """What each seed's head reaches, by `MEASURES`."""
        heads = [DenseHead(random_state=seed) for seed in range(seeds)]
        fitted = fit_many(heads, *self.train, validation=self.val, views=self.views if views else ())
        by_seed = sorted(fitted, key=lambda one: one.index)
        return [self._judged(one.head) for one in by_seed if one.head is not None]

    def _judged(self, head: Head) -> dict[str, float]:
        probabilities = head.predict_proba(self.test[0])
        block = score_block(self.test[1], probabilities, self.classes, self.weights) or {}
        lowest = min(epoch["val_loss"] for epoch in head.history_)
        error = calibration_error(self.test[1], probabilities, self.classes)
        values = (lowest, head.best_epoch_ or 0, block["log_loss"], error, block["accuracy"], block["macro_f1"])
        return dict(zip(MEASURES, values, strict=True))


def table(plain: list[dict[str, float]], viewed: list[dict[str, float]]) -> list[str]:
    """Means with their range, and the differences seed by seed with their 95 % interval and p-value."""
    lines = ["| what | eval-mode vectors | views | difference | p |", "| --- | --- | --- | --- | --- |"]
    for name in MEASURES:
        a, b = ([one[name] for one in ones] for ones in (plain, viewed))
        test = ttest_rel(b, a)
        interval = test.confidence_interval()
        lines.append(
            f"| {name} | {_span(a)} | {_span(b)} | {statistics.fmean(b) - statistics.fmean(a):+.4f} "
            f"({interval.low:+.4f} to {interval.high:+.4f}) | {test.pvalue:.3f} |"
        )
    return lines


def _span(values: list[float]) -> str:
    return f"{statistics.fmean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    run = Run.open(given.run)
    results = {}
    for name, record in run.features().items():
        if not record.get("views"):
            continue
        comparison = Comparison(run, name)
        plain, viewed = (comparison.measured(given.seeds, views=views) for views in (False, True))
        results[name] = {"plain": plain, "views": viewed}
        print(f"**{name}**, {len(record['views'])} views, {given.seeds} seeds each.\n")
        print("\n".join(table(plain, viewed)) + "\n")
    if given.json:
        given.json.write_text(json.dumps({"circumstances": circumstances(), "results": results}))


if __name__ == "__main__":
    main()
