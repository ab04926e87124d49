"""A shard comes back as it was written, and nothing else is ever taken for it."""

import hashlib
import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from frozenhead.cache import Space
from frozenhead.cache.keys import sorting_order, text_keys
from frozenhead.cache.shard import (
    BadShard,
    OpenShard,
    ShardLayout,
    check_header,
    check_shard,
    rows_by_size,
    shard_layout,
    shard_name,
)
from frozenhead.errors import FormatRefused
from tests.cache.examples import make_space, shard_bytes, tokens_of, vectors_of

SPACE = make_space()


def small_shard() -> bytes:
    keys = text_keys(["a", "b"])
    return shard_bytes(SPACE, keys, vectors_of(keys), tokens_of(keys))


def parsed(data: bytes) -> ShardLayout:
    """The layout that the header claims, as those read it who do not hash."""
    return check_header(data, len(data), SPACE)


def checked(name: str, data: bytes, space: Space = SPACE) -> ShardLayout:
    """The layout of what was verified."""
    return check_shard(name, np.frombuffer(data, np.uint8), space)


def opened(data: bytes, space: Space) -> OpenShard:
    """A shard in memory, verified."""
    array = np.frombuffer(data, np.uint8)
    return OpenShard(checked(shard_name(data), data, space), lambda offset, size: array[offset : offset + size])


def rebuilt(change: Any) -> bytes:
    """A small shard whose header was changed by hand; `change` is given the header as a dictionary."""
    data = small_shard()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header = change(header) or header
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@st.composite
def contents(draw: st.DrawFn) -> tuple[Space, Any, Any, Any]:
    rows, dim = draw(st.integers(0, 9)), draw(st.integers(1, 5))
    space = make_space(dim=dim, dtype=draw(st.sampled_from(["float32", "float16"])))
    keys = text_keys(str(i) for i in range(rows))
    vectors = draw(hnp.arrays(space.dtype, (rows, dim)))
    tokens = draw(hnp.arrays(np.int32, rows))
    return space, keys, vectors, tokens


@given(content=contents(), order=st.randoms(use_true_random=False))
def test_a_shard_gives_back_every_row_bit_for_bit(content: tuple[Space, Any, Any, Any], order: random.Random) -> None:
    space, keys, vectors, tokens = content
    shuffled = order.sample(range(len(keys)), len(keys))
    data = shard_bytes(space, keys[shuffled], vectors[shuffled], tokens[shuffled])
    shard = opened(data, space)
    rows = shard.layout.rows
    assert rows == len(keys)
    by_key = sorted(range(rows), key=lambda i: keys[i].tobytes())
    np.testing.assert_array_equal(shard.keys(), keys[by_key])
    np.testing.assert_array_equal(shard.tokens(), tokens[by_key])
    for start in range(rows + 1):
        for stop in range(start, rows + 1):
            back = shard.vectors(start, stop)
            assert (back.dtype, back.shape) == (vectors.dtype, (stop - start, vectors.shape[1]))
            assert back.tobytes() == vectors[by_key][start:stop].tobytes()  # bits: NaN and -0.0 as well


@given(content=contents())
def test_a_shard_is_what_the_safetensors_library_writes(content: tuple[Space, Any, Any, Any]) -> None:
    space, keys, vectors, tokens = content
    order = sorting_order(keys)
    arrays = {"keys": keys[order], "tokens": tokens[order], "vectors": vectors[order]}
    assert shard_bytes(space, keys, vectors, tokens) == save(arrays, {"frozenhead-shard-1": space.id})


@given(rows=st.integers(1, 10**7), dim=st.integers(1, 4096), dtype=st.sampled_from(["float32", "float16"]))
def test_the_size_of_a_shard_tells_its_rows(rows: int, dim: int, dtype: Any) -> None:
    space = make_space(dim=dim, dtype=dtype)
    size = shard_layout(space, rows).size
    assert rows_by_size(space, size) == rows
    assert rows_by_size(space, size + 1) == 0  # all are even


def test_the_order_in_memory_does_not_matter() -> None:
    keys = text_keys(str(i) for i in range(6))
    vectors = vectors_of(keys)
    turned = shard_bytes(SPACE, np.asfortranarray(keys), np.asfortranarray(vectors), tokens_of(keys))
    assert turned == shard_bytes(SPACE, keys, vectors, tokens_of(keys))


