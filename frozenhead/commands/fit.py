"""`fit`: train heads on the vectors that a run has pinned, and keep what they predict."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone

from frozenhead.commands.vectors import run_vectors
from frozenhead.commands.voice import Silence, Voice
from frozenhead.errors import DataError, RunNotFound, UsageError
from frozenhead.files import write_file, write_json
from frozenhead.heads import HEADS, DenseHead, Head, SoftmaxHead, head_options, make_head, save_head
from frozenhead.heads.registry import nearest
from frozenhead.report.metrics import balanced_weights, score_block
from frozenhead.runs import TEXT_FEATURE, Run, parquet_bytes

JUDGED = ("val", "test")


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What `fit` is asked to do.

    Parameters
    ----------
    run : Path
    heads : tuple of str
        Names, or `("all",)`.
    features : tuple of str
        Names of feature sets, or `("all",)`.
    class_weight : str
        `balanced`, `none`, or the path of a JSON file {label: weight}.
    sets : tuple of str
        Options of heads as `lr=3e-4`, or `dense.lr=3e-4` for one head only.
    seed : int
    jobs : int
        Heads trained at the same time. More than one makes each head's seconds less telling.
    cache_dir : Path, optional
        Where the cache is now, if it moved since `embed`.
    """

    run: Path
    heads: tuple[str, ...] = ("dense",)
    features: tuple[str, ...] = ("all",)
    class_weight: str = "balanced"
    sets: tuple[str, ...] = field(default=())
    seed: int = 2018
    jobs: int = 1
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        for name in self.heads:
            if name != "all" and name not in HEADS:
                raise UsageError(
                    f"There is no head {name!r}{nearest(name, HEADS)}. The heads: {', '.join(HEADS)}, all."
                )
        if self.jobs < 1:
            raise UsageError(f"--jobs is {self.jobs}; it must be at least 1.")
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; it must not be negative.")

    def head_names(self) -> list[str]:
        """The heads asked for, each once."""
        return list(HEADS) if "all" in self.heads else list(dict.fromkeys(self.heads))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Inputs:
    """What heads learn from: the rows of a run as vectors of one feature set, or as texts."""

    feature: str
    rows: Any  # (N, D) vectors, or object array (N,) of texts
    record: Mapping[str, Any] | None  # features/<name>.json


def fit(options: FitOptions, voice: Voice | None = None) -> dict[str, Any]:
    """Train heads; each replaces the head of its name in the run.

    Returns
    -------
    dict
        run; `heads`, each with feature, head, fit_seconds, best_epoch, and its validation scores; and `failed`,
        the heads that could not be trained on these rows, with the reason.

    Raises
    ------
    RunNotFound, RunDamaged, CacheDamaged, DataError, UsageError
    """
    voice = voice or Silence()
    run = Run.open(options.run)
    corpus = run.corpus()
    if not run.info["classes"]:
        raise DataError(f"{run.folder} holds unlabelled texts. Embed labelled ones: frozenhead embed DATA --label COL")
    heads = _make_heads(options)
    features = _chosen_features(run, options)
    results: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    total = sum(len(features) if head.takes == "vectors" else 1 for head in heads.values())
    with voice.bar("fit", unit="heads") as progress:
        progress(0, total)
        for inputs in _all_inputs(run, features, corpus, heads, options):
            chosen = {name: head for name, head in heads.items() if (head.takes == "texts") == (inputs.record is None)}
            for name, head, seconds in _train(chosen, inputs, corpus, jobs=options.jobs):
                if isinstance(head, ValueError):
                    failed.append({"feature": inputs.feature, "head": name, "error": str(head)})
                else:
                    results.append(_store(run, corpus, inputs, name=name, head=head, seconds=seconds))
                progress(len(results) + len(failed), total)
    if not results:
        raise UsageError("\n".join(f"{f['head']} on {f['feature']}: {f['error']}" for f in failed[:3]))
    return {"run": str(options.run), "heads": results, "failed": failed}


def _make_heads(options: FitOptions) -> dict[str, Head]:
    """The unfitted heads, every option of `--set` having gone to at least one of them."""
    names = options.head_names()
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for assignment in options.sets:
        key, equals, value = assignment.partition("=")
        target, _, option = key.strip().rpartition(".")
        if not equals:
            raise UsageError(f"--set {assignment!r}: give NAME=VALUE, or HEAD.NAME=VALUE.")
        if target and target not in own:
            raise UsageError(f"--set {assignment!r}: {target} is none of the heads to train: {', '.join(names)}.")
        takers = [name for name in names if option in head_options(name) and target in ("", name)]
        if not takers:
            known = {o: None for name in names for o in head_options(name) if target in ("", name)}
            raise UsageError(
                f"--set {assignment!r}: no option {key.strip()!r} in {', '.join(names)}{nearest(option, known)}.\n"
                f"Give NAME=VALUE, or HEAD.NAME=VALUE. The options: {', '.join(known) or 'none'}."
            )
        for name in takers:
            own[name][option] = _parse_value(assignment, value, head_options(name)[option])
    weight = _class_weight(options.class_weight)
    return {name: make_head(name, class_weight=weight, seed=options.seed, options=own[name]) for name in names}


def _parse_value(assignment: str, value: str, default: Any) -> Any:
    """`value` as the type of the option's default."""
    try:
        parsed = type(default)(value.strip())
        if isinstance(parsed, float) and not math.isfinite(parsed):
            raise ValueError("it is not finite")
        return parsed
    except ValueError as error:
        kind = {int: "a whole number", float: "a number"}.get(type(default), "another value")
        raise UsageError(f"--set {assignment!r}: expected {kind}, such as {default}.") from error


