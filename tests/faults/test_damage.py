"""Files are not what they were: it is found or harmless, never a wrong vector, and another run makes it whole.

`verify="never"` is exempt: it hashes nothing, by its user's own wish.
"""

import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from frozenhead.cache import VectorCache
from frozenhead.cache.folder import Verify
from frozenhead.cache.keys import sorting_order
from frozenhead.cache.shard import SHARD_FORMAT
from frozenhead.errors import CacheDamaged
from tests.faults import fake
from tests.faults.invariants import assert_finishes, assert_tidy, assert_true_rows, quarantined


class Copy:
    """A finished cache, and a disk on which it is laid out anew for each damage."""

    def __init__(self, scratch: Path) -> None:
        self.disk = fake.new_disk(scratch / "disk")
        embedded = fake.embed(self.disk)
        self.pinned = embedded.shards["pooler"]
        quarantine = fake.shards_of(self.disk).with_name("quarantine")
        quarantine.mkdir()
        (quarantine / f"{'0' * 64}.safetensors").write_bytes(b"bad before")
        self._sound = shutil.copytree(self.disk, scratch / "sound")
        self.rows = {name: self._rows_of(name) for name in self.pinned}

    def lay_out(self) -> None:
        """Undo all damage."""
        shutil.rmtree(self.disk)
        shutil.copytree(self._sound, self.disk)

    def files(self) -> list[Path]:
        """Every file of the cache, sorted."""
        return sorted(path for path in fake.cache_of(self.disk).rglob("*") if path.is_file())

    def shards(self) -> list[Path]:
        return [fake.shards_of(self.disk) / f"{name}.safetensors" for name in self.pinned]

    def cache(self, verify: Verify = "lazy") -> VectorCache:
        """The cache as a new process opens it."""
        return VectorCache(fake.cache_of(self.disk), verify=verify)

    def _rows_of(self, name: str) -> frozenset[bytes]:
        blocks = self.cache().space(fake.SPACE).rows([name])
        return frozenset(key.tobytes() for keys, _, _ in blocks for key in keys)

    def assert_found_or_harmless(self, bad: set[str], verify: Verify = "lazy") -> None:
        """No row comes from the shards of these names, all others are there, and another run makes the table whole."""
        lost = frozenset[bytes]().union(*(self.rows[name] for name in bad))
        self.assert_pins_refuse(bad, verify)
        assert assert_true_rows(self.cache(verify)) == fake.ROWS - lost
        assert {path.stem for path in quarantined(self.disk)} == {"0" * 64, *bad}
        self.cache().spaces()
        assert self.cache().check_all().bad == ()
        going = self.cache().prune(dry_run=True).items
        assert "pins" not in {item.path.parent.name for item in going}, "the pin of a run that is there would go"
        assert_finishes(self.disk)

    def assert_pins_refuse(self, bad: set[str], verify: Verify) -> None:
        """A run that has pinned the shards gets its vectors, or hears that they are damaged."""
        store = self.cache(verify).space(fake.SPACE)
        if bad:
            with pytest.raises(CacheDamaged):
                store.lookup(fake.KEYS, shards=self.pinned)
            self._put_back()
        else:
            vectors = store.lookup(fake.KEYS, shards=self.pinned).vectors
            assert np.array_equal(np.asarray(vectors), fake.VECTORS)

    def _put_back(self) -> None:
        """Take damaged shards out of quarantine again."""
        for path in quarantined(self.disk):
            if path.stem in self.pinned:
                path.rename(fake.shards_of(self.disk) / path.name)


@pytest.fixture
def copy(scratch: Path) -> Copy:
    return Copy(scratch)


FLIPS = [50, pytest.param(1000, marks=pytest.mark.slow), pytest.param(10_000, marks=pytest.mark.long)]


