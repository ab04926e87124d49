"""How long a run's texts are: the length that `--max-length auto` chooses, and what a length cuts, by class."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import Space
from frozenhead.commands.options import EmbedOptions
from frozenhead.commands.voice import Voice
from frozenhead.corpus import Corpus
from frozenhead.embedder import Checkpoint, count_windows, shortest_length, space_of, special_tokens, token_counts
from frozenhead.runs import Run

UNLABELLED = ""


def settle_length(
    options: EmbedOptions, checkpoint: Checkpoint, texts: Sequence[str], run: Run | None, voice: Voice
) -> EmbedOptions:
    """Put a number for `--max-length auto`, said aloud: the one this run has for this encoder, else the texts' own.

    Parameters
    ----------
    texts : sequence of str (N,)
        All rows; a copy counts as often as it stands.
    run : Run or None
        The run that these rows are in already.
    """
    if not options.auto_length:
        return options
    space = space_of(checkpoint, options.settings.poolings[0], options.settings)  # of the encoder's own limit
    length = _chosen_before(run, space) if run else None
    if length is not None:
        voice.say(f"max length {length}: as chosen before for this run")
    else:
        with voice.bar("counting tokens", unit="texts") as progress:
            counts = token_counts(checkpoint, texts, prefix=space.prefix, progress=progress)
        length = shortest_length(counts, limit=space.max_length)
        voice.say(_choice(counts, length, space.max_length, windows=space.long == "windows"))
    return dataclasses.replace(options, settings=dataclasses.replace(options.settings, max_length=length))


def _chosen_before(run: Run, space: Space) -> int | None:
    """What auto chose for these rows when this encoder's texts were first embedded: another pooling takes the same."""
    wanted = space.to_dict()
    for record in run.features(damaged="skip").values():
        same = all(record["identity"].get(field) == wanted[field] for field in ("files", "prefix"))
        if same and record.get("auto_length"):
            return int(record["max_length"])
    return None


def _choice(counts: NDArray[np.int32], length: int, limit: int, *, windows: bool) -> str:
    """`max length 64: cuts 0.7% of texts, 39 of 5,572 (32 would cut 4.1%)`."""
    longer = int((counts > length).sum())
    shorter = 2 ** ((length - 1).bit_length() - 1)  # the next power of two below
    named = f"max length {length}{', the limit of the encoder' if length == limit else ''}"
    share, of_shorter = f"{longer / len(counts):.1%}", f"{(counts > shorter).mean():.1%}"
    if windows:
        return f"{named}: {share} of texts are longer, {longer:,} of {len(counts):,} (with {shorter}: {of_shorter})"
    return f"{named}: cuts {share} of texts, {longer:,} of {len(counts):,} ({shorter} would cut {of_shorter})"


def token_facts(tokens: NDArray[np.int32], corpus: Corpus, space: Space, checkpoint: Checkpoint) -> dict[str, Any]:
    """How long the texts are in tokens, and what becomes of those beyond the length: `truncation` and `lengths`.

    Parameters
    ----------
    tokens : int32 array (N,)
        Tokens of each row, special tokens included.
    """
    classes = corpus.classes or [UNLABELLED]
    labels = np.zeros(len(tokens), np.int32) if corpus.labels is None else corpus.labels
    windows = None
    if space.long == "windows":
        over = (tokens > space.max_length).any()  # only then the tokenizer is needed
        special = special_tokens(checkpoint) if over else 0
        windows = count_windows(tokens, max_length=space.max_length, special=special)
    facts = truncation(tokens > space.max_length, windows, labels, space.max_length, classes)
    return {
        "truncation": facts if corpus.classes else {**facts, "per_class": {}},
        "lengths": _lengths(tokens, labels, classes),
    }


def truncation(
    longer: NDArray[np.bool_],
    windows: NDArray[np.int64] | None,
    labels: NDArray[np.int32],
    max_length: int,
    classes: list[str],
) -> dict[str, Any]:
    """How many texts are cut, in all and by class; of a space that reads windows, how many texts and windows those are.

    Parameters
    ----------
    longer : bool array (N,)
        Whether a text has more than `max_length` tokens.
    windows : int array (N,) or None
        Windows of each text; None: longer texts are cut.
    labels : int array (N,)
        Positions in `classes`.
    """

    def of(values: NDArray[Any]) -> list[int]:
        return [int(n) for n in np.bincount(labels, values, minlength=len(classes))]  # (K,)

    rows, beyond = of(np.ones(len(labels))), of(longer)
    read = of(np.where(longer, windows, 0)) if windows is not None else None
    per_class = {
        label: _count(rows[k], beyond[k], read[k] if read is not None else None) for k, label in enumerate(classes)
    }
    whole = _count(sum(rows), sum(beyond), sum(read) if read is not None else None)
    return {"max_length": max_length, **whole, "per_class": per_class}


def _count(rows: int, beyond: int, windows: int | None) -> dict[str, Any]:
    """Of so many rows, those longer than the length: cut, or read in so many windows."""
    share = beyond / rows if rows else 0.0
    if windows is None:
        return {"rows": rows, "truncated": beyond, "share": share}
    read = {"windowed": beyond, "windowed_share": share, "windows": windows}
    return {"rows": rows, "truncated": 0, "share": 0.0, **read}


def _lengths(tokens: NDArray[np.int32], labels: NDArray[np.int32], classes: list[str]) -> dict[str, dict[str, int]]:
    """How many texts of each class have each length in tokens, before truncation."""
    table: dict[str, dict[str, int]] = {label: {} for label in classes}
    span = int(tokens.max(initial=0)) + 1
    pairs, counts = np.unique(labels.astype(np.int64) * span + tokens, return_counts=True)
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        label, length = divmod(pair, span)
        table[classes[label]][str(length)] = count
    return table
