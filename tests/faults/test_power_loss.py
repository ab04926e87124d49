"""The power fails: whatever of the unsynced operations is lost, reordered or torn, what was acknowledged is there."""

import random
import re
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.faults import fake
from tests.faults.interposer import Fault, Op
from tests.faults.invariants import assert_finishes, assert_served, assert_sound, assert_tidy
from tests.faults.jobs import run_here
from tests.faults.power import Acknowledged, State, Story, acknowledged_in, lay_out, state_after

SAMPLE = 20  # one state in so many is resumed and pruned as well
FEW = 300  # states that are enough to find each kind of carelessness below


def finished(job: str, disk: Path) -> list[Op]:
    """What an undisturbed run does."""
    outcome = run_here(job, disk, None)
    assert (outcome.broken, outcome.refused) == ("", None)
    return outcome.ops


def whole_story(disk: Path) -> Story:
    """An undisturbed commit of three shards."""
    return Story().tell(finished("commit", disk))


def resumed_stories(scratch: Path) -> Iterator[tuple[int, Story, int]]:
    """For every operation: a process that was killed there, and another that came to the end.

    Yields the operation, the story, and the step at which the second process begins.
    """
    count = run_here("commit", fake.new_disk(scratch / "counted"), None).count
    for at in range(count):
        disk = fake.new_disk(scratch / f"resumed-{at}")
        story = Story().tell(run_here("commit", disk, Fault(at=at, how="stop")).ops)
        begin = len(story.steps)
        yield at, story.tell(finished("commit", disk)), begin


def check(state: State, acknowledged: set[bytes], disk: Path, *, thoroughly: bool) -> None:
    """I1, I2 and I3 in this state; thoroughly, I4 and I6 as well."""
    lay_out(state, disk)
    assert_sound(disk, acknowledged)
    assert_served(disk)
    if thoroughly:
        assert_finishes(disk)
        assert_tidy(disk)
        assert_sound(disk, fake.ROWS)


def violations(story: Story, disk: Path, seeds: range, *, begin: int = 0) -> Iterator[str]:
    """What goes wrong in the states of these seeds; the power fails at `begin` or later."""
    for seed in seeds:
        chance = random.Random(seed)
        moment = chance.randint(begin, len(story.steps))
        try:
            check(
                state_after(story, moment, chance),
                acknowledged_in(story.steps[:moment]),
                disk,
                thoroughly=seed % SAMPLE == 0,
            )
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a violation)
            yield f"seed {seed}, after step {moment}: {type(error).__name__}: {error}"


@pytest.fixture
def disk(scratch: Path) -> Path:
    """The disk on which the stories play and the states are laid out: pins hold its path."""
    return fake.new_disk(scratch / "disk")


@pytest.mark.parametrize("states", [1000, pytest.param(50_000, marks=pytest.mark.long)])
def test_a_power_failure_takes_nothing_acknowledged(disk: Path, states: int) -> None:
    started = time.perf_counter()
    assert list(violations(whole_story(disk), disk, range(states))) == []
    print(f"\n{states:,} power failures in one run: 0 violations, {time.perf_counter() - started:.0f} s")


@pytest.mark.long
@pytest.mark.parametrize("each", [430])
def test_what_a_resumed_run_acknowledges_survives_a_power_failure(scratch: Path, disk: Path, each: int) -> None:
    """Folders and names that a killed process made and never synced must be safe when the next one answers for them."""
    started, states, seen = time.perf_counter(), 0, []
    for at, story, begin in resumed_stories(scratch):
        seen += [
            f"killed at {at}, {v}" for v in violations(story, disk, range(at * each, (at + 1) * each), begin=begin)
        ]
        states += each
    assert seen == []
    print(f"\n{states:,} power failures in resumed runs: 0 violations, {time.perf_counter() - started:.0f} s")


