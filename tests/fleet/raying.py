"""What the tests of Ray share: the command in a process of its own, and the processes that it starts."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenhead.fleet.station import import_path

RAY_PATIENCE = (
    400.0  # seconds after which a command hangs: Ray starts a dozen processes, on a busy machine of two cores
)
_MARK = "FROZENHEAD_TEST_MARK"
_ACTOR = "ray::MapWorker(MapBatches(EmbedActor))"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command line under way, and a mark that every process below it carries."""

    process: subprocess.Popen[str]
    mark: str

    def actors(self) -> list[int]:
        """The processes that embed for it."""
        return [pid for pid in self.processes() if words_of(pid).startswith(_ACTOR)]

    def processes(self) -> list[int]:
        """All processes that carry its mark, its own among them."""
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _carries(path, self.mark)]

    def gone(self) -> bool:
        """Whether nothing of it is left, soon after its end: Ray's last processes leave by themselves."""
        deadline = time.monotonic() + RAY_PATIENCE
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.processes()

    def await_(self, what: Callable[[], Any]) -> Any:
        """What is true at last, while the command runs."""
        deadline = time.monotonic() + RAY_PATIENCE
        while not (found := what()):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "it never came about"
            time.sleep(0.02)
        return found

    def done(self) -> tuple[int, str, str]:
        """Its exit code, and what it said."""
        out, err = self.process.communicate(timeout=RAY_PATIENCE)
        return self.process.returncode, out, err

    def result(self) -> dict[str, Any]:
        """What it printed as JSON; nothing else stands on stdout."""
        code, out, err = self.done()
        assert code == 0, err
        result: dict[str, Any] = json.loads(out)
        return result


def _carries(path: Path, mark: str) -> bool:
    try:
        return f"{_MARK}={mark}".encode() in (path / "environ").read_bytes()
    except OSError:
        return False


def words_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@contextmanager
def started(*words: str, **environment: str) -> Iterator[Job]:
    """`frozenhead` with these words; whatever is left of it is killed at the end."""
    program = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); from frozenhead import cli; cli.main()"
    with launched(sys.executable, "-c", program, *words, **environment) as job:
        yield job


@contextmanager
def launched(*command: str, **environment: str) -> Iterator[Job]:
    """Any command; whatever is left of it, and of what it started, is killed at the end."""
    mark = secrets.token_hex(8)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **import_path(), **environment, _MARK: mark},
    )
    job = Job(process=process, mark=mark)
    try:
        yield job
    finally:
        for pid in job.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.communicate()


def shards(cache: Path) -> list[Path]:
    """The shards that are committed."""
    return list(cache.glob("v1/*/shards/*.safetensors"))
