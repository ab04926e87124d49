"""Dropout views: a vector follows from view and text alone, and is what transformers' training pass gives."""

import functools
import hashlib
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from frozenhead.cache.space import View
from frozenhead.embedder import EmbedSettings, dropout, find_checkpoint, hardware, settings_of, space_of
from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.dropout import ViewDropout
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.loading import load_pretrained
from frozenhead.embedder.plain import PlainEncoder
from frozenhead.embedder.pooling import POOLINGS, Pooling
from frozenhead.errors import EncoderUnfit, UsageError
from tests.embedder.architectures import ARCHITECTURES, POSITIONS, make

TOLERANCE = 1e-5  # of fp32, whatever the batch; these come to within a fifth of it
CLOSEST = 0.999  # of bf16: cosine
SIGMAS = 5.0  # of sampling error, over a few hundred numbers

VIEW = View(seed=7, index=3)

TEXTS = [
    "the cat sat on the mat",
    "win",
    "",
    "the cat sat on the red mat " * 8,  # cut
    " ".join("abcdefghij"),  # as many tokens as the heads of one, as attention could be taken for states
    "the dog ran on the mat",
]

# Rates that differ from site to site, so that none is taken for another.
RATES: dict[str, dict[str, Any]] = {
    "distilbert": {"dropout": 0.1, "attention_dropout": 0.2},
    "modernbert": {"embedding_dropout": 0.1, "mlp_dropout": 0.15, "attention_dropout": 0.2},
}
USUAL_RATES = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2}
ONE_BY_ONE = {"deberta", "deberta-v2", "deberta-v3"}  # all texts of a batch share the dropout of relative positions

FolderOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    """The checkpoint of an architecture with dropout, made when it is first asked for."""
    place = tmp_path_factory.mktemp("dropout")
    return functools.cache(lambda kind: make(place / kind, kind, **RATES.get(kind, USUAL_RATES)))


@pytest.fixture
def checkpoint(folder_of: FolderOf, kind: str) -> Checkpoint:
    return find_checkpoint(folder_of(kind))


def poolings_of(kind: str) -> tuple[Pooling, ...]:
    return tuple(p for p in POOLINGS if p != "pooler" or ARCHITECTURES[kind].pooler)


def settings(*poolings: Pooling, **given: Any) -> EmbedSettings:
    fixed: dict[str, Any] = {"device": "cpu", "precision": "fp32", "backend": "torch", "view": VIEW}
    return EmbedSettings(poolings=poolings or ("cls",), **{**fixed, **given})


