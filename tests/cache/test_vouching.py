"""A name vouches for the bytes under it: no wrong vector may get one."""

import numpy as np
import pytest

from frozenhead.cache import SpaceStore, compact, text_keys
from frozenhead.cache.folder import Verify, _signature
from tests.cache.examples import assert_held, flip_bit, reopened, vectors_of, write_rows


@pytest.mark.parametrize("verify", ["lazy", "never"])
def test_a_wrong_vector_is_not_given_a_name_that_vouches_for_it(store: SpaceStore, verify: Verify) -> None:
    """A bit flips after the shard was looked at, without a trace in the file's times."""
    for text in ("a", "b", "c"):
        write_rows(store, [text])
    later = reopened(store, verify=verify)
    assert_held(later, ["a", "b", "c"])
    path = later.shard(later.pin()[1])
    flip_bit(path, at=-40)  # in the vector: 12 bytes, before 4 of tokens and 32 of the key
    if verify == "lazy":
        later._shards._known[path.stem] = (_signature(path.stat()), later._shards._known[path.stem][1])
    compact(later, repin=lambda holder, new: ())
    lookup = reopened(store).lookup(text_keys(["a", "b", "c"]))
    assert lookup.vectors is not None
    assert lookup.found.sum() == 2
    np.testing.assert_array_equal(lookup.vectors[lookup.found], vectors_of(text_keys(["a", "b", "c"]))[lookup.found])
