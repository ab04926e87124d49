"""`verify`: prove, on a run's own rows, that cached vectors are what the encoder gives and train the same head.

In fp32 to 1e-4, in every loss and weight; in bf16 and fp16 vectors keep their direction and the losses stay close.

(a) A sample of rows is embedded again, one text at a time, by a plain transformers forward pass in fp32.
    So are rows of the run's dropout views, if it has any: with the encoder's dropout on, under the same masks.
(b) The dense head is trained twice from one seed and one order of batches: on cached vectors, and with the
    frozen encoder (eval mode) inside the training graph. Every step's loss and the final weights are compared.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.cache import Space
from frozenhead.cache.space import View
from frozenhead.commands.vectors import recorded_space, run_vectors, view_records, view_vectors
from frozenhead.commands.voice import Advance, Silence, Voice
from frozenhead.embedder.plain import PlainEncoder
from frozenhead.errors import DataError, RunNotFound, UsageError
from frozenhead.heads import Trainer, TrainingSettings
from frozenhead.heads.base import encode_labels
from frozenhead.heads.weighting import class_weights
from frozenhead.pipeline import recorded_checkpoint
from frozenhead.runs import Run

COMPONENT, COSINE = "largest difference of a component", "largest 1 - cosine"


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far cached vectors may be from the encoder's own in fp32, and what that may do to training."""

    measure: str
    vectors: float
    losses: float
    weights: float | None


# fp32 sums over hundreds of terms differ by about 1e-6 with the order of addition, which batch shape decides. Those
# differences grow through Adam's division by sqrt(v), by a factor of about ten over a hundred steps.
EXACT = Tolerance(measure=COMPONENT, vectors=1e-5, losses=1e-4, weights=1e-4)
# bf16 and fp16 promise the direction: losses stay close (4e-4 with MiniLM on the spam file). Single weights do not, and
# are shown without a verdict: a step of Adam is lr long however small the gradient, whose sign a little can turn.
COARSE = Tolerance(measure=COSINE, vectors=1e-3, losses=2e-2, weights=None)


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """What `verify` is asked to do.

    Parameters
    ----------
    run : Path
    features : tuple of str
        Names of feature sets, or `("all",)`.
    sample : int
        Rows embedded again one by one.
    steps : int
        Training steps of 32 rows compared.
    seed : int
        Of the sample and of the training.
    device : str
    cache_dir : path or URL, optional
    """

    run: Path
    features: tuple[str, ...] = ("all",)
    sample: int = 100
    steps: int = 50
    seed: int = 2018
    device: str = "auto"
    cache_dir: str | Path | None = None

    def __post_init__(self) -> None:
        if self.sample < 1 or self.steps < 1:
            raise UsageError(f"--sample and --steps must be at least 1, got {self.sample} and {self.steps}.")
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; it must not be negative.")


def verify(options: VerifyOptions, voice: Voice | None = None) -> dict[str, Any]:
    """Compare a run's cached vectors with the encoder, and training on them with training through it.

    Returns
    -------
    dict
        `passed`, and for each feature set the largest differences beside their tolerances.

    Raises
    ------
    CacheDamaged
        A shard is missing or its bytes changed: there is nothing to compare.
    """
    voice = voice or Silence()
    run = Run.open(options.run)
    corpus = run.corpus()
    there = run.features()
    names = list(there) if "all" in options.features else list(options.features)
    unknown = [name for name in names if name not in there]
    if unknown or not names:
        raise RunNotFound(
            f"{run.folder} has no feature set {unknown[0] if unknown else 'yet'}. It has: {', '.join(there) or 'none'}."
        )
    if not run.info["classes"]:
        raise DataError(f"{run.folder} holds unlabelled texts; verify trains a head, so it needs labels.")
    results = []
    for name in names:
        proof = _Proof(options, run, corpus, there[name], name)
        with voice.bar(f"verify {name}", unit="checks") as progress:
            results.append(proof.run(progress))
    return {"run": str(run.folder), "passed": all(r["passed"] for r in results), "features": results}


