"""Choosing among the candidates of one head: train all, score all on validation, train the best once more.

The test split has no say. What each candidate scored is kept as soon as it is known, so a search that was stopped goes
on where it stopped, and a wider one trains only what is new. Weights of losers are not kept: any of them is trained
again by its options and seed.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.commands.choices import Choice
from frozenhead.commands.keeping import SEARCH, Inputs, Keeper
from frozenhead.commands.memory import machine_memory
from frozenhead.commands.voice import Advance
from frozenhead.errors import FrozenheadError, UsageError
from frozenhead.files import make_folder, write_json
from frozenhead.heads import Head
from frozenhead.heads.fitting import FittedHead, estimate_seconds, fit_many, halving_bytes
from frozenhead.heads.stored import part
from frozenhead.report.metrics import ranking_scores
from frozenhead.runs import read_json

FORMAT = 1
SCORES = ("macro_f1", "accuracy", "log_loss")
SAVE_SECONDS = 2.0

Record = dict[str, Any]
"""What became of one candidate: `val`, `best_epoch`, `seconds`, `dropped_after`, `error`; by its `stamp`."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best candidate, unfitted, and what was tried: the content of `search.json`."""

    head: Head
    table: dict[str, Any]


class Search:
    """A search for one head on one feature set.

    Parameters
    ----------
    choice : Choice
    inputs : Inputs
    keeper : Keeper
    halving : bool
        Drop the worse half after 1, 2, 4, ... epochs. Such a search starts anew when it was stopped.
    jobs : int
    anew : bool
        Take nothing from earlier searches.
    """

    def __init__(
        self, choice: Choice, inputs: Inputs, keeper: Keeper, *, halving: bool, jobs: int, anew: bool = False
    ) -> None:
        self.choice, self.inputs, self.keeper, self.halving, self.jobs = choice, inputs, keeper, halving, jobs
        self.stamps = [keeper.stamp(head, inputs) for head in choice.candidates]
        place = keeper.folder(inputs.feature, choice.name)
        self.notes = kept_notes(place, choice.name)
        self.records: dict[str, Record] = {} if anew else self._earlier(place / SEARCH) | self._earlier(self.notes)
        if halving and not self.records.keys() >= set(self.stamps):
            self.records = {}  # what is dropped when depends on all the others

    def open_candidates(self) -> list[int]:
        """Numbers of the candidates that no earlier search has scored."""
        return [i for i, stamp in enumerate(self.stamps) if stamp not in self.records]

    def estimate(self) -> float:
        """About the seconds that `run` will take."""
        heads = [self.choice.candidates[i] for i in self.open_candidates()]
        rows, labels = self._part("train")
        if self.halving and (needed := halving_bytes(heads, rows, labels)) > machine_memory() / 2:
            raise UsageError(
                f"--halving keeps all {len(heads):,} candidates in memory until it drops the worse half: about "
                f"{needed / 2**30:,.1f} GiB, more than half of this machine's. Leave it out, or try fewer values."
            )
        return estimate_seconds(heads, rows, labels, validation=self._part("val"), halving=self.halving, jobs=self.jobs)

    def run(self, progress: Advance) -> Found | str:
        """Train what is open and choose; if no candidate could be trained, why."""
        if todo := self.open_candidates():
            self._train(todo, progress)
        return self._choose()

    def _train(self, todo: Sequence[int], progress: Advance) -> None:
        (rows, labels), val = self._part("train"), self._part("val")
        fitted = fit_many(
            [self.choice.candidates[i] for i in todo], rows, labels, validation=val, views=self.inputs.views,
            halving=self.halving, jobs=self.jobs, progress=progress,
        )  # fmt: skip
        saved = time.monotonic()
        try:
            with closing(fitted):
                for one in fitted:
                    self.records[self.stamps[todo[one.index]]] = self._record(one, val[0])
                    if time.monotonic() - saved > SAVE_SECONDS:
                        self._save()
                        saved = time.monotonic()
        finally:  # a stop keeps what was finished
            self._save()

    def settled(self) -> None:
        """Forget the notes taken on the way: what was tried stands beside the head."""
        self.notes.unlink(missing_ok=True)

    def _part(self, split: str) -> tuple[Any, NDArray[Any]]:
        mask = self.keeper.split[split]
        return part(self.inputs.rows, mask), self.keeper.labels[mask]

    def _save(self) -> None:
        if not self.halving:
            make_folder(self.notes.parent)
            rows = [{"stamp": stamp, **record} for stamp, record in self.records.items()]
            write_json(self.notes, {"format": FORMAT, "halving": False, "heads": rows})

    def _record(self, one: FittedHead, rows: Any) -> Record:
        return {
            **validation_scores(one, rows, self.keeper),
            "best_epoch": one.head.best_epoch_ if one.head else None,
            "seconds": round(one.seconds, 4),
            "dropped_after": one.dropped_after,
        }

    def _choose(self) -> Found | str:
        rows: list[dict[str, Any]] = []
        for number, setting in enumerate(self.choice.settings):
            for head in setting.heads:
                stamp, seed = self.stamps[len(rows)], head.get_params().get("random_state")
                facts = {"stamp": stamp, "setting": number, "options": dict(setting.options), "seed": seed}
                rows.append(facts | self.records[stamp])
        best = choose(rows, by_setting=not self.halving)
        if best is None:
            return f"none of {len(rows):,} candidates could be trained: {rows[0]['error']}"
        table = {"format": FORMAT, "halving": self.halving, "best": best, "heads": rows}
        return Found(head=self.choice.candidates[best], table=table)

    def _earlier(self, path: Path) -> dict[str, Record]:
        """What an earlier search scored, by stamp; nothing where there is none or it cannot be read."""
        if not path.exists():
            return {}
        try:
            content = read_json(path, "frozenhead fit")
            if content["format"] != FORMAT or content["halving"] != self.halving:
                return {}
            return {row["stamp"]: _checked_record(row) for row in content["heads"]}
        except (FrozenheadError, LookupError, TypeError, ValueError):
            return {}


