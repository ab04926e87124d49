"""Several processes on one host, one for each device: `--device cuda:0,cuda:1`, or `cpu,cpu`.

The parent reads the corpus, asks the cache what it lacks, and hands each process its share of that, by key, in a file.
The processes write to the cache. When they are done the parent finds everything there.
"""

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead import errors
from frozenhead.cache import VectorCache, distinct_keys
from frozenhead.embedder import (
    Arithmetic,
    Checkpoint,
    Embedded,
    EmbedSettings,
    Listener,
    decide,
    embed_texts,
    space_of,
)
from frozenhead.errors import FrozenheadError
from frozenhead.fleet.share import Share
from frozenhead.fleet.station import Orders, import_path
from frozenhead.texts import Chosen, Texts

_TEXTS_AT_ONCE = 16384
KEPT = "What was embedded is kept; the same command goes on from there."


def embed_on_devices(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    keys: NDArray[np.uint8],
    settings: EmbedSettings,
    devices: Sequence[str],
    cache: VectorCache,
    listener: Listener,
) -> Embedded:
    """As `embed_texts`, computed by one process on each device.

    Parameters
    ----------
    texts : sequence of str (N,)
    keys : uint8 array (N, 32)
    settings : EmbedSettings
        A precision that is `auto` is that of the first device, for all.
    devices : sequence of str
        `cpu` or `cuda:N`; a device any number of times.

    Raises
    ------
    FrozenheadError
        What a process raised, when the others are done; or a process was killed. What was committed stays.
    """
    begun = time.perf_counter()
    settings = decide(dataclasses.replace(settings, device=devices[0]), checkpoint)
    first, _ = distinct_keys(keys)
    stores = [cache.space(space_of(checkpoint, pooling, settings)) for pooling in settings.poolings]
    found = [store.lookup(keys[first], with_vectors=False).found for store in stores]
    missing = first[~np.logical_and.reduce(found)]  # rows of `texts`
    listener.started(len(first) - len(missing), len(first))
    arithmetic = None
    if len(missing):
        for device in devices:
            _ = dataclasses.replace(settings, device=device).arithmetic  # raises for one that is not here
        for store in stores:
            store.check_writable()
        with tempfile.TemporaryDirectory(prefix="frozenhead-") as folder:
            files = write_shares(texts, keys, missing, len(devices), Path(folder))
            orders = Path(folder) / "orders.json"
            orders.write_text(json.dumps(dataclasses.asdict(Orders.of(checkpoint, settings, cache))))
            arithmetic = _Children(orders, files, devices, listener, len(missing)).run()
    embedded = embed_texts(checkpoint, texts, keys=keys, settings=settings, cache=cache)
    return dataclasses.replace(
        embedded,
        cached=len(first) - len(missing),
        computed=len(missing),
        arithmetic=arithmetic,
        seconds=time.perf_counter() - begun,
    )


def write_shares(
    texts: Sequence[str], keys: NDArray[np.uint8], rows: NDArray[np.intp], count: int, folder: Path
) -> list[Path]:
    """Write some rows of the texts into one Arrow file for each share of their keys."""
    import pyarrow as pa

    files = []
    for index in range(count):
        files.append(folder / f"{index}.arrow")
        chosen = Chosen(texts, rows[Share(index=index, of=count).rows(keys[rows])])
        schema = pa.schema([("text", pa.large_string())])
        with pa.OSFile(str(files[-1]), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for start in range(0, len(chosen), _TEXTS_AT_ONCE):
                part = Texts.of(chosen[start : start + _TEXTS_AT_ONCE]).column.cast(pa.large_string())
                writer.write_batch(pa.record_batch([part.chunk(0)], schema=schema))
    return files


class _Children:
    """The processes, what they say, and how they end."""

    def __init__(
        self, orders: Path, files: Sequence[Path], devices: Sequence[str], listener: Listener, total: int
    ) -> None:
        self._orders, self._files, self._devices = orders, files, devices
        self._listener, self._total = listener, total
        self._said: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._done = [0] * len(devices)
        self._errors: dict[int, dict[str, str]] = {}
        self._arithmetic: Arithmetic | None = None

    def run(self) -> Arithmetic | None:
        """Start all, pass on what they say until the last has ended, then raise what the first of them raised."""
        self._listener.progress(0, self._total)
        with self._started() as children:
            talking = set(range(len(children)))
            while talking:
                index, said = self._said.get()
                if said is None:
                    talking.remove(index)
                else:
                    self._hear(index, said)
            codes = [child.wait() for child in children]
        for index, code in enumerate(codes):
            if code:
                raise self._failure(index, code)
        return self._arithmetic

    @contextmanager
    def _started(self) -> Iterator[list[subprocess.Popen[bytes]]]:
        """The processes under way; if the block is left early, each is told to stop, and keeps what it has computed."""
        children: list[subprocess.Popen[bytes]] = []
        try:
            for index, device in enumerate(self._devices):
                children.append(self._start(index, device))
            yield children
        finally:
            try:
                for child in children:
                    child.terminate()
                for child in children:
                    child.wait()
            finally:  # a second signal: no more waiting
                for child in children:
                    child.kill()
                    child.wait()
                    for pipe in (child.stdin, child.stdout):
                        if pipe:
                            pipe.close()

    def _start(self, index: int, device: str) -> subprocess.Popen[bytes]:
        cpus = [i for i, one in enumerate(self._devices) if one == "cpu"]
        share = f"{cpus.index(index)}/{len(cpus)}" if device == "cpu" else "0/1"
        words = ["-m", "frozenhead.fleet.child", str(self._orders), str(self._files[index]), device, share]
        # A session of its own: Ctrl-C reaches the parent alone, which tells each process once.
        child = subprocess.Popen(  # noqa: S603 (our own module)
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **import_path()},
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(index, child), daemon=True).start()
        return child

    def _listen(self, index: int, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None  # noqa: S101 (a pipe)
        try:
            for line in child.stdout:
                with suppress(ValueError):  # what a library prints there, or a last line that was cut
                    self._said.put((index, dict(json.loads(line))))
        except ValueError:  # the pipe was closed
            pass
        finally:
            self._said.put((index, None))

    def _hear(self, index: int, said: dict[str, Any]) -> None:
        if "progress" in said:
            self._done[index] = said["progress"][0]
            self._listener.progress(sum(self._done), self._total)
        if "note" in said:
            self._listener.note(said["note"])
        if "computing" in said:
            arithmetic = Arithmetic(**said["computing"])
            self._arithmetic = self._arithmetic or arithmetic
            self._listener.note(f"process {index + 1} of {len(self._devices)}: {arithmetic}")
        if "error" in said:
            self._errors[index] = said

    def _failure(self, index: int, code: int) -> FrozenheadError:
        """What a process raised, or how it ended."""
        place = f"Process {index + 1} of {len(self._devices)}, on {self._devices[index]},"
        said = self._errors.get(index)
        if said is not None:
            kind = getattr(errors, said["error"], FrozenheadError)
            message, _, advice = said["text"].partition("\n")
            error: FrozenheadError = kind(f"{place} failed: {message}{' ' if advice else ''}{advice}\n{KEPT}")
            return error
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " (the system may have run out of memory)" if code == -signal.SIGKILL else ""
        return FrozenheadError(f"{place} {how}{hint}. The others have finished.\n{KEPT}")
