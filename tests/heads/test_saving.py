"""A saved head is two files; loaded, it predicts the same bits; altered, it is refused."""

import builtins
import hashlib
import json
import pickle
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from sklearn.base import clone

from frozenhead.errors import FormatRefused, HeadNotFound, RunDamaged, StorageError
from frozenhead.heads import HEADS, DenseHead, Head, LogisticHead, load_head, save_head
from frozenhead.heads.saving import DESCRIPTION, WEIGHTS, _digest, read_description
from tests.heads.conftest import MakeRows, inputs_for, quick_head

NAMES = np.array(["bee", "ant", "çédille \u2603"])
LABELS = {
    "int": np.array([2, -1, 10]),
    "float": np.array([2.0, -1.0, 10.0]),
    "bool": np.array([False, True]),
    "str": np.array(["2", "10", "9"]),
    "words": NAMES,
    "objects": NAMES.astype(object),
}


@pytest.fixture
def saved(make_rows: MakeRows, tmp_path: Path) -> Path:
    X, y = make_rows(30)
    save_head(quick_head("dense").fit(X, NAMES[y]), tmp_path)
    return tmp_path


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_a_loaded_head_predicts_the_same_bits(name: str, classes: int, make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(40, classes=classes)
    head = quick_head(name)
    inputs = inputs_for(head, X)
    head.fit(inputs, NAMES[y], validation=(inputs, NAMES[y]))
    save_head(head, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {DESCRIPTION, WEIGHTS}
    loaded = load_head(tmp_path)
    assert type(loaded) is type(head)
    assert loaded.get_params() == head.get_params()
    assert loaded.best_epoch_ == head.best_epoch_
    assert np.array_equal(loaded.class_weights_, head.class_weights_)
    assert np.array_equal(loaded.predict_proba(inputs), head.predict_proba(inputs))
    assert loaded.predict(inputs).tolist() == head.predict(inputs).tolist()
    assert np.array_equal(loaded.predict_proba(inputs[:1]), head.predict_proba(inputs[:1]))
    refitted = clone(loaded).fit(inputs, NAMES[y], validation=(inputs, NAMES[y]))
    assert np.array_equal(refitted.predict_proba(inputs), head.predict_proba(inputs))


@pytest.mark.parametrize("name", HEADS)
def test_temperature_and_threshold_are_part_of_a_saved_head(name: str, make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(40)
    head = quick_head(name)
    inputs = inputs_for(head, X)
    head.fit(inputs, NAMES[np.where(np.arange(40) < 8, 0, y)])  # other shares of classes, for the one that learns those
    new = inputs_for(head, make_rows(40, seed=8)[0])
    plain = head.predict_proba(new)
    head.calibrate(inputs, NAMES[y]).set_threshold(inputs, NAMES[y], by="costs", costs=(0, 1), positive="ant")
    assert np.abs(head.predict_proba(new) - plain).max() > 1e-6
    save_head(head, tmp_path)
    loaded = load_head(tmp_path)
    assert (loaded.temperature_, loaded.threshold_) == (head.temperature_, head.threshold_)
    assert np.array_equal(loaded.predict_proba(new), head.predict_proba(new))
    assert loaded.predict(new).tolist() == head.predict(new).tolist()
    assert head.threshold_ is not None
    for label in ("ant", "bee"):  # every probability is at least 0, so it rules whatever is the most probable
        head.threshold_ = replace(head.threshold_, positive=label, value=0.0)
        save_head(head, tmp_path)
        assert set(load_head(tmp_path).predict(new)) == {label}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_come_back_as_given(labels: Any, make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(40, classes=len(labels))
    head = LogisticHead().fit(X, labels[y])
    save_head(head, tmp_path)
    for fitted in (head, load_head(tmp_path)):
        predicted = fitted.predict(X).tolist()
        assert {type(label) for label in predicted} == {type(labels.tolist()[0])}
        assert np.mean(np.array(predicted) == labels[y]) > 0.5
    assert load_head(tmp_path).classes_.tolist() == head.classes_.tolist()


def test_a_mapping_of_weights_and_numpys_numbers_come_back(make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(30)
    head = DenseHead(hidden=np.int64(3), epochs=2, class_weight={np.int64(1): 2, 0: 0.25})  # type: ignore[arg-type]
    save_head(head.fit(X, y), tmp_path)
    loaded = load_head(tmp_path)
    assert loaded.get_params() == head.get_params()
    assert np.array_equal(clone(loaded).fit(X, y).predict_proba(X), head.predict_proba(X))


def test_a_loaded_head_checks_its_vectors(saved: Path) -> None:
    with pytest.raises(ValueError, match="4 features"):
        load_head(saved).predict(np.ones((2, 4)))


def test_facts_stand_beside_the_heads_own_values(make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(30)
    head = LogisticHead().fit(X, y)
    save_head(head, tmp_path, facts={"space": {"b": 1, "a": [1.5, None]}, "seed": 2018})
    description = read_description(tmp_path)
    assert (description["space"], description["seed"]) == ({"b": 1, "a": [1.5, None]}, 2018)
    assert (description["head"], description["classes"]) == ("logreg", [0, 1])
    load_head(tmp_path)
    for name in ("format", "classes", "weights_sha256"):
        with pytest.raises(ValueError, match=name):
            save_head(head, tmp_path, facts={name: 1})


@pytest.mark.parametrize("name", [DESCRIPTION, WEIGHTS])
def test_any_altered_byte_is_refused(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    refused = 0
    for i in range(0, len(whole), max(1, len(whole) // 150)):
        (saved / name).write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            load_head(saved)
        except (RunDamaged, FormatRefused):
            refused += 1
        else:  # white space between JSON's words says nothing
            assert name == DESCRIPTION
            assert json.loads((saved / name).read_bytes()) == json.loads(whole)
    assert refused > 100
    (saved / name).write_bytes(whole)
    load_head(saved)


@pytest.mark.parametrize("name", [DESCRIPTION, WEIGHTS])
@pytest.mark.parametrize("content", [None, b"", b"garbage", b"[]", b"null", b'{"format": 1}', b"\xff\xfe"])
def test_a_missing_or_foreign_file_is_refused(saved: Path, name: str, content: bytes | None) -> None:
    (saved / name).unlink()
    if content is not None:
        (saved / name).write_bytes(content)
    with pytest.raises(RunDamaged, match="Run `frozenhead fit` again"):
        load_head(saved)


def test_weights_of_another_head_are_refused(saved: Path, make_rows: MakeRows, tmp_path_factory: Any) -> None:
    X, y = make_rows(30, seed=1)
    other = tmp_path_factory.mktemp("other")
    save_head(quick_head("dense").fit(X, NAMES[y]), other)
    (saved / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(RunDamaged, match=WEIGHTS):
        load_head(saved)


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_another_format_is_refused(saved: Path, number: object) -> None:
    description = json.loads((saved / DESCRIPTION).read_bytes())
    (saved / DESCRIPTION).write_text(json.dumps(description | {"format": number}))
    with pytest.raises(FormatRefused, match=f"format {number}; this frozenhead reads format 1"):
        load_head(saved)


def test_a_folder_that_is_not_there_is_a_storage_error(make_rows: MakeRows, tmp_path: Path) -> None:
    head: Head = LogisticHead().fit(*make_rows(30))
    with pytest.raises(StorageError):
        save_head(head, tmp_path / "absent")


def rewrite(folder: Path, **changed: Any) -> None:
    """Change head.json as somebody would who knows how its digest is made."""
    description = read_description(folder) | changed
    (folder / DESCRIPTION).write_text(json.dumps(description | {"digest": _digest(description)}))


THRESHOLD = {"positive": "bee", "value": 0.5, "rule": "f1"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"temperature": 0}, "temperature 0"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": "1"}, "temperature '1'"),
        ({"temperature": None}, "temperature None"),
        ({"temperature": True}, "temperature True"),
        ({"threshold": THRESHOLD | {"positive": "wasp"}}, "threshold for 'wasp'"),
        ({"threshold": THRESHOLD | {"value": 2.0}}, "not 2.0"),
        ({"threshold": THRESHOLD | {"value": "0.5"}}, "not '0.5'"),
        ({"threshold": THRESHOLD | {"positive": [1]}}, "threshold for"),
        ({"threshold": {"value": 0.5}}, "missing"),
        ({"threshold": 0.5}, "mapping"),
        ({"threshold": THRESHOLD | {"more": 1}}, "unexpected"),
        ({"classes": ["ant", "bee", "cat"], "class_weights": [1, 1, 1], "threshold": THRESHOLD}, "threshold for 'bee'"),
        ({"params": {"hiden": 3}}, "hiden"),
        ({"params": None}, "NoneType"),
        ({"classes": None}, "NoneType"),
    ],
)
def test_a_description_of_no_head_is_refused(saved: Path, changed: dict[str, Any], says: str) -> None:
    rewrite(saved, threshold=THRESHOLD, temperature=2)
    assert load_head(saved).temperature_ == 2
    rewrite(saved, **changed)
    with pytest.raises(RunDamaged, match=f"head.json describes no head .*{says}.* Run `frozenhead fit` again"):
        load_head(saved)


def test_a_head_saved_before_there_was_calibration_predicts_as_it_did(saved: Path) -> None:
    before = load_head(saved).predict_proba(np.eye(3, dtype=np.float32))
    description = {k: v for k, v in read_description(saved).items() if k not in ("temperature", "threshold")}
    (saved / DESCRIPTION).write_text(json.dumps(description | {"digest": _digest(description)}))
    head = load_head(saved)
    assert (head.temperature_, head.threshold_) == (1.0, None)
    assert np.array_equal(head.predict_proba(np.eye(3, dtype=np.float32)), before)


@pytest.mark.parametrize("field", ["classes", "params", "class_weights", "best_epoch"])
def test_a_description_that_lacks_something_is_refused(saved: Path, field: str) -> None:
    description = {k: v for k, v in read_description(saved).items() if k != field}
    (saved / DESCRIPTION).write_text(json.dumps(description | {"digest": _digest(description)}))
    with pytest.raises(RunDamaged, match=field):
        load_head(saved)


@pytest.mark.parametrize(
    "kind", ["os.system", "this", "frozenhead.heads.dense.DenseHead", "Dense", "", None, ["dense"], 3]
)
def test_a_kind_of_head_that_there_is_not_is_refused_and_nothing_is_imported(saved: Path, kind: Any) -> None:
    rewrite(saved, head=kind)
    before = set(sys.modules)
    with pytest.raises(
        HeadNotFound, match=r"head.json is of a head .*, which this frozenhead does not have"
    ) as refused:
        load_head(saved)
    assert refused.value.exit_code == 4
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", HEADS)
def test_no_file_of_a_head_is_a_pickle_and_loading_imports_nothing_named_in_one(
    name: str, make_rows: MakeRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_rows(30)
    head = quick_head(name)
    save_head(head.fit(inputs_for(head, X), y), tmp_path, facts={"space": "this", "versions": {"antigravity": "1"}})
    for path in tmp_path.iterdir():
        assert not zipfile.is_zipfile(path)
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError)):
            pickle.loads(path.read_bytes())
    json.loads((tmp_path / DESCRIPTION).read_text())
    load((tmp_path / WEIGHTS).read_bytes())

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle was read")

    words = set((tmp_path / DESCRIPTION).read_text().replace('"', " ").split())
    imported = set()
    genuine = builtins.__import__

    def watched(name: str, *arguments: Any, **named: Any) -> Any:
        imported.add(name)
        return genuine(name, *arguments, **named)

    for function in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, function, never)
    monkeypatch.setattr(builtins, "__import__", watched)
    load_head(tmp_path)
    assert imported.isdisjoint(words)
    assert {"this", "antigravity"}.isdisjoint(sys.modules)


@pytest.mark.parametrize("name", HEADS)
def test_arrays_of_another_shape_or_that_are_not_finite_are_refused(
    name: str, make_rows: MakeRows, tmp_path: Path
) -> None:
    X, y = make_rows(30, classes=3)
    head = quick_head(name)
    save_head(head.fit(inputs_for(head, X), y), tmp_path)
    whole = load((tmp_path / WEIGHTS).read_bytes())
    wrong: list[dict[str, Any]] = [{k: v for k, v in whole.items() if k != absent} for absent in whole]
    largest = max(whole, key=lambda k: whole[k].size if whole[k].dtype.kind == "f" else 0)
    wrong.append(whole | {largest: np.full_like(whole[largest], np.nan)})
    # The first layer of twice as many rows is another network, of twice as many features.
    lengthened = {k: np.concatenate([v, v]) for k, v in whole.items() if k not in ("scale", "vocabulary", "w1")}
    wrong += [whole | {k: v} for k, v in lengthened.items()]
    for arrays in wrong:
        weights = bytes(save(arrays))
        (tmp_path / WEIGHTS).write_bytes(weights)
        rewrite(tmp_path, weights_sha256=hashlib.sha256(weights).hexdigest())
        with pytest.raises(RunDamaged, match=r"weights.safetensors cannot be used .* Run `frozenhead fit` again"):
            load_head(tmp_path)


def test_labels_that_json_has_no_value_for_are_refused_before_anything_is_written(
    make_rows: MakeRows, tmp_path: Path
) -> None:
    X, y = make_rows(20)
    days = np.array(["2020-01-01", "2021-01-01"], "datetime64[D]")[y]
    with pytest.raises(ValueError, match="fit on their names"):
        save_head(quick_head("ridge").fit(X, days), tmp_path)
    assert list(tmp_path.iterdir()) == []
