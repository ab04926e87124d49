"""SIGKILL before, amid and after every file-system operation, and at any moment: what was acknowledged is there."""

import random
import shutil
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from frozenhead.cache import VectorCache, compact
from frozenhead.files import host_name
from tests.faults import fake
from tests.faults.driver import Driver, Outcome
from tests.faults.interposer import WRITES, Fault, How
from tests.faults.invariants import assert_finishes, assert_little_lost, assert_served, assert_sound, assert_tidy

HOWS: tuple[How, ...] = ("kill before", "kill amid", "kill after")


def undisturbed(driver: Driver, disk: Path, job: str = "commit") -> Outcome:
    """A run to its end, which tells how many operations there are."""
    outcome = driver.run(job, disk)
    assert (outcome.killed, outcome.broken, outcome.refused) == (False, "", None)
    return outcome


def kills(outcome: Outcome, how: How) -> list[Fault]:
    """Where to kill: before and after each operation that changes the disk, and amid each that writes.

    Before an operation that only reads, the disk is as it was after the change before.
    """
    changes = [op for op in outcome.ops if op.name in WRITES and (op.name == "write" or how != "kill amid")]
    return [Fault(at=op.number, how=how) for op in changes]


@pytest.mark.parametrize("how", HOWS)
def test_a_commit_killed_at_any_operation_loses_nothing_acknowledged_and_resumes(
    driver: Driver, scratch: Path, how: How
) -> None:
    whole = undisturbed(driver, fake.new_disk(scratch / "whole"))
    assert len([op for op in whole.ops if op.name == "rename" and op.target.endswith(".safetensors")]) == 3
    for fault in kills(whole, how):
        disk = fake.new_disk(scratch / f"{fault.at}")
        outcome = driver.run("commit", disk, fault=fault)
        assert outcome.killed, fault
        assert_survived(disk, outcome, fault)


def assert_survived(disk: Path, outcome: Outcome, fault: object, *, before: Collection[bytes] = ()) -> None:
    """I1 to I6 after a kill. Prune comes before the resumption as well as after: it takes nothing that is needed."""
    acknowledged = outcome.acknowledged.union(before)
    try:
        found = assert_sound(disk, acknowledged)
        assert_served(disk)
        assert_little_lost(outcome, found)
        litter = copied(disk, disk.with_name(f"{disk.name}.litter"))
        assert_tidy(disk)
        assert assert_sound(disk, acknowledged) == found, "prune took rows"
        for place in (disk, litter):
            assert_finishes(place)
            assert_tidy(place)
            assert_sound(place, fake.ROWS)
    except BaseException as error:
        error.add_note(f"after: {fault}")
        raise


def test_the_harness_finds_a_store_that_writes_under_the_final_name(driver: Driver, scratch: Path) -> None:
    whole = undisturbed(driver, fake.new_disk(scratch / "whole"), "commit_in_place")
    red = 0
    for fault in kills(whole, "kill after"):
        disk = fake.new_disk(scratch / f"{fault.at}")
        outcome = driver.run("commit_in_place", disk, fault=fault)
        try:
            assert_sound(disk, outcome.acknowledged)
        except AssertionError:
            red += 1
    assert red >= 3  # the moment between open and write, of each shard


@pytest.mark.parametrize("how", HOWS)
def test_verify_and_prune_killed_at_any_operation_take_nothing_that_is_sound(
    driver: Driver, scratch: Path, how: How
) -> None:
    before = neglected(scratch / "neglected")
    whole = undisturbed(driver, copied(before, scratch / "whole"), "look_after")
    assert {op.name for op in whole.ops} >= {"rename", "unlink"}
    kept = set(assert_sound(copied(before, scratch / "kept"), torn=True))
    assert len(kept) == 2 * fake.SHARD_ROWS
    for fault in kills(whole, how):
        disk = copied(before, scratch / f"{fault.at}")
        outcome = driver.run("look_after", disk, fault=fault)
        assert outcome.killed, fault
        assert assert_sound(disk, kept, torn=True) == kept, fault
        assert_finishes(disk)
        assert_tidy(disk)


def neglected(disk: Path) -> Path:
    """A cache with a flipped bit in a shard, a file in quarantine, a dead writer's leaving, and a pin of no run."""
    embedded = fake.embed(fake.new_disk(disk))
    shards = fake.shards_of(disk)
    embedded.stores["pooler"].refer(disk / "gone.json", embedded.shards["pooler"])
    first = min(shards.iterdir())
    first.write_bytes(first.read_bytes()[:-1] + b"!")
    quarantine = shards.with_name("quarantine")
    quarantine.mkdir()
    (quarantine / first.name).write_bytes(b"bad")
    (shards / f".tmp-{host_name()}-{fake.NOBODY}-0").touch()
    return disk


def copied(source: Path, disk: Path) -> Path:
    """Another disk with the same content."""
    return Path(shutil.copytree(source, disk))


@pytest.mark.parametrize("how", HOWS)
def test_a_compaction_killed_at_any_operation_takes_no_row_from_anyone(driver: Driver, scratch: Path, how: How) -> None:
    disk = fake.new_disk(scratch / "disk")
    fake.embed(disk)
    before = copied(disk, scratch / "before")
    whole = undisturbed(driver, disk, "merge")
    assert len(list(fake.shards_of(disk).iterdir())) == 1
    for fault in kills(whole, how):
        shutil.rmtree(disk)
        copied(before, disk)
        assert driver.run("merge", disk, fault=fault).killed
        assert_merged(disk, fault)


def assert_merged(disk: Path, fault: object) -> None:
    """After a disturbed compaction nobody lacks a row; the next one comes to its end."""
    try:
        assert_sound(disk, fake.ROWS)
        assert_served(disk)
        compact(VectorCache(fake.cache_of(disk)).space(fake.SPACE), repin=fake.repin)
        assert_tidy(disk)
        assert len(list(fake.shards_of(disk).iterdir())) == 1
        assert_served(disk)
        assert_finishes(disk)
    except BaseException as error:
        error.add_note(f"after: {fault}")
        raise


@pytest.mark.parametrize("number", [50, pytest.param(1000, marks=pytest.mark.long)])
def test_a_run_killed_at_any_moment_loses_nothing_acknowledged(driver: Driver, scratch: Path, number: int) -> None:
    """The clock decides where, so that no seed repeats it. Half of the killed disks meet the next kill as they are."""
    chance, started = random.Random(number), time.perf_counter()
    killed, lives, kept, disk, longest = 0, 0, set[bytes](), fake.new_disk(scratch / "0"), 0.02
    stages = set()  # how many rows were acknowledged by then
    while killed < number:
        delay = chance.uniform(0, longest)
        outcome = driver.run("commit", disk, interpose=False, kill_after=delay)
        assert not outcome.broken, outcome.broken
        stages.add(len(outcome.acknowledged))
        longest *= 1.1 if outcome.killed else 0.9  # as long as a job takes on this machine now
        killed, lives, kept = killed + outcome.killed, lives + 1, kept | outcome.acknowledged
        if not outcome.killed or chance.random() < 0.5:
            assert_survived(disk, outcome, f"{delay:.6f} s, life {lives} of disk {disk.name}", before=kept)
            shutil.rmtree(disk)
            kept, disk = set(), fake.new_disk(scratch / f"{lives}")
    assert len(stages) > 1, "every kill came at the same stage"
    print(f"\n{number:,} kills at random moments, {lives:,} lives: 0 violations, {time.perf_counter() - started:.0f} s")
