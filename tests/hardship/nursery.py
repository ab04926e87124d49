"""A process of one thread that forks a child per job, so that numpy, pandas and frozenhead are imported once.

    python -m tests.hardship.nursery        reads one request a line, answers one line

A child leads a process group, as a command does in a terminal, and ends with the exit code of its job.
"""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

PATIENCE = 60.0  # seconds after which a child hangs; the machine may be busy


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a child ended.

    Attributes
    ----------
    code : int
        As a shell gives it: 128 + the number of the signal that ended it.
    out, err : str
    """

    code: int
    out: str
    err: str


class Child:
    """A forked process at work."""

    def __init__(self, nursery: "Nursery", pid: int, said: Path) -> None:
        self.pid = pid
        self._nursery, self._said = nursery, said

    def err(self) -> str:
        """What it said on stderr until now."""
        return self._said.with_suffix(".err").read_text(errors="surrogateescape")

    def await_line(self, line: str, count: int = 1) -> None:
        """Return when it has said the line so many times on stderr."""
        until = time.monotonic() + PATIENCE
        while self.err().splitlines().count(line) < count:
            assert time.monotonic() < until, f"{line!r} was not said:\n{self.err()}"
            time.sleep(0.002)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal. It is there until `done` is called, if only as a zombie."""
        os.kill(self.pid, number)

    def done(self) -> Done:
        """Wait for its end. A child that hangs is killed, and fails the test."""
        code = self._nursery.ask({"wait": self.pid})["code"]
        assert code is not None, f"a child hung:\n{self.err()}"
        return Done(code=code, out=self._said.with_suffix(".out").read_text(errors="surrogateescape"), err=self.err())


class Nursery:
    """The forking process, seen from a test."""

    def __init__(self, said: Path) -> None:
        self._said = said
        self._born = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hardship.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # a second thread does not fork
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def start(self, job: Callable[..., Any], *, shutdown: bool = False, **options: Any) -> Child:
        """Start `job(**options)`, a function of `jobs`, in a child; options travel as JSON, paths as strings.

        With `shutdown` the child ends through Python's own shutdown, which takes longer than most jobs.
        """
        self._born += 1
        said = self._said / f"child-{self._born}"
        for suffix in (".out", ".err"):
            said.with_suffix(suffix).touch()
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        answer = self.ask({"start": job.__name__, "options": plain, "said": str(said), "shutdown": shutdown})
        return Child(self, answer["pid"], said)

    def run(self, job: Callable[..., Any], **options: Any) -> Done:
        """Start a job and wait for its end."""
        return self.start(job, **options).done()

    def close(self) -> None:
        self._process.communicate()


def _serve() -> None:
    from tests.hardship import jobs

    jobs.warm_up()
    gc.freeze()  # the children's collector need not touch, and so copy, every page
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": _wait(request["wait"])}
        else:
            child = os.fork()
            if child == 0:
                os.setpgid(0, 0)
                _redirect(request["said"])
                _do(getattr(jobs, request["start"]), request)
            with contextlib.suppress(PermissionError, ProcessLookupError):  # the child was quicker
                os.setpgid(child, child)
            answer = {"pid": child}
        print(json.dumps(answer), flush=True)


def _do(job: Callable[..., None], request: dict[str, Any]) -> NoReturn:
    """Do a job and end with its exit code; never return into the parent's loop."""
    if request["shutdown"]:
        job(**request["options"])
        sys.exit()
    code = 1
    try:
        job(**request["options"])
        code = 0
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:  # noqa: BLE001 (whatever it is, the test must hear of it)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int) -> int | None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _redirect(said: str) -> None:
    for descriptor, path in enumerate((os.devnull, f"{said}.out", f"{said}.err")):
        opened = os.open(path, os.O_RDWR | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (the requests that were read ahead are the parent's)


if __name__ == "__main__":
    _serve()