def test_equal_content_gives_equal_bytes_whatever_the_order() -> None:
    keys = text_keys(str(i) for i in range(6))
    orders = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 1, 5, 0, 2, 4]] * 10  # each often: no order may be random
    written = {shard_bytes(SPACE, keys[o], vectors_of(keys[o]), tokens_of(keys[o])) for o in orders}
    assert len(written) == 1


def test_any_reader_of_safetensors_opens_a_shard() -> None:
    arrays = load(small_shard())
    assert sorted(arrays) == ["keys", "tokens", "vectors"]
    np.testing.assert_array_equal(arrays["vectors"], vectors_of(arrays["keys"]))
    np.testing.assert_array_equal(arrays["tokens"], tokens_of(arrays["keys"]))


def test_the_name_is_the_sha256_of_the_bytes() -> None:
    assert shard_name(small_shard()) == hashlib.sha256(small_shard()).hexdigest()


def test_any_one_flipped_bit_is_found() -> None:
    data = small_shard()
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadShard):
            checked(shard_name(data), bytes(bad))


def test_a_shard_cut_to_any_length_is_found() -> None:
    data = small_shard()
    for length in range(len(data)):
        with pytest.raises(BadShard):
            checked(shard_name(data), data[:length])
        with pytest.raises(BadShard):  # also by those who do not hash
            parsed(data[:length])


@pytest.mark.parametrize("tail", [b"\0", b"garbage"])
def test_garbage_behind_a_shard_is_found(tail: bytes) -> None:
    data = small_shard()
    with pytest.raises(BadShard):
        checked(shard_name(data), data + tail)
    with pytest.raises(BadShard, match="size"):
        parsed(data + tail)


def test_a_shard_under_the_name_of_another_is_found() -> None:
    keys = text_keys(["c"])
    other = shard_bytes(SPACE, keys, vectors_of(keys), tokens_of(keys))
    with pytest.raises(BadShard, match="name"):
        checked(shard_name(other), small_shard())


def test_a_shard_of_another_space_is_found_although_its_name_fits() -> None:
    data = small_shard()
    with pytest.raises(BadShard, match="another space"):
        checked(shard_name(data), data, make_space(max_length=17))


def _set(array: str, field: str, value: Any) -> Any:
    def change(header: dict[str, Any]) -> None:
        header[array][field] = value

    return change


