"""What the store will not touch: links in the place of shards, and shards of a newer format. They stay as they are."""

from pathlib import Path

import pytest

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from frozenhead.cache.shard import shard_name
from frozenhead.errors import CacheDamaged, FormatRefused
from frozenhead.files import write_file
from tests.cache.examples import assert_absent, assert_held, reopened, shard_path, write_rows

TEXTS = [f"text {i}" for i in range(10)]


@pytest.mark.parametrize("verify", ["lazy", "always", "never"])
@pytest.mark.parametrize("leads", ["to a shard", "nowhere"])
def test_a_link_in_the_place_of_a_shard_is_refused_and_left_as_it_is(
    store: SpaceStore, cache: VectorCache, tmp_path: Path, verify: str, leads: str
) -> None:
    [name] = write_rows(store, TEXTS)
    path, outside = shard_path(store, name), tmp_path / "outside"
    path.rename(outside if leads == "to a shard" else tmp_path / "elsewhere")
    path.symlink_to(outside)
    later = reopened(store, verify=verify)
    for use in (lambda: later.lookup(text_keys(TEXTS)), lambda: later.lookup(text_keys(TEXTS), shards=[name]),
                later.keys, cache.check_all):  # fmt: skip
        with pytest.raises(CacheDamaged, match="is a link") as caught:
            use()
        assert caught.value.exit_code == 5
        assert str(path) in str(caught.value)
    assert path.is_symlink()
    path.unlink()
    assert_absent(later, TEXTS)
    write_rows(later, TEXTS)
    assert_held(later, TEXTS)


@pytest.mark.parametrize("verify", ["lazy", "always", "never"])
def test_a_shard_of_a_newer_format_is_refused_and_stays(store: SpaceStore, cache: VectorCache, verify: str) -> None:
    [name] = write_rows(store, TEXTS)
    newer = shard_path(store, name).read_bytes().replace(b"frozenhead-shard-1", b"frozenhead-shard-2")
    path = shard_path(store, shard_name(newer))
    write_file(path, newer)
    later = reopened(store, verify=verify)
    for use in (lambda: later.lookup(text_keys(["new"])), later.keys, lambda: list(later.rows()), cache.check_all):
        with pytest.raises(FormatRefused, match=r"frozenhead-shard-2.*\nUpgrade frozenhead") as caught:
            use()
        assert caught.value.exit_code == 5
    assert path.read_bytes() == newer
    assert not (store.folder / "quarantine").exists()
