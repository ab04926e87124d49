"""A process that forks one child per job, so that numpy and frozenhead are imported once and no test process is forked.

    python -m tests.faults.driver              reads one request a line, answers one line
    python -m tests.faults.driver JOB DISK     does one job itself, undisturbed

A forked process must have one thread; pytest's may have more, this one has not.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults.interposer import Fault, Op


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    killed : bool
        Whether SIGKILL ended it.
    acknowledged, computed : set of bytes; list of bytes
        Keys committed; keys encoded, in order.
    ops : list of Op
        What was carried out of `WRITES`, "acknowledge" among them with its keys as data.
    count : int
        Operations in all, if it came to its end.
    refused : (type, exit code, message) or None
        The FrozenheadError it ended with.
    broken : str
        The traceback of any other exception.
    exit_code : int or None
        Of a command.
    escaped : list of (event, path)
        What the audit hook saw pass by the interposer.
    said : str
        A command's stderr.
    """

    killed: bool
    acknowledged: set[bytes]
    computed: list[bytes]
    ops: list[Op]
    count: int
    refused: tuple[str, int, str] | None
    broken: str
    exit_code: int | None
    escaped: list[tuple[str, str]]
    said: str


class Driver:
    """The driving process, seen from a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # a second thread does not fork
        )

    def run(
        self,
        job: str,
        disk: Path,
        *,
        fault: Fault | None = None,
        kill_after: float | None = None,
        interpose: bool = True,
        audit: bool = False,
    ) -> Outcome:
        """Run a job of `jobs` on `disk` in a new process; `kill_after` so many seconds it is killed."""
        request = {
            "job": job, "disk": str(disk), "fault": asdict(fault) if fault else None, "kill_after": kill_after,
            "interpose": interpose, "audit": audit, "sync": False,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["status"] in (0, signal.SIGKILL), f"the child ended with status {answer['status']}"
        return outcome(answer["events"], killed=answer["status"] == signal.SIGKILL, said=answer["said"])

    def close(self) -> None:
        self._process.communicate()


def outcome(events: Iterable[Any], *, killed: bool, said: str = "") -> Outcome:
    """Sort the events of a job."""
    by_kind: dict[str, list[Any]] = {}
    ops: list[Op] = []
    for kind, content in events:
        by_kind.setdefault(kind, []).append(content)
        if kind == "op":
            ops.append(Op(**{**content, "data": b64decode(content["data"])}))
        elif kind == "acknowledged":
            ops.append(Op(number=-1, name="acknowledge", path="", data=b"".join(map(bytes.fromhex, content))))
    return Outcome(
        killed=killed,
        acknowledged={bytes.fromhex(key) for keys in by_kind.get("acknowledged", []) for key in keys},
        computed=[bytes.fromhex(key) for keys in by_kind.get("computed", []) for key in keys],
        ops=ops,
        count=by_kind.get("done", [0])[0],
        refused=by_kind.get("refused", [None])[0],
        broken="".join(by_kind.get("broken", [])),
        exit_code=by_kind.get("exit", [None])[0],
        escaped=[tuple(event) for event in by_kind.get("escaped", [])],
        said=said,
    )


def _serve() -> None:
    import tests.faults.jobs

    tests.faults.jobs.warm_up()
    gc.freeze()  # the children's collector need not touch, and so copy, every page
    for line in sys.stdin:
        request = json.loads(line)
        if request["job"].startswith("command"):
            import frozenhead.commands.caches
            import frozenhead.commands.embed  # noqa: F401 (pandas, which no other job needs)
        print(json.dumps(_answer(request)), flush=True)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Fork a child, let it do the job, and gather what it tells until it is gone."""
    said = Path(f"{request['disk']}.said")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_child(request, writer, said)
    os.close(writer)
    if request["kill_after"] is not None:
        os.read(reader, 1)  # it has begun
        time.sleep(request["kill_after"])
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as pipe:
        lines = [line for line in pipe.read().lstrip(b"\n").splitlines(keepends=True) if line.endswith(b"\n")]
    status = os.waitpid(child, 0)[1]
    return {"status": status, "events": [json.loads(line) for line in lines], "said": said.read_text()}


def _be_child(request: dict[str, Any], pipe: int, said: Path) -> None:
    """Do the job and end, whatever happens; never return into the parent's loop."""
    from tests.faults.jobs import Teller, run_job

    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(os.open(said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), 2)
        os.write(pipe, b"\n")
        fault = Fault(**request["fault"]) if request["fault"] else None
        options = {name: request[name] for name in ("interpose", "sync", "audit")}
        run_job(request["job"], Path(request["disk"]), Teller(pipe, os.write), fault=fault, **options)
        sys.stderr.flush()
    finally:
        os._exit(0)


def _once(job: str, disk: str) -> None:
    """Do one job in this process, with its fsyncs, and print what it tells."""
    from tests.faults.jobs import Teller, run_job

    run_job(job, Path(disk), Teller(1, os.write), fault=None, interpose=True, sync=True, audit=False)


if __name__ == "__main__":
    if sys.argv[1:]:
        _once(*sys.argv[1:])
    else:
        _serve()