def vectors_of(encoder: Encoder, texts: list[str]) -> NDArray[np.float32]:
    """(N, D) of one padded batch, all poolings side by side."""
    return np.concatenate(list(encoder.encode(encoder.tokenize(texts).rows).values()), axis=1)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_vector_is_the_same_alone_and_in_any_batch(checkpoint: Checkpoint, kind: str) -> None:
    encoder = Encoder(checkpoint, settings(*poolings_of(kind)))
    together = vectors_of(encoder, TEXTS)
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(vectors_of(encoder, [text])[0], together[i], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(vectors_of(encoder, TEXTS[4:1:-1]), together[4:1:-1], atol=TOLERANCE, rtol=0)
    np.testing.assert_array_equal(vectors_of(encoder, TEXTS), together)
    assert np.abs(together[0] - together[5]).max() > 0.1
    assert getattr(encoder.backend, "together") == (kind not in ONE_BY_ONE)  # noqa: B009 (of torch's alone)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_plain_encoder_of_verify_gives_the_same_vectors(checkpoint: Checkpoint, kind: str) -> None:
    encoder, plain = Encoder(checkpoint, settings(*poolings_of(kind))), PlainEncoder(checkpoint, device="cpu")
    vectors = encoder.encode(encoder.tokenize(TEXTS).rows)
    for pooling in poolings_of(kind):
        with torch.no_grad():
            before = plain.vectors(TEXTS, pooling=pooling, max_length=POSITIONS).numpy()
            again = plain.vectors(TEXTS, pooling=pooling, max_length=POSITIONS, view=VIEW).numpy()
            after = plain.vectors(TEXTS, pooling=pooling, max_length=POSITIONS).numpy()
        np.testing.assert_allclose(again, vectors[pooling], atol=TOLERANCE, rtol=0)
        np.testing.assert_array_equal(before, after)  # eval mode again, with its own attention
        assert (np.abs(before - again).max(axis=1) > 0.1).all()


class HandDrawn:
    """torch's `dropout` with masks drawn as the module's docstring says: numbers one by one, of one text."""

    def __init__(self, view: View, ids: list[int]) -> None:
        name = f"frozenhead dropout, view {view.index} of seed {view.seed}:".encode()
        digest = hashlib.sha256(name + b"".join(i.to_bytes(8, "little") for i in ids)).digest()
        self.stream = np.random.SFC64(int.from_bytes(digest, "little"))
        self.calls = 0

    def __call__(self, input: torch.Tensor, p: float, training: bool, inplace: bool = False) -> torch.Tensor:  # noqa: A002
        if not training or p == 0:
            return input
        self.calls += 1
        count = math.prod(input.shape)
        raw = [int(self.stream.random_raw()) for _ in range(math.ceil(count / 4))]
        numbers = [raw[i // 4] >> (16 * (i % 4)) & 0xFFFF for i in range(count)]
        kept = torch.tensor([float(number >= round(p * 65536)) for number in numbers]).reshape(input.shape)
        return input * kept / (1 - p)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_it_is_transformers_own_training_pass_under_those_masks(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from transformers import AutoModel

    encoder = Encoder(checkpoint, settings("mean"))
    (row,) = encoder.tokenize(TEXTS[:1]).rows
    mine = encoder.encode([row])["mean"][0]
    model = AutoModel.from_pretrained(checkpoint.folder, attn_implementation="eager").train()
    drawn = HandDrawn(VIEW, row["input_ids"])
    monkeypatch.setattr(torch.nn.functional, "dropout", drawn)
    with torch.no_grad():
        ids = torch.tensor([row["input_ids"]])
        states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    np.testing.assert_allclose(mine, states.mean(dim=0).numpy(), atol=TOLERANCE, rtol=0)
    assert drawn.calls > 3 * 5 - 5  # at least two a layer and the embeddings


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_over_many_views_mean_and_variance_are_those_of_torch_s_dropout(checkpoint: Checkpoint, kind: str) -> None:
    model, tokenizer = load_pretrained(checkpoint)
    dropout.switch_on(model)
    n, ids = 4000, np.array(tokenizer(TEXTS[0])["input_ids"])
    batch = np.tile(ids, (n, 1))  # (n, t): the text in n views, or n times under torch's own dropout
    mode = ViewDropout(VIEW, batch, np.full(n, len(ids)))
    mode._streams = [dropout._stream(View(seed=1, index=i + 1), ids) for i in range(n)]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = model(torch.from_numpy(batch)).last_hidden_state[:, 0].double().numpy()  # (n, D)
        with mode:
            mine = model(torch.from_numpy(batch)).last_hidden_state[:, 0].double().numpy()
    error = np.sqrt((mine.var(axis=0) + theirs.var(axis=0)) / n)
    assert (np.abs(mine.mean(axis=0) - theirs.mean(axis=0)) < SIGMAS * error).all()
    spread = np.sqrt(sum(((x - x.mean(axis=0)) ** 2).var(axis=0) for x in (mine, theirs)) / n)
    assert (np.abs(mine.var(axis=0) - theirs.var(axis=0)) < SIGMAS * spread).all()
    assert mine.var(axis=0).min() > 0.01


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5])
def test_components_are_dropped_at_the_rate_asked_for_and_the_rest_scaled(p: float) -> None:
    t, d = 50, 2000
    with ViewDropout(VIEW, np.arange(t)[None], np.array([t])):
        dropped = torch.nn.functional.dropout(torch.ones(1, t, d), p).numpy()
        assert (torch.nn.functional.dropout(torch.ones(1, t, d), p, training=False) == 1).all()
    np.testing.assert_array_equal(np.unique(dropped), np.array([0, 1 / (1 - p)], np.float32))
    share, error = (dropped == 0).mean(), math.sqrt(p * (1 - p) / (t * d))
    assert abs(share - p) < SIGMAS * error


def test_view_seed_and_text_each_give_other_masks_and_no_stream_repeats_another() -> None:
    views = [View(seed=seed, index=index) for seed in (0, 1, 12) for index in (1, 2, 11)]
    texts = [np.array(ids) for ids in ([2, 7, 3], [2, 3, 7], [2, 7, 3, 0], [2])]
    firsts = {int(dropout._stream(view, ids).random_raw()) for view in views for ids in texts}
    assert len(firsts) == len(views) * len(texts)


def test_the_masks_are_the_same_in_every_version_of_numpy() -> None:
    kept = dropout._draw(dropout._stream(View(seed=2018, index=1), np.array([101, 7592, 102])), (3, 384), 6554)
    digest = hashlib.sha256(np.packbits(kept).tobytes()).hexdigest()
    assert digest[:16] == "e3ac9f577ec0c319"


@pytest.mark.parametrize("kind", ["bert"])
def test_views_of_one_encoder_differ_and_each_can_be_had_again(checkpoint: Checkpoint) -> None:
    one = Encoder(checkpoint, settings(view=View(seed=7, index=1)))
    views = [View(seed=7, index=1), View(seed=7, index=2), View(seed=8, index=1)]
    vectors = [vectors_of(one.of_view(view), TEXTS) for view in views]
    for i, a in enumerate(vectors):
        for b in vectors[:i]:
            assert (np.abs(a - b).max(axis=1) > 0.1).all()
    np.testing.assert_array_equal(vectors_of(Encoder(checkpoint, settings(view=views[2])), TEXTS), vectors[2])
    assert one.settings.view == views[0]
    with pytest.raises(ValueError, match="no view"):
        Encoder(checkpoint, settings(view=None)).of_view(VIEW)


@pytest.mark.parametrize("kind", ["bert"])
def test_views_under_way_at_once_do_not_mix(checkpoint: Checkpoint) -> None:
    one = Encoder(checkpoint, settings())
    rows = one.tokenize(TEXTS).rows
    encoders = [one.of_view(View(seed=7, index=i % 5 + 1)) for i in range(20)]
    expected = [vectors_of(one.of_view(View(seed=7, index=index)), TEXTS) for index in (1, 2, 3, 4, 5)]
    assert np.abs(np.diff(expected, axis=0)).max(axis=(1, 2)).min() > 0.1
    plain = Encoder(checkpoint, settings(view=None))
    running = [(encoder.start(rows), plain.start(rows)) for encoder in encoders]
    eval_mode = plain.encode(rows)["cls"]
    for i, (view, beside) in enumerate(running):
        np.testing.assert_array_equal(view()["cls"], expected[i % 5])
        np.testing.assert_array_equal(beside()["cls"], eval_mode)


@pytest.mark.parametrize("kind", ["bert", "deberta"])
def test_a_view_leaves_torch_s_own_random_numbers_alone(checkpoint: Checkpoint) -> None:
    before = torch.get_rng_state()
    vectors_of(Encoder(checkpoint, settings()), TEXTS)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "deberta-v3", "modernbert"])