@pytest.mark.parametrize("flips", FLIPS)
def test_one_flipped_bit_is_found_or_harmless(copy: Copy, flips: int) -> None:
    started, kinds, seen = time.perf_counter(), dict[str, int](), []
    for seed in range(flips):
        chance = random.Random(seed)
        copy.lay_out()
        path = chance.choice(copy.files())
        bit = chance.randrange(8 * path.stat().st_size)
        kinds[path.parent.name] = kinds.get(path.parent.name, 0) + 1
        data = bytearray(path.read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            copy.assert_found_or_harmless({path.stem} & set(copy.pinned), "always" if seed % 2 else "lazy")
            assert_tidy(copy.disk)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 (whatever it is, the seed belongs to it)
            seen.append(f"seed {seed}, bit {bit} of {path}: {error}")
    assert seen == []
    assert set(kinds) == {"shards", "pins", "quarantine", fake.SPACE.id}
    print(f"\n{flips:,} flipped bits: 0 violations, {time.perf_counter() - started:.0f} s")


def lengths_of(path: Path) -> dict[str, int]:
    """A length of every class for a shard: where each of its parts starts, by safetensors' rules, and within it."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    arrays = {name: entry["data_offsets"] for name, entry in json.loads(data[8:begin]).items() if name[0] != "_"}
    parts = {"length": (0, 8), "header": (8, begin)}
    parts |= {name: (begin + first, begin + last) for name, (first, last) in arrays.items()}
    lengths = {"one byte": 1, "all but one byte": len(data) - 1}
    for name, (first, last) in parts.items():
        lengths |= {f"start of {name}": first, f"within {name}": (first + last) // 2}
    return lengths


@pytest.mark.parametrize("verify", ["lazy", "always"])
def test_a_shard_cut_to_any_length_is_found(copy: Copy, verify: Verify) -> None:
    lengths = lengths_of(copy.shards()[0])
    assert len(lengths) == 12
    for length in lengths.values():
        copy.lay_out()
        os.truncate(copy.shards()[0], length)
        copy.assert_found_or_harmless({copy.pinned[0]}, verify)


@pytest.mark.parametrize("kind", ["space.json", "pin", "quarantined"])
def test_any_other_file_cut_to_any_length_is_harmless(copy: Copy, kind: str) -> None:
    folder = fake.shards_of(copy.disk).parent
    pattern = {"space.json": "space.json", "pin": "pins/*", "quarantined": "quarantine/*"}[kind]
    whole = next(folder.glob(pattern)).stat().st_size
    for length in (0, 1, whole // 2, whole - 1):
        copy.lay_out()
        os.truncate(next(folder.glob(pattern)), length)
        copy.assert_found_or_harmless(set())


@pytest.mark.parametrize("verify", ["lazy", "always"])
@pytest.mark.parametrize("garbage", [b"\0", b"x", bytes(4096), None], ids=["zero", "letter", "4 KiB", "a shard"])
def test_garbage_after_a_shard_is_found(copy: Copy, garbage: bytes | None, verify: Verify) -> None:
    first, second, _ = copy.shards()
    with open(first, "ab") as file:
        file.write(second.read_bytes() if garbage is None else garbage)
    copy.assert_found_or_harmless({first.stem}, verify)


@pytest.mark.parametrize("verify", ["lazy", "always"])
def test_two_shards_swapped_are_found(copy: Copy, verify: Verify) -> None:
    first, second, _ = copy.shards()
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    copy.assert_found_or_harmless({first.stem, second.stem}, verify)


IN_ITS_PLACE: dict[str, Callable[[Path], Any]] = {
    "nothing but zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another file": lambda path: path.write_bytes(b"<html>not a shard</html>"),
    "a folder": lambda path: path.unlink() or path.mkdir(),  # type: ignore[func-returns-value]
    "a pipe": lambda path: path.unlink() or os.mkfifo(path),  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("what", IN_ITS_PLACE)
def test_what_stands_in_the_place_of_a_shard_is_found(copy: Copy, what: str) -> None:
    IN_ITS_PLACE[what](copy.shards()[1])
    copy.assert_found_or_harmless({copy.pinned[1]})


@pytest.mark.parametrize("target", ["a sound shard", "nothing"])
def test_a_link_in_the_place_of_a_shard_is_refused_until_it_is_gone(copy: Copy, scratch: Path, target: str) -> None:
    path = copy.shards()[1]
    path.rename(scratch / "elsewhere")
    path.symlink_to(scratch / ("elsewhere" if target == "a sound shard" else "nowhere"))
    for shards in (None, copy.pinned):
        with pytest.raises(CacheDamaged, match=path.name) as caught:
            copy.cache().space(fake.SPACE).lookup(fake.KEYS, shards=shards)
        assert caught.value.exit_code == 5
        assert 1 <= len(str(caught.value).splitlines()) <= 3
    path.unlink()
    assert_finishes(copy.disk)


def forged(space_id: str, vectors: NDArray[Any]) -> bytes:
    """A shard of all keys whose vectors are not f."""
    order = sorting_order(fake.KEYS)
    arrays = {"keys": fake.KEYS[order], "tokens": fake.TOKENS[order], "vectors": vectors}
    return bytes(save(arrays, {SHARD_FORMAT: space_id}))


WRONG = np.full((len(fake.KEYS), fake.DIM), 7, np.float32)
FOREIGN = {
    "of another space": forged("0" * 64, WRONG),
    "of another type": forged(fake.SPACE.id, WRONG.astype(np.float16)),
    "of another size": forged(fake.SPACE.id, WRONG[:, 1:].copy()),
}


@pytest.mark.parametrize("verify", ["lazy", "always"])
@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_foreign_shard_under_its_true_name_serves_no_row(copy: Copy, foreign: str, verify: Verify) -> None:
    """Its bytes are what they were, so that only its header tells."""
    data = FOREIGN[foreign]
    path = fake.shards_of(copy.disk) / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    path.write_bytes(data)
    assert assert_true_rows(copy.cache(verify)) == fake.ROWS
    copy.cache().check_all()
    assert path.stem in {bad.stem for bad in quarantined(copy.disk)}
    assert_finishes(copy.disk)
    assert_tidy(copy.disk)


@pytest.mark.parametrize("verify", ["lazy", "always"])
@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_foreign_shard_under_the_name_of_one_of_ours_serves_no_row(copy: Copy, foreign: str, verify: Verify) -> None:
    copy.shards()[0].write_bytes(FOREIGN[foreign])
    copy.assert_found_or_harmless({copy.pinned[0]}, verify)
