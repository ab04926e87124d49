"""Names, options, grids and seeds as unfitted heads."""

from typing import Any

import pytest

from frozenhead.commands.choices import Choice, choose_heads, known_heads
from frozenhead.errors import UsageError
from frozenhead.heads import HEADS, head_options


def choices(*names: str, **given: Any) -> list[Choice]:
    options: dict[str, Any] = {"sets": (), "grids": (), "seeds": 1, "class_weight": "balanced", "seed": 7} | given
    return choose_heads(names, **options)


def test_a_grid_is_every_combination_with_every_seed() -> None:
    [choice] = choices("dense", sets=("epochs=2",), grids=("lr=1e-4,1e-3", "hidden=256,512x128,0"), seeds=2)
    found = [
        (*(head.get_params()[name] for name in ("lr", "hidden", "random_state", "epochs")),)
        for head in choice.candidates
    ]
    assert found == [
        (lr, hidden, seed, 2) for lr in (1e-4, 1e-3) for hidden in ((256,), (512, 128), ()) for seed in (7, 8)
    ]
    assert [dict(setting.options) for setting in choice.settings][:2] == [
        {"lr": 1e-4, "hidden": (256,)}, {"lr": 1e-4, "hidden": (512, 128)},
    ]  # fmt: skip
    assert choice.searched


def test_heads_without_chance_have_one_candidate_however_many_seeds() -> None:
    found = {choice.name: len(choice.candidates) for choice in choices(*HEADS, seeds=4)}
    chance = {"dense", "shuffled", *(name for name, kind in HEADS.items() if "random_state" in kind().get_params())}
    assert found == {name: 4 if name in chance else 1 for name in HEADS}


def test_a_grid_goes_to_every_head_that_takes_the_option_or_to_the_one_named() -> None:
    found = {choice.name: len(choice.candidates) for choice in choices("logreg", "tfidf", "ridge", grids=("C=1,2,3",))}
    assert found == {"logreg": 3, "tfidf": 3, "ridge": 1}
    found = {choice.name: len(choice.candidates) for choice in choices("logreg", "tfidf", grids=("tfidf.C=1,2,3",))}
    assert found == {"logreg": 1, "tfidf": 3}


def test_a_floor_is_not_chosen_on_validation_unless_it_is_asked_for_by_name() -> None:
    def counts(*names: str, grid: str) -> dict[str, int]:
        return {choice.name: len(choice.candidates) for choice in choices(*names, grids=(grid,))}

    assert counts("dense", "shuffled", grid="lr=1e-3,1e-2") == {"dense": 2, "shuffled": 1}
    assert counts("dense", "shuffled", grid="shuffled.lr=1e-3,1e-2") == {"dense": 1, "shuffled": 2}


def test_equal_values_of_a_grid_are_one() -> None:
    assert len(choices("dense", grids=("lr=1e-3,0.001, 0.0010",))[0].candidates) == 1


@pytest.mark.parametrize("name", HEADS)
def test_every_option_takes_its_own_default_as_text(name: str) -> None:
    for option, default in head_options(name).items():
        text = "x".join(map(str, default)) if isinstance(default, tuple) else str(default)
        [choice] = choices(name, sets=(f"{option}={text}",))
        assert choice.candidates[0].get_params()[option] == default


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"grids": ("lrr=1,2",)}, r"--grid 'lrr=1,2'.*did you mean 'lr'"),
        ({"grids": ("lr",)}, "NAME=VALUE"),
        ({"grids": ("lr=",)}, "a number"),
        ({"grids": ("lr=1e-3,,1e-4",)}, "a number"),
        ({"grids": ("hidden=",)}, "sizes of layers"),
        ({"grids": ("hidden=256,",)}, "sizes of layers"),
        ({"grids": ("epochs=2,2.5",)}, "a whole number"),
        ({"grids": ("lr=1e-3,nan",)}, "a number"),
        ({"grids": ("activation=relu,gleu",)}, "did you mean 'gelu'"),
        ({"grids": ("dropout=0,1",)}, "dropout must be"),
        ({"grids": ("lr=1,2", "lr=3,4")}, "given twice"),
        ({"grids": ("lr=1,2",), "sets": ("lr=3",)}, r"dense\.lr is given by --set and by --grid"),
        ({"grids": ("ridge.alpha=1,2",)}, "none of the heads to train"),
        ({"grids": ("epochs=1,2",), "seeds": 10_001}, "20,002 candidates of dense, expected at most 20,000"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_is_trained(given: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        choices("dense", **given)


def test_all_is_every_head_once() -> None:
    assert known_heads(("dense", "all")) == tuple(HEADS)
    assert known_heads(("dense", "logreg", "dense")) == ("dense", "logreg")
