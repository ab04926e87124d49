"""A shard: an immutable file of keys and vectors of one space, named by the sha256 of its own bytes.

The file is safetensors, so any reader of that format can open it: `keys` uint8 (n, 32) sorted, `vectors` (n, D),
`tokens` int32 (n,) the length of each text in tokens before truncation. Its header follows from the space and n
alone and is compared byte for byte: a shard of another space, size or type is seen although its name fits.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache.keys import KEY_BYTES, Keys, are_sorted, sorting_order
from frozenhead.cache.space import Space
from frozenhead.errors import FormatRefused

SHARD_FORMAT = "frozenhead-shard-1"
SUFFIX = ".safetensors"
HEADER_LIMIT = 4096  # bytes; our headers are under 500

Bytes = NDArray[np.uint8]
Reader = Callable[[int, int], Bytes]
"""Called with (offset, size), gives bytes of a file."""

_NAME = re.compile(r"[0-9a-f]{64}")
_MARK = re.compile(rb'"(frozenhead-shard-[0-9]+)":"([0-9a-f]*)"')
_END = re.compile(rb'"data_offsets":\[[0-9]{1,18},([0-9]{1,18})\]')
_PIECE_BYTES = 2**20  # hashed at once
_LENGTH_BYTES = 8  # a safetensors file opens with the length of its header, little-endian


class BadShard(Exception):
    """A file that is not the shard it claims to be; the message says how it was noticed."""


@dataclass(frozen=True, kw_only=True)
class ShardLayout:
    """Where the arrays of a shard lie in its file.

    Attributes
    ----------
    rows, dim : int
        n and D.
    dtype : numpy dtype
        Of the vectors.
    header : bytes
        How the file begins.
    keys_at, tokens_at, vectors_at : int
        Byte offsets in the file.
    size : int
        Bytes of the whole file.
    """

    rows: int
    dim: int
    dtype: np.dtype[Any]
    header: bytes
    keys_at: int
    tokens_at: int
    vectors_at: int
    size: int


def shard_layout(space: Space, rows: int) -> ShardLayout:
    """The one layout of a shard of so many rows: as the safetensors library writes it, aligned, wide types first."""
    dtype = np.dtype(space.dtype)
    arrays = {
        "vectors": (dtype.itemsize, f"F{8 * dtype.itemsize}", [rows, space.dim]),
        "tokens": (4, "I32", [rows]),
        "keys": (1, "U8", [rows, KEY_BYTES]),
    }
    if dtype.itemsize < 4:
        arrays = {name: arrays[name] for name in ("tokens", "vectors", "keys")}
    content: dict[str, Any] = {"__metadata__": {SHARD_FORMAT: space.id}}
    starts, end = {}, 0
    for name, (width, kind, shape) in arrays.items():
        starts[name], end = end, end + width * math.prod(shape)
        content[name] = {"dtype": kind, "shape": shape, "data_offsets": [starts[name], end]}
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    return ShardLayout(
        rows=rows,
        dim=space.dim,
        dtype=dtype,
        header=header,
        keys_at=len(header) + starts["keys"],
        tokens_at=len(header) + starts["tokens"],
        vectors_at=len(header) + starts["vectors"],
        size=len(header) + end,
    )


class OpenShard:
    """The arrays of a shard. Closing it, as leaving its `with` block does, ends what was read from it.

    Parameters
    ----------
    layout : ShardLayout
    read : callable
        `read(offset, size)` gives bytes of the file; it raises `BadShard` if there are not so many.
    close : callable
    """

    def __init__(
        self, layout: ShardLayout, read: Callable[[int, int], Bytes], close: Callable[[], None] = lambda: None
    ) -> None:
        self.layout = layout
        self._read = read
        self.close = close

    def __enter__(self) -> "OpenShard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keys(self) -> Keys:
        """uint8 (n, 32), sorted."""
        layout = self.layout
        return self._read(layout.keys_at, layout.rows * KEY_BYTES).reshape(layout.rows, KEY_BYTES)

    def tokens(self) -> NDArray[np.int32]:
        """int32 (n,)."""
        return self._read(self.layout.tokens_at, self.layout.rows * 4).view(np.int32)

    def vectors(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` of the vectors, (stop - start, D) of the stored dtype."""
        layout = self.layout
        row = layout.dim * layout.dtype.itemsize
        data = self._read(layout.vectors_at + start * row, (stop - start) * row)
        return data.view(layout.dtype).reshape(stop - start, layout.dim)


