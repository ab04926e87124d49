"""`fit`: train heads on the vectors that a run has pinned, and keep what they predict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from frozenhead.commands.choices import Choice, choose_heads, known_heads
from frozenhead.commands.curve import draw_curve
from frozenhead.commands.folds import FoldJudge
from frozenhead.commands.keeping import Decision, Inputs, Keeper
from frozenhead.commands.search import Found, Search, keep_search
from frozenhead.commands.thresholds import threshold_rule
from frozenhead.commands.vectors import run_vectors, run_views
from frozenhead.commands.voice import Silence, Voice
from frozenhead.errors import DataError, RunNotFound, UsageError
from frozenhead.heads import DenseHead, Head, SoftmaxHead
from frozenhead.heads.fitting import estimate_seconds, fit_many
from frozenhead.heads.registry import nearest
from frozenhead.runs import TEXT_FEATURE, Run

LONGEST_UNASKED = 600.0
"""Seconds that a search may be estimated to take before `--yes` is asked for."""

CURVE_SEEDS = 3


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
        Candidates of each setting; default 1, and 3 for the points of a curve.
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
    cache_dir : Path, optional
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
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        known_heads(self.heads)
        for name, value in (("jobs", self.jobs), ("seeds", self.seeds or 1)):
            if value < 1:
                raise UsageError(f"--{name} is {value}; it must be at least 1.")
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; it must not be negative.")
        if self.folds and self.folds < 2:
            raise UsageError(f"--folds is {self.folds}; it must be at least 2.")
        if self.calibrate not in ("temperature", "none"):
            raise UsageError(f"--calibrate is {self.calibrate!r}; choose temperature or none.")
        if self.views and (self.folds or self.curve):
            raise UsageError("--views trains on the training split's own views; leave out --folds and --curve.")
        for flag, asked in (("--views", self.views), ("--halving", self.halving)):
            if asked and (others := [name for name in known_heads(self.heads) if name != "dense"]):
                raise UsageError(f"{flag} is for the dense head, which has epochs; {others[0]} has none of its own.")
        if self.positive is not None and self.threshold is None:
            raise UsageError("--positive says which class a threshold is for; give --threshold as well.")

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
    corpus = run.corpus()
    if not run.info["classes"]:
        raise DataError(f"{run.folder} holds unlabelled texts. Embed labelled ones: frozenhead embed DATA --label COL")
    choices = options.choices()
    features = _chosen_features(run, options)
    keeper = Keeper(run, corpus, options.decision())
    _check_splits(keeper, choices, options)
    results: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for inputs in _all_inputs(run, features, corpus, choices, options):
        own = [choice for choice in choices if (choice.takes == "texts") == (inputs.record is None)]
        fitting = _Fitting(options, keeper, inputs, voice)
        for name, outcome in fitting.run(own):
            if isinstance(outcome, str):
                failed.append({"feature": inputs.feature, "head": name, "error": outcome})
            else:
                results.append(outcome)
    if not results:
        raise UsageError("\n".join(f"{f['head']} on {f['feature']}: {f['error']}" for f in failed[:3]))
    return {"run": str(options.run), "heads": results, "failed": failed}


class _Fitting:
    """All heads on one feature set."""

    def __init__(self, options: FitOptions, keeper: Keeper, inputs: Inputs, voice: Voice) -> None:
        self.options, self.keeper, self.inputs, self.voice = options, keeper, inputs, voice
        train, val = keeper.split["train"], keeper.split["val"]
        self.rows, self.labels = inputs.rows[train], keeper.labels[train]
        self.validation = (inputs.rows[val], keeper.labels[val]) if val.any() else None

    def run(self, choices: Sequence[Choice]) -> Iterator[tuple[str, dict[str, Any] | str]]:
        """What became of each head by name: what is stored of it, or why it could not be trained."""
        wanted: dict[str, Head] = {}
        tables: dict[str, dict[str, Any]] = {}
        for choice in choices:
            if not choice.searched:
                wanted[choice.name] = choice.candidates[0]
                continue
            found = self._search(choice)
            if isinstance(found, str):
                yield choice.name, found
                continue
            wanted[choice.name], tables[choice.name] = found.head, found.table
        for name, outcome in self._train(wanted):
            if isinstance(outcome, str):
                yield name, outcome
                continue
            if name in tables:
                outcome["search"] = tables[name]
                keep_search(self.keeper.run, self.inputs.feature, name, tables[name])
            yield name, outcome | self._judge_further(name, wanted[name])

    def _train(self, heads: Mapping[str, Head]) -> Iterator[tuple[str, dict[str, Any] | str]]:
        """Train and keep what is not stored just so already. The winner of a search is trained here once more."""
        todo: list[str] = []
        for name, head in heads.items():
            known = None if self.options.refit else self.keeper.known(head, self.inputs, name)
            if known is None:
                todo.append(name)
            else:
                yield name, known
        if not todo:
            return
        with self.voice.bar(f"fit {self.inputs.feature}", unit="steps") as progress:
            fitted = fit_many(
                [heads[name] for name in todo], self.rows, self.labels, validation=self.validation,
                views=self.inputs.views, jobs=self.options.jobs, progress=progress,
            )  # fmt: skip
            for one in fitted:
                name = todo[one.index]
                kept = (
                    str(one.error)
                    if one.head is None
                    else self.keeper.keep(one.head, self.inputs, name=name, seconds=one.seconds)
                )
                yield name, kept

    def _search(self, choice: Choice) -> Found | str:
        """The best candidate, or why there is none."""
        search = Search(choice, self.inputs, self.keeper, halving=self.options.halving, jobs=self.options.jobs)
        todo = [choice.candidates[i] for i in search.open_candidates()]
        if todo:
            self._announce(choice.name, len(choice.candidates), todo)
        with self.voice.bar(f"search {choice.name} on {self.inputs.feature}", unit="steps") as progress:
            return search.run(progress)

    def _announce(self, name: str, candidates: int, todo: Sequence[Head]) -> None:
        """Say how long a search will take. Raises `UsageError` if that is long and `--yes` was not given."""
        seconds = estimate_seconds(todo, self.rows, self.labels, validation=self.validation, jobs=self.options.jobs)
        earlier = f" ({candidates - len(todo):,} of them scored before)" if len(todo) < candidates else ""
        what = f"{candidates:,} candidates of {name}{earlier}, about {_duration(seconds)}"
        if seconds > LONGEST_UNASKED and not self.options.yes:
            raise UsageError(
                f"{what}. Add --yes to begin it, --halving to drop the worse half early, or try fewer values."
            )
        self.voice.say(what)

    def _judge_further(self, name: str, head: Head) -> dict[str, Any]:
        """Folds and the curve of a stored head."""
        further: dict[str, Any] = {}
        where = f"{name} on {self.inputs.feature}"
        if self.options.folds:
            judge = FoldJudge(self.keeper, self.options.folds, self.options.seed)
            with self.voice.bar(f"folds of {where}", unit="folds") as progress:
                further["folds"] = judge.judge(head, self.inputs, name=name, progress=progress)
        if self.options.curve:
            with self.voice.bar(f"curve of {where}", unit="steps") as progress:
                further["curve"] = draw_curve(
                    head, self.inputs, self.keeper, name=name, seeds=self.options.seeds or CURVE_SEEDS,
                    seed=self.options.seed, jobs=self.options.jobs, progress=progress,
                )  # fmt: skip
        return further


def _duration(seconds: float) -> str:
    """`8 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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


def _all_inputs(
    run: Run,
    features: Mapping[str, dict[str, Any]],
    corpus: pd.DataFrame,
    choices: Sequence[Choice],
    options: FitOptions,
) -> Iterator[Inputs]:
    """One feature set after the other, so that only one is in memory."""
    if any(choice.takes == "vectors" for choice in choices):
        if any(isinstance(choice.candidates[0], DenseHead | SoftmaxHead) for choice in choices):
            import_module("torch")  # now, so that the first head's seconds are its own
        for name, record in features.items():
            vectors = run_vectors(run, record, corpus, name=name, cache_dir=options.cache_dir)
            views = run_views(run, record, corpus, name=name, cache_dir=options.cache_dir) if options.views else ()
            yield Inputs(feature=name, rows=vectors, record=record, views=views)
    if any(choice.takes == "texts" for choice in choices):
        yield Inputs(feature=TEXT_FEATURE, rows=corpus["text"].to_numpy(object), record=None)
