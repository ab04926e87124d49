"""Signals leave as an exception with the shell's exit code. In a process of its own: handlers are the process's."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

START = "import os, signal, sys\nfrom frozenhead.signals import Stopped, ignore_signals, stop_on_signals\n"


def run(code: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", START + code], check=False, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_an_exception_with_the_exit_code_of_a_shell(number: int, code: int) -> None:
    program = (
        "stop_on_signals()\n"
        f"try: os.kill(os.getpid(), {int(number)}); signal.pause()\n"
        "except Stopped as stopped: sys.exit(stopped.exit_code)\n"
    )
    assert run(program) == (code, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_was_ignored_stays_ignored(number: int) -> None:
    """As nohup and a shell's background jobs have it."""
    kill = f"signal.signal({int(number)}, signal.SIG_IGN)\nstop_on_signals()\nos.kill(os.getpid(), {int(number)})\n"
    assert run(kill + "print('on')") == (0, "on\n")


def test_on_the_way_out_further_signals_change_nothing() -> None:
    program = "stop_on_signals()\nignore_signals()\nfor n in (1, 2, 15): os.kill(os.getpid(), n)\nprint('out')"
    assert run(program) == (0, "out\n")


def test_an_import_is_finished_before_a_signal_stops_it(tmp_path: Path) -> None:
    """torch's would abort the process: it calls Python from C++ that no exception may leave."""
    (tmp_path / "heavy.py").write_text("import os\nos.kill(os.getpid(), 15)\nos.kill(os.getpid(), 15)\nwhole = True\n")
    program = (
        f"stop_on_signals()\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "try:\n    import heavy\n    signal.pause()\n"
        "except Stopped as stopped: print(sys.modules['heavy'].whole, stopped.exit_code)\n"
    )
    assert run(program) == (0, "True 143\n")
