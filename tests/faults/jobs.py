"""What is disturbed: each job runs in a child of its own and tells, event by event, how far it came."""

import contextlib
import json
import os
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from frozenhead.cache import VectorCache, compact
from frozenhead.cache.keys import Keys
from frozenhead.errors import FrozenheadError
from tests.faults import fake
from tests.faults.driver import Outcome, outcome
from tests.faults.interposer import Fault, Halt, Interposer, Op


class Teller:
    """Writes events as JSON lines to a pipe, at once: what was told before a SIGKILL is heard."""

    def __init__(self, descriptor: int, write: Callable[[int, bytes], int]) -> None:
        self._descriptor, self._write = descriptor, write

    def tell(self, kind: str, content: Any) -> None:
        data = json.dumps([kind, content]).encode() + b"\n"
        while data:
            data = data[self._write(self._descriptor, data) :]

    def computed(self, keys: Keys) -> None:
        self.tell("computed", [key.tobytes().hex() for key in keys])

    def acknowledged(self, keys: Keys) -> None:
        self.tell("acknowledged", [key.tobytes().hex() for key in keys])

    def op(self, op: Op) -> None:
        self.tell("op", {**vars(op), "data": b64encode(op.data).decode()})


def commit(disk: Path, teller: Teller) -> None:
    """Three shards and the pin of their run. A job that returns has answered for all its rows."""
    fake.embed(disk, computed=teller.computed, acknowledged=teller.acknowledged)
    teller.acknowledged(fake.KEYS)


def commit_in_place(disk: Path, teller: Teller) -> None:
    """The same by a careless store, which writes a shard under its final name."""
    with mock.patch("frozenhead.cache.writer.write_file", write_in_place):
        commit(disk, teller)


def write_in_place(path: Path, *parts: bytes) -> None:
    """What frozenhead does not do."""
    with open(path, "wb") as file:
        file.writelines(parts)


def look_after(disk: Path, teller: Teller) -> None:
    """Verify, and prune."""
    cache = VectorCache(fake.cache_of(disk))
    cache.spaces()
    cache.check_all()
    cache.prune()


def merge(disk: Path, teller: Teller) -> None:
    """Compact the space: three shards into one."""
    compact(VectorCache(fake.cache_of(disk)).space(fake.SPACE), repin=fake.repin)


def command_embed(disk: Path, teller: Teller) -> None:
    """`frozenhead embed` of a table, as the command line runs it, but with the fake encoder."""
    table = disk.with_name(f"{disk.name}.csv")
    table.write_text("text,label\n" + "".join(f"{text},{i % 2}\n" for i, text in enumerate(fake.TEXTS)))
    found = mock.patch("frozenhead.commands.embed.find_checkpoint", return_value=fake.CHECKPOINT)
    encoder = mock.patch("frozenhead.embedder.compute.Encoder", return_value=fake.FakeEncoder(fake.no_one))
    with fake.fp32_by_default(), fake.small_shards(teller.acknowledged), found, encoder:
        _command(f"embed {table} --text text --label label --out {disk.with_name(disk.name + '.run')}", disk, teller)


def command_verify(disk: Path, teller: Teller) -> None:
    """`frozenhead cache verify`."""
    _command("cache verify", disk, teller)


def command_prune(disk: Path, teller: Teller) -> None:
    """`frozenhead cache prune`."""
    _command("cache prune", disk, teller)


def _command(words: str, disk: Path, teller: Teller) -> None:
    from frozenhead.cli import main

    sys.argv = ["frozenhead", *words.split(), "--cache-dir", str(fake.cache_of(disk))]
    try:
        main()
    except SystemExit as leaving:
        teller.tell("exit", leaving.code)


_ALL = (commit, commit_in_place, look_after, merge, command_embed, command_verify, command_prune)
JOBS = {job.__name__: job for job in _ALL}


def warm_up() -> None:
    """Do the job once, so that no child has to import or remember anything first."""
    with tempfile.TemporaryDirectory() as folder:
        disk = fake.new_disk(Path(folder) / "disk")
        fake.embed(disk)
        VectorCache(fake.cache_of(disk)).prune()


def run_job(
    name: str, disk: Path, teller: Teller, *, fault: Fault | None, interpose: bool, sync: bool, audit: bool
) -> None:
    """Run one job in this process and tell how it ended."""
    interposer = Interposer(disk, fault=fault, record=teller.op, sync=sync)
    if audit:
        sys.addaudithook(_auditor(interposer, teller))
    try:
        with contextlib.ExitStack() as stack:
            if interpose:
                stack.enter_context(interposer)
                stack.enter_context(mock.patch.object(ThreadPoolExecutor, "submit", at_once))
            JOBS[name](disk, teller)
        teller.tell("done", interposer.count)
    except Halt:
        pass
    except FrozenheadError as error:
        teller.tell("refused", [type(error).__name__, error.exit_code, str(error)])
    except BaseException as error:  # noqa: BLE001 (whatever it is, the test must hear of it)
        import traceback

        teller.tell("broken", "".join(traceback.format_exception(error)))


def at_once(pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
    """What a pool of threads would do some time, done now: so that operations come in one order."""
    future: Future[Any] = Future()
    try:
        future.set_result(function(*args, **options))
    except Exception as error:  # noqa: BLE001 (whoever asks for the result gets it)
        future.set_exception(error)
    return future


def run_here(name: str, disk: Path, fault: Fault | None) -> Outcome:
    """Run one job in this process, where no SIGKILL is to come. Its files bear the number of a process that is gone."""
    told = bytearray()

    def write(descriptor: int, data: bytes) -> int:
        told.extend(data)
        return len(data)

    with mock.patch("os.getpid", return_value=fake.NOBODY):
        run_job(name, disk, Teller(-1, write), fault=fault, interpose=True, sync=False, audit=False)
    return outcome(map(json.loads, told.splitlines()), killed=False)


# The first two arguments of these events may be paths; https://docs.python.org/3/library/audit_events.html
_AUDITED = {
    "open", "os.chmod", "os.chown", "os.link", "os.listdir", "os.listxattr", "os.mkdir", "os.remove", "os.removexattr",
    "os.rename", "os.rmdir", "os.scandir", "os.setxattr", "os.symlink", "os.truncate", "os.utime",
}  # fmt: skip


def _auditor(interposer: Interposer, teller: Teller) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that tells what reaches into the folder past the interposer."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in _AUDITED or interposer.inside:
            return
        for path in args[:2]:
            if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(str(interposer.folder)):
                teller.tell("escaped", [event, os.fsdecode(path)])

    return hook