BAD_HEADERS: dict[str, Any] = {
    "no object": lambda _: [1],
    "no metadata": lambda h: h.pop("__metadata__") and None,
    "metadata no object": lambda h: h.update(__metadata__=["frozenhead-shard-1"]),
    "other format": lambda h: h.update(__metadata__={"frozenhead-shards": SPACE.id}),
    "array missing": lambda h: h.pop("tokens") and None,
    "array too many": lambda h: h.update(more={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
    "array renamed": lambda h: h.update(lengths=h.pop("tokens")),
    "entry no object": lambda h: h.update(tokens="I32"),
    "unknown type": _set("vectors", "dtype", "F64"),
    "type no string": _set("vectors", "dtype", ["F32"]),
    "integer vectors": _set("vectors", "dtype", "I32"),
    "float tokens": _set("tokens", "dtype", "F32"),
    "shape no list": _set("keys", "shape", 5),
    "shape of strings": _set("keys", "shape", "ab"),
    "negative sizes": _set("keys", "shape", [-2, -32]),
    "fractional sizes": _set("keys", "shape", [2.0, 32]),
    "keys of one dimension": _set("keys", "shape", [64]),
    "keys of three dimensions": _set("keys", "shape", [2, 2, 16]),
    "keys of other width": _set("keys", "shape", [4, 16]),
    "huge sizes": _set("vectors", "shape", [2, 2**70]),
    "vectors of one dimension": _set("vectors", "shape", [6]),
    "other rows": _set("vectors", "shape", [3, 2]),
    "scalar tokens": _set("tokens", "shape", []),
    "offsets missing": lambda h: h["keys"].pop("data_offsets") and None,
    "offsets of one": _set("keys", "data_offsets", [0]),
    "offsets backwards": _set("keys", "data_offsets", [64, 0]),
    "offsets beyond the end": _set("vectors", "data_offsets", [10**6, 10**6 + 24]),
}


@pytest.mark.parametrize("change", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_header_that_claims_what_is_not_there_is_refused(change: Any) -> None:
    with pytest.raises(BadShard):
        parsed(rebuilt(change))


@pytest.mark.parametrize("version", ["2", "10"])
def test_a_newer_format_is_refused_and_not_taken_for_damage(version: str) -> None:
    data = rebuilt(lambda header: header.update(__metadata__={f"frozenhead-shard-{version}": SPACE.id}))
    with pytest.raises(
        FormatRefused, match=r"Upgrade frozenhead, or choose another folder with --cache-dir\."
    ) as caught:
        checked(shard_name(data), data)
    assert caught.value.exit_code == 5
    with pytest.raises(FormatRefused):
        parsed(data)
    with pytest.raises(BadShard, match="name"):  # unless it is damaged as well
        checked("0" * 64, data)


def test_arrays_that_lie_over_each_other_are_refused() -> None:
    with pytest.raises(BadShard):
        parsed(rebuilt(_set("keys", "data_offsets", [8, 72])))


@pytest.mark.parametrize("rows", [[1, 0], [0, 0]], ids=["turned", "twice"])
def test_keys_that_are_not_in_order_are_found_although_the_name_fits(rows: list[int]) -> None:
    data = bytearray(small_shard())
    start = parsed(bytes(data)).keys_at
    keys = [bytes(data[start + 32 * row : start + 32 * row + 32]) for row in rows]
    data[start : start + 64] = b"".join(keys)
    with pytest.raises(BadShard, match="not in order"):
        checked(shard_name(bytes(data)), bytes(data))


def test_a_header_that_was_only_written_anew_is_read() -> None:
    assert rebuilt(lambda _: None) == small_shard()
    assert parsed(small_shard()).rows == 2


@given(data=st.binary(max_size=200))
@example(bytes(8))
@example(bytes(20))
def test_arbitrary_bytes_are_a_bad_shard_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(BadShard):
        parsed(data)
    with pytest.raises(BadShard):  # although the name fits
        checked(shard_name(data), data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    array=st.sampled_from(["keys", "tokens", "vectors", "__metadata__"]),
    field=st.sampled_from([None, "dtype", "shape", "data_offsets"]),
    value=JSON,
)
def test_arbitrary_values_in_the_header_are_a_bad_shard_or_change_nothing(array: str, field: str, value: Any) -> None:
    def change(header: dict[str, Any]) -> None:
        if field is None:
            header[array] = value
        else:
            header[array][field] = value

    try:
        layout = parsed(rebuilt(change))
    except BadShard:
        return
    sound = parsed(small_shard())
    assert (layout.rows, layout.dim, layout.dtype) == (sound.rows, sound.dim, sound.dtype)


def test_a_header_longer_than_the_file_is_cut_short() -> None:
    for data in (b"", b"\x02\0\0", b"\x03" + bytes(7) + b"{}", b"\xff" * 8):
        with pytest.raises(BadShard):
            parsed(data)


@given(header=st.binary(max_size=60), body=st.binary(max_size=60))
def test_arbitrary_bytes_behind_a_fitting_length_are_a_bad_shard(header: bytes, body: bytes) -> None:
    with pytest.raises(BadShard):
        parsed(len(header).to_bytes(8, "little") + header + body)


def test_a_header_nested_without_end_is_a_bad_shard() -> None:
    header = b"[" * 100_000
    with pytest.raises(BadShard):
        parsed(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize(("vectors", "tokens"), [((1, 3), 2), ((2, 3), 1), ((2,), 2)])
def test_arrays_that_do_not_fit_each_other_are_not_encoded(vectors: tuple[int, ...], tokens: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        shard_bytes(SPACE, text_keys(["a", "b"]), np.zeros(vectors, np.float32), np.zeros(tokens, np.int32))


def test_of_a_key_that_stands_twice_the_first_row_is_taken() -> None:
    keys = text_keys(["a", "b", "a", "b"])
    vectors = np.concatenate([vectors_of(keys[:2]), vectors_of(keys[2:]) + 1])
    assert shard_bytes(SPACE, keys, vectors, tokens_of(keys)) == small_shard()