def _class_weight(given: str) -> Any:
    """What heads take as `class_weight`, from `balanced`, `none` or a JSON file."""
    if given in ("balanced", "none"):
        return "balanced" if given == "balanced" else None
    try:
        weights = json.loads(Path(given).read_bytes())
    except OSError as error:
        raise UsageError(f"--class-weight {given}: not balanced, not none, and no such file.") from error
    except ValueError as error:
        raise DataError(
            f"{given} is not JSON: {error}. Expected an object, such as {{'ham': 1, 'spam': 6}}."
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(w, int | float) for w in weights.values()):
        raise DataError(f'{given} must be a JSON object of label to number, such as {{"ham": 1, "spam": 6}}.')
    return weights


def _chosen_features(run: Run, options: FitOptions) -> dict[str, dict[str, Any]]:
    there = run.features()
    if not there:
        raise RunNotFound(f"{run.folder} has no feature set yet. Run the same `frozenhead embed` command again.")
    if "all" in options.features:
        return there
    for name in options.features:
        if name not in there:
            raise UsageError(
                f"{run.folder} has no feature set {name!r}{nearest(name, there)}. It has: {', '.join(there)}."
            )
    return {name: there[name] for name in dict.fromkeys(options.features)}


def _all_inputs(
    run: Run,
    features: Mapping[str, dict[str, Any]],
    corpus: pd.DataFrame,
    heads: Mapping[str, Head],
    options: FitOptions,
) -> Iterator[_Inputs]:
    """One feature set after the other, so that only one is in memory."""
    if any(head.takes == "vectors" for head in heads.values()):
        if any(isinstance(head, DenseHead | SoftmaxHead) for head in heads.values()):
            import_module("torch")  # now, so that the first head's seconds are its own
        for name, record in features.items():
            vectors = run_vectors(run, record, corpus, name=name, cache_dir=options.cache_dir)
            yield _Inputs(feature=name, rows=vectors, record=record)
    if any(head.takes == "texts" for head in heads.values()):
        yield _Inputs(feature=TEXT_FEATURE, rows=corpus["text"].to_numpy(object), record=None)


def _train(
    heads: Mapping[str, Head], inputs: _Inputs, corpus: pd.DataFrame, *, jobs: int
) -> Iterator[tuple[str, Head | ValueError, float]]:
    """Fit copies of the heads; gives name, fitted head (or why there is none) and seconds in order."""
    labels = corpus["label"].to_numpy(object)
    train, val = ((corpus["split"] == split).to_numpy() for split in ("train", "val"))
    data = (inputs.rows[train], labels[train], (inputs.rows[val], labels[val]) if val.any() else None)
    parallel = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    yield from parallel(delayed(_fit_head)(name, clone(head), *data) for name, head in heads.items())


def _fit_head(name: str, head: Head, X: Any, y: NDArray[Any], validation: Any) -> tuple[str, Head | ValueError, float]:
    begun = time.perf_counter()
    try:
        head.fit(X, y, validation=validation)
    except ValueError as error:  # a wrong option, or rows that this head cannot learn from: the others go on
        return name, error, time.perf_counter() - begun
    return name, head, time.perf_counter() - begun


def _store(run: Run, corpus: pd.DataFrame, inputs: _Inputs, *, name: str, head: Head, seconds: float) -> dict[str, Any]:
    """Write the head's folder; returns what `fit` says of it."""
    judged = corpus["split"].isin(JUDGED).to_numpy()
    probabilities = head.predict_proba(inputs.rows[judged])  # (n, K)
    predictions = _prediction_frame(corpus[judged], head.classes_.tolist(), probabilities)
    scores = _scores(corpus, predictions, head.classes_.tolist(), probabilities)
    facts = {
        "feature": inputs.feature,
        "takes": head.takes,
        "space": inputs.record["identity"] if inputs.record else None,
        "space_id": inputs.record["space"] if inputs.record else None,
        "encoder": inputs.record["encoder"] if inputs.record else None,
        "train_rows": int((corpus["split"] == "train").sum()),
        "seed": head.get_params().get("random_state"),
        "fit_seconds": round(seconds, 4),
        "versions": {k: version(k) for k in ("frozenhead", "torch", "scikit-learn", "numpy")},
    }
    with run.new_head(inputs.feature, name) as folder:
        lines = "".join(json.dumps(epoch) + "\n" for epoch in head.history_)
        write_file(folder / "history.jsonl", lines.encode())
        write_file(folder / "predictions.parquet", parquet_bytes(predictions))
        write_json(folder / "metrics.json", scores)
        save_head(head, folder, facts=facts)
    return {
        "feature": inputs.feature,
        "head": name,
        "fit_seconds": facts["fit_seconds"],
        "best_epoch": head.best_epoch_,
        "val": scores["val"],
    }


def _prediction_frame(rows: pd.DataFrame, classes: Sequence[str], probabilities: NDArray[np.float64]) -> pd.DataFrame:
    """row, split, label, predicted, and `prob_<label>` for each class."""
    frame = rows[["row", "split", "label"]].reset_index(drop=True)
    frame["predicted"] = np.array(classes, object)[probabilities.argmax(axis=1)]
    columns = pd.DataFrame(probabilities, columns=[f"prob_{label}" for label in classes])
    return pd.concat([frame, columns], axis=1)


def _scores(
    corpus: pd.DataFrame, predictions: pd.DataFrame, classes: Sequence[str], probabilities: NDArray[np.float64]
) -> dict[str, Any]:
    weights = balanced_weights(corpus.loc[corpus["split"] == "train", "label"], classes)
    of_split = {split: (predictions["split"] == split).to_numpy() for split in JUDGED}
    labels = predictions["label"].to_numpy(object)
    return {s: score_block(labels[rows], probabilities[rows], classes, weights) for s, rows in of_split.items()}
