"""Texts -> token ids, cut at the length a space keeps or laid out in windows of it, with the count of all tokens."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.embedder.windows import Long, overlap
from frozenhead.errors import EncoderUnfit

# Given to the tokenizer at once. It cannot be interrupted, and takes 8 s and 1.3 GB for a text of 10 MB; so Ctrl-C
# waits for one such text, or for a second.
TEXTS_AT_ONCE = 256
CHARACTERS_AT_ONCE = 2**20

_NONE = np.zeros(0, np.int32)


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """Tokenised texts: m rows of n texts. A text has one row, but for those that are read in windows.

    Attributes
    ----------
    rows : list of dict (m,)
        The model's inputs as lists of int, at most `max_length` long.
    texts : int array (m,)
        Which text each row is of; never falls.
    content : int32 array (m,)
        Tokens of each row, special tokens left out.
    lengths : int32 array (m,)
        Tokens of each row.
    counts : int32 array (n,)
        Tokens of each text before it is cut or laid out, special tokens included.
    unknown : bool array (m,)
        Whether a row has content, and nothing in it but words unknown to the tokenizer.
    """

    rows: list[dict[str, list[int]]]
    texts: NDArray[np.intp]
    content: NDArray[np.int32]
    lengths: NDArray[np.int32]
    counts: NDArray[np.int32]
    unknown: NDArray[np.bool_]

    def windows(self) -> NDArray[np.intp]:
        """How many rows each text has (n,)."""
        return np.bincount(self.texts, minlength=len(self.counts))

    def unknown_only(self) -> NDArray[np.bool_]:
        """Which texts (n,) hold nothing but unknown words, as far as they are kept."""
        found: NDArray[np.bool_] = np.bincount(self.texts, ~self.unknown, minlength=len(self.counts)) == 0
        return found


def tokenize(tokenizer: Any, texts: Sequence[str], *, max_length: int, long: Long = "cut") -> TokenRows:
    """Token ids of each text, cut at `max_length` or in windows of it, and how many tokens there were.

    Raises
    ------
    EncoderUnfit
        A tokenizer of the slow kind cannot lay out windows.
    """
    lay_out = _laid_out if tokenizer.is_fast else _cut_slowly
    parts = [list(texts[part]) for part in text_parts(texts)]
    return join_rows([lay_out(tokenizer, part, max_length=max_length, long=long) for part in parts])


def join_rows(parts: Sequence[TokenRows]) -> TokenRows:
    """Tokenised texts one after the other."""
    starts = np.cumsum([0, *(len(part.counts) for part in parts)])
    return TokenRows(
        rows=[row for part in parts for row in part.rows],
        texts=np.concatenate(
            [np.zeros(0, np.intp), *(part.texts + start for part, start in zip(parts, starts, strict=False))]
        ),
        content=np.concatenate([_NONE, *(part.content for part in parts)]),
        lengths=np.concatenate([_NONE, *(part.lengths for part in parts)]),
        counts=np.concatenate([_NONE, *(part.counts for part in parts)]),
        unknown=np.concatenate([np.zeros(0, bool), *(part.unknown for part in parts)]),
    )


def count_tokens(
    tokenizer: Any, texts: Sequence[str], *, prefix: str = "", progress: Callable[[int, int], None] | None = None
) -> NDArray[np.int32]:
    """Tokens of each text (n,) behind a prefix, special tokens included.

    `progress` is told (texts counted, texts in all).
    """
    counts = np.zeros(len(texts), np.int32)
    for part in text_parts(texts):
        whole = tokenizer(
            [prefix + text for text in texts[part]],
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        counts[part] = [len(ids) for ids in whole["input_ids"]]
        if progress:
            progress(part.stop, len(texts))
    return counts


def text_parts(
    texts: Sequence[str], *, most: int = TEXTS_AT_ONCE, characters: int = CHARACTERS_AT_ONCE
) -> Iterator[slice]:
    """Consecutive parts of at most `most` texts and `characters` characters; a longer text is a part alone."""
    start = held = 0
    for i, text in enumerate(texts):
        if i > start and (i - start == most or held + len(text) > characters):
            yield slice(start, i)
            start, held = i, 0
        held += len(text)
    if start < len(texts):
        yield slice(start, len(texts))


def _laid_out(tokenizer: Any, texts: list[str], *, max_length: int, long: Long) -> TokenRows:
    """What the tokenizer cuts off it can return as further rows: one pass gives rows and counts."""
    special = tokenizer.num_special_tokens_to_add()
    shared = overlap(max_length - special) if long == "windows" else 0
    table = tokenizer(
        texts,
        padding=False,
        truncation=True,
        max_length=max_length,
        stride=shared,
        return_overflowing_tokens=True,
        return_attention_mask=True,
    )
    of = np.array(table.pop("overflow_to_sample_mapping"), np.intp)  # (m,)
    lengths = np.array([len(ids) for ids in table["input_ids"]], np.int32)  # (m,)
    content = lengths - np.int32(special)
    counts = np.bincount(of, content - shared) + shared + special  # (n,)  each row but a text's first repeats `shared`
    # The first row of a text is the text cut: [SEP] stays, and some tokenizers cut on the left.
    kept = np.arange(len(of)) if long == "windows" else np.flatnonzero(np.diff(of, prepend=-1))
    return TokenRows(
        rows=[{name: table[name][i] for name in table} for i in kept],
        texts=of[kept],
        content=content[kept],
        lengths=lengths[kept],
        counts=counts.astype(np.int32),
        unknown=_unknown(tokenizer, [table["input_ids"][i] for i in kept], content[kept]),
    )


def _unknown(tokenizer: Any, rows: list[list[int]], content: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which rows (m,) are unknown words only; none where the tokenizer spells every word from bytes."""
    unknown = tokenizer.unk_token_id
    counts = np.array([row.count(unknown) for row in rows], np.int32)
    only: NDArray[np.bool_] = (counts == content) & (content > 0)
    return only


def _cut_slowly(tokenizer: Any, texts: list[str], *, max_length: int, long: Long) -> TokenRows:
    """A tokenizer written in Python does not return what it cuts off: it is asked twice."""
    if long == "windows":
        raise EncoderUnfit(
            "This checkpoint's tokenizer cannot lay out windows: it has no fast form (tokenizer.json).\n"
            "Leave --long windows out, or take another encoder."
        )
    whole = tokenizer(texts, padding=False, truncation=False, verbose=False)
    cut = tokenizer(texts, padding=False, truncation=True, max_length=max_length, return_attention_mask=True)
    lengths = np.array([len(ids) for ids in cut["input_ids"]], np.int32)
    content = lengths - np.int32(tokenizer.num_special_tokens_to_add())
    return TokenRows(
        rows=[{name: cut[name][i] for name in cut} for i in range(len(texts))],
        texts=np.arange(len(texts)),
        content=content,
        lengths=lengths,
        counts=np.array([len(ids) for ids in whole["input_ids"]], np.int32),
        unknown=_unknown(tokenizer, cut["input_ids"], content),
    )
