"""`fit`: train heads on the vectors that a run has pinned, and keep what they predict."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from frozenhead.commands.choices import Choice, choose_heads, known_heads
from frozenhead.commands.fitting import FeatureFit
from frozenhead.commands.folds import FoldJudge
from frozenhead.commands.gathering import FeatureRows
from frozenhead.commands.keeping import Decision, Inputs, Keeper
from frozenhead.commands.room import texts_without_room, without_room
from frozenhead.commands.tables import corpus_rows, corpus_texts
from frozenhead.commands.thresholds import check_classes, threshold_rule
from frozenhead.commands.voice import Silence, Voice
from frozenhead.errors import DataError, RunNotFound, UsageError
from frozenhead.heads import DenseHead, MajorityHead
from frozenhead.heads.registry import nearest
from frozenhead.heads.weighting import class_weights
from frozenhead.runs import TEXT_FEATURE, Run


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
    grids : tuple of str
        Values to choose from, as `lr=1e-4,1e-3`; all combinations are tried.
    seed : int
    seeds : int, optional
        Candidates of each setting, default 1; with `curve` heads of each of its points instead, default 3.
    halving : bool
        Drop the worse half of the candidates after 1, 2, 4, ... epochs.
    folds : int
        Judge every row by heads that never saw it, in so many folds; 0 does not.
    curve : bool
        Draw the label-efficiency curve.
    calibrate : {"temperature", "none"}
    threshold : str, optional
        `f1`, `precision:0.95`, `recall:0.9` or `costs:1:10`.
    positive : str, optional
        The class that the threshold is for; default the second.
    views : bool
        Train on the run's dropout views, another one each epoch.
    jobs : int
        Heads trained at the same time. More than one makes each head's seconds less telling.
    refit : bool
        Train heads again that are stored just so.
    yes : bool
        Begin a search however long it is estimated to take.
    cache_dir : path or URL, optional
        Where the cache is now, if it moved since `embed`.
    """

    run: Path
    heads: tuple[str, ...] = ("dense",)
    features: tuple[str, ...] = ("all",)
    class_weight: str = "balanced"
    sets: tuple[str, ...] = field(default=())
    grids: tuple[str, ...] = field(default=())
    seed: int = 2018
    seeds: int | None = None
    halving: bool = False
    folds: int = 0
    curve: bool = False
    calibrate: str = "temperature"
    threshold: str | None = None
    positive: str | None = None
    views: bool = False
    jobs: int = 1
    refit: bool = False
    yes: bool = False
    cache_dir: str | Path | None = None

    def __post_init__(self) -> None:
        known_heads(self.heads)
        for name, value in (("jobs", self.jobs), ("seeds", self.seeds)):
            if value is not None and value < 1:
                raise UsageError(f"--{name} is {value}; it must be at least 1.")
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; it must not be negative.")
        least = 2 if self.threshold is None else 3  # of two folds none is left to choose a threshold on
        if self.folds and self.folds < least:
            why = "" if least == 2 else ", since one more fold chooses the threshold"
            raise UsageError(f"--folds is {self.folds}; it must be at least {least}{why}.")
        if self.calibrate not in ("temperature", "none"):
            raise UsageError(f"--calibrate is {self.calibrate!r}; choose temperature or none.")
        if self.views and (self.folds or self.curve):
            raise UsageError("--views trains on the training split's own views; leave out --folds and --curve.")
        for flag, asked in (("--views", self.views), ("--halving", self.halving)):
            if asked and (others := [name for name in known_heads(self.heads) if name != "dense"]):
                raise UsageError(f"{flag} is for the dense head alone; leave out {', '.join(others)}.")
        if self.halving and not self.grids and (self.seeds or 1) == 1:
            raise UsageError("--halving drops the worse half of several candidates; give --grid or --seeds as well.")
        if self.positive is not None and self.threshold is None:
            raise UsageError("--positive says which class a threshold is for; give --threshold as well.")
        self.decision()

    def decision(self) -> Decision:
        """What is fitted on validation after training."""
        rule = None if self.threshold is None else threshold_rule(self.threshold, self.positive)
        return Decision(temperature=self.calibrate == "temperature", threshold=rule)

    def choices(self) -> list[Choice]:
        """The heads asked for, unfitted, with all their candidates."""
        return choose_heads(
            known_heads(self.heads), sets=self.sets, grids=self.grids, seeds=1 if self.curve else self.seeds or 1,
            class_weight=self.class_weight, seed=self.seed,
        )  # fmt: skip


