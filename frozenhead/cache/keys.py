"""Keys: the sha256 of a text, and how they are compared in bulk.

A key is 32 bytes, a row of a uint8 array (n, 32). Sorting and searching go by the first 8 bytes read
as one big-endian number; the other 24 are always compared as well, so that no key is ever taken for another.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 32

Keys = NDArray[np.uint8]


def text_keys(texts: Iterable[str], *, prefix: str = "") -> Keys:
    """Keys of texts: sha256 of the UTF-8 bytes that reach the tokenizer.

    Parameters
    ----------
    texts : iterable of str, length N
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
    sha256 = hashlib.sha256
    digests = b"".join([sha256((prefix + text).encode()).digest() for text in texts])
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, KEY_BYTES)


def leading_number(keys: Keys) -> NDArray[np.uint64]:
    """The first 8 bytes of each key as a number that sorts as the key does: uint64 (n,)."""
    return np.ascontiguousarray(keys[:, :8]).view(">u8").ravel().astype(np.uint64)


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
    order = sorting_order(keys)
    ordered = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    group = np.cumsum(new) - 1  # group number in key order
    first_sorted = order[new]  # lexsort is stable: the first of a group is its first row
    by_row = np.argsort(first_sorted, kind="stable")
    rank = np.empty_like(by_row)
    rank[by_row] = np.arange(len(by_row))
    inverse = np.empty(len(keys), np.intp)
    inverse[order] = rank[group]
    return first_sorted[by_row], inverse


def find_keys(ordered: Keys, wanted: Keys) -> NDArray[np.intp]:
    """Positions of `wanted` keys in `ordered` keys, -1 where absent.

    Parameters
    ----------
    ordered : uint8 array (n, 32), sorted by all bytes
    wanted : uint8 array (m, 32), any order
        In the order of `leading_number` the search is several times faster: it walks through memory.

    Returns
    -------
    int array (m,)
    """
    positions = np.full(len(wanted), -1, np.intp)
    numbers, wanted_numbers = leading_number(ordered), leading_number(wanted)
    open_rows = np.arange(len(wanted))
    candidates = np.searchsorted(numbers, wanted_numbers, side="left")
    while len(open_rows):
        near = candidates < len(ordered)
        near[near] = numbers[candidates[near]] == wanted_numbers[open_rows[near]]
        open_rows, candidates = open_rows[near], candidates[near]
        equal = (ordered[candidates] == wanted[open_rows]).all(axis=1)
        positions[open_rows[equal]] = candidates[equal]
        # Two keys with the same first 8 bytes: 1 in 2^64 per pair by chance, but then the next one is looked at.
        open_rows, candidates = open_rows[~equal], candidates[~equal] + 1
    return positions
