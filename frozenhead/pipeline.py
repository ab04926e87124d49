"""A head and the encoder it was trained on, together again: texts in, labels out.

Stands above the embedder and the heads, which do not know each other. A head's folder names its space; the encoder
that is found must give that space, or the head is not used.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline

from frozenhead.cache import Space
from frozenhead.embedder import Checkpoint, Embedder, find_checkpoint, settings_of, space_of
from frozenhead.embedder.finding import MINILM
from frozenhead.errors import EncoderNotFound, HeadNotFound, RunDamaged, SpaceMismatch
from frozenhead.heads import load_head
from frozenhead.heads.saving import DESCRIPTION, read_description
from frozenhead.labels import shown

_FACTS = {"feature", "takes"}


def load_pipeline(
    folder: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    device: str = "auto",
    backend: str = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
) -> Pipeline:
    """A trained head with its encoder in front, as one fitted scikit-learn classifier of texts.

    Parameters
    ----------
    folder : path
        What `frozenhead export` made, or `RUN/heads/<feature>/<head>`.
    model : str or path, optional
        Where the encoder is: its folder, a hub id, or `minilm`. Default: what the head's folder says.
    device : str
        `auto`, `cpu`, `cuda` or `cuda:N`.
    backend : {"auto", "torch", "openvino"}
    cache_dir : path or URL, optional
        Where vectors of the texts are kept; default `FROZENHEAD_CACHE_DIR`, else the user's cache folder.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Steps `embed` (an `Embedder` that refuses to give vectors of another space) and `head`; `head` alone
        if it reads the texts themselves. `predict` takes texts (N,) and gives labels (N,), `predict_proba` float64
        probabilities (N, K), columns in the order of `classes_`.

    Raises
    ------
    HeadNotFound
        `folder` holds no head.
    EncoderError
        The encoder is not here, or must not be used.
    SpaceMismatch
        The encoder found is not the one that the head was trained on.
    RunDamaged, FormatRefused
        The head's files are not what was written.

    Examples
    --------
    >>> load_pipeline("spam-head").predict(["you have won a prize"])   # doctest: +SKIP
    array(['spam'], dtype=object)
    """
    place = Path(folder)
    description = describe_head(place)
    head = load_head(place)
    if description["takes"] == "texts":
        return Pipeline([("head", head)])
    checkpoint, space = find_encoder(description, model=model)
    # minilm by its name, so that its weights are checked as published each time; another one by the folder just seen
    named = MINILM if checkpoint.model == MINILM else str(checkpoint.folder)
    embedder = Embedder(
        named,
        pooling=space.pooling,
        layer=space.layer,
        max_length=space.max_length,
        prefix=space.prefix,
        normalize=space.normalize,
        long=space.long,
        precision=space.precision,
        device=device,
        backend=backend,
        cache_dir=cache_dir,
        space=space.id,
    )
    return Pipeline([("embed", embedder), ("head", head)])


def describe_head(folder: Path) -> dict[str, Any]:
    """`head.json` of a head that stands alone.

    Raises
    ------
    HeadNotFound
        There is none in `folder`.
    RunDamaged, FormatRefused
        It cannot be read, or does not say what the head takes.
    """
    if not (folder / DESCRIPTION).exists():
        raise HeadNotFound(
            f"{folder} holds no head: there is no {DESCRIPTION} in it. Expected what `frozenhead export` made, or "
            "RUN/heads/<feature>/<head>."
        )
    description = read_description(folder)
    if not description.keys() >= _FACTS:
        raise RunDamaged(f"{folder / DESCRIPTION} does not say what the head takes. Run `frozenhead fit` again.")
    return description


def find_encoder(
    description: dict[str, Any], *, model: str | os.PathLike[str] | None = None
) -> tuple[Checkpoint, Space]:
    """The checkpoint that a head needs, and the space of the vectors that it takes.

    Parameters
    ----------
    description : dict
        `head.json` of a head that takes vectors.
    model : str or path, optional
        Where the encoder is; default what the description says.

    Raises
    ------
    EncoderError
        It is not here, or must not be used.
    SpaceMismatch
        It is here and gives other vectors.
    RunDamaged
        The description names no space.
    """
    space, encoder = head_space(description)
    name = f"{shown(description['head'])} on {shown(description['feature'])}"
    checkpoint = recorded_checkpoint(encoder, space, name, model=model)
    given = space_of(checkpoint, settings_of(space).poolings[0], settings_of(space))
    if given.id != space.id:
        raise SpaceMismatch(
            f"{name} was trained on vectors with {space.difference(given)}; this frozenhead gives the latter.\n"
            "Run `frozenhead embed` and `frozenhead fit` again with this version."
        )
    return checkpoint, space


def head_space(description: Mapping[str, Any]) -> tuple[Space, dict[str, Any]]:
    """The space that a head takes vectors of, and its encoder's `name`, `model`, `commit` and `revision`.

    Raises
    ------
    RunDamaged
        The description names none.
    """
    try:
        encoder = {key: description["encoder"][key] for key in ("name", "model", "commit", "revision")}
        return Space.from_dict(description["space"]), encoder
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDamaged(
            f"The head {description['head']} on {description['feature']} names no space ({error}). "
            "Run `frozenhead fit` again."
        ) from error


def recorded_checkpoint(
    encoder: dict[str, Any], space: Space, name: str, *, model: str | os.PathLike[str] | None = None
) -> Checkpoint:
    """The checkpoint that a space was computed with, where it was found before or at `model`.

    Raises
    ------
    EncoderNotFound
        It is not there, or was a folder on another machine and `model` does not say where it is on this one.
    SpaceMismatch
        What is there has other files.
    """
    place = encoder["model"] if model is None else os.fspath(model)
    if place is None:
        raise EncoderNotFound(
            f"{name} needs the encoder {shown(encoder['name'])}, which was a folder where the head was trained.\n"
            "Say where it is on this machine: --model FOLDER, or model=... in Python."
        )
    revision = (encoder["commit"] or encoder["revision"]) if place == encoder["model"] else None
    checkpoint = find_checkpoint(place, revision=revision)
    if checkpoint.files != space.files:
        changed = sorted({n for n, _ in set(checkpoint.files) ^ set(space.files)})
        found = f"{place} has changed since" if model is None else f"{place} is not the one"
        raise SpaceMismatch(
            f"{name} was trained on vectors of another checkpoint: {found} ({', '.join(changed[:3])}).\n"
            "Bring the old files back, name their folder with --model, or run `frozenhead embed` and `fit` again."
        )
    return checkpoint
