"""Choosing among the candidates of one head: train all, score all on validation, train the best once more.

The test split has no say. What each candidate scored is kept as soon as it is known, so a search that was stopped goes
on where it stopped, and a wider one trains only what is new. Weights of losers are not kept: any of them is trained
again, to the bit, by its options and seed.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frozenhead.commands.choices import Choice
from frozenhead.commands.keeping import Inputs, Keeper
from frozenhead.commands.voice import Advance
from frozenhead.errors import FrozenheadError
from frozenhead.files import make_folder, write_json
from frozenhead.heads import Head
from frozenhead.heads.fitting import FittedHead, fit_many
from frozenhead.report.metrics import score_block
from frozenhead.runs import Run, read_json

FORMAT = 1
SEARCH = "search.json"
SCORES = ("macro_f1", "accuracy", "log_loss")
SAVE_SECONDS = 2.0


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
    """

    def __init__(self, choice: Choice, inputs: Inputs, keeper: Keeper, *, halving: bool, jobs: int) -> None:
        self.choice, self.inputs, self.keeper, self.halving, self.jobs = choice, inputs, keeper, halving, jobs
        self.stamps = [keeper.stamp(head, inputs) for head in choice.candidates]
        folder = keeper.run.folder / "heads" / inputs.feature
        self.place = _notes(keeper.run, inputs.feature, choice.name)
        self.records = {} if halving else _earlier(folder / choice.name / SEARCH) | _earlier(self.place)

    def open_candidates(self) -> list[int]:
        """Numbers of the candidates that no earlier search has scored."""
        return [i for i, stamp in enumerate(self.stamps) if stamp not in self.records]

    def run(self, progress: Advance) -> Found | str:
        """Train what is open and choose; if no candidate could be trained, why."""
        train, val = (self.keeper.split[name] for name in ("train", "val"))
        rows, labels = self.inputs.rows, self.keeper.labels
        todo, saved = self.open_candidates(), time.monotonic()
        heads = [self.choice.candidates[i] for i in todo]
        fitted = fit_many(
            heads, rows[train], labels[train], validation=(rows[val], labels[val]), views=self.inputs.views,
            halving=self.halving, jobs=self.jobs, progress=progress,
        )  # fmt: skip
        try:
            for one in fitted:
                self.records[self.stamps[todo[one.index]]] = self._record(one)
                if not self.halving and time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        finally:  # a stop keeps what was finished
            if not self.halving and todo:
                self._save()
        return self._choose()

    def _save(self) -> None:
        make_folder(self.place.parent)
        write_json(self.place, {"format": FORMAT, "heads": list(self.records.values())})

    def _record(self, one: FittedHead) -> dict[str, Any]:
        val = None
        if one.head is not None:
            keeper, rows = self.keeper, self.keeper.split["val"]
            classes = one.head.classes_.tolist()
            probabilities = one.head.predict_proba(self.inputs.rows[rows])
            block = score_block(keeper.labels[rows], probabilities, classes, keeper.weights) or {}
            val = {name: block[name] for name in SCORES}
        return {
            "val": val,
            "best_epoch": one.head.best_epoch_ if one.head else None,
            "seconds": round(one.seconds, 4),
            "dropped_after": one.dropped_after,
            "error": one.error,
        }

    def _choose(self) -> Found | str:
        rows: list[dict[str, Any]] = []
        for number, setting in enumerate(self.choice.settings):
            for head in setting.heads:
                stamp = self.stamps[len(rows)]
                seed = head.get_params().get("random_state")
                facts = {"stamp": stamp, "setting": number, "options": dict(setting.options), "seed": seed}
                rows.append(facts | {k: v for k, v in self.records[stamp].items() if k not in facts})
        best = _best(rows, by_setting=not self.halving)
        if best is None:
            return str(next(row["error"] for row in rows if row["error"]))
        table = {"format": FORMAT, "halving": self.halving, "best": best, "heads": rows}
        return Found(head=self.choice.candidates[best], table=table)


def keep_search(run: Run, feature: str, name: str, table: dict[str, Any]) -> None:
    """Write what was tried beside the head that was found; the notes taken on the way are not needed any more."""
    write_json(run.folder / "heads" / feature / name / SEARCH, table)
    _notes(run, feature, name).unlink(missing_ok=True)


def _notes(run: Run, feature: str, name: str) -> Path:
    return run.folder / "heads" / feature / f".search-{name}.json"


def _best(rows: Sequence[Mapping[str, Any]], *, by_setting: bool) -> int | None:
    """Number of the best row: of the setting whose seeds are best on average, its best seed; the first of equals.

    A setting counts only if each of its seeds came to the end: one that fails for some seeds is no good choice.
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


def _earlier(path: Path) -> dict[str, dict[str, Any]]:
    """What an earlier search scored, by stamp; nothing where there is none or it cannot be read."""
    if not path.exists():
        return {}
    try:
        content = read_json(path, "frozenhead fit")
        rows = content["heads"] if content["format"] == FORMAT and not content.get("halving") else []
        return {row["stamp"]: row for row in rows}
    except (FrozenheadError, KeyError, TypeError):
        return {}