def fit(options: FitOptions, voice: Voice | None = None) -> dict[str, Any]:
    """Train heads; each replaces the head of its name in the run, unless that one is the same already.

    Returns
    -------
    dict
        run; `heads`, each as `Keeper.keep` tells of it, with its `search`, `folds` and `curve` if there were any; and
        `failed`, the heads that could not be trained on these rows, with the reason.

    Raises
    ------
    RunNotFound, RunDamaged, CacheDamaged, DataError, UsageError
    """
    voice = voice or Silence()
    run = Run.open(options.run)
    corpus = corpus_rows(run)
    if not run.info["classes"]:
        raise DataError(f"{run.folder} holds unlabelled texts. Embed labelled ones: frozenhead embed DATA --label COL")
    choices = options.choices()
    features = {
        name: FeatureRows(run, record, name=name, rows=len(corpus), cache_dir=options.cache_dir, voice=voice)
        for name, record in _chosen_features(run, options).items()
    }
    keeper = Keeper(run, corpus, options.decision())
    _check_classes(run.info["classes"], choices, options)
    _check_splits(keeper, choices, options)
    left_out = _without_room(keeper, features, choices, options)
    judge = FoldJudge(keeper, options.folds, options.seed) if options.folds else None
    results: list[dict[str, Any]] = []
    failed = [{"feature": feature, "head": head, "error": error} for (feature, head), error in left_out.items()]
    for inputs, own in _all_inputs(keeper, features, choices, options, left_out.keys()):
        fitting = FeatureFit(options, keeper, inputs, judge, voice)
        results += fitting.run(own)
        failed += fitting.failed
    if not results:
        raise DataError("\n".join(f"{f['head']} on {f['feature']}: {f['error']}" for f in failed[:3]))
    return {"run": str(options.run), "heads": results, "failed": failed}


def _check_classes(classes: Sequence[str], choices: Sequence[Choice], options: FitOptions) -> None:
    """Raise `UsageError` for weights or a threshold that these classes cannot have."""
    if options.threshold is not None:
        check_classes(options.positive, classes)
    params = [choice.candidates[0].get_params() for choice in choices]
    try:
        for weight in [given["class_weight"] for given in params if "class_weight" in given][:1]:
            class_weights(weight, np.array(classes, object), np.arange(len(classes)))
    except ValueError as error:
        raise UsageError(f"--class-weight {options.class_weight}: {error}") from error


def _check_splits(keeper: Keeper, choices: Sequence[Choice], options: FitOptions) -> None:
    """Raise for what needs validation rows where there are none."""
    if keeper.split["val"].any():
        return
    wanted = {
        "a search": any(choice.searched for choice in choices),
        "--curve": options.curve,
        "--threshold": options.threshold is not None,
    }
    for what, asked in wanted.items():
        if asked:
            raise DataError(
                f"{what} chooses by validation rows, and this run has none. "
                "Embed with --split, --val or --split-column."
            )


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


def _without_room(
    keeper: Keeper, features: Mapping[str, FeatureRows], choices: Sequence[Choice], options: FitOptions
) -> dict[tuple[str, str], str]:
    """Feature set and head of what does not fit memory, with the reason. Raises `UsageError` if it was named."""
    train, classes = int(keeper.split["train"].sum()), len(keeper.run.info["classes"])
    reasons = {TEXT_FEATURE: texts_without_room(choices, keeper.run)}
    reasons |= {name: without_room(choices, rows, train=train, classes=classes) for name, rows in features.items()}
    found = {(feature, head): why for feature, heads in reasons.items() for head, why in heads.items()}
    if found and "all" not in options.heads:
        (feature, _), why = next(iter(found.items()))
        raise UsageError(f"{feature}: {why}")
    return found


def _all_inputs(
    keeper: Keeper,
    features: Mapping[str, FeatureRows],
    choices: Sequence[Choice],
    options: FitOptions,
    left_out: Container[tuple[str, str]],
) -> Iterator[tuple[Inputs, list[Choice]]]:
    """One feature set after the other, so that only one is in memory, with the heads to train on it."""
    if any(isinstance(choice.candidates[0], DenseHead) for choice in choices):
        import_module("torch")  # now, so that the first head's seconds are its own
    for name, rows in features.items():
        own = [one for one in choices if one.takes == "vectors" and (name, one.name) not in left_out]
        if own:
            vectors, views = rows.vectors(), rows.views(keeper.split["train"]) if options.views else []
            yield Inputs(feature=name, rows=vectors, record=rows.record, views=views), own
    own = [one for one in choices if one.takes == "texts" and (TEXT_FEATURE, one.name) not in left_out]
    if own:
        reads = any(not isinstance(one.candidates[0], MajorityHead) for one in own)
        texts = corpus_texts(keeper.run) if reads else np.arange(len(keeper.labels))  # majority looks at none
        yield Inputs(feature=TEXT_FEATURE, rows=texts, record=None), own