class _Proof:
    """The two comparisons for one feature set."""

    def __init__(
        self, options: VerifyOptions, run: Run, corpus: pd.DataFrame, record: dict[str, Any], name: str
    ) -> None:
        self.options, self.name, self.corpus = options, name, corpus
        self.space: Space = recorded_space(record, name)
        self.tolerance = EXACT if self.space.precision == "fp32" else COARSE
        self.vectors = run_vectors(run, record, corpus, name=name, cache_dir=options.cache_dir).astype(np.float32)
        self.view_rows = self._sample_views(record)
        self.read_view = partial(view_vectors, run, record, name=name, cache_dir=options.cache_dir)
        checkpoint = recorded_checkpoint(record["encoder"], self.space, name)
        self.encoder = PlainEncoder(checkpoint, device=options.device)
        self.texts = corpus["text"].tolist()

    def run(self, progress: Advance) -> dict[str, Any]:
        before = self.encoder.digest()
        single = min(self.options.sample, len(self.texts))
        total = single + sum(map(len, self.view_rows.values())) + self.options.steps
        vectors = self.compare_vectors(progress, total)
        views = self.compare_views(progress, total, done=single)
        training = self.compare_training(progress, total)
        unchanged = self.encoder.digest() == before
        passed = vectors["passed"] and training["passed"] and unchanged and (views is None or views["passed"])
        return {
            "feature": self.name,
            "precision": self.space.precision,
            "vectors": vectors,
            "views": views,
            "training": training,
            "encoder_unchanged": unchanged,
            "passed": passed,
        }

    def compare_vectors(self, progress: Advance, total: int) -> dict[str, Any]:
        import torch

        rng = np.random.default_rng(self.options.seed)
        rows = rng.choice(len(self.texts), min(self.options.sample, len(self.texts)), replace=False)
        differences = []
        for done, row in enumerate(rows.tolist(), start=1):
            with torch.no_grad():
                plain = self._encode([row]).numpy()[0]  # (D,)
            differences.append(_difference(plain, self.vectors[row], self.tolerance.measure))
            progress(done, total)
        where, largest = int(rows[np.argmax(differences)]), np.max(differences)  # both give NaN its way
        return {
            "rows": len(rows),
            "largest_difference": _finite(largest),
            "row": where,
            "measure": self.tolerance.measure,
            "tolerance": self.tolerance.vectors,
            "passed": bool(largest <= self.tolerance.vectors),
        }

    def compare_views(self, progress: Advance, total: int, *, done: int) -> dict[str, Any] | None:
        """As `compare_vectors`, for a sample of training rows of the dropout views; None if there are no views."""
        import torch

        differences, where = [], []
        for view, rows in self.view_rows.items():
            cached = self.read_view(self.corpus.iloc[rows], view=view).astype(np.float32)
            for row, vector in zip(rows.tolist(), cached, strict=True):
                with torch.no_grad():
                    plain = self._encode([row], view=view).numpy()[0]  # (D,)
                differences.append(_difference(plain, vector, self.tolerance.measure))
                where.append((row, view.index))
                progress(done + len(where), total)
        if not where:
            return None
        (row, index), largest = where[int(np.argmax(differences))], np.max(differences)
        return {
            "rows": len(where),
            "views": len(self.view_rows),
            "largest_difference": _finite(largest),
            "row": row,
            "view": index,
            "measure": self.tolerance.measure,
            "tolerance": self.tolerance.vectors,
            "passed": bool(largest <= self.tolerance.vectors),
        }

    def _sample_views(self, record: dict[str, Any]) -> dict[View, NDArray[np.intp]]:
        """Training rows to be compared, (n,) for each view: `sample` in all."""
        views = [view for view, _ in view_records(record, self.name)]
        train = np.flatnonzero((self.corpus["split"] == "train").to_numpy())
        size = len(views) * len(train)
        rng = np.random.default_rng(self.options.seed)
        chosen = np.sort(rng.choice(size, min(self.options.sample, size), replace=False)) if views else np.arange(0)
        numbers = chosen // max(len(train), 1)
        rows = {view: train[chosen[numbers == i] % len(train)] for i, view in enumerate(views)}
        return {view: own for view, own in rows.items() if len(own)}

    def compare_training(self, progress: Advance, total: int) -> dict[str, Any]:
        import torch

        train = np.flatnonzero((self.corpus["split"] == "train").to_numpy())
        classes, codes = encode_labels(self.corpus["label"].to_numpy()[train])
        weights = class_weights("balanced", classes, codes)
        cached, through = (self._trainer(len(classes), weights) for _ in range(2))
        vectors, targets = torch.from_numpy(self.vectors[train]), torch.from_numpy(codes)
        losses = []
        batches = _endless(cached, len(train))
        twin_batches = _endless(through, len(train))
        for step in range(1, self.options.steps + 1):
            rows, twin_rows = next(batches), next(twin_batches)
            loss = cached.step(vectors[rows], targets[rows])
            twin = through.step(self._encode(train[twin_rows.numpy()].tolist()), targets[twin_rows])
            losses.append(abs(loss - twin))
            progress(total - self.options.steps + step, total)
        pairs = zip(cached.snapshot(), through.snapshot(), strict=True)
        largest_loss, largest_weight = np.max(losses), np.max([np.abs(a - b).max() for a, b in pairs])
        return {
            "steps": self.options.steps,
            "largest_loss_difference": _finite(largest_loss),
            "largest_weight_difference": _finite(largest_weight),
            "tolerance": self.tolerance.losses,
            "weight_tolerance": self.tolerance.weights,
            "passed": bool(largest_loss <= self.tolerance.losses and np.isfinite(largest_weight))
            and (self.tolerance.weights is None or bool(largest_weight <= self.tolerance.weights)),
        }

    def _encode(self, rows: list[int], view: View | None = None) -> Any:
        texts = [self.space.prefix + self.texts[row] for row in rows]
        return self.encoder.vectors(
            texts,
            pooling=self.space.pooling,
            max_length=self.space.max_length,
            layer=self.space.layer,
            normalize=self.space.normalize,
            long=self.space.long,
            view=view,
        )

    def _trainer(self, n_classes: int, weights: NDArray[np.float64]) -> Trainer:
        settings = TrainingSettings(seed=self.options.seed)
        return Trainer(dim=self.space.dim, n_classes=n_classes, weights=weights, settings=settings)


def _difference(plain: NDArray[np.float32], cached: NDArray[np.float32], measure: str) -> float:
    """Between two vectors (D,); NaN if one of them is not finite."""
    if measure == COMPONENT:
        return float(np.abs(plain - cached).max())
    a, b = plain.astype(np.float64), cached.astype(np.float64)
    return float(1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _finite(value: Any) -> float | None:
    """A difference as JSON can hold it: None for NaN and infinity, which are never within a tolerance."""
    return float(value) if np.isfinite(value) else None


def _endless(trainer: Trainer, n: int) -> Any:
    """Batches of one epoch after the other."""
    while True:
        yield from trainer.batches(n)
