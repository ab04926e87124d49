"""What a run of ours did: batches, time in the encoder, time on the cache, memory."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from arithmetic import Load

from frozenhead.cache import ShardWriter, SpaceStore, VectorCache
from frozenhead.embedder import compute


class Meter:
    """Batches given to an encoder's `start`, and when they were under way."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.batches: list[tuple[int, int, int]] = []  # rows, longest, real tokens
        self.spans: list[tuple[float, float]] = []

    def around(self, start: Callable[..., Any]) -> Callable[..., Any]:
        """`start`, noting each batch; the batch ends when what it returned has given the vectors."""

        def noted(rows: Any, *args: Any, **options: Any) -> Callable[[], Any]:
            begun = time.perf_counter()
            running = start(rows, *args, **options)
            lengths = [len(row["input_ids"]) for row in rows]
            self.batches.append((len(lengths), max(lengths), sum(lengths)))

            def wait() -> Any:
                vectors = running()
                self.spans.append((begun, time.perf_counter()))
                return vectors

            return wait

        return noted

    @property
    def load(self) -> Load:
        """What was computed, padding included."""
        return Load(
            texts=sum(n for n, _, _ in self.batches),
            tokens=sum(n * longest for n, longest, _ in self.batches),
            pairs=sum(n * longest**2 for n, longest, _ in self.batches),
        )

    @property
    def padding(self) -> float:
        """Share of the computed tokens that were padding."""
        return 1 - sum(real for _, _, real in self.batches) / self.load.tokens

    @property
    def seconds(self) -> float:
        """Time in which at least one batch was under way."""
        total, end = 0.0, 0.0
        for start, stop in sorted(self.spans):
            total += max(0.0, stop - max(start, end))
            end = max(end, stop)
        return total


class CacheClock:
    """Seconds spent in the cache: hashing, looking up, gathering, writing. Calls within calls count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside = threading.local()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Every call that `embed_texts` makes into the cache is timed within the block."""
        doors: list[tuple[Any, tuple[str, ...]]] = [
            (compute, ("text_keys", "distinct_keys")),
            (VectorCache, ("space",)),
            (SpaceStore, ("lookup", "writer", "describe", "settle", "pin")),
            (ShardWriter, ("add", "flush", "__exit__")),
        ]
        before = [(owner, name, getattr(owner, name)) for owner, names in doors for name in names]
        try:
            for owner, name, call in before:
                setattr(owner, name, self._timed(call))
            yield
        finally:
            for owner, name, call in before:
                setattr(owner, name, call)

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            if getattr(self._inside, "busy", False):
                return call(*args, **options)
            self._inside.busy = True
            begun = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                self.seconds += time.perf_counter() - begun
                self._inside.busy = False

        return timed


def peak_growth(work: Callable[[], None]) -> float:
    """MiB by which this process's memory peaked above what it had before `work` (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
