"""Windows: which tokens they hold, and that a text's vector is the weighted mean of what each gives alone."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from frozenhead.cache import VectorCache
from frozenhead.embedder import (
    Checkpoint,
    Embedder,
    EmbedSettings,
    Listener,
    count_windows,
    embed_texts,
    find_checkpoint,
    settings_of,
    space_of,
    torch_backend,
)
from frozenhead.embedder.batching import token_batches
from frozenhead.embedder.compute import _in_order
from frozenhead.embedder.plain import PlainEncoder
from frozenhead.embedder.pooling import Pooling
from frozenhead.embedder.tokens import TokenRows, text_parts
from frozenhead.embedder.windows import WindowMeans
from frozenhead.errors import UsageError
from tests.conftest import WORDS

TOLERANCE = 1e-5  # the promise of fp32

POOLINGS: tuple[Pooling, ...] = ("pooler", "cls", "mean", "max")  # last4 needs more layers than the tiny encoder has

SHORT = ["the cat sat on the mat", "win a free prize now", "a"]
LONG = [" ".join(WORDS[(i * i + k) % len(WORDS)] for i in range(n)) for k, n in enumerate((11, 17, 40, 200))]


@pytest.fixture(scope="module")
def checkpoint(tiny_folder: Path) -> Checkpoint:
    return find_checkpoint(tiny_folder)


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint) -> PlainEncoder:
    return PlainEncoder(checkpoint, device="cpu")


def embedded(folder: Path, checkpoint: Checkpoint, texts: Sequence[str], **settings: Any) -> NDArray[np.float32]:
    """Vectors by way of a new cache."""
    cache = VectorCache(folder / str(len(list(folder.iterdir()))))
    decided = EmbedSettings(precision="fp32", device="cpu", **{"max_length": 12, "long": "windows", **settings})
    done = embed_texts(checkpoint, texts, settings=decided, cache=cache)
    lookup = done.stores[decided.poolings[0]].lookup(done.keys)
    assert lookup.found.all()
    return np.asarray(lookup.vectors)


def slowly(plain: PlainEncoder, text: str, *, pooling: str, room: int) -> NDArray[np.float64]:
    """The definition, on words: each is one token of the tiny tokenizer, so a window of tokens is a text of words."""
    words = text.split()
    parts = [words[:room]]
    start = 0
    while start + room < len(words):
        start += room - room // 4
        parts.append(words[start : start + room])
    with torch.no_grad():
        alone = [plain.vectors([" ".join(part)], pooling=pooling, max_length=64).numpy()[0] for part in parts]
    return np.average(np.array(alone, np.float64), axis=0, weights=[len(part) for part in parts])


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("max_length", [8, 12, 31])
def test_vectors_are_the_weighted_mean_of_each_window_alone(
    checkpoint: Checkpoint, plain: PlainEncoder, tmp_path: Path, pooling: str, max_length: int
) -> None:
    ours = embedded(tmp_path, checkpoint, [*SHORT, *LONG], poolings=(pooling,), max_length=max_length)
    expected = [slowly(plain, text, pooling=pooling, room=max_length - 2) for text in [*SHORT, *LONG]]
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_plain_pass_that_verify_compares_with_is_that_mean(plain: PlainEncoder, pooling: str) -> None:
    with torch.no_grad():
        ours = plain.vectors([*SHORT, *LONG], pooling=pooling, max_length=12, long="windows").numpy()
    expected = [slowly(plain, text, pooling=pooling, room=10) for text in [*SHORT, *LONG]]
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE, rtol=0)


def test_windows_and_their_mean_are_normalised_where_the_space_is(
    checkpoint: Checkpoint, plain: PlainEncoder, tmp_path: Path
) -> None:
    ours = embedded(tmp_path, checkpoint, [*SHORT, *LONG], poolings=("mean",), normalize=True, prefix="call now ")
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
    prefixed = [f"call now {text}" for text in [*SHORT, *LONG]]  # cut into windows with the text, and only once
    with torch.no_grad():
        expected = plain.vectors(prefixed, pooling="mean", max_length=12, long="windows", normalize=True).numpy()
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE, rtol=0)
    plainly = np.array([slowly_normalised(plain, text) for text in prefixed])
    np.testing.assert_allclose(ours, plainly, atol=TOLERANCE, rtol=0)


def slowly_normalised(plain: PlainEncoder, text: str) -> NDArray[np.float64]:
    """`slowly` of windows scaled to length 1, scaled again: each counts by its content, not by its length."""
    words = text.split()
    starts = [0, *range(8, max(len(words) - 10, 0) + 8, 8)]  # windows of 10 that share 2
    parts = [words[s : s + 10] for s in starts]
    with torch.no_grad():
        alone = [plain.vectors([" ".join(p)], pooling="mean", max_length=64).numpy()[0] for p in parts]
    units = [v / np.linalg.norm(v) for v in np.array(alone, np.float64)]
    mean = np.average(units, axis=0, weights=[len(p) for p in parts])
    scaled: NDArray[np.float64] = mean / np.linalg.norm(mean)
    return scaled


def test_texts_that_fit_have_the_bits_of_a_space_that_cuts(checkpoint: Checkpoint, tmp_path: Path) -> None:
    cut = embedded(tmp_path, checkpoint, SHORT, long="cut")
    np.testing.assert_array_equal(embedded(tmp_path, checkpoint, SHORT), cut)
    beside_long_ones = embedded(tmp_path, checkpoint, [*LONG, *SHORT])[len(LONG) :]
    np.testing.assert_allclose(beside_long_ones, cut, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("budget", [1, 40, 4096])
@pytest.mark.parametrize("tokens", [1, 100])
def test_neither_batches_nor_chunks_change_vectors(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int, tokens: int
) -> None:
    expected = embedded(tmp_path, checkpoint, [*LONG, *SHORT])
    monkeypatch.setattr(torch_backend, "CPU_TOKEN_BUDGET", budget)
    monkeypatch.setattr("frozenhead.embedder.compute.CHUNK_TOKENS", tokens)
    monkeypatch.setattr("frozenhead.embedder.compute.text_parts", partial(text_parts, most=1))
    np.testing.assert_allclose(embedded(tmp_path, checkpoint, [*LONG, *SHORT]), expected, atol=TOLERANCE, rtol=0)


def test_all_poolings_come_from_one_pass(checkpoint: Checkpoint, tmp_path: Path) -> None:
    settings = EmbedSettings(poolings=POOLINGS, max_length=12, long="windows", precision="fp32", device="cpu")
    done = embed_texts(checkpoint, LONG, settings=settings, cache=VectorCache(tmp_path / "all"))
    for pooling, store in done.stores.items():
        alone = embedded(tmp_path, checkpoint, LONG, poolings=(pooling,))
        np.testing.assert_allclose(np.asarray(store.lookup(done.keys).vectors), alone, atol=TOLERANCE, rtol=0)


def test_windows_are_computed_in_the_order_of_their_texts() -> None:
    of = np.repeat(np.arange(9), 5)
    ones = np.ones(len(of), np.int32)
    tokens = TokenRows(
        rows=[{}] * len(of), texts=of, content=ones, lengths=ones, counts=np.ones(9, np.int32), unknown=ones < 1
    )
    means = WindowMeans(of, ones)
    open_texts, came = [], 0
    for batch in _in_order(tokens, token_batches(ones, budget=2)):
        came += len(means.add(batch, {"mean": np.ones((len(batch), 1), np.float32)})[0])
        open_texts.append(int(of[batch].max()) + 1 - came)
    assert came == 9
    assert max(open_texts) <= 2


def test_a_stop_keeps_the_texts_whose_windows_were_all_computed(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_backend, "CPU_TOKEN_BUDGET", 1)  # a batch per window
    settings = EmbedSettings(max_length=12, long="windows", precision="fp32", device="cpu")
    cache = VectorCache(tmp_path / "cache")

    class Impatient(Listener):
        def progress(self, done: int, total: int) -> None:
            if done >= 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_texts(checkpoint, LONG, settings=settings, cache=cache, listener=Impatient())
    resumed = embed_texts(checkpoint, LONG, settings=settings, cache=cache)
    assert resumed.cached in (2, 3)  # of what was under way the third may have come; the last has 25 windows
    assert resumed.computed == 4 - resumed.cached
    expected = embedded(tmp_path, checkpoint, LONG)
    np.testing.assert_allclose(
        np.asarray(resumed.stores["pooler"].lookup(resumed.keys).vectors), expected, atol=TOLERANCE, rtol=0
    )


def test_the_estimator_reads_long_texts_in_windows(checkpoint: Checkpoint, tmp_path: Path) -> None:
    embedder = Embedder(checkpoint.folder, max_length=12, long="windows", device="cpu", cache_dir=tmp_path / "own")
    np.testing.assert_array_equal(embedder.transform(LONG), embedded(tmp_path, checkpoint, LONG))
    whole = embedder.set_params(long="cut").transform(LONG)
    assert np.abs(whole - embedder.set_params(long="windows").transform(LONG)).max() > 0.01


def test_windows_and_cut_are_two_spaces_and_settings_come_back(checkpoint: Checkpoint) -> None:
    cut, windows = (space_of(checkpoint, "cls", EmbedSettings(max_length=12, long=x)) for x in ("cut", "windows"))
    assert cut.id != windows.id
    assert "long" not in cut.to_dict()
    assert space_of(checkpoint, "cls", settings_of(windows)) == windows


@pytest.mark.parametrize("max_length", [3, 7])
def test_windows_too_short_to_mean_anything_are_refused(checkpoint: Checkpoint, max_length: int) -> None:
    with pytest.raises(UsageError, match=f"max_length is {max_length}; windows need at least 8"):
        space_of(checkpoint, "cls", EmbedSettings(max_length=max_length, long="windows"))


def test_a_misspelt_choice_is_refused() -> None:
    with pytest.raises(UsageError, match="'window': choose cut or windows"):
        EmbedSettings(long="window")  # type: ignore[arg-type]


@given(tokens=st.integers(2, 400), special=st.integers(0, 4), room=st.integers(4, 60))
def test_windows_are_counted_as_they_are_laid(tokens: int, special: int, room: int) -> None:
    content, laid = max(tokens - special, 0), 1
    end = room
    while end < content:
        end += room - room // 4
        laid += 1
    assert count_windows([tokens], max_length=room + special, special=special).tolist() == [laid]


@given(data=st.data(), normalize=st.booleans())
def test_means_are_the_same_in_any_order_and_batches(data: st.DataObject, normalize: bool) -> None:
    windows = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    texts = np.repeat(np.arange(len(windows)), windows)
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    weights, table = rng.integers(1, 9, len(texts)).astype(np.int32), rng.normal(size=(len(texts), 3)).astype("f4")
    order = np.array(data.draw(st.permutations(range(len(texts)))))
    ends = data.draw(st.lists(st.integers(0, len(texts)), max_size=4))
    means = WindowMeans(texts, weights, normalize=normalize)
    got = np.full((len(windows), 3), np.nan, np.float32)
    for batch in np.split(order, sorted(ends)):
        complete, vectors = means.add(batch, {"mean": table[batch]})
        assert np.isnan(got[complete]).all()  # each text comes once
        got[complete] = vectors["mean"]
    for text, n in enumerate(windows):
        of = texts == text
        expected = np.average(table[of].astype(np.float64), axis=0, weights=weights[of])
        if normalize and n > 1:  # the window of a text of one window is normalised already
            expected /= np.linalg.norm(expected)
        np.testing.assert_allclose(got[text], expected, rtol=1e-6, atol=1e-7)
        if n == 1:
            np.testing.assert_array_equal(got[text], table[of][0])
