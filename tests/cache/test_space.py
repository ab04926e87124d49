"""A space's id is a hash of everything that defines a vector, and of nothing else."""

import dataclasses
import hashlib
import json
from typing import Any

import pytest

from frozenhead.cache import Space
from frozenhead.cache.space import View
from tests.cache.examples import make_space

# Every field with another value. A field without a case fails the first test.
OTHER: dict[str, Any] = {
    "files": (("config.json", "c" * 64), ("model.safetensors", "b" * 64)),
    "pooling": "cls",
    "max_length": 17,
    "dim": 4,
    "layer": -2,
    "truncation_side": "left",
    "special_tokens": False,
    "prefix": "query: ",
    "normalize": True,
    "precision": "bf16",
    "dtype": "float16",
    "long": "windows",
    "numbers_format": 2,
    "view": View(seed=2018, index=1),
}


def test_every_field_has_a_case() -> None:
    assert set(OTHER) == {field.name for field in dataclasses.fields(Space)}


@pytest.mark.parametrize("field", OTHER)
def test_changing_any_field_changes_the_id(field: str) -> None:
    assert make_space(**{field: OTHER[field]}).id != make_space().id


def test_all_single_changes_give_different_ids() -> None:
    ids = {make_space(**{field: value}).id for field, value in OTHER.items()}
    assert len(ids) == len(OTHER)


@pytest.mark.parametrize(
    "files",
    [
        (("config.json", "c" * 64),),
        (("config.json", "c" * 64), ("model.safetensors", "a" * 64), ("vocab.txt", "d" * 64)),
        (("config.json", "a" * 64), ("model.safetensors", "c" * 64)),
        (("config.json", "c" * 64), ("pytorch.safetensors", "a" * 64)),
    ],
    ids=["one fewer", "one more", "hashes swapped", "renamed"],
)
def test_any_change_of_the_files_changes_the_id(files: tuple[tuple[str, str], ...]) -> None:
    assert make_space(files=files).id != make_space().id


def test_the_order_of_the_files_does_not_matter() -> None:
    turned = make_space(files=make_space().files[::-1])
    assert turned == make_space()
    assert turned.id == make_space().id


def test_the_id_is_the_sha256_of_canonical_json() -> None:
    written = (
        '{"dim":3,"dtype":"float32",'
        f'"files":{{"config.json":"{"c" * 64}","model.safetensors":"{"a" * 64}"}},'
        '"layer":-1,"max_length":16,"normalize":false,"numbers_format":1,"pooling":"pooler","precision":"fp32",'
        '"prefix":"Frage: «ü» ","special_tokens":true,"truncation_side":"right"}'
    )
    assert make_space(prefix="Frage: «ü» ").id == hashlib.sha256(written.encode("utf-8")).hexdigest()


def test_spaces_that_cut_keep_the_ids_they_had_before_there_were_windows() -> None:
    assert "long" not in make_space().to_dict()
    assert make_space(long="cut").id == make_space().id
    old = {name: value for name, value in make_space().to_dict().items() if name != "long"}
    assert Space.from_dict(old).long == "cut"
    assert make_space(long="windows").to_dict() == {**old, "long": "windows"}


def test_spaces_of_eval_mode_keep_the_ids_they_had_before_there_were_views() -> None:
    assert "view" not in make_space().to_dict()
    assert Space.from_dict(make_space().to_dict()).view is None
    assert make_space(view=View(seed=5, index=2)).to_dict() == {
        **make_space().to_dict(), "view": {"seed": 5, "index": 2}
    }  # fmt: skip


def test_any_two_views_and_eval_mode_have_different_ids() -> None:
    views = [View(seed=seed, index=index) for seed in (0, 1, 11, 2018) for index in (1, 2, 11, 12, 2018)]
    assert len({make_space(view=view).id for view in [None, *views]}) == len(views) + 1


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"index": 0}, {"seed": 1.0}, {"index": True}, {"index": "1"}, {"seed": None}]
)
def test_a_view_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        View(**{"seed": 1, "index": 1, **wrong})
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Space.from_dict({**make_space().to_dict(), "view": {"seed": 1, "index": 1, **wrong}})


@pytest.mark.parametrize("field", OTHER)
def test_a_space_comes_back_from_its_fields_through_json(field: str) -> None:
    space = make_space(**{field: OTHER[field]})
    again = Space.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.id == space.id


@pytest.mark.parametrize("wrong", [{"poling": "cls"}, {"max_length": None}])
def test_fields_that_are_no_space_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, KeyError)):
        Space.from_dict({**make_space().to_dict(), **wrong})


@pytest.mark.parametrize(
    "wrong",
    [{"files": ()}, {"max_length": 0}, {"dim": 0}, {"files": (("config.json", "c" * 64), ("config.json", "a" * 64))}],
    ids=["no files", "no tokens", "no dimensions", "one file, two hashes"],
)
def test_a_space_that_defines_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"files|max_length|twice"):
        make_space(**wrong)


def test_the_difference_names_the_fields() -> None:
    assert make_space().difference(make_space()) == "nothing"
    assert make_space(max_length=25).difference(make_space(max_length=128)) == "max_length 25 instead of 128"
    assert make_space(long="windows").difference(make_space()) == "long windows instead of cut"
    assert make_space().difference(make_space(long="windows")) == "long cut instead of windows"
    assert make_space().difference(make_space(files=OTHER["files"])) == "other checkpoint files"
    assert make_space(view=View(seed=5, index=2)).difference(make_space()) == "view 2 of seed 5 instead of none"