def kept_notes(place: Path, name: str) -> Path:
    """The file, beside the folder of a head, of what searches for it scored."""
    return place.with_name(f".search-{name}.json")


def validation_scores(one: FittedHead, rows: Any, keeper: Keeper) -> dict[str, Any]:
    """`val`, the scores of a head before calibration on the validation rows, or the `error` that kept it from any."""
    if one.head is None:
        return {"val": None, "error": one.error}
    try:
        labels, probabilities = keeper.labels[keeper.split["val"]], one.head.predict_proba(rows)
        scores = ranking_scores(labels, probabilities, one.head.classes_.tolist())
    except ValueError as error:  # trained to numbers that are not finite on these rows
        return {"val": None, "error": str(error)}
    return {"val": scores, "error": None}


def choose(rows: Sequence[Mapping[str, Any]], *, by_setting: bool) -> int | None:
    """Number of the best row: of the setting whose seeds are best on average, its best seed; the first of equals.

    A setting counts only if each of its seeds came to the end: one that fails for some seeds is no good choice. Only
    where all fail for some seed does each candidate count by itself.
    """
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row["setting"] if by_setting else i, []).append(i)
    whole = [group for group in groups.values() if all(_finished(rows[i]) for i in group)]
    if not whole:
        whole = [[i] for i, row in enumerate(rows) if _finished(row)]
    if not whole:
        return None
    group = min(whole, key=lambda group: _rank([rows[i] for i in group]))
    return min(group, key=lambda i: _rank([rows[i]]))


def _finished(row: Mapping[str, Any]) -> bool:
    return row["val"] is not None and row["dropped_after"] is None


def _rank(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Best first: mean macro F1 on validation, then lower mean log loss."""
    mean = {name: float(np.mean([row["val"][name] for row in rows])) for name in SCORES}
    return -mean["macro_f1"], mean["log_loss"]


def _checked_record(row: Mapping[str, Any]) -> Record:
    """A record as it was written. Raises `LookupError`, `TypeError` or `ValueError` if it is none."""
    val = None if row["val"] is None else {name: float(row["val"][name]) for name in SCORES}
    names = ("best_epoch", "seconds", "dropped_after", "error")
    if val is None and not isinstance(row["error"], str):
        raise ValueError("neither scores nor an error")
    return {"val": val, **{name: row[name] for name in names}}
