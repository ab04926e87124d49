"""From texts to cached vectors: equal to a plain forward pass, computed once, kept when stopped."""

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from frozenhead.cache import ShardWriter, VectorCache
from frozenhead.embedder import (
    Checkpoint,
    EmbedSettings,
    Listener,
    count_windows,
    embed_texts,
    find_checkpoint,
    torch_backend,
)
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.plain import PlainEncoder
from frozenhead.embedder.pooling import Pooling
from frozenhead.embedder.torch_backend import TorchBackend
from frozenhead.errors import DeviceNotFound, EncoderUnfit, StorageError, UsageError

TEXTS = ["the cat sat on the mat", "win a free prize now", "hello", "the cat sat on the mat", "zebra call " * 30, "a"]

POOLINGS: tuple[Pooling, ...] = ("pooler", "cls", "mean", "max")  # last4 needs more layers than the tiny encoder has

# The promise of fp32; the tiny encoder's large random weights come to within a sixth of it.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def checkpoint(tiny_folder: Path) -> Checkpoint:
    return find_checkpoint(tiny_folder)


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "cache")


class Told(Listener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.start: tuple[int, int] | None = None
        self.seen: list[tuple[int, int]] = []
        self.notes: list[str] = []

    def started(self, cached: int, distinct: int) -> None:
        self.start = (cached, distinct)

    def progress(self, done: int, total: int) -> None:
        self.seen.append((done, total))

    def note(self, line: str) -> None:
        self.notes.append(line)


def vectors(cache: VectorCache, embedded: Any, pooling: Any) -> NDArray[np.float32]:
    lookup = embedded.stores[pooling].lookup(embedded.keys, shards=embedded.shards[pooling])
    assert lookup.found.all()
    return np.asarray(lookup.vectors)


def one_by_one(checkpoint: Checkpoint, texts: Sequence[str], pooling: str, max_length: int) -> NDArray[np.float32]:
    plain = PlainEncoder(checkpoint, device="cpu")
    with torch.no_grad():
        return np.concatenate([plain.vectors([t], pooling=pooling, max_length=max_length).numpy() for t in texts])


def forbidden() -> Encoder:
    raise AssertionError("a forward pass was about to run")


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("budget", [8, 64, 4096])
def test_batching_does_not_change_vectors(
    checkpoint: Checkpoint, cache: VectorCache, monkeypatch: pytest.MonkeyPatch, budget: int, pooling: Any
) -> None:
    monkeypatch.setattr(torch_backend, "CPU_TOKEN_BUDGET", budget)
    settings = EmbedSettings(poolings=(pooling,), max_length=12, device="cpu")
    embedded = embed_texts(checkpoint, TEXTS, settings=settings, cache=cache)
    np.testing.assert_allclose(
        vectors(cache, embedded, pooling), one_by_one(checkpoint, TEXTS, pooling, 12), atol=TOLERANCE, rtol=0
    )


def test_several_poolings_come_from_one_forward_pass(
    checkpoint: Checkpoint, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_forward_rows(monkeypatch)
    settings = EmbedSettings(poolings=POOLINGS, device="cpu")
    embedded = embed_texts(checkpoint, TEXTS, settings=settings, cache=cache)
    assert sum(calls) == embedded.distinct == 5
    for pooling in POOLINGS:
        alone = VectorCache(cache.folder / pooling)
        single = embed_texts(checkpoint, TEXTS, settings=EmbedSettings(poolings=(pooling,), device="cpu"), cache=alone)
        # Not the same bits: for [CLS] alone the last layer is computed for one token a text.
        np.testing.assert_allclose(
            vectors(cache, embedded, pooling), vectors(alone, single, pooling), atol=TOLERANCE, rtol=0
        )


def count_forward_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    original = Encoder.start

    def counted(self: Encoder, rows: Sequence[dict[str, list[int]]]) -> Any:
        calls.append(len(rows))
        return original(self, rows)

    monkeypatch.setattr(Encoder, "start", counted)
    return calls


def test_a_second_run_needs_no_encoder_and_gives_the_same_bits(checkpoint: Checkpoint, cache: VectorCache) -> None:
    settings = EmbedSettings(poolings=("pooler", "mean"), device="cpu")
    cold = embed_texts(checkpoint, TEXTS, settings=settings, cache=cache)
    fresh = VectorCache(cache.folder)
    warm = embed_texts(checkpoint, TEXTS, settings=settings, cache=fresh, encoder=forbidden)
    assert (warm.cached, warm.computed, warm.arithmetic) == (5, 0, None)
    np.testing.assert_array_equal(warm.tokens, cold.tokens)
    np.testing.assert_array_equal(vectors(fresh, warm, "mean"), vectors(cache, cold, "mean"))


def test_a_warm_run_writes_a_lost_description_anew(checkpoint: Checkpoint, cache: VectorCache) -> None:
    settings = EmbedSettings(device="cpu")
    store = embed_texts(checkpoint, TEXTS, settings=settings, cache=cache).stores["pooler"]
    (store.folder / "space.json").write_text("{")
    embed_texts(checkpoint, TEXTS, settings=settings, cache=VectorCache(cache.folder), encoder=forbidden)
    assert [s.space for s in cache.spaces()] == [store.space]


def test_one_added_row_runs_one(checkpoint: Checkpoint, cache: VectorCache, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EmbedSettings(device="cpu")
    embed_texts(checkpoint, TEXTS, settings=settings, cache=cache)
    calls = count_forward_rows(monkeypatch)
    embedded = embed_texts(checkpoint, [*TEXTS, "new words"], settings=settings, cache=cache)
    assert calls == [1]
    assert (embedded.cached, embedded.computed) == (5, 1)


def test_a_pooling_added_later_does_not_write_the_first_again(
    checkpoint: Checkpoint, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_texts(checkpoint, TEXTS, settings=EmbedSettings(poolings=("cls",), device="cpu"), cache=cache)
    written: list[int] = []
    add = ShardWriter.add

    def counted(self: ShardWriter, keys: Any, vectors: Any, tokens: Any) -> None:
        written.append(len(keys))
        add(self, keys, vectors, tokens)

    monkeypatch.setattr(ShardWriter, "add", counted)
    both = EmbedSettings(poolings=("cls", "mean"), device="cpu")
    embed_texts(checkpoint, TEXTS, settings=both, cache=cache)
    assert sum(written) == 5  # of mean alone


def test_an_encoder_that_gives_nan_is_unfit_and_nothing_of_it_is_kept(
    checkpoint: Checkpoint, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Encoder, rows: Sequence[Any]) -> Any:
        return lambda: {"pooler": np.full((len(rows), 16), np.nan, np.float32)}

    monkeypatch.setattr(Encoder, "start", broken)
    with pytest.raises(EncoderUnfit, match="not finite"):
        embed_texts(checkpoint, TEXTS, settings=EmbedSettings(device="cpu"), cache=cache)
    assert [s.rows for s in cache.spaces()] == [0]


def test_two_encoders_of_one_name_never_share_vectors(
    checkpoint: Checkpoint, cache: VectorCache, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    other = find_checkpoint(make_checkpoint(tmp_path / "other" / checkpoint.folder.name, seed=1))
    settings = EmbedSettings(device="cpu")
    mine = embed_texts(checkpoint, TEXTS, settings=settings, cache=cache)
    theirs = embed_texts(other, TEXTS, settings=settings, cache=cache)
    assert other.name == checkpoint.name
    assert theirs.cached == 0
    assert np.abs(vectors(cache, mine, "pooler") - vectors(cache, theirs, "pooler")).max() > 0.01


def test_a_checkpoint_edited_in_place_is_noticed(tiny_folder: Path, tmp_path: Path, cache: VectorCache) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "edited"))
    settings = EmbedSettings(device="cpu")
    embed_texts(find_checkpoint(folder), TEXTS, settings=settings, cache=cache)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert embed_texts(find_checkpoint(folder), TEXTS, settings=settings, cache=cache).cached == 0


@pytest.mark.parametrize("after", [1, 3])
def test_what_was_encoded_before_a_stop_is_kept(
    checkpoint: Checkpoint, cache: VectorCache, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(torch_backend, "CPU_TOKEN_BUDGET", 1)  # a batch per text
    settings = EmbedSettings(device="cpu")

    calls = count_forward_rows(monkeypatch)

    class Stopping(Listener):
        def progress(self, done: int, total: int) -> None:
            if len(calls) == after:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_texts(checkpoint, TEXTS, settings=settings, cache=cache, listener=Stopping())
    told = Told()
    resumed = embed_texts(checkpoint, TEXTS, settings=settings, cache=cache, listener=told)
    assert told.start == (after, 5)
    assert resumed.computed == 5 - after
    np.testing.assert_allclose(
        vectors(cache, resumed, "pooler"), one_by_one(checkpoint, TEXTS, "pooler", 64), atol=TOLERANCE, rtol=0
    )


def test_what_cannot_be_done_is_refused_before_the_encoder_is_loaded_or_a_word_said(
    checkpoint: Checkpoint, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, sound = Told(), os.open
    with pytest.raises(UsageError, match="fp16"):
        embed_texts(
            checkpoint, TEXTS, settings=EmbedSettings(device="cpu", precision="fp16"), cache=cache, listener=told
        )

    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return sound(path, flags, *args, **options)

    settings = EmbedSettings(device="cpu")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="Read-only"):
        embed_texts(checkpoint, TEXTS, settings=settings, cache=cache, encoder=forbidden, listener=told)
    assert told.start is None
    assert cache.spaces() == []
    monkeypatch.setattr(os, "open", sound)
    embed_texts(checkpoint, TEXTS, settings=settings, cache=cache)
    monkeypatch.setattr(os, "open", refuse)
    assert embed_texts(checkpoint, TEXTS, settings=settings, cache=cache).computed == 0  # nothing to write, no refusal


def test_texts_of_unknown_words_are_counted_and_the_first_is_named(
    checkpoint: Checkpoint, cache: VectorCache, caplog: pytest.LogCaptureFixture
) -> None:
    settings = EmbedSettings(device="cpu", max_length=8, long="windows")
    for texts in (["the cat", "the \u2603", ""], ["the cat", "\u2603 \u2604", "\u2605 " * 40, "\u2603 \u2604"]):
        embed_texts(checkpoint, texts, settings=settings, cache=cache)
    assert caplog.messages == [
        "2 of 2 new texts are unknown words only to this tokenizer; their vectors say little "
        "(first: text 2, '\u2603 \u2604')"
    ]


def test_a_text_of_very_many_windows_is_announced(checkpoint: Checkpoint, cache: VectorCache) -> None:
    settings, told = EmbedSettings(device="cpu", max_length=8, long="windows"), Told()
    texts = ["cat " * 2000, "dog " * 3000, "cat " * 40]
    embedded = embed_texts(checkpoint, texts, settings=settings, cache=cache, listener=told)
    windows = count_windows(embedded.tokens, max_length=8, special=2)
    assert told.notes == [f"2 texts make {windows[:2].sum():,} windows of 8 tokens"]


def test_progress_ends_at_all_texts_to_do(checkpoint: Checkpoint, cache: VectorCache) -> None:
    told = Told()
    embed_texts(checkpoint, TEXTS, settings=EmbedSettings(device="cpu"), cache=cache, listener=told)
    assert told.seen[0] == (0, 5)
    assert told.seen == sorted(told.seen)
    assert told.seen[-1] == (5, 5)


def test_tokens_are_counted_before_the_cut(checkpoint: Checkpoint, cache: VectorCache) -> None:
    settings = EmbedSettings(max_length=5, device="cpu")
    embedded = embed_texts(checkpoint, ["the cat sat", "the cat sat on the mat", "a"], settings=settings, cache=cache)
    assert embedded.tokens.tolist() == [5, 8, 3]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_encoding_leaves_the_encoder_the_same_bits(checkpoint: Checkpoint, precision: Any) -> None:
    settings = EmbedSettings(poolings=POOLINGS, device="cpu", precision=precision, backend="torch")
    encoder = Encoder(checkpoint, settings)
    assert isinstance(encoder.backend, TorchBackend)
    graph = encoder.backend.graph
    before = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    encoder.encode(encoder.tokenize(TEXTS).rows)
    assert not graph.training
    assert not any(p.requires_grad for p in graph.parameters())
    for name, tensor in graph.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"poolings": ("sum",)}, "pooler, cls, mean, max"),
        ({"poolings": ()}, "pooler, cls, mean, max"),
        ({"poolings": ("cls", "cls")}, "twice"),
        ({"precision": "fp8"}, "fp32"),
        ({"backend": "onnx"}, "torch"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        EmbedSettings(**wrong)


@pytest.mark.parametrize(("device", "error"), [("tpu", UsageError), ("meta", UsageError), ("cuda:99", DeviceNotFound)])
def test_a_device_that_is_not_there_is_refused(checkpoint: Checkpoint, device: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="Device"):
        Encoder(checkpoint, EmbedSettings(device=device))
