"""How long a run's texts are: the length that `--max-length auto` chooses, and what a length cuts, by class."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import Space
from frozenhead.commands.options import EmbedOptions
from frozenhead.commands.voice import Advance, Voice
from frozenhead.corpus import Corpus, LargeCorpus
from frozenhead.embedder import Checkpoint, count_windows, shortest_length, space_of, special_tokens, token_counts
from frozenhead.runs import Run

UNLABELLED = ""


def settle_length(
    options: EmbedOptions, checkpoint: Checkpoint, corpus: Corpus | LargeCorpus, run: Run | None, voice: Voice
) -> EmbedOptions:
    """Put a number for `--max-length auto`, said aloud: the one this run has for this encoder, else the texts' own.

    Parameters
    ----------
    corpus : Corpus or LargeCorpus
        A copy of a text counts as often as it stands.
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
            rows = _rows_by_length(checkpoint, corpus, space.prefix, progress)
        length = shortest_length(np.arange(len(rows)), limit=space.max_length, rows=rows)
        voice.say(_choice(rows, length, space.max_length, windows=space.long == "windows"))
    return dataclasses.replace(options, settings=dataclasses.replace(options.settings, max_length=length))


def _rows_by_length(
    checkpoint: Checkpoint, corpus: Corpus | LargeCorpus, prefix: str, progress: Advance
) -> NDArray[np.int64]:
    """How many rows have 0, 1, 2, ... tokens."""
    rows, done = np.zeros(1, np.int64), 0
    for bucket in corpus.buckets():
        own = len(bucket.texts)

        def advance(part: int, whole: int, own: int = own, done: int = done) -> None:
            progress(done + own * part // max(whole, 1), corpus.rows)

        report = progress if corpus.bucket_count == 1 else advance
        counts = np.bincount(token_counts(checkpoint, bucket.texts, prefix=prefix, progress=report))
        rows = np.pad(rows, (0, max(0, len(counts) - len(rows))))
        rows[: len(counts)] += counts
        done += own
    return rows


def _chosen_before(run: Run, space: Space) -> int | None:
    """What auto chose for these rows when this encoder's texts were first embedded: another pooling takes the same."""
    wanted = space.to_dict()
    for record in run.features(damaged="skip").values():
        same = all(record["identity"].get(field) == wanted[field] for field in ("files", "prefix"))
        if same and record.get("auto_length"):
            return int(record["max_length"])
    return None


def _choice(rows: NDArray[np.int64], length: int, limit: int, *, windows: bool) -> str:
    """`max length 64: cuts 0.7% of texts, 39 of 5,572 (32 would cut 4.1%)`; rows of 0, 1, 2, ... tokens."""
    longer, texts = int(rows[length + 1 :].sum()), int(rows.sum())
    shorter = 2 ** ((length - 1).bit_length() - 1)  # the next power of two below
    named = f"max length {length}{', the limit of the encoder' if length == limit else ''}"
    share, of_shorter = f"{longer / texts:.1%}", f"{rows[shorter + 1 :].sum() / texts:.1%}"
    if windows:
        return f"{named}: {share} of texts are longer, {longer:,} of {texts:,} (with {shorter}: {of_shorter})"
    return f"{named}: cuts {share} of texts, {longer:,} of {texts:,} ({shorter} would cut {of_shorter})"


def token_facts(
    tokens: NDArray[np.int32],
    labels: NDArray[np.int32] | None,
    classes: list[str],
    *,
    space: Space,
    checkpoint: Checkpoint,
) -> dict[str, Any]:
    """How long the texts are in tokens, and what becomes of those beyond the length: `truncation` and `lengths`.

    Parameters
    ----------
    tokens : int32 array (n,)
        Tokens of each row, special tokens included.
    labels : int32 array (n,) or None
        Positions in `classes`; None when unlabelled.
    classes : list of str (K,)
    """
    labelled = labels is not None
    classes = classes if labelled else [UNLABELLED]
    labels = np.zeros(len(tokens), np.int32) if labels is None else labels
    windows = None
    if space.long == "windows":
        over = (tokens > space.max_length).any()  # only then the tokenizer is needed
        special = special_tokens(checkpoint) if over else 0
        windows = count_windows(tokens, max_length=space.max_length, special=special)
    facts = truncation(tokens > space.max_length, windows, labels, space.max_length, classes)
    return {
        "truncation": facts if labelled else {**facts, "per_class": {}},
        "lengths": _lengths(tokens, labels, classes),
    }


def add_facts(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `token_facts` says of all rows, from what it says of parts of them."""
    if len(parts) == 1:
        return parts[0]
    cut, lengths = [part["truncation"] for part in parts], [part["lengths"] for part in parts]
    per_class = {label: _added([one["per_class"][label] for one in cut]) for label in cut[0]["per_class"]}
    whole = {"max_length": cut[0]["max_length"], **_added(cut), "per_class": per_class}
    return {"truncation": whole, "lengths": {label: _summed([one[label] for one in lengths]) for label in lengths[0]}}


def _added(counts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`_count` of all rows."""
    windows = sum(one["windows"] for one in counts) if "windows" in counts[0] else None
    beyond = sum(one["truncated" if windows is None else "windowed"] for one in counts)
    return _count(sum(one["rows"] for one in counts), beyond, windows)


def _summed(tables: Sequence[dict[str, int]]) -> dict[str, int]:
    """Rows by length of all parts, the shortest first."""
    lengths = sorted({int(length) for table in tables for length in table})
    return {str(length): sum(table.get(str(length), 0) for table in tables) for length in lengths}


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
