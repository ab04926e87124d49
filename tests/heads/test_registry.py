"""Heads by name; a wrong name or option is refused with the nearest right one."""

import inspect
from typing import Any

import pytest

from frozenhead.heads import HEADS, DenseHead, Head, head_options, make_head
from frozenhead.heads.options import nearest


@pytest.mark.parametrize("name", HEADS)
def test_the_options_are_those_of_the_constructor(name: str) -> None:
    options = head_options(name)
    head = make_head(name, class_weight=None, seed=7, options=options)
    assert type(head) is HEADS[name]
    assert isinstance(head, Head)
    assert head.get_params() == options | {k: v for k, v in _shared(None, 7).items() if k in head.get_params()}
    assert {"class_weight", "random_state"}.isdisjoint(options)


def _shared(class_weight: Any, seed: int) -> dict[str, Any]:
    return {"class_weight": class_weight, "random_state": seed}


def test_options_weights_and_seed_arrive() -> None:
    head = make_head("dense", class_weight={"a": 2.0}, seed=11, options={"lr": 0.5, "hidden": 3})
    assert isinstance(head, DenseHead)
    assert (head.lr, head.hidden, head.class_weight, head.random_state) == (0.5, 3, {"a": 2.0}, 11)
    assert make_head("majority", class_weight="balanced", seed=1, options={}).get_params() == {}


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("dens", {}, r"no head 'dens' \(did you mean 'dense'\?\)"),
        ("zzz", {}, "no head 'zzz'. The heads: dense, softmax"),
        ("dense", {"hiden": 1}, r"no option 'hiden' \(did you mean 'hidden'\?\)"),
        ("dense", {"random_state": 1}, "no option 'random_state'"),
        ("logreg", {"class_weight": None}, "no option 'class_weight'"),
        ("majority", {"C": 1}, "no option 'C'. It takes none"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_head(name, class_weight=None, seed=0, options=options)


def test_nothing_is_near_to_what_is_like_nothing() -> None:
    assert nearest("qqq", HEADS) == ""
    assert nearest("logref", HEADS) == " (did you mean 'logreg'?)"


@pytest.mark.parametrize("kind", HEADS.values())
def test_no_option_can_be_passed_by_place(kind: type[Head]) -> None:
    if "__init__" in vars(kind):
        kinds = {p.kind for p in inspect.signature(kind).parameters.values()}
        assert kinds == {inspect.Parameter.KEYWORD_ONLY}