def test_what_a_resumed_run_acknowledges_needs_nothing_that_is_not_synced(scratch: Path, disk: Path) -> None:
    """At each acknowledgement, after a kill at each operation, the state in which all that is unsynced is lost."""
    for at, story, begin in resumed_stories(scratch):
        for moment, step in enumerate(story.steps, start=1):
            if moment > begin and isinstance(step, Acknowledged):
                state, acknowledged = state_after(story, moment, None), acknowledged_in(story.steps[:moment])
                try:
                    check(state, acknowledged, disk, thoroughly=False)
                except AssertionError as error:
                    error.add_note(f"killed at operation {at}, power failed after step {moment}")
                    raise


@pytest.mark.parametrize("states", [200, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_power_failure_in_a_compaction_takes_no_row_from_anyone(disk: Path, states: int) -> None:
    started, story = time.perf_counter(), whole_story(disk)
    begin = len(story.steps)
    story.tell(finished("merge", disk))
    assert list(violations(story, disk, range(states), begin=begin)) == []
    print(f"\n{states:,} power failures in a compaction: 0 violations, {time.perf_counter() - started:.0f} s")


def without(unwanted: Callable[[Op], bool]) -> Callable[[list[Op]], list[Op]]:
    return lambda ops: [op for op in ops if not unwanted(op)]


def is_file_sync(op: Op) -> bool:
    return op.name == "fsync" and ".tmp-" in op.path


def rename_first(ops: list[Op]) -> list[Op]:
    """Each fsync of a file after its rename."""
    done = list(ops)
    for i, op in enumerate(done[:-1]):
        if is_file_sync(op) and done[i + 1].name == "rename":
            done[i], done[i + 1] = done[i + 1], op
    return done


def folder_sync(*names: str) -> Callable[[Op], bool]:
    return lambda op: op.name == "fsync" and not is_file_sync(op) and (not names or Path(op.path).name in names)


CARELESS: dict[str, Callable[[list[Op]], list[Op]]] = {
    "no fsync": without(lambda op: op.name == "fsync"),
    "no fsync of files": without(is_file_sync),
    "no fsync of folders": without(folder_sync()),
    "no fsync of the folder of shards": without(folder_sync("shards")),
    "no fsync of the folder of the space": without(folder_sync(fake.SPACE.id)),
    "no fsync of the cache folder": without(folder_sync("cache")),
    "no fsync of the folder above": without(folder_sync("home")),
    "rename before fsync": rename_first,
}


@pytest.mark.parametrize("careless", CARELESS)
def test_the_harness_finds_a_store_that_forgets_to_sync(disk: Path, careless: str) -> None:
    story = Story().tell(CARELESS[careless](finished("commit", disk)))
    assert_found_out(story, disk)


def test_the_harness_finds_a_store_that_writes_under_the_final_name(disk: Path) -> None:
    assert_found_out(Story().tell(finished("commit_in_place", disk)), disk)


def assert_found_out(story: Story, disk: Path) -> None:
    """Some state breaks a law, which is not to say that something else fails."""
    seen = islice(violations(story, disk, range(FEW)), 20)
    assert any(re.search("AssertionError: (I1|a torn)|CacheDamaged", one) for one in seen)


def test_the_model_knows_every_way_to_lose_an_unsynced_file() -> None:
    """A file made and written, its folder synced: nothing, a part, zeros, a cut, or the whole may be left of it."""
    ops = [
        Op(number=0, name="create", path="file"),
        Op(number=1, name="write", path="file", handle=0, data=b"a" * 600),
        Op(number=2, name="fsync", path=""),
    ]
    story = Story().tell(ops)
    held = {state_after(story, 3, random.Random(seed))["file"] for seed in range(2000)}
    assert {b"", b"a" * 600, bytes(600), b"a" * 512 + bytes(88), bytes(512) + b"a" * 88} <= held
    assert any(0 < len(content or b"") < 512 for content in held)


def test_the_model_orders_no_names_that_are_not_synced() -> None:
    """Two files made and one of them moved: any of them may be there without the others."""
    ops = [
        Op(number=0, name="create", path="a"),
        Op(number=1, name="create", path="b"),
        Op(number=2, name="rename", path="b", target="c"),
    ]
    story = Story().tell(ops)
    seen = {frozenset(state_after(story, 3, random.Random(seed))) for seed in range(500)}
    assert seen == {frozenset(names) for names in ("", "a", "b", "c", "ab", "ac")}
