"""A shard: an immutable file of keys and vectors of one space, named by the sha256 of its own bytes.

The file is safetensors, so any reader of that format can open it: `keys` uint8 (n, 32) sorted, `vectors` (n, D),
`tokens` int32 (n,) the length of each text in tokens before truncation. Its metadata names the space, so that
a shard put into another space's folder is seen as foreign although its name fits its bytes.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from frozenhead.cache.keys import KEY_BYTES, Keys, sorting_order

SHARD_FORMAT = "frozenhead-shard-1"
SUFFIX = ".safetensors"

_DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype(np.uint8),
    "I32": np.dtype(np.int32),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
}
_LENGTH_BYTES = 8  # a safetensors file opens with the length of its header, little-endian


class BadShard(Exception):
    """A file that is not the shard it claims to be; the message says how it was noticed."""


@dataclass(frozen=True, kw_only=True)
class ShardLayout:
    """Where the arrays of a shard lie in its file, and the keys, read once.

    Attributes
    ----------
    keys : uint8 array (n, 32), sorted
    tokens : int32 array (n,)
    vectors_at : int
        Byte offset of `vectors` in the file.
    vectors_dtype : numpy dtype
    dim : int
    """

    keys: Keys
    tokens: NDArray[np.int32]
    vectors_at: int
    vectors_dtype: np.dtype[Any]
    dim: int

    @property
    def rows(self) -> int:
        """Number of keys, n."""
        return len(self.keys)

    def vectors(self, data: bytes) -> NDArray[Any]:
        """The vectors (n, D) inside the bytes of the whole file, as a read-only view."""
        flat = np.frombuffer(data, self.vectors_dtype, count=self.rows * self.dim, offset=self.vectors_at)
        return flat.reshape(self.rows, self.dim)

    def read_vectors(self, file: BinaryIO) -> NDArray[Any]:
        """The vectors (n, D), read from the open file anew. A plain read, not a map: a file cut short while
        it is mapped kills the process, while a short read is an error like any other."""
        file.seek(0)
        flat = np.fromfile(file, self.vectors_dtype, count=self.rows * self.dim, offset=self.vectors_at)
        if flat.size != self.rows * self.dim:
            raise BadShard("it became shorter")
        return flat.reshape(self.rows, self.dim)


def encode_shard(space_id: str, keys: Keys, vectors: NDArray[Any], tokens: NDArray[np.int32]) -> bytes:
    """The bytes of a shard. Equal content gives equal bytes, hence one name.

    Parameters
    ----------
    space_id : str
    keys : uint8 array (n, 32), distinct, any order
    vectors : array (n, D) of the space's stored dtype
    tokens : int32 array (n,)
    """
    if len(vectors) != len(keys) or len(tokens) != len(keys) or vectors.ndim != 2:
        raise ValueError(f"Shapes do not fit: keys {keys.shape}, vectors {vectors.shape}, tokens {tokens.shape}.")
    order = sorting_order(keys)
    arrays = {"keys": keys[order], "tokens": tokens[order], "vectors": vectors[order]}
    # One entry only: safetensors writes several in an order that changes from call to call, and with it the name.
    metadata = {SHARD_FORMAT: space_id}
    return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata))


def shard_name(data: bytes) -> str:
    """The name that belongs to these bytes: their sha256."""
    return hashlib.sha256(data).hexdigest()


def check_shard(name: str, data: bytes, space_id: str) -> ShardLayout:
    """Verify a shard's bytes against its name, its header and its space.

    Raises
    ------
    BadShard
        The bytes are not those the file was written with, or belong to another space.
    """
    if shard_name(data) != name:
        raise BadShard("its bytes do not match its name")
    return parse_layout(data, space_id)


def parse_layout(data: bytes, space_id: str) -> ShardLayout:
    """Read the header; every claim in it is checked against the size of the file. Raises `BadShard`."""
    header, start = parse_header(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or SHARD_FORMAT not in metadata:
        raise BadShard("it is not a frozenhead shard of this format")
    if metadata[SHARD_FORMAT] != space_id:
        raise BadShard("it belongs to another space")
    if set(header) != {"keys", "tokens", "vectors"}:
        raise BadShard("its arrays are not keys, tokens and vectors")
    spans = {name: _span(entry, start, len(data)) for name, entry in header.items()}
    if start + sum(math.prod(shape) * dtype.itemsize for dtype, shape, _ in spans.values()) != len(data):
        raise BadShard("its size does not match its header")
    (k_type, k_shape, k_at), (t_type, t_shape, t_at), (v_type, v_shape, v_at) = (
        spans[name] for name in ("keys", "tokens", "vectors")
    )
    rows = k_shape[0] if k_shape else 0
    if k_shape != (rows, KEY_BYTES) or t_shape != (rows,) or len(v_shape) != 2 or v_shape[0] != rows:
        raise BadShard("its arrays do not fit each other")
    if k_type != np.uint8 or t_type != np.int32 or v_type.kind != "f":
        raise BadShard("its arrays have other types")
    return ShardLayout(
        # Copies, so that the 64 MiB of the file are not kept alive by their keys.
        keys=np.frombuffer(data, np.uint8, rows * KEY_BYTES, k_at).reshape(rows, KEY_BYTES).copy(),
        tokens=np.frombuffer(data, np.int32, rows, t_at).copy(),
        vectors_at=v_at,
        vectors_dtype=v_type,
        dim=v_shape[1],
    )


def parse_header(data: bytes) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file and the offset at which its data start. Raises `BadShard`."""
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    if len(data) < _LENGTH_BYTES or start > len(data):
        raise BadShard("it is cut short")
    try:
        header = json.loads(data[_LENGTH_BYTES:start])
    except (ValueError, RecursionError) as error:
        raise BadShard("its header is not JSON") from error
    if not isinstance(header, dict):
        raise BadShard("its header is not an object")
    return header, start


def _span(entry: Any, start: int, size: int) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Dtype, shape and file offset of one array, or `BadShard` if the claim does not hold."""
    try:
        dtype: np.dtype[Any] = _DTYPES[entry["dtype"]]
        shape: tuple[int, ...] = tuple(entry["shape"])
        begin, end = entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise BadShard("its header lacks a field") from error
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)):
        raise BadShard("its header holds no sizes")
    if end - begin != math.prod(shape) * dtype.itemsize or start + end > size:
        raise BadShard("its size does not match its header")
    return dtype, shape, start + begin
