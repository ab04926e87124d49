"""One process of several on a host: embeds the texts of a file, and tells its parent about it, line by line.

    python -m frozenhead.fleet.child ORDERS.json TEXTS.arrow DEVICE I/N

Every line on standard output is a JSON object: what a `Listener` is told, or an error. Standard input is held open by
the parent: when it ends, the parent is gone, and nobody waits for the rest.
"""

import dataclasses
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from frozenhead.embedder import Arithmetic, Listener
from frozenhead.errors import FrozenheadError
from frozenhead.fleet.cores import take_cores
from frozenhead.fleet.share import Share
from frozenhead.fleet.station import Orders, Station
from frozenhead.signals import Stopped, ignore_signals, stop_on_signals
from frozenhead.texts import Texts


class _Teller(Listener):
    """Tells the parent what it would have been told."""

    def __init__(self, device: str) -> None:
        self._device = device

    def computing(self, arithmetic: Arithmetic) -> None:
        tell(computing=dataclasses.asdict(arithmetic))

    def progress(self, done: int, total: int) -> None:
        tell(progress=[done, total])

    def note(self, line: str) -> None:
        tell(note=f"{self._device}: {line}")


class _Warnings(logging.Handler):
    """What the library warns of becomes a note of the parent's."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(note=record.getMessage())


def tell(**what: Any) -> None:
    """One line to the parent. One that is gone needs none."""
    try:
        os.write(1, (json.dumps(what) + "\n").encode())
    except BrokenPipeError:
        return


def _stop_with_parent() -> None:
    """Wait until the parent closes our standard input, which its end does too; then stop as if told to."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(words: list[str]) -> int:
    """Do the work; exit codes are those of the command line."""
    orders, texts, device, share = words
    stop_on_signals()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    logging.getLogger("frozenhead").addHandler(_Warnings())
    if device == "cpu":
        take_cores(Share.parse(share))
    try:
        fields = json.loads(Path(orders).read_bytes())
        fields["settings"]["device"] = device
        embedded = Station(Orders.from_dict(fields)).embed(read_texts(Path(texts)), listener=_Teller(device))
        tell(computed=embedded.computed)
    except FrozenheadError as error:
        tell(error=type(error).__name__, text=str(error))
        return error.exit_code
    except Stopped as stopped:
        return stopped.exit_code
    finally:
        ignore_signals()
    return 0


def read_texts(path: Path) -> Texts:
    """The column of an Arrow file, mapped into memory."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        return Texts(pa.ipc.open_file(source).read_all().column("text"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
