"""One contract for every backend and precision: the vectors of a plain forward pass, whatever the batch."""

import importlib.util
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from frozenhead.cache import VectorCache
from frozenhead.embedder import Checkpoint, EmbedSettings, embed_texts, find_checkpoint
from frozenhead.embedder import encoder as encoder_module
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.hardware import cpu_flags
from frozenhead.embedder.loading import load_pretrained
from frozenhead.embedder.plain import PlainEncoder
from frozenhead.errors import EncoderUnfit
from tests.embedder.test_compute import Told

TEXTS = [
    "the cat sat on the mat",
    "win a free prize now",
    "hello",
    "zebra call " * 30,
    "a",
    "\x00\x07 \u200f zzz",
    "☃☃☃",
]

POOLINGS = ["pooler", "cls", "mean", "max"]
TOLERANCE = 1e-5  # the promise of fp32
NATIVE_BF16 = bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})
LEAST_COSINE = 0.999  # the promise of bf16 and fp16

NO_OPENVINO = importlib.util.find_spec("openvino") is None
needs_openvino = pytest.mark.skipif(NO_OPENVINO, reason="the extra openvino is not installed")
BACKENDS = ["torch", pytest.param("openvino", marks=needs_openvino)]


@pytest.fixture(scope="module")
def checkpoint(tiny_folder: Path) -> Checkpoint:
    return find_checkpoint(tiny_folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where converted models are kept over the tests of this file."""
    return tmp_path_factory.mktemp("kept")


def embed(checkpoint: Checkpoint, folder: Path, kept: Path | None = None, **settings: Any) -> NDArray[Any]:
    chosen = EmbedSettings(device="cpu", **settings)
    cache = VectorCache(folder)
    done = embed_texts(
        checkpoint, TEXTS, settings=chosen, cache=cache,
        encoder=lambda: Encoder(checkpoint, chosen, cache_folder=kept or cache.folder),
    )  # fmt: skip
    vectors = done.stores[chosen.poolings[0]].lookup(done.keys).vectors
    assert vectors is not None
    return vectors


def one_by_one(checkpoint: Checkpoint, pooling: str, max_length: int) -> NDArray[np.float32]:
    plain = PlainEncoder(checkpoint, device="cpu")
    with torch.no_grad():
        return np.concatenate([plain.vectors([t], pooling=pooling, max_length=max_length).numpy() for t in TEXTS])


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.asarray((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("budget", [8, 4096])
def test_fp32_equals_a_plain_forward_of_each_text_alone(
    checkpoint: Checkpoint,
    tmp_path: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
    budget: int,
    pooling: str,
    backend: str,
) -> None:
    monkeypatch.setattr(Encoder, "token_budget", budget)
    vectors = embed(checkpoint, tmp_path, kept, poolings=(pooling,), max_length=12, backend=backend, precision="fp32")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, one_by_one(checkpoint, pooling, 12), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_bf16_points_where_fp32_does(
    checkpoint: Checkpoint, tmp_path: Path, kept: Path, pooling: str, backend: str
) -> None:
    vectors = embed(checkpoint, tmp_path, kept, poolings=(pooling,), max_length=12, backend=backend, precision="bf16")
    assert vectors.dtype == np.float16
    exact = one_by_one(checkpoint, pooling, 12)
    assert cosines(vectors, exact).min() >= LEAST_COSINE
    coarser = (vectors != exact.astype(np.float16)).any()
    assert coarser or not NATIVE_BF16, "the arithmetic was that of fp32"


@needs_openvino
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_backends_share_a_space_and_each_finds_what_the_other_wrote(
    checkpoint: Checkpoint, tmp_path: Path, kept: Path, precision: str
) -> None:
    cold = embed(checkpoint, tmp_path, kept, backend="openvino", precision=precision)
    warm = embed(checkpoint, tmp_path, kept, backend="torch", precision=precision)
    np.testing.assert_array_equal(cold, warm)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each model that is converted."""
    from frozenhead.embedder import openvino_backend

    calls: list[int] = []
    convert = openvino_backend.convert

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return convert(*args, **options)

    monkeypatch.setattr(openvino_backend, "convert", counted)
    return calls


@needs_openvino
def test_a_converted_model_is_kept_and_a_damaged_one_made_anew(
    checkpoint: Checkpoint, tmp_path: Path, conversions: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    settings = EmbedSettings(device="cpu", backend="openvino", precision="fp32")

    def vectors() -> NDArray[np.float32]:
        encoder = Encoder(checkpoint, settings, cache_folder=tmp_path)
        return encoder.encode(encoder.tokenize(TEXTS).rows)["pooler"]

    first = vectors()
    np.testing.assert_array_equal(vectors(), first)
    assert len(conversions) == 1
    (weights,) = tmp_path.glob("models/*/model.bin")
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    np.testing.assert_array_equal(vectors(), first)
    assert len(conversions) == 2
    assert "damaged" in caplog.text
    np.testing.assert_array_equal(vectors(), first)
    assert len(conversions) == 2


@needs_openvino
@pytest.mark.parametrize("damage", ["lacks model.bin", "is damaged (model.json)"])
def test_a_damaged_model_is_told_of_once_and_in_plain_words(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    settings = EmbedSettings(device="cpu", backend="openvino", precision="fp32")
    Encoder(checkpoint, settings, cache_folder=tmp_path)
    (folder,) = (tmp_path / "models").iterdir()
    if "bin" in damage:
        (folder / "model.bin").unlink()
    else:
        (folder / "model.json").write_text("{")
    Encoder(checkpoint, settings, cache_folder=tmp_path)
    assert caplog.messages == [f"{folder} {damage}; the model is converted anew"]
    Encoder(checkpoint, settings, cache_folder=tmp_path)
    assert len(caplog.messages) == 1


@needs_openvino
def test_a_conversion_is_told_of_and_happens_once(checkpoint: Checkpoint, tmp_path: Path) -> None:
    settings, cache, told = EmbedSettings(device="cpu", backend="openvino"), VectorCache(tmp_path), Told()
    for text in TEXTS[:2]:
        embed_texts(checkpoint, [text], settings=settings, cache=cache, listener=told)
    assert told.notes == ["converting tiny-bert for openvino, once"]


@needs_openvino
def test_transformers_says_nothing_of_a_conversion(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import logging

    from frozenhead.embedder.openvino_backend import import_openvino

    levels, convert = [], import_openvino().convert_model

    def listening(*args: Any, **options: Any) -> Any:
        levels.append(logging.get_verbosity())
        return convert(*args, **options)

    monkeypatch.setattr(import_openvino(), "convert_model", listening)
    Encoder(checkpoint, EmbedSettings(device="cpu", backend="openvino"))
    assert levels == [logging.ERROR]
    assert logging.get_verbosity() != logging.ERROR


def test_the_time_of_a_conversion_is_not_that_of_embedding(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Encoder._load

    def slow(self: Encoder, cache_folder: Path | None) -> Any:
        self.conversion_seconds = 1e6
        return load(self, cache_folder)

    monkeypatch.setattr(Encoder, "_load", slow)
    assert embed_texts(checkpoint, TEXTS, settings=EmbedSettings(), cache=VectorCache(tmp_path)).seconds < 0


@needs_openvino
def test_an_unfit_checkpoint_is_not_blamed_on_openvino(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.torch import load_file, save_file

    from frozenhead.embedder import hardware

    folder = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(hardware, "preferred_backend", lambda device: "openvino")
    loads: list[Checkpoint] = []

    def counted(checkpoint: Checkpoint) -> Any:
        loads.append(checkpoint)
        return load_pretrained(checkpoint)

    monkeypatch.setattr(encoder_module, "load_pretrained", counted)
    with pytest.raises(EncoderUnfit, match="NaN") as raised:
        Encoder(find_checkpoint(folder), EmbedSettings(device="cpu"))
    assert "backend" not in str(raised.value)
    assert (len(loads), caplog.messages) == (1, [])


@needs_openvino
def test_a_model_kept_under_the_name_of_another_is_not_taken_for_it(
    checkpoint: Checkpoint, tmp_path: Path, conversions: list[int]
) -> None:
    def vectors(pooling: Any) -> NDArray[np.float32]:
        settings = EmbedSettings(poolings=(pooling,), device="cpu", backend="openvino", precision="fp32")
        encoder = Encoder(checkpoint, settings, cache_folder=tmp_path)
        return encoder.encode(encoder.tokenize(TEXTS).rows)[pooling]

    before = {pooling: vectors(pooling) for pooling in ("mean", "cls")}
    first, second = (tmp_path / "models").iterdir()
    shutil.rmtree(second)
    shutil.copytree(first, second)
    for pooling, expected in before.items():
        np.testing.assert_array_equal(vectors(pooling), expected)
    assert len(conversions) == 3


@needs_openvino
@pytest.mark.parametrize("which", ["folder", "file"])
def test_a_link_to_a_model_is_not_followed(
    checkpoint: Checkpoint, tmp_path: Path, conversions: list[int], which: str
) -> None:
    settings = EmbedSettings(device="cpu", backend="openvino", precision="fp32")
    Encoder(checkpoint, settings, cache_folder=tmp_path)
    (folder,) = (tmp_path / "models").iterdir()
    moved = folder if which == "folder" else folder / "model.bin"
    moved.rename(tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    Encoder(checkpoint, settings, cache_folder=tmp_path)
    assert len(conversions) == 2


@needs_openvino
def test_a_model_of_other_poolings_or_weights_is_another(
    checkpoint: Checkpoint, tmp_path: Path, conversions: list[int], make_checkpoint: Callable[..., Path]
) -> None:
    other = find_checkpoint(make_checkpoint(tmp_path / "other", seed=1))
    wanted: list[tuple[Checkpoint, Any]] = [(checkpoint, "pooler"), (checkpoint, "mean"), (other, "pooler")]
    for which, pooling in wanted:
        Encoder(
            which,
            EmbedSettings(poolings=(pooling,), device="cpu", backend="openvino"),
            cache_folder=tmp_path,
        )
    assert len(conversions) == 3


@needs_openvino
def test_a_cache_that_cannot_be_written_does_not_stop_the_encoder(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models").write_text("a file where the folder would be")
    Encoder(checkpoint, EmbedSettings(device="cpu", backend="openvino"), cache_folder=tmp_path)
    assert "not kept" in caplog.text


@needs_openvino
@pytest.mark.parametrize("fault", ["refused", "wrong numbers"])
def test_what_openvino_cannot_compute_goes_to_torch_unless_openvino_was_asked_for(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    from frozenhead.embedder import hardware, openvino_backend

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such operation")

    if fault == "refused":
        monkeypatch.setattr(openvino_backend.import_openvino(), "convert_model", refuse)
    else:
        monkeypatch.setattr(openvino_backend, "_largest_difference", lambda *_: 0.1)
    with pytest.raises(EncoderUnfit, match="--backend torch"):
        Encoder(checkpoint, EmbedSettings(device="cpu", backend="openvino"))
    monkeypatch.setattr(hardware, "preferred_backend", lambda device: "openvino")
    encoder = Encoder(checkpoint, EmbedSettings(device="cpu"))
    assert encoder.arithmetic.backend == "torch"
    assert "OpenVINO" in encoder.arithmetic.reason
    assert "Use" not in encoder.arithmetic.reason


@needs_openvino
def test_importing_openvino_loads_no_telemetry() -> None:
    code = (
        "import sys; from frozenhead.embedder.openvino_backend import import_openvino; import_openvino();"
        "sys.exit('openvino_telemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_vector_that_is_not_finite_names_the_text_and_the_precision_to_try(
    checkpoint: Checkpoint, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    def broken(self: Encoder, rows: Any) -> Any:
        return lambda: {"pooler": np.full((len(rows), 16), 1e6, np.float32)}  # too large for float16

    monkeypatch.setattr(Encoder, "start", broken)
    with pytest.raises(EncoderUnfit, match=r"(?s)not finite.* text \d, '.*--precision fp32"):
        embed(checkpoint, tmp_path, kept, backend=backend, precision="bf16")


def alive(references: "list[weakref.ref[Any]]") -> bool:
    return any(reference() is not None for reference in references)


class Starved:
    """A backend whose memory holds a number of rows."""

    token_budget = 64
    at_once = 1

    def __init__(self, backend: Any, rows: int) -> None:
        self.backend, self.rows = backend, rows
        self.failed: list[weakref.ref[Any]] = []

    def cancel(self) -> None:
        pass

    def start(self, ids: dict[str, NDArray[np.int64]]) -> Any:
        if len(ids["input_ids"]) > self.rows:
            activations = np.zeros(1)
            self.failed.append(weakref.ref(activations))
            raise MemoryError
        assert not alive(self.failed)
        return self.backend.start(ids)


@pytest.mark.parametrize(("rows", "enough"), [(8, True), (0, False)])
def test_when_memory_runs_out_batches_are_halved_once_and_a_line_is_said(
    checkpoint: Checkpoint, tmp_path: Path, rows: int, enough: bool
) -> None:
    settings = EmbedSettings(device="cpu", backend="torch", precision="fp32", max_length=12)
    encoder = Encoder(checkpoint, settings)
    encoder.backend = Starved(encoder.backend, rows)
    texts = [f"{a} {b}" for a in ("the", "red", "blue") for b in ("cat", "dog", "mat")]
    told = Told()
    failed = encoder.backend.failed

    def run() -> Any:
        return embed_texts(
            checkpoint, texts, settings=settings, cache=VectorCache(tmp_path), encoder=lambda: encoder, listener=told
        )

    if enough:
        assert run().computed == 9
        assert not alive(failed)  # what the failed pass had allocated was given back before the next began
    else:
        with pytest.raises(EncoderUnfit, match="Memory"):
            run()
    assert len(told.notes) == 1
    assert "32 tokens" in told.notes[0]


def test_the_encoder_module_needs_no_torch_to_be_imported() -> None:
    code = f"import sys, {encoder_module.__name__}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
