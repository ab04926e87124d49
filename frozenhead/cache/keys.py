"""Keys: the sha256 of a text, and how they are compared in bulk.

A key is 32 bytes, a row of a uint8 array (n, 32). Sorting and searching go by the first 8 bytes read
as one big-endian number; the other 24 are always compared as well, so that no key is ever taken for another.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from frozenhead.texts import Texts

KEY_BYTES = 32

Keys = NDArray[np.uint8]


def text_keys(texts: Iterable[str], *, prefix: str = "") -> Keys:
    """Keys of texts: sha256 of the UTF-8 bytes that reach the tokenizer.

    Parameters
    ----------
    texts : iterable of str, length N
        Of `Texts` no string is made.
    prefix : str
        Put before every text, as the encoder sees it.

    Returns
    -------
    uint8 array (N, 32)

    Raises
    ------
    UnicodeEncodeError
        A text holds a lone surrogate, which has no UTF-8 form.
    """
    sha256, start = hashlib.sha256, prefix.encode()
    if isinstance(texts, Texts):
        parts = texts.utf8()
        whole, done = np.empty((len(texts), KEY_BYTES), np.uint8), 0
        for part in parts:
            digests = b"".join([sha256(start + text).digest() for text in part])
            whole[done : done + len(part)] = np.frombuffer(digests, np.uint8).reshape(-1, KEY_BYTES)
            done += len(part)
        return whole
    digests = b"".join([sha256(start + text.encode()).digest() for text in texts])
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, KEY_BYTES)


def leading_number(keys: Keys) -> NDArray[np.uint64]:
    """The first 8 bytes of each key as a number that sorts as the key does: uint64 (n,)."""
    return np.ascontiguousarray(keys[:, :8]).view(">u8").ravel().astype(np.uint64)


def key_shares(keys: Keys, n: int) -> NDArray[np.int64]:
    """Which of `n` shares owns each key (N, 32): the first eight bytes as a big-endian number, modulo n; int64 (N,)."""
    return (np.ascontiguousarray(keys[:, :8]).view(">u8")[:, 0] % np.uint64(n)).astype(np.int64)


def sorting_order(keys: Keys) -> NDArray[np.intp]:
    """The order that sorts keys by all 32 bytes: int (n,)."""
    words = np.ascontiguousarray(keys).view(">u8").astype(np.uint64)  # (n, 4)
    return np.lexsort(words.T[::-1])


def distinct_keys(keys: Keys) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each distinct key first stands, and which distinct key each row has.

    Returns
    -------
    first : int array (m,)
        Rows of the first occurrences, in row order.
    inverse : int array (n,)
        `keys[first][inverse]` equals `keys`.

    Examples
    --------
    Rows a b a c: first = [0, 1, 3], inverse = [0, 1, 0, 2].
    """
    if len(keys) == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    order, new = _groups(keys)
    if new.all():
        return np.arange(len(keys)), np.arange(len(keys))
    group = np.cumsum(new) - 1  # group number in key order
    first_sorted = order[new]  # the order is stable: the first of a group is its first row
    by_row = np.argsort(first_sorted, kind="stable")
    rank = np.empty_like(by_row)
    rank[by_row] = np.arange(len(by_row))
    inverse = np.empty(len(keys), np.intp)
    inverse[order] = rank[group]
    return first_sorted[by_row], inverse


def _groups(keys: Keys) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """An order that brings equal keys together, stable, and where in it a key stands for the first time: both (n,)."""
    numbers = leading_number(keys)
    order = np.argsort(numbers, kind="stable")
    words = np.ascontiguousarray(keys).view(np.uint64)  # (n, 4)
    new = np.ones(len(keys), bool)
    new[1:] = np.diff(numbers[order]) != 0
    tied = np.flatnonzero(~new)
    same = np.ones(len(tied), bool)
    for word in (1, 2, 3):
        same &= words[order[tied], word] == words[order[tied - 1], word]
    if same.all():
        return order, new
    order = sorting_order(keys)  # chance makes two keys share their first 8 bytes once in 2^64 pairs
    ordered = keys[order]
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order, new


def join_keys(parts: Iterable[Keys]) -> Keys:
    """Keys one after the other; of no parts, no keys."""
    return np.concatenate([np.zeros((0, KEY_BYTES), np.uint8), *parts])


def are_sorted(keys: Keys) -> bool:
    """Whether keys are distinct and in the order of their bytes."""
    numbers = leading_number(keys)
    falling, tied = numbers[1:] < numbers[:-1], np.flatnonzero(numbers[1:] == numbers[:-1])
    return not falling.any() and all(keys[i].tobytes() < keys[i + 1].tobytes() for i in tied)  # ties: next to none


class WantedKeys:
    """Keys that are looked for, sorted once, so that shard after shard is matched against them.

    Parameters
    ----------
    keys : uint8 array (n, 32), any order, a key any number of times
    """

    def __init__(self, keys: Keys) -> None:
        numbers = leading_number(keys)
        self._keys = np.ascontiguousarray(keys)
        self._order = np.argsort(numbers)
        self._numbers = numbers[self._order]

    def match(self, ordered: Keys) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Where the keys stand in `ordered` (m, 32), which is sorted.

        Returns
        -------
        positions, rows : int arrays
            Every pair for which `ordered[positions]` equals `keys[rows]`; `positions` never falls.

        Examples
        --------
        Wanted b a c b in a b: positions [0, 1, 1], rows [1, 0, 3].
        """
        numbers = leading_number(ordered)
        if len(numbers) < len(self._numbers):  # search the fewer in the more
            positions, slots = _equal_pairs(numbers, self._numbers)
        else:
            slots, positions = _equal_pairs(self._numbers, numbers)
        if (positions[1:] < positions[:-1]).any():  # among wanted keys that share their first 8 bytes
            order = np.argsort(positions, kind="stable")
            positions, slots = positions[order], slots[order]
        rows = self._order[slots]
        # Chance makes two keys share their first 8 bytes once in 2^64 pairs; then the other 24 tell.
        held, wanted = np.ascontiguousarray(ordered).view(np.uint64), self._keys.view(np.uint64)  # (m, 4), (n, 4)
        equal = np.ones(len(rows), bool)
        for word in (1, 2, 3):  # one after the other: all at once would copy both keys of every pair
            equal &= held[positions, word] == wanted[rows, word]
        return (positions, rows) if equal.all() else (positions[equal], rows[equal])


def _equal_pairs(few: NDArray[np.uint64], many: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All (i, j) with few[i] == many[j], both sorted; i never falls, and j rises with equal i."""
    start = np.searchsorted(many, few, side="left")
    count = np.maximum(np.searchsorted(many, few, side="right") - start, 0)  # below 0 where `many` is not sorted
    i = np.repeat(np.arange(len(few)), count)
    before = np.cumsum(count) - count  # pairs of earlier i
    j = np.arange(len(i)) + np.repeat(start - before, count)
    return i, j
