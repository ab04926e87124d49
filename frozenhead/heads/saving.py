"""A head as arrays and JSON, and back. No pickle is written, and none is read.

head.json             kind, parameters, classes, and whatever facts the caller puts beside them
weights.safetensors   the learned arrays
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from frozenhead.errors import FormatRefused, RunDamaged
from frozenhead.files import write_file, write_json
from frozenhead.heads.base import Head
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
        Plain values kept in `head.json` beside the head's own.

    Raises
    ------
    StorageError
        The folder cannot be written.
    """
    name = next(name for name, kind in HEADS.items() if type(head) is kind)
    arrays = {k: np.ascontiguousarray(v) for k, v in head.arrays().items()}
    write_file(folder / WEIGHTS, bytes(save(arrays)))
    description = {
        "format": HEAD_FORMAT,
        "head": name,
        "classes": head.classes_.tolist(),
        "params": {k: dict(v) if isinstance(v, dict) else v for k, v in head.get_params().items()},
        "class_weights": head.class_weights_.tolist(),
        "best_epoch": head.best_epoch_,
        **(facts or {}),
    }
    write_json(folder / DESCRIPTION, description)


def load_head(folder: Path) -> Head:
    """The head that `save_head` wrote; it predicts the same bits.

    Raises
    ------
    RunDamaged
        A file is missing or is not what was written.
    FormatRefused
        Written by another version of the format.
    """
    description = read_description(folder)
    try:
        head = HEADS[description["head"]](**description["params"])
        head.classes_ = np.array(description["classes"])
        head.class_weights_ = np.array(description["class_weights"], np.float64)
        head.best_epoch_, head.history_ = description["best_epoch"], []
        head.restore(load((folder / WEIGHTS).read_bytes()))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise RunDamaged(f"The head in {folder} cannot be rebuilt ({error}). Run `frozenhead fit` again.") from error
    return head


def read_description(folder: Path) -> dict[str, Any]:
    """The content of `head.json`. Raises as `load_head` does."""
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
        written = description["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDamaged(f"{folder / DESCRIPTION} cannot be read ({error}). Run `frozenhead fit` again.") from error
    if written != HEAD_FORMAT:
        raise FormatRefused(
            f"{folder} is a head of format {written}; this frozenhead reads format {HEAD_FORMAT}. "
            "Run `frozenhead fit` again, or use the frozenhead that wrote it."
        )
    return dict(description)