def test_bf16_views_point_the_same_way(checkpoint: Checkpoint, kind: str) -> None:
    exact = vectors_of(Encoder(checkpoint, settings("mean")), TEXTS)
    rough = vectors_of(Encoder(checkpoint, settings("mean", precision="bf16")), TEXTS)
    cosines = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert cosines.min() >= CLOSEST
    assert np.abs(exact - rough).max() > TOLERANCE


# Models that have no views


def refused(checkpoint: Checkpoint, match: str) -> None:
    Encoder(checkpoint, settings(view=None))  # only views are
    with pytest.raises(EncoderUnfit, match=match) as error:
        Encoder(checkpoint, settings())
    assert str(error.value).startswith(checkpoint.model)
    assert error.value.exit_code == 4


NONE: dict[str, dict[str, Any]] = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "modernbert": {},  # 0 by default
}


@pytest.mark.parametrize("kind", NONE)
def test_a_model_without_dropout_is_refused(tmp_path: Path, kind: str) -> None:
    refused(find_checkpoint(make(tmp_path / kind, kind, **NONE[kind])), "probabilities are 0[\\s\\S]*--views")


def test_a_dropout_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    refused(find_checkpoint(make(tmp_path / "bert", "bert", hidden_dropout_prob=1.0)), "dropout of 1")