def encode_shard(
    space: Space, keys: Keys, vectors: NDArray[Any], tokens: NDArray[np.int32]
) -> tuple[bytes | memoryview, ...]:
    """The bytes of a shard, in parts. Equal content gives equal bytes, hence one name.

    Parameters
    ----------
    space : Space
    keys : uint8 array (n, 32)
        In any order. Of a key that stands twice the first row is taken.
    vectors : array (n, D) of the space's stored dtype
    tokens : int32 array (n,)
    """
    n = len(keys)
    expected = [((n, KEY_BYTES), np.uint8), ((n, space.dim), np.dtype(space.dtype)), ((n,), np.int32)]
    if [(array.shape, array.dtype) for array in (keys, vectors, tokens)] != expected:
        raise ValueError(f"Arrays do not fit: keys {keys.shape}, vectors {vectors.shape}, tokens {tokens.shape}.")
    order = sorting_order(keys)
    ordered = keys[order]
    new = np.ones(n, bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    order = order[new]
    layout = shard_layout(space, len(order))
    parts: dict[int, NDArray[Any]] = {
        layout.keys_at: ordered[new],
        layout.tokens_at: tokens[order],
        layout.vectors_at: vectors[order],
    }
    return layout.header, *(parts[at].view(np.uint8).reshape(-1).data for at in sorted(parts))


def shard_name(*parts: bytes | memoryview) -> str:
    """The name that belongs to these bytes: their sha256."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def is_shard_name(name: str) -> bool:
    """Whether this is the name of a shard, without suffix: 64 hexadecimal digits."""
    return _NAME.fullmatch(name) is not None


def is_shard_file(name: str) -> bool:
    """Whether a file name is that of a shard."""
    return name.endswith(SUFFIX) and is_shard_name(name.removesuffix(SUFFIX))


def rows_by_size(space: Space, size: int) -> int:
    """Rows of a shard of so many bytes; 0 if no number of rows gives that size."""
    row = 4 + KEY_BYTES + space.dim * np.dtype(space.dtype).itemsize
    likely = range(max(size - HEADER_LIMIT, 0) // row, size // row + 1)
    return next((rows for rows in likely if shard_layout(space, rows).size == size), 0)


def check_size(start: bytes, size: int) -> None:
    """Raise `BadShard` unless a file of `size` bytes that begins with `start` is as long as its header says.

    Before the rest is read: what a damaged file system takes for its size may be more than memory.
    """
    begin = _LENGTH_BYTES + int.from_bytes(start[:_LENGTH_BYTES], "little")
    if begin + max((int(end) for end in _END.findall(start[:begin])), default=-1) != size:
        raise BadShard("its size does not match its header")


def check_bytes(name: str, data: Bytes) -> None:
    """Raise `BadShard` unless the bytes are those that the file was named for."""
    if shard_name(data.data) != name:
        raise BadShard("its bytes do not match its name")


def check_shard(name: str, data: Bytes, space: Space) -> ShardLayout:
    """Verify a shard's bytes against its name, its space, and the order of its keys.

    Raises
    ------
    BadShard
        The bytes are not those the file was written with, or belong to another space.
    FormatRefused
        They are sound, and of a newer format.
    """
    check_bytes(name, data)
    layout = check_header(data[:HEADER_LIMIT].tobytes(), len(data), space)
    if not are_sorted(data[layout.keys_at :][: layout.rows * KEY_BYTES].reshape(layout.rows, KEY_BYTES)):
        raise BadShard("its keys are not in order")
    return layout


def check_in_pieces(name: str, layout: ShardLayout, read: Reader, room: Bytes) -> Reader:
    """Verify a shard whose header gave `layout` as `check_shard` does, a MiB at a time; keep all but its vectors.

    Parameters
    ----------
    room : uint8 array
        Where its keys and tokens are kept: 36 bytes a row.

    Returns
    -------
    callable
        `read` for an `OpenShard`, which has no vectors.
    """
    kept = {layout.keys_at: room[: layout.rows * KEY_BYTES], layout.tokens_at: room[layout.rows * KEY_BYTES :]}
    kept[0] = np.empty(len(layout.header), np.uint8)
    digest = hashlib.sha256()
    for start in range(0, layout.size, _PIECE_BYTES):
        piece = read(start, min(_PIECE_BYTES, layout.size - start))
        digest.update(piece.data)
        for at, part in kept.items():
            first, last = max(start, at), min(start + len(piece), at + len(part))
            if first < last:
                part[first - at : last - at] = piece[first - start : last - start]
    if digest.hexdigest() != name or kept[0].tobytes() != layout.header:
        raise BadShard("its bytes do not match its name")
    if not are_sorted(kept[layout.keys_at].reshape(layout.rows, KEY_BYTES)):
        raise BadShard("its keys are not in order")
    return lambda offset, size: kept[offset][:size]


def check_header(start: bytes, size: int, space: Space) -> ShardLayout:
    """The layout of a file of `size` bytes that begins with `start`. Raises `BadShard` and `FormatRefused`."""
    row = 4 + KEY_BYTES + space.dim * np.dtype(space.dtype).itemsize
    begin = _LENGTH_BYTES + int.from_bytes(start[:_LENGTH_BYTES], "little")
    layout = shard_layout(space, max(size - begin, 0) // row)
    if size == layout.size and start[:begin] == layout.header:
        return layout
    mark = _MARK.search(start[:begin])
    if mark is None:
        raise BadShard("it is not a frozenhead shard")
    found, owner = mark[1].decode(), mark[2].decode()
    if found != SHARD_FORMAT:
        raise FormatRefused(
            f"The cache holds shards of another format ({found}) than this version knows ({SHARD_FORMAT}).\n"
            "Upgrade frozenhead, or choose another folder with --cache-dir."
        )
    raise BadShard("it belongs to another space" if owner != space.id else "its size does not match its header")
