"""Ours and its peers behind one face: load, run over texts, give the vectors.

Loading is timed for none, tokenising for all. Ours runs into a fresh cache each time: hashing and
writing are timed too.
"""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import peers
from metering import Meter
from numpy.typing import NDArray

from frozenhead.cache import VectorCache
from frozenhead.embedder import EmbedSettings, embed_texts, find_checkpoint
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.hardware import BACKENDS, PRECISIONS, choose_arithmetic
from frozenhead.errors import FrozenheadError

Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all contestants share: the checkpoint's folder, the cut, the device, a folder to work in."""

    folder: Path
    max_length: int
    device: str
    work: Path
    to_disk: bool = False


class Runner(Protocol):
    """A contestant, loaded."""

    def prepare(self) -> None:
        """Forget the run before. Not timed."""

    def run(self, texts: list[str]) -> None:
        """Embed. Timed."""

    def vectors(self) -> Matrix:
        """What the last run found (N, D)."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Who runs, and how to load it."""

    name: str
    pooling: str
    precision: str
    load: Callable[[Setting], Runner]
    ours: bool = False


class Peer:
    """A function from texts to vectors; where the run ends on disk, they are saved as one array."""

    def __init__(self, encode: peers.Encode, path: Path | None) -> None:
        self.encode, self.path = encode, path
        self.found: Matrix | None = None

    def prepare(self) -> None:
        self.found = None
        if self.path:
            self.path.unlink(missing_ok=True)

    def run(self, texts: list[str]) -> None:
        self.found = self.encode(texts)
        if self.path:
            np.save(self.path, self.found)

    def vectors(self) -> Matrix:
        assert self.found is not None
        return self.found


class Ours:
    """`embed_texts` into an empty cache; a meter counts what its encoder is given."""

    def __init__(self, setting: Setting, settings: EmbedSettings) -> None:
        self.settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="cache-", dir=setting.work))
        self.encoder = Encoder(find_checkpoint(setting.folder), settings)
        self.meter = Meter()
        self.encoder.start = self.meter.around(self.encoder.start)  # type: ignore[method-assign]

    def prepare(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.meter.clear()

    def run(self, texts: list[str]) -> None:
        self.done = embed_texts(
            self.encoder.checkpoint, texts, settings=self.settings, cache=VectorCache(self.folder),
            encoder=lambda: self.encoder,
        )  # fmt: skip

    def vectors(self) -> Matrix:
        store = self.done.stores[self.settings.poolings[0]]
        return np.asarray(store.lookup(self.done.keys).vectors, np.float32)


def ours(device: str, max_length: int, skip: Callable[[str], None]) -> Iterator[Contestant]:
    """Every backend and precision that this machine allows, with `mean` and with `pooler`."""
    for backend in BACKENDS:
        for precision in PRECISIONS:
            try:
                choose_arithmetic(device=device, backend=backend, precision=precision)
            except FrozenheadError as error:
                skip(f"ours {backend} {precision}: {str(error).splitlines()[0]}")
                continue
            for pooling in ("mean", "pooler"):
                settings = EmbedSettings(
                    poolings=(pooling,), max_length=max_length, precision=precision, device=device, backend=backend
                )  # type: ignore[arg-type]
                yield Contestant(
                    name=f"ours {backend} {precision} {pooling}", pooling=pooling, precision=precision, ours=True,
                    load=lambda setting, settings=settings: Ours(setting, settings),
                )  # fmt: skip


def _peer(name: str, pooling: str, precision: str, load: Callable[..., peers.Encode]) -> Contestant:
    def loaded(setting: Setting) -> Peer:
        encode = load(setting.folder, max_length=setting.max_length, device=setting.device)
        return Peer(encode, setting.work / f"{name}.npy" if setting.to_disk else None)

    return Contestant(name=name, pooling=pooling, precision=precision, load=loaded)


def cpu_peers(onnx: Path, skip: Callable[[str], None]) -> Iterator[Contestant]:
    """The peers of `embed.py`; `onnx` is where the exported model lies."""
    if _installed("sentence_transformers", skip):
        for precision, size in (("fp32", 32), ("bf16", 32), ("bf16", 64), ("bf16", 128)):
            name = f"sentence-transformers {precision} batch {size}"
            yield _peer(name, "mean", precision, partial(peers.sentence_transformers, precision=precision, batch=size))
    yield _peer("pipeline fp32 batch 32", "cls", "fp32", partial(peers.pipeline, batch=32))
    if all(_installed(name, skip) for name in ("onnxruntime", "onnxscript")):
        yield _peer("onnxruntime fp32 batch 32", "mean", "fp32", partial(peers.onnxruntime, model=onnx, batch=32))
        yield _peer("onnxruntime fp32 sorted", "mean", "fp32", partial(peers.onnxruntime, model=onnx, budget=2048))
    yield _peer("notebook fp32 batch 32", "pooler", "fp32", partial(peers.padded_to_longest, batch=32))


def gpu_peers(skip: Callable[[str], None]) -> Iterator[Contestant]:
    """The peers of `gpu.py`: the default batch, and one that fills a GPU."""
    if _installed("sentence_transformers", skip):
        for size in (32, 256):
            name = f"sentence-transformers bf16 batch {size}"
            yield _peer(name, "mean", "bf16", partial(peers.sentence_transformers, precision="bf16", batch=size))
    yield _peer("transformers bf16 batch 256", "mean", "bf16", partial(peers.plain, precision="bf16", batch=256))


def _installed(package: str, skip: Callable[[str], None]) -> bool:
    if importlib.util.find_spec(package) is None:
        skip(f"{package}: not installed")
        return False
    return True


def chosen(contestants: list[Contestant], only: str) -> list[Contestant]:
    """Those whose name holds one of the comma-separated words; all without any."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    found = [c for c in contestants if not words or any(word in c.name for word in words)]
    if not found:
        raise SystemExit(f"--only {only}: nobody is named so. There are: {', '.join(c.name for c in contestants)}.")
    return found
