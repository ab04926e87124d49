"""All heads on one feature set: searched where there is a choice, trained, kept, and judged further if asked to."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from frozenhead.commands.choices import Choice
from frozenhead.commands.curve import draw_curve, known_curve
from frozenhead.commands.folds import FoldJudge
from frozenhead.commands.keeping import SEARCH, Inputs, Keeper
from frozenhead.commands.search import Search, kept_notes
from frozenhead.commands.voice import Voice
from frozenhead.errors import DataError, UsageError
from frozenhead.files import write_json
from frozenhead.heads import DenseHead, Head
from frozenhead.heads.fitting import FittedHead, fit_many
from frozenhead.heads.stored import part

if TYPE_CHECKING:
    from frozenhead.commands.fit import FitOptions

LONGEST_UNASKED = 600.0
"""Seconds that a search may be estimated to take before `--yes` is asked for."""

CURVE_SEEDS = 3


class FeatureFit:
    """All heads on one feature set.

    Parameters
    ----------
    options : FitOptions
    keeper : Keeper
    inputs : Inputs
    judge : FoldJudge, optional
        Judges each head in folds as well.
    voice : Voice

    Attributes
    ----------
    failed : list of dict
        feature, head, error: heads that could not be trained, or not in folds.
    """

    def __init__(
        self, options: "FitOptions", keeper: Keeper, inputs: Inputs, judge: FoldJudge | None, voice: Voice
    ) -> None:
        self.options, self.keeper, self.inputs, self.judge, self.voice = options, keeper, inputs, judge, voice
        self.failed: list[dict[str, str]] = []
        self.searches: dict[str, Search] = {}
        self.tables: dict[str, dict[str, Any]] = {}

    def run(self, choices: Sequence[Choice]) -> list[dict[str, Any]]:
        """What is stored of each head, in order; all are stored before the first is judged further."""
        self.searches = {choice.name: self._search(choice) for choice in choices if choice.searched}
        self._announce()
        wanted: dict[str, Head] = {}
        for choice in choices:
            head = self._found(choice) if choice.searched else choice.candidates[0]
            if head is not None:
                wanted[choice.name] = head
        results = sorted(self._stored(wanted), key=lambda result: list(wanted).index(result["head"]))
        for result in results:
            self._judge_further(result, wanted[result["head"]])
        return results

    def _search(self, choice: Choice) -> Search:
        options = self.options
        return Search(choice, self.inputs, self.keeper, halving=options.halving, jobs=options.jobs, anew=options.refit)

    def _announce(self) -> None:
        """Say how long the searches will take. Raises `UsageError` if that is long and `--yes` was not given."""
        total, lines = 0.0, []
        for name, search in self.searches.items():
            count, todo = len(search.stamps), len(search.open_candidates())
            if todo:
                seconds = search.estimate()
                total += seconds
                earlier = f" ({count - todo:,} of them scored before)" if todo < count else ""
                where = f"{name} on {self.inputs.feature}"
                lines.append(f"{count:,} candidates of {where}{earlier}, about {duration(seconds)}")
        if total > LONGEST_UNASKED and not self.options.yes:
            way = "or" if self.options.halving else "--halving to drop the worse half early, or"
            raise UsageError("\n".join([*lines, f"Add --yes to begin, {way} try fewer values."]))
        for line in lines:
            self.voice.say(line)

    def _found(self, choice: Choice) -> Head | None:
        """The best candidate."""
        where = f"search {choice.name} on {self.inputs.feature}"
        with self.voice.bar(where, unit=_unit(choice.candidates)) as progress:
            found = self.searches[choice.name].run(progress)
        if isinstance(found, str):
            self._fail(choice.name, found)
            return None
        self.tables[choice.name] = found.table
        return found.head

    def _stored(self, heads: Mapping[str, Head]) -> Iterator[dict[str, Any]]:
        """Train and keep what is not stored just so already. The winner of a search is trained here once more."""
        todo: list[str] = []
        for name, head in heads.items():
            known = None if self.options.refit else self.keeper.known(head, self.inputs, name)
            if known is None:
                todo.append(name)
            else:
                yield self._with_search(known)
        for dense in (True, False):  # each by a bar of its own, since epochs and heads do not add up
            names = [name for name in todo if (type(heads[name]) is DenseHead) == dense]
            if names:
                yield from self._train({name: heads[name] for name in names})

    def _train(self, heads: Mapping[str, Head]) -> Iterator[dict[str, Any]]:
        names = list(heads)
        train, val = self.keeper.split["train"], self.keeper.split["val"]
        rows, labels = self.inputs.rows, self.keeper.labels
        with self.voice.bar(f"fit {self.inputs.feature}", unit=_unit(list(heads.values()))) as progress:
            fitted = fit_many(
                list(heads.values()), part(rows, train), labels[train],
                validation=(part(rows, val), labels[val]) if val.any() else None,
                views=self.inputs.views, jobs=self.options.jobs, progress=progress,
            )  # fmt: skip
            with closing(fitted):
                for one in fitted:
                    kept = self._kept(names[one.index], one)
                    if kept is not None:
                        yield kept

    def _kept(self, name: str, one: FittedHead) -> dict[str, Any] | None:
        try:
            if one.head is None:
                raise DataError(str(one.error))
            self._spare(name)
            kept = self.keeper.keep(one.head, self.inputs, name=name, seconds=one.seconds, search=self.tables.get(name))
        except ValueError as error:  # also that no threshold keeps to the rule, or what it predicts is not finite
            self._fail(name, str(error))
            return None
        return self._with_search(kept)

    def _spare(self, name: str) -> None:
        """Before a head takes the place of one that a search found: say so, and keep what the search tried."""
        stored = self.keeper.folder(self.inputs.feature, name)
        if name in self.tables or not (stored / SEARCH).exists():
            return
        kept_notes(stored, name).write_bytes((stored / SEARCH).read_bytes())
        self.voice.say(
            f"{name} on {self.inputs.feature} takes the place of one that a search found; "
            "the search's command brings it back without training its candidates again"
        )

    def _with_search(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result, with the search that found it written beside a head that was known."""
        name = result["head"]
        if name in self.tables:
            result["search"] = self.tables[name]
            if result["known"]:
                write_json(self.keeper.folder(self.inputs.feature, name) / SEARCH, self.tables[name])
            self.searches[name].settled()
        return result

    def _judge_further(self, result: dict[str, Any], head: Head) -> None:
        """Folds and the curve of a stored head, unless they stand beside it already."""
        name, options = result["head"], self.options
        where = f"{name} on {self.inputs.feature}"
        if self.judge is not None:
            result["folds"] = self.judge.known(self.inputs, name)
            if result["folds"] is None:
                with self.voice.bar(f"folds of {where}", unit=_unit([head])) as progress:
                    try:
                        result["folds"] = self.judge.judge(
                            head, self.inputs, name=name, jobs=options.jobs, progress=progress
                        )
                    except ValueError as error:
                        self._fail(name, f"in folds: {error}")
        if options.curve:
            seeds = options.seeds or CURVE_SEEDS
            result["curve"] = known_curve(self.inputs, self.keeper, name=name, seeds=seeds, seed=options.seed)
            if result["curve"] is None:
                with self.voice.bar(f"curve of {where}", unit=_unit([head])) as progress:
                    result["curve"] = draw_curve(
                        head, self.inputs, self.keeper, name=name, seeds=seeds, seed=options.seed, jobs=options.jobs,
                        progress=progress,
                    )  # fmt: skip

    def _fail(self, name: str, error: str) -> None:
        self.failed.append({"feature": self.inputs.feature, "head": name, "error": error})


def _unit(heads: Sequence[Head]) -> str:
    """What the bar of these heads, all dense or none, counts."""
    return "epochs" if type(heads[0]) is DenseHead else "heads"


def duration(seconds: float) -> str:
    """`8 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
