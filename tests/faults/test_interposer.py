"""The harness sees every operation: nothing in the cache folder is touched past the interposer."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import fake
from tests.faults.driver import Driver, outcome
from tests.faults.interposer import WRITES
from tests.faults.test_kill import neglected


@pytest.mark.parametrize("job", ["commit", "look_after", "merge"])
def test_no_event_of_the_interpreter_passes_by_the_interposer(driver: Driver, scratch: Path, job: str) -> None:
    disk = fake.new_disk(scratch / "disk") if job == "commit" else neglected(scratch / "disk")
    told = driver.run(job, disk, audit=True)
    assert told.count > 0
    assert told.escaped == []


def test_the_audit_sees_what_passes_by(driver: Driver, scratch: Path) -> None:
    told = driver.run("commit", fake.new_disk(scratch / "disk"), audit=True, interpose=False)
    assert {event for event, _ in told.escaped} >= {"open", "os.mkdir", "os.rename", "os.listdir", "os.utime"}


# Every call by which a process can change what lies under a path. `write` and `fsync` know the path by `strace -y`.
CALLS = (
    "open,openat,creat,write,writev,pwrite64,pwritev,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,mkdir,"
    "mkdirat,mknod,mknodat,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,truncate,ftruncate,fallocate,utimensat,"
    "chmod,fchmod,fchmodat,chown,fchown,fchownat,lchown,setxattr,copy_file_range,sendfile"
)
NAMES = {"openat": "create", "open": "create", "unlinkat": "unlink", "utimensat": "utime", "renameat": "rename"}
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (\d+)")
_PATH = re.compile(r'"([^"]*)"|<(/[^>]*)>')


def test_the_kernel_saw_the_writes_that_the_interposer_saw(scratch: Path) -> None:
    """System call by system call, in order: with strace, which goes by the kernel and not by Python."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    disk, trace = fake.new_disk(scratch / "disk"), scratch / "trace"
    words = ["strace", "-f", "-qq", "-y", "-s", "0", "-e", f"trace={CALLS}", "-o", str(trace)]
    words += [sys.executable, "-m", "tests.faults.driver", "commit", str(disk)]
    run = subprocess.run(words, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    told = outcome(map(json.loads, run.stdout.splitlines()), killed=False)
    ours = [(op.name, op.path, op.target, len(op.data)) for op in told.ops if op.name in WRITES]
    assert len(ours) > 30
    assert changes(trace.read_text(), disk) == ours


def changes(trace: str, disk: Path) -> list[tuple[str, str, str, int]]:
    """What a trace tells of changes on the disk, in the words of the interposer."""
    found = []
    for line in trace.splitlines():
        match = _LINE.match(line)
        if match is None or str(disk) not in line:
            continue
        call, arguments, result = match.groups()
        if call.startswith("open") and not re.search("O_CREAT|O_TRUNC", arguments):
            continue
        paths = [Path(named or held) for named, held in _PATH.findall(arguments)]
        inside = [path.relative_to(disk).as_posix() for path in paths if path.is_relative_to(disk)]
        size = int(result) if call == "write" else 0
        found.append((NAMES.get(call, call), inside[0], inside[1] if len(inside) > 1 else "", size))
    return found
