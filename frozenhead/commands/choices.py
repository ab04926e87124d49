"""Which heads `fit` is to train: names, options, class weights, grids and seeds, as unfitted heads.

--grid lr=1e-4,1e-3 --grid hidden=256,512x128 --seeds 2    2 x 2 settings, 2 seeds each: 8 candidates
"""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenhead.errors import DataError, UsageError
from frozenhead.heads import HEADS, DenseHead, Head, head_options, make_head
from frozenhead.heads.registry import nearest

MOST_CANDIDATES = 20_000
"""Of one head; 20,000 of the quickest take half an hour and their table is 6 MB."""
LAYERS = "x"  # between the sizes of a list of layers; a comma is between the values of a grid


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One choice of a head's options, and the unfitted heads that have it, one for each seed."""

    options: Mapping[str, Any]
    heads: tuple[Head, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """All settings of one head that are to be compared; only one where nothing is searched."""

    name: str
    settings: tuple[Setting, ...]

    @property
    def takes(self) -> str:
        """`vectors` or `texts`."""
        return self.settings[0].heads[0].takes

    @property
    def candidates(self) -> tuple[Head, ...]:
        """Every head of every setting, seeds of one setting beside each other."""
        return tuple(head for setting in self.settings for head in setting.heads)

    @property
    def searched(self) -> bool:
        """Whether there is anything to choose from."""
        return len(self.candidates) > 1


def choose_heads(
    names: Sequence[str], *, sets: Sequence[str], grids: Sequence[str], seeds: int, class_weight: str, seed: int
) -> list[Choice]:
    """The heads asked for.

    Parameters
    ----------
    names : sequence of str
        Of `HEADS`.
    sets : sequence of str
        `NAME=VALUE` or `HEAD.NAME=VALUE`.
    grids : sequence of str
        `NAME=VALUE,VALUE,...` or `HEAD.NAME=VALUE,...`: all combinations are candidates.
    seeds : int
        Candidates of each setting, with the seeds `seed`, `seed` + 1, ...; heads without chance have one.
    class_weight : str
        `balanced`, `none`, or the path of a JSON file {label: weight}.
    seed : int

    Raises
    ------
    UsageError
        An option that no head takes, or a value it cannot have; the nearest right name is offered.
    DataError
        The file of class weights does not hold weights.
    """
    fixed = _by_head("--set", sets, names, _value)
    searched = _by_head("--grid", grids, names, _values)
    if doubled := [(n, o) for n in names for o in fixed[n].keys() & searched[n].keys()]:
        name, option = doubled[0]
        raise UsageError(f"{name}.{option} is given by --set and by --grid. Leave one of them out.")
    for name in names:
        if (count := seeds * math.prod(map(len, searched[name].values()))) > MOST_CANDIDATES:
            raise UsageError(
                f"These grids and seeds make {count:,} candidates of {name}, expected at most {MOST_CANDIDATES:,}. "
                "Try fewer values, or search coarsely first and then around the best."
            )
    weight = read_class_weight(class_weight)
    return [
        Choice(
            name=name,
            settings=tuple(
                _setting(
                    name,
                    fixed[name],
                    dict(zip(searched[name], values, strict=True)),
                    weight=weight,
                    seeds=range(seed, seed + seeds),
                )
                for values in itertools.product(*searched[name].values())
            ),
        )
        for name in names
    ]


def _setting(name: str, fixed: Mapping[str, Any], searched: Mapping[str, Any], *, weight: Any, seeds: range) -> Setting:
    """One point of a grid. A wrong option of a dense head is found here, before anything is trained."""
    options = {**fixed, **searched}
    first = make_head(name, class_weight=weight, seed=seeds[0], options=options)
    if isinstance(first, DenseHead):
        try:
            first.settings()
        except ValueError as error:
            raise UsageError(str(error)) from error
    further = seeds[1:] if "random_state" in first.get_params() else ()
    others = (make_head(name, class_weight=weight, seed=seed, options=options) for seed in further)
    return Setting(options=dict(searched), heads=(first, *others))


def _by_head(
    flag: str, assignments: Sequence[str], names: Sequence[str], parse: Callable[[str, str, Any], Any]
) -> dict[str, dict[str, Any]]:
    """Options of each head by name, every assignment having gone to at least one of them."""
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for assignment in assignments:
        given = f"{flag} {assignment!r}"
        key, equals, value = assignment.partition("=")
        target, _, option = key.strip().rpartition(".")
        if not equals:
            raise UsageError(f"{given}: give NAME=VALUE, or HEAD.NAME=VALUE.")
        if target and target not in own:
            raise UsageError(f"{given}: {target} is none of the heads to train: {', '.join(names)}.")
        takers = [name for name in names if option in head_options(name) and target in ("", name)]
        if flag == "--grid" and takers != ["shuffled"]:  # a floor that was chosen on validation would be none
            takers = [name for name in takers if name != "shuffled"]
        if not takers:
            known = {o: None for name in names for o in head_options(name) if target in ("", name)}
            raise UsageError(
                f"{given}: no option {key.strip()!r} in {', '.join(names)}{nearest(option, known)}.\n"
                f"Give NAME=VALUE, or HEAD.NAME=VALUE. The options: {', '.join(known) or 'none'}."
            )
        for name in takers:
            if option in own[name]:
                raise UsageError(f"{given}: {name}.{option} is given twice.")
            own[name][option] = parse(given, value, head_options(name)[option])
    return own


def _values(given: str, value: str, default: Any) -> list[Any]:
    """The values of a grid's option, each once."""
    values = [_value(given, part, default) for part in value.split(",")]
    return [v for i, v in enumerate(values) if v not in values[:i]]


def _value(given: str, value: str, default: Any) -> Any:
    """`value` as the type of the option's default."""
    parse, kind = _KINDS[type(default)]
    try:
        return parse(value.strip())
    except ValueError as error:
        example = LAYERS.join(map(str, default)) if isinstance(default, tuple) else default
        raise UsageError(f"{given}: expected {kind}, such as {example}.") from error


def _finite(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("it is not finite")
    return number


def _layers(value: str) -> tuple[int, ...]:
    """`512x128` as (512, 128), `0` as no layer."""
    return () if value == "0" else tuple(int(part) for part in value.split(LAYERS))


def _word(value: str) -> str:
    if not value:
        raise ValueError("nothing is given")
    return value


_KINDS: dict[type, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (_finite, "a number"),
    str: (_word, "a word"),
    tuple: (_layers, f"sizes of layers with {LAYERS} between them, 0 for none"),
}


def read_class_weight(given: str) -> Any:
    """What heads take as `class_weight`, from `balanced`, `none` or a JSON file."""
    if given in ("balanced", "none"):
        return "balanced" if given == "balanced" else None
    try:
        weights = json.loads(Path(given).read_bytes())
    except OSError as error:
        close = nearest(given, ("balanced", "none"))
        raise UsageError(
            f"--class-weight {given}: neither balanced nor none{close}, nor a file that can be read ({error.strerror})."
        ) from error
    except ValueError as error:
        raise DataError(
            f'{given} is not JSON: {error}. Expected an object, such as {{"ham": 1, "spam": 6}}.'
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(w, int | float) for w in weights.values()):
        raise DataError(f'{given} must be a JSON object of label to number, such as {{"ham": 1, "spam": 6}}.')
    return weights


def known_heads(names: Sequence[str]) -> tuple[str, ...]:
    """The heads that `--head` names, each once. Raises `UsageError` for another name."""
    for name in names:
        if name != "all" and name not in HEADS:
            raise UsageError(f"There is no head {name!r}{nearest(name, HEADS)}. The heads: {', '.join(HEADS)}, all.")
    return tuple(HEADS) if "all" in names else tuple(dict.fromkeys(names))
