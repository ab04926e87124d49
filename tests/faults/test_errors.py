"""The disk refuses: each operation fails once, and from then on for ever; a clear error, and nothing lost."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.faults import fake
from tests.faults.driver import Driver, Outcome
from tests.faults.interposer import Fault, How
from tests.faults.invariants import assert_finishes, assert_little_lost, assert_served, assert_sound, assert_tidy
from tests.faults.jobs import run_here
from tests.faults.test_kill import assert_merged, copied, neglected

CODES = (errno.ENOSPC, errno.EIO, errno.EINTR, errno.EACCES)
ERRORS: tuple[How, ...] = ("error", "error for ever")


def name_of(value: object) -> str:
    return errno.errorcode[value] if isinstance(value, int) else str(value)


@pytest.mark.slow
@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("code", CODES, ids=name_of)
def test_a_commit_refused_at_any_operation_says_so_and_loses_nothing(scratch: Path, code: int, how: How) -> None:
    for at in range(operations("commit", fake.new_disk(scratch / "whole"))):
        fault = Fault(at=at, how=how, code=code)
        disk = fake.new_disk(scratch / f"{at}")
        outcome = run_here("commit", disk, fault)
        assert_clear(outcome, disk, fault)
        found = assert_sound(disk, outcome.acknowledged)
        assert_served(disk)
        assert_little_lost(outcome, found)
        assert_finishes(disk)
        assert_tidy(disk)


def test_a_write_that_takes_less_than_it_is_offered_is_continued(scratch: Path) -> None:
    whole = run_here("commit", fake.new_disk(scratch / "whole"), None)
    writes = [op.number for op in whole.ops if op.name == "write"]
    assert len(writes) >= 6  # space.json, three shards, the pin, the run's own file, each in one part or more
    for at in writes:
        disk = fake.new_disk(scratch / f"{at}")
        outcome = run_here("commit", disk, Fault(at=at, how="short"))
        assert (outcome.broken, outcome.refused) == ("", None)
        assert_sound(disk, fake.ROWS)


@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES], ids=name_of)
def test_verify_and_prune_refused_at_any_operation_say_so_and_take_nothing_that_is_sound(
    scratch: Path, code: int, how: How
) -> None:
    before = neglected(scratch / "neglected")
    kept = assert_sound(copied(before, scratch / "kept"), torn=True)
    for at in range(operations("look_after", copied(before, scratch / "whole"))):
        fault = Fault(at=at, how=how, code=code)
        disk = copied(before, scratch / f"{at}")
        assert_clear(run_here("look_after", disk, fault), disk, fault)
        assert assert_sound(disk, kept, torn=True) == kept, fault
        assert_finishes(disk)
        assert_tidy(disk)


@pytest.mark.slow
@pytest.mark.parametrize("how", ERRORS)
def test_a_compaction_refused_at_any_operation_says_so_and_takes_no_row_from_anyone(scratch: Path, how: How) -> None:
    disk = fake.new_disk(scratch / "disk")
    fake.embed(disk)
    before = copied(disk, scratch / "before")
    for at in range(operations("merge", disk)):
        fault = Fault(at=at, how=how, code=errno.EIO)
        shutil.rmtree(disk)
        copied(before, disk)
        assert_clear(run_here("merge", disk, fault), disk, fault)
        assert_merged(disk, fault)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=name_of)
def test_the_command_line_says_what_the_disk_refused_and_leaves_with_6(
    driver: Driver, scratch: Path, code: int
) -> None:
    whole = driver.run("command_embed", fake.new_disk(scratch / "whole"))
    assert whole.exit_code == 0
    for kind in ("mkdir", "create", "write", "fsync", "rename"):
        at = next(op.number for op in whole.ops if op.name == kind)
        disk = fake.new_disk(scratch / kind)
        outcome = driver.run("command_embed", disk, fault=Fault(at=at, how="error for ever", code=code))
        assert outcome.exit_code == 6
        assert "Traceback" not in outcome.said
        assert os.strerror(code) in outcome.said
        assert str(disk) in outcome.said.replace("\n", "")
    assert driver.run("command_embed", disk).exit_code == 0
    assert_sound(disk, fake.ROWS)


@pytest.mark.parametrize("job", ["command_verify", "command_prune"])
def test_commands_that_look_after_the_cache_leave_with_5_or_6_and_no_traceback(
    driver: Driver, scratch: Path, job: str
) -> None:
    before = neglected(scratch / "neglected")
    count = driver.run(job, copied(before, scratch / "whole")).count
    for at in range(0, count, 5):
        disk = copied(before, scratch / f"{at}")
        outcome = driver.run(job, disk, fault=Fault(at=at, how="error for ever", code=errno.EIO))
        assert outcome.exit_code in (0, 5, 6), outcome
        assert "Traceback" not in outcome.said


def operations(job: str, disk: Path) -> int:
    """How many operations an undisturbed run has."""
    outcome = run_here(job, disk, None)
    assert (outcome.broken, outcome.refused) == ("", None)
    return outcome.count


def assert_clear(outcome: Outcome, disk: Path, fault: Fault) -> None:
    """The job came to its end and is right, or it was refused in one to three lines that name the path."""
    if outcome.broken:
        pytest.fail(f"{fault}: {outcome.broken}")
    if outcome.refused:
        kind, exit_code, message = outcome.refused
        assert exit_code in (5, 6), f"{fault}: {kind} with exit code {exit_code}"
        assert 1 <= len(message.splitlines()) <= 3, f"{fault}: {message}"
        assert str(disk) in message, f"{fault} does not name the path: {message}"
