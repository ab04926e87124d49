"""SIGINT, SIGTERM and SIGHUP as an exception, with the exit code a shell expects: 128 + the signal's number."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

# The last one, where it exists, says that the terminal was closed.
_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_LATER_SECONDS = 0.05
_later: dict[int, threading.Timer] = {}


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
    """Let signals raise `Stopped` in the main thread; later, if they come where nothing can be raised.

    A signal that is ignored already, as by nohup, stays so.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        # torch's import calls Python from C++ that no exception may leave: it ended in an abort, 1 in 30 cold starts.
        if _is_importing(frame):
            _send_again(number)
        else:
            raise Stopped(number)

    for number in _STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    ignored = sys.unraisablehook

    def hook(lost: Any) -> None:
        # Python drops what a __del__ raises.
        if isinstance(lost.exc_value, Stopped):
            _send_again(lost.exc_value.number)
        else:
            ignored(lost)

    sys.unraisablehook = hook


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    """Once, however often it came: work that is kept on the way out shall not be stopped by the same wish again."""
    waiting = _later.get(number)
    if waiting is None or not waiting.is_alive():
        _later[number] = threading.Timer(_LATER_SECONDS, os.kill, [os.getpid(), number])
        _later[number].start()
