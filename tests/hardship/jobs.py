"""What the children of the nursery do, with the encoder of the fault harness."""

import contextlib
import functools
import importlib
import importlib.metadata
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partialmethod
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from frozenhead.cache.keys import Keys
from frozenhead.embedder import embed_texts
from frozenhead.embedder.encoder import Encoder, Running
from tests.faults.fake import CHECKPOINT, DIM, SETTINGS, SPACE, FakeEncoder, fp32_by_default, tokens_of, vectors_of

_version = functools.cache(importlib.metadata.version)  # reads many files


class SlowEncoder(FakeEncoder):
    """Says `batch` on stderr and waits `seconds` before each; notes in the file `noted` what it computed."""

    def __init__(self, seconds: float = 0.0, noted: str | None = None) -> None:
        super().__init__(self._note)
        self._seconds, self._noted = seconds, noted

    def start(self, rows: Sequence[dict[str, list[int]]]) -> Running:
        if self._seconds:
            say("batch")
            time.sleep(self._seconds)
        return super().start(rows)

    def _note(self, keys: Keys) -> None:
        if self._noted is not None:
            with open(self._noted, "ab") as file:
                file.write(keys.tobytes())


def say(line: str) -> None:
    """A line on stderr, in one piece."""
    os.write(2, f"{line}\n".encode())


def warm_up() -> None:
    """Import and remember what the jobs need, but for what only a command needs."""
    import tempfile

    import frozenhead.cli
    import frozenhead.commands.caches
    import frozenhead.commands.embed
    import frozenhead.commands.fit
    import frozenhead.commands.predict
    import frozenhead.commands.report  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        embed(cache=folder, texts=["a text"])


@contextlib.contextmanager
def fake_encoder(*, shard_rows: int | None, seconds: float = 0.0, computed: str | None = None) -> Iterator[None]:
    """Every command and `embed_texts` itself get the fake encoder, and shards of so many rows where that is said."""
    with contextlib.ExitStack() as stack:
        for place in ("commands.embed", "pipeline"):
            find = mock.patch(f"frozenhead.{place}.find_checkpoint", return_value=CHECKPOINT)
            stack.enter_context(find)
        stack.enter_context(mock.patch("frozenhead.embedder.compute.version", _version))
        stack.enter_context(fp32_by_default())
        encoder = SlowEncoder(seconds, computed)
        stack.enter_context(mock.patch("frozenhead.embedder.compute.Encoder", return_value=encoder))
        if shard_rows is not None:
            writer = partialmethod(SpaceStore.writer, flush_bytes=shard_rows * DIM * 4, flush_seconds=math.inf)
            stack.enter_context(mock.patch.object(SpaceStore, "writer", writer))
        yield


def embed(
    *,
    cache: str,
    texts: Sequence[str],
    shard_rows: int | None = None,
    gate: str | None = None,
    computed: str | None = None,
) -> None:
    """`embed_texts`, when the file `gate` is there."""
    while gate and not Path(gate).exists():
        time.sleep(0.001)
    with fake_encoder(shard_rows=shard_rows):
        made = cast(Encoder, SlowEncoder(noted=computed))
        embed_texts(CHECKPOINT, texts, settings=SETTINGS, cache=VectorCache(cache), encoder=lambda: made)


def read_on(*, cache: str, texts: Sequence[str], stop: str) -> None:
    """Open, read and verify in a loop until the file `stop` is there: what was found once is found again, and true."""
    keys = text_keys(texts)
    truth, counts = vectors_of(keys), tokens_of(keys)
    seen, shared, rounds = np.zeros(len(keys), bool), VectorCache(cache), 0
    while not Path(stop).exists():
        for opened in (shared, VectorCache(cache), VectorCache(cache, verify="always")):
            lookup = opened.space(SPACE).lookup(keys)
            assert lookup.vectors is not None
            assert (lookup.found | ~seen).all(), "a row is lost"
            assert np.array_equal(lookup.vectors[lookup.found], truth[lookup.found]), "a wrong vector"
            assert np.array_equal(lookup.tokens[lookup.found], counts[lookup.found]), "a wrong count"
            assert np.isnan(lookup.vectors[~lookup.found]).all()
            seen = lookup.found
        assert not shared.check_all().bad
        shared.spaces()
        rounds += 1
    print(rounds)


def command(
    *,
    words: list[str],
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    shard_rows: int | None = None,
    seconds: float = 0.0,
    computed: str | None = None,
    powerless: bool = False,
    file_limit: int | None = None,
    slow: str | None = None,
) -> None:
    """A command line with the fake encoder, from `main` to its exit."""
    import frozenhead.cli

    os.environ.update(env or {})
    if cwd:
        os.chdir(cwd)
    if powerless:
        drop_power()
    if file_limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.argv = ["frozenhead", *words]
    with fake_encoder(shard_rows=shard_rows, seconds=seconds, computed=computed):
        if slow is not None:
            _slow_down(slow)
        say("begun")
        frozenhead.cli.main()


def _slow_down(what: str) -> None:
    """Make every call of a function take a tenth of a second, said on stderr beforehand."""
    module, name = {
        "fsync": ("os", "fsync"),
        "read": ("frozenhead.cache.folder", "_read"),
        "notice": ("frozenhead.cli", "print_notice"),
    }[what]
    holder = importlib.import_module(module)
    quick = getattr(holder, name)

    def slow(*args: Any, **options: Any) -> Any:
        say(what)
        time.sleep(0.1)
        return quick(*args, **options)

    setattr(holder, name, slow)


def drop_power() -> None:
    """Lose root's right to pass over permission bits: clear every capability of this process."""
    import ctypes

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    libc = ctypes.CDLL(None, use_errno=True)
    version_3, nothing = 0x20080522, (ctypes.c_uint32 * 6)()  # capset(2): effective, permitted, inheritable; twice
    if libc.capset(ctypes.byref(Header(version_3, 0)), ctypes.byref(nothing)):
        raise OSError(ctypes.get_errno(), "capset")


def lookup_into(*, cache: str, texts: list[str], out: str) -> None:
    """Write the vectors to a file and say which error came of it."""
    from frozenhead.errors import StorageError

    try:
        VectorCache(cache).space(SPACE).lookup_into(Path(out), text_keys(texts))
    except StorageError as error:
        print(json.dumps({"exit_code": error.exit_code, "message": str(error)}))