def unseeded(states: torch.Tensor) -> torch.Tensor:
    return torch.dropout(states, 0.1, True)


def drawn_by_torch(states: torch.Tensor) -> torch.Tensor:
    return states * (torch.rand_like(states) > 0.1)


def within_attention(states: torch.Tensor) -> torch.Tensor:
    heads = states[:, None]
    return torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.1)[:, 0]


def drawn_by_python(states: torch.Tensor) -> torch.Tensor:
    return states * (1 + random.random())


def of_the_whole_batch(states: torch.Tensor) -> torch.Tensor:
    return states + 0.01 * len(states)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (unseeded, "random numbers"),
        (drawn_by_torch, "random numbers"),
        (within_attention, "random numbers"),
        (drawn_by_python, "more than the text"),
        (of_the_whole_batch, "more than the text"),
    ],
)
@pytest.mark.parametrize("kind", ["bert", "deberta"])
def test_an_architecture_whose_dropout_cannot_be_seeded_is_refused(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, kind: str,
    spoil: Callable[[torch.Tensor], torch.Tensor], match: str,
) -> None:  # fmt: skip
    from transformers.models.bert import modeling_bert
    from transformers.models.deberta import modeling_deberta

    if (kind, spoil) == ("deberta", of_the_whole_batch):
        Encoder(checkpoint, settings())  # it computes no batches
        return
    output = {"bert": modeling_bert.BertOutput, "deberta": modeling_deberta.DebertaOutput}[kind]
    original = output.forward

    def spoilt(self: Any, hidden: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        states = original(self, hidden, before)
        return spoil(states) if self.training else states

    monkeypatch.setattr(output, "forward", spoilt)
    refused(checkpoint, match)


# Settings and spaces


@pytest.mark.parametrize("kind", ["bert"])
def test_auto_takes_torch_for_views_and_openvino_is_refused(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "preferred_backend", lambda device: "openvino")
    asked = settings(backend="auto")
    assert asked.arithmetic.backend == "torch"
    assert Encoder(checkpoint, asked).arithmetic.backend == "torch"
    assert settings(backend="auto", view=None).arithmetic.backend == "openvino"
    with pytest.raises(UsageError, match="--backend torch"):
        settings(backend="openvino")


@pytest.mark.parametrize("kind", ["bert"])
def test_a_view_s_space_gives_its_settings_back(checkpoint: Checkpoint) -> None:
    space = space_of(checkpoint, "mean", settings("mean", max_length=9))
    assert space.view == VIEW
    assert space_of(checkpoint, "mean", settings_of(space, device="cpu")) == space


@pytest.mark.parametrize("kind", ["bert"])
def test_windows_of_a_long_text_have_masks_of_their_own(checkpoint: Checkpoint) -> None:
    from frozenhead.embedder.windows import WindowMeans

    asked = settings("mean", max_length=8, long="windows", normalize=True)
    encoder = Encoder(checkpoint, asked)
    tokens = encoder.tokenize(TEXTS)
    means = WindowMeans(tokens.texts, tokens.content, normalize=True)
    order, vectors = means.add(np.arange(len(tokens.rows)), encoder.encode(tokens.rows))
    with torch.no_grad():
        plain = PlainEncoder(checkpoint, device="cpu").vectors(
            TEXTS, pooling="mean", max_length=8, long="windows", normalize=True, view=VIEW
        )
    np.testing.assert_allclose(vectors["mean"], plain.numpy()[order], atol=TOLERANCE, rtol=0)
