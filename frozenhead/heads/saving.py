"""A head as arrays and JSON, and back. No pickle is written, and none is read.

head.json             kind, parameters, classes, temperature, threshold, whatever facts the caller puts beside them, and
                      both files' digests
weights.safetensors   the learned arrays
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from frozenhead.errors import FormatRefused, HeadNotFound, RunDamaged
from frozenhead.files import canonical_json, write_file, write_json
from frozenhead.heads.base import Head
from frozenhead.heads.calibration import Threshold
from frozenhead.heads.options import is_number, nearest
from frozenhead.heads.registry import HEADS

HEAD_FORMAT = 1
DESCRIPTION = "head.json"
WEIGHTS = "weights.safetensors"


def save_head(head: Head, folder: Path, *, facts: dict[str, Any] | None = None) -> None:
    """Write a fitted head into an existing folder, `head.json` last.

    Parameters
    ----------
    head : Head
    folder : Path
    facts : dict, optional
        Plain values kept in `head.json` beside the head's own, under other names.

    Raises
    ------
    ValueError
        Labels that JSON has no value for, such as dates.
    StorageError
        The folder cannot be written.
    """
    name = next(name for name, kind in HEADS.items() if type(head) is kind)
    arrays = {k: np.ascontiguousarray(v) for k, v in head.arrays().items()}
    weights = bytes(save(arrays))
    labels = head.classes_.tolist()
    if strange := [label for label in labels if not isinstance(label, str | bool | int | float)]:
        raise ValueError(
            f"labels are saved as text, numbers or truth values, not as {strange[0]!r}; fit on their names."
        )
    own = {
        "format": HEAD_FORMAT,
        "head": name,
        "classes": labels,
        "params": plain_params(head),
        "class_weights": head.class_weights_.tolist(),
        "best_epoch": head.best_epoch_,
        "temperature": head.temperature_,
        "threshold": None if head.threshold_ is None else asdict(head.threshold_),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    if taken := own.keys() & (facts or {}).keys():
        raise ValueError(f"facts must not be named {', '.join(sorted(taken))}: a head's own values are.")
    description = json.loads(json.dumps(own | (facts or {}), allow_nan=False))  # as it will be read
    write_file(folder / WEIGHTS, weights)
    write_description(folder, description)


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Write what `read_description` gave, changed or not, as `head.json`. Raises `StorageError`."""
    write_json(folder / DESCRIPTION, description | {"digest": _digest(description)})


def load_head(folder: Path) -> Head:
    """The head that `save_head` wrote; it predicts the same bits.

    Raises
    ------
    RunDamaged
        A file is missing or is not what was written; it is named.
    HeadNotFound
        A kind of head that this version does not have.
    FormatRefused
        Written by another version of the format.
    """
    description = read_description(folder)
    kind = description.get("head")
    if not isinstance(kind, str) or kind not in HEADS:  # a name is looked up in our own list and nowhere else
        raise HeadNotFound(
            f"{folder / DESCRIPTION} is of a head {kind!r}{nearest(kind, HEADS)}, which this frozenhead does not have. "
            f"It has {', '.join(HEADS)}. Run `frozenhead fit` again, or use the frozenhead that wrote it."
        )
    try:
        head = _described(description)
    except (KeyError, TypeError, ValueError) as error:
        raise RunDamaged(
            f"{folder / DESCRIPTION} describes no head ({error!r}). Run `frozenhead fit` again."
        ) from error
    try:
        weights = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(weights).hexdigest() != description["weights_sha256"]:
            raise ValueError(f"it is not the one that {DESCRIPTION} describes")
        arrays = load(weights)
        endless = [name for name, numbers in arrays.items() if not np.isfinite(numbers).all()]
        if endless:
            raise ValueError(f"NaN or infinity in {', '.join(endless)}")
        head.restore(arrays)
        _try_out(head)
    except (OSError, LookupError, TypeError, ValueError, SafetensorError) as error:
        raise RunDamaged(f"{folder / WEIGHTS} cannot be used ({error}). Run `frozenhead fit` again.") from error
    return head


def _described(description: Mapping[str, Any]) -> Head:
    """The head that a description speaks of, its learned arrays still missing."""
    labels = description["classes"]
    params = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(description["params"]).items()}
    if isinstance(params.get("class_weight"), dict):  # JSON made its keys strings; a mapping names every class
        params["class_weight"] = dict(zip(labels, description["class_weights"], strict=True))
    head = HEADS[description["head"]](**params)
    # numpy's own strings drop a trailing NUL; objects keep every label as it is
    head.classes_ = np.array(labels, object if all(isinstance(label, str) for label in labels) else None)
    head.class_weights_ = np.array(description["class_weights"], np.float64)
    head.best_epoch_, head.history_ = description["best_epoch"], []
    head.temperature_, threshold = description.get("temperature", 1.0), description.get("threshold")  # new in 0.2
    if not (is_number(head.temperature_) and head.temperature_ > 0):
        raise ValueError(f"temperature {head.temperature_!r}")
    head.threshold_ = None if threshold is None else Threshold(**threshold)
    if head.threshold_ and (len(labels) != 2 or head.threshold_.positive not in labels):
        raise ValueError(f"a threshold for {head.threshold_.positive!r} among the classes {labels[:5]}")
    return head


def _try_out(head: Head) -> None:
    """Predict one empty row: arrays whose shapes do not fit together, or do not fit the classes, show there."""
    empty = np.zeros((1, head.n_features_in_), np.float32) if head.takes == "vectors" else [""]
    shape = head.predict_proba(empty).shape
    if shape != (1, len(head.classes_)):
        raise ValueError(f"its probabilities are {shape[1]}, the classes {len(head.classes_)}")


def read_description(folder: Path, *, again: str = "frozenhead fit") -> dict[str, Any]:
    """The content of `head.json`; `again` is the command that writes it anew. Raises as `load_head` does."""
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
        written = description["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunDamaged(f"{folder / DESCRIPTION} cannot be read ({_reason(error)}). Run `{again}` again.") from error
    if written != HEAD_FORMAT:
        raise FormatRefused(
            f"{folder} is a head of format {written}; this frozenhead reads format {HEAD_FORMAT}. "
            f"Run `{again}` again, or use the frozenhead that wrote it."
        )
    digest = description.pop("digest", None)
    if digest != _digest(description):
        raise RunDamaged(f"{folder / DESCRIPTION} was altered after it was written. Run `{again}` again.")
    return dict(description)


def _reason(error: Exception) -> str:
    """What went wrong, without the path, which the sentence has already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _digest(description: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(description)).hexdigest()


def plain_params(head: Head) -> dict[str, Any]:
    """A head's parameters as JSON knows them, whether it is fitted or not."""
    return {name: _plain(value) for name, value in head.get_params().items()}


def _plain(value: Any) -> Any:
    """A parameter as JSON knows it: numpy's numbers as Python's, a mapping of weights by the labels' names."""
    if isinstance(value, Mapping):
        return {str(label): float(weight) if is_number(weight) else weight for label, weight in value.items()}
    return value.item() if isinstance(value, np.generic) else value
