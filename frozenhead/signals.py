"""SIGINT, SIGTERM and SIGHUP as an exception, with the exit code a shell expects: 128 + the signal's number."""

import os
import signal
import sys
import threading
from typing import Any

# The last one, where it exists, says that the terminal was closed.
_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """A signal asked us to stop. Not a KeyboardInterrupt, which the parser would turn into an exit code of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.exit_code = 128 + number


def ignore_signals() -> None:
    """From now on the program is leaving, and no further signal shall change how."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)


def stop_on_signals() -> None:
    """Let signals raise `Stopped` in the main thread, again if it was raised where nothing can leave.

    A signal that is ignored already, as by nohup, stays so.
    """

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    for number in _STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    ignored = sys.unraisablehook

    def hook(lost: Any) -> None:
        # Python drops what a __del__ raises; large imports run thousands of them.
        if isinstance(lost.exc_value, Stopped):
            threading.Timer(0.05, os.kill, [os.getpid(), lost.exc_value.number]).start()
        else:
            ignored(lost)

    sys.unraisablehook = hook
