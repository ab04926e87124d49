"""Encoders that people use, each against plain transformers: tiny random checkpoints of thirteen architectures."""

import functools
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from frozenhead.embedder import EmbedSettings, fused, graph
from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.finding import find_checkpoint
from frozenhead.embedder.fused import FusedBert
from frozenhead.embedder.graph import PlainBody, PooledEncoder
from frozenhead.embedder.loading import load_pretrained
from frozenhead.embedder.plain import PlainEncoder
from frozenhead.embedder.pooling import POOLINGS, Pooling
from frozenhead.embedder.settings import decide
from frozenhead.errors import EncoderError, EncoderUnfit, UsageError
from tests.embedder.architectures import ARCHITECTURES, LAYERS, POSITIONS, alone, make, save_tokenizer
from tests.embedder.test_checkpoint import edit_json

TOLERANCE = 1e-5  # the promise of fp32; these come to within a fifth of it
CLOSEST = 0.999  # the promise of bf16: cosine; these reach 0.9996

TEXTS = [
    "the cat sat on the mat",
    "win",
    "",
    "\N{SNOWMAN} \N{SNOWMAN}\N{SNOWMAN}",  # unknown tokens only
    "the cat sat on the red mat " * 8,  # cut
    " ".join("abcdefghijklmnopqrstuv"),  # 24 tokens: as long as the positions reach
    " ".join("abcdefghijklmnopqrstu"),
]

WITH_POOLER = [kind for kind, architecture in ARCHITECTURES.items() if architecture.pooler]
FUSED = [kind for kind, architecture in ARCHITECTURES.items() if architecture.fused]
PLAIN = [kind for kind in ARCHITECTURES if kind not in FUSED]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of an architecture, made when it is first asked for."""
    place, made = tmp_path_factory.mktemp("architectures"), dict[str, Path]()

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = make(place / kind, kind)
        return made[kind]

    return folder


@pytest.fixture(scope="module")
def model_of(folder_of: Callable[[str], Path]) -> Callable[[str], Any]:
    """The loaded model and tokenizer of an architecture; not to be changed."""
    return functools.cache(lambda kind: load_pretrained(find_checkpoint(folder_of(kind))))


@pytest.fixture
def checkpoint(folder_of: Callable[[str], Path], kind: str) -> Checkpoint:
    return find_checkpoint(folder_of(kind))


@pytest.fixture(autouse=True)
def _no_warning(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[None]:
    """Unless a test is about it, no fused pass is given up."""
    yield
    if "tampered" not in request.node.name:
        assert not [record for record in caplog.records if "not used" in record.getMessage()]


def poolings_of(kind: str) -> tuple[Pooling, ...]:
    return tuple(p for p in POOLINGS if p != "pooler" or ARCHITECTURES[kind].pooler)


def settings(poolings: tuple[Pooling, ...], **given: Any) -> EmbedSettings:
    return EmbedSettings(**{"poolings": poolings, "device": "cpu", "precision": "fp32", "backend": "torch", **given})


def in_batches_and_alone(encoder: Encoder) -> Iterator[dict[Pooling, NDArray[np.float32]]]:
    """The vectors of TEXTS from one padded batch, and from a batch for each."""
    rows = encoder.tokenize(TEXTS).rows
    yield encoder.encode(rows)
    single = [encoder.encode([row]) for row in rows]
    yield {p: np.concatenate([vectors[p] for vectors in single]) for p in single[0]}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_pooling_equals_a_plain_forward_of_each_text_alone(checkpoint: Checkpoint, kind: str) -> None:
    poolings = poolings_of(kind)
    for vectors in in_batches_and_alone(Encoder(checkpoint, settings(poolings))):
        for pooling in poolings:
            expected = alone(checkpoint.folder, TEXTS, pooling, max_length=POSITIONS)
            assert vectors[pooling].shape == (len(TEXTS), checkpoint.dim_of(pooling)) == expected.shape
            np.testing.assert_allclose(vectors[pooling], expected, atol=TOLERANCE, rtol=0, err_msg=pooling)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_plain_encoder_of_verify_is_plain_transformers(checkpoint: Checkpoint, kind: str) -> None:
    plain = PlainEncoder(checkpoint, device="cpu")
    for pooling in poolings_of(kind):
        with torch.no_grad():
            vectors = plain.vectors(TEXTS, pooling=pooling, max_length=POSITIONS).numpy()
        expected = alone(checkpoint.folder, TEXTS, pooling, max_length=POSITIONS)
        np.testing.assert_allclose(vectors, expected, atol=TOLERANCE, rtol=0, err_msg=pooling)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_bf16_points_the_same_way(checkpoint: Checkpoint, kind: str) -> None:
    poolings = poolings_of(kind)
    for vectors in in_batches_and_alone(Encoder(checkpoint, settings(poolings, precision="bf16"))):
        for pooling in poolings:
            exact, rough = alone(checkpoint.folder, TEXTS, pooling, max_length=POSITIONS), vectors[pooling]
            cosines = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
            assert cosines.min() >= CLOSEST, pooling
            assert np.abs(exact - rough).max() > TOLERANCE, "this was not computed in bf16"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_openvino_gives_the_same_vectors_or_says_that_it_cannot(checkpoint: Checkpoint, kind: str) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    poolings = poolings_of(kind)
    try:
        encoder = Encoder(checkpoint, settings(poolings, backend="openvino"))
    except EncoderUnfit as error:
        assert "--backend torch" in str(error)  # noqa: PT017
        pytest.skip(str(error))
    for vectors in in_batches_and_alone(encoder):
        for pooling in poolings:
            expected = alone(checkpoint.folder, TEXTS, pooling, max_length=POSITIONS)
            np.testing.assert_allclose(vectors[pooling], expected, atol=TOLERANCE, rtol=0, err_msg=pooling)


@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind not in WITH_POOLER])
def test_a_pooler_that_an_architecture_lacks_is_refused_with_the_way_out(checkpoint: Checkpoint, kind: str) -> None:
    with pytest.raises(EncoderUnfit, match=rf"{checkpoint.architecture}[\s\S]*--pooling cls.*--pooling mean") as error:
        decide(settings(("pooler",)), checkpoint)
    assert error.value.exit_code == EncoderError.exit_code == 4


@pytest.mark.parametrize("kind", ["deberta", "electra"])
def test_pooler_weights_of_a_classifier_are_no_pooler_of_an_architecture_that_has_none(
    folder_of: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(folder_of(kind), tmp_path / kind))
    weights = load_file(folder / "model.safetensors")
    weights["pooler.dense.weight"] = np.eye(32, dtype=np.float32)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert not find_checkpoint(folder).has_pooler


# Layers


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_layer_is_that_hidden_state_pooled(
    folder_of: Callable[[str], Path], model_of: Callable[[str], Any], kind: str
) -> None:
    model, tokenizer = model_of(kind)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=POSITIONS, return_tensors="pt")
    for poolings in (("cls",), ("cls", "mean")):
        for layer in range(-1 - LAYERS, 0):
            with torch.no_grad():
                vectors = PooledEncoder(model, poolings, layer=layer)(**inputs)
            for pooling, of_layer in zip(poolings, vectors, strict=True):
                expected = alone(folder_of(kind), TEXTS, pooling, max_length=POSITIONS, layer=layer)
                np.testing.assert_allclose(of_layer, expected, atol=TOLERANCE, rtol=0, err_msg=f"{pooling} of {layer}")


@pytest.mark.parametrize("layer", [0, 2, -2, LAYERS])
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_a_layer_asked_for_is_the_layer_given(checkpoint: Checkpoint, layer: int) -> None:
    encoder = Encoder(checkpoint, settings(("mean",), layer=layer))
    expected = alone(checkpoint.folder, TEXTS, "mean", max_length=POSITIONS, layer=layer)
    vectors = encoder.encode(encoder.tokenize(TEXTS).rows)["mean"]
    np.testing.assert_allclose(vectors, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_the_plain_encoder_of_verify_knows_layers(checkpoint: Checkpoint, kind: str) -> None:
    with torch.no_grad():
        vectors = PlainEncoder(checkpoint, device="cpu").vectors(TEXTS, pooling="max", max_length=POSITIONS, layer=-3)
    expected = alone(checkpoint.folder, TEXTS, "max", max_length=POSITIONS, layer=-3)
    np.testing.assert_allclose(vectors.numpy(), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("layer", "from_top"), [(5, -1), (-1, -1), (4, -2), (-2, -2), (0, -6), (-6, -6)])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_layer_has_one_number_from_the_top(checkpoint: Checkpoint, layer: int, from_top: int) -> None:
    assert decide(settings(("cls",), layer=layer), checkpoint).layer == from_top


@pytest.mark.parametrize("layer", [6, -7])
@pytest.mark.parametrize("kind", ["modernbert"])
def test_a_layer_out_of_reach_is_wrong_usage_that_names_the_limits(checkpoint: Checkpoint, layer: int) -> None:
    with pytest.raises(UsageError, match=rf"layer is {layer}; .*-1 \(the last\) to -6 .* 0 \(the embeddings\) to 5"):
        decide(settings(("cls",), layer=layer), checkpoint)


@pytest.mark.parametrize("pooling", ["pooler", "last4"])
@pytest.mark.parametrize("kind", ["roberta"])
def test_what_is_defined_on_the_last_layer_is_refused_on_another(checkpoint: Checkpoint, pooling: Pooling) -> None:
    with pytest.raises(UsageError, match=rf"Pooling {pooling} .* last layer[\s\S]*--pooling cls, mean or max"):
        decide(settings((pooling,), layer=-2), checkpoint)
    assert decide(settings((pooling,), layer=LAYERS), checkpoint).layer == -1  # the last by another number


def test_last4_of_fewer_than_four_layers_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for layers in (3, 4):
        make(tmp_path / str(layers), "bert", num_hidden_layers=layers)
    with pytest.raises(EncoderUnfit, match=r"has 3 layers[\s\S]*--pooling cls"):
        decide(settings(("last4",)), find_checkpoint(tmp_path / "3"))
    folder = tmp_path / "4"
    encoder = Encoder(find_checkpoint(folder), settings(("last4",)))
    expected = alone(folder, TEXTS, "last4", max_length=POSITIONS)
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(TEXTS).rows)["last4"], expected, atol=TOLERANCE, rtol=0)


# Lengths


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_limit_is_that_of_the_positions_and_one_more_is_wrong_usage(checkpoint: Checkpoint) -> None:
    assert checkpoint.max_length == POSITIONS  # and TEXTS hold texts of that length
    with pytest.raises(UsageError, match=f"3 to {POSITIONS}"):
        decide(settings(("cls",), max_length=POSITIONS + 1), checkpoint)


@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
def test_a_config_that_leaves_the_padding_token_out_has_the_same_limit(tmp_path: Path, kind: str) -> None:
    folder = make(tmp_path / kind, kind)
    edit_json(folder / "config.json", pad_token_id=None)
    assert find_checkpoint(folder).max_length == POSITIONS


# Inputs


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet", "modernbert", "deberta"])
def test_token_types_reach_only_the_models_that_take_them(
    folder_of: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    folder = Path(shutil.copytree(folder_of(kind), tmp_path / kind))
    names = ["input_ids", "token_type_ids", "attention_mask"]
    edit_json(folder / "tokenizer_config.json", model_input_names=names)
    encoder = Encoder(find_checkpoint(folder), settings(("mean",)))
    rows = encoder.tokenize(TEXTS).rows
    assert ("token_type_ids" in rows[0]) == (kind in ("bert", "roberta", "deberta"))
    expected = alone(folder, TEXTS, "mean", max_length=POSITIONS)
    np.testing.assert_allclose(encoder.encode(rows)["mean"], expected, atol=TOLERANCE, rtol=0)
    with torch.no_grad():
        vectors = PlainEncoder(find_checkpoint(folder), device="cpu").vectors(TEXTS, pooling="mean", max_length=24)
    np.testing.assert_allclose(vectors.numpy(), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("wanted", ["kernels-community/flash-attn", "someone/kernel", "flash_attention_2"])
def test_no_config_brings_in_an_attention_kernel(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, wanted: str
) -> None:
    from transformers import modeling_utils

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a kernel was about to be loaded")

    monkeypatch.setattr(modeling_utils, "lazy_import_flash_attention", refuse)
    for kind, chosen in (("bert", "sdpa"), ("modernbert", "sdpa"), ("mpnet", "eager")):
        folder = Path(shutil.copytree(folder_of(kind), tmp_path / kind))
        edit_json(folder / "config.json", **{key: wanted})
        assert load_pretrained(find_checkpoint(folder))[0].config._attn_implementation == chosen


def test_positions_that_transformers_no_longer_computes_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "relative", "bert")
    edit_json(folder / "config.json", position_embedding_type="absolute")
    find_checkpoint(folder)
    edit_json(folder / "config.json", position_embedding_type="relative_key_query")
    with pytest.raises(EncoderUnfit, match="relative_key_query positions"):
        find_checkpoint(folder)


# The fused pass


def assert_fused_is_plain(model: Any) -> None:
    """Hidden states of every layer, the pooler's vectors and the single state of [CLS], at every real token."""
    ids = torch.randint(model.config.vocab_size, (4, 9), generator=torch.Generator().manual_seed(5))
    mask = (torch.arange(9) < torch.tensor([9, 6, 2, 1])[:, None]).long()
    ids[mask == 0] = model.config.pad_token_id
    for layer in range(-1 - LAYERS, 0):
        kept = 4 if layer == -1 else 1
        plain = PlainBody(model, layer=layer, kept=kept)
        for cls_only in (False, True):
            body = FusedBert.of(model, layer=layer, kept=kept, cls_only=cls_only)
            assert body is not None
            for given in (mask, None):
                with torch.no_grad():
                    mine, theirs = body(ids, given), plain(ids, given)
                real = mask.bool() if given is not None else torch.ones_like(mask).bool()
                for a, b in zip(mine.layers, theirs.layers, strict=True):
                    width = a.shape[1]
                    assert width == (1 if cls_only and a is mine.layers[-1] and layer != -1 - LAYERS else 9)
                    np.testing.assert_allclose(a[real[:, :width]], b[:, :width][real[:, :width]], atol=TOLERANCE)
                if layer == -1 and theirs.pooler_output is not None:
                    np.testing.assert_allclose(mine.pooler_output, theirs.pooler_output, atol=TOLERANCE)


@pytest.mark.parametrize("kind", FUSED)
def test_the_fused_pass_is_transformers_own(model_of: Callable[[str], Any], kind: str) -> None:
    assert_fused_is_plain(model_of(kind)[0])


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"type_vocab_size": 1}),
    ("bert", {"layer_norm_eps": 0.1}),
    ("bert", {"num_attention_heads": 1}),
    ("bert", {"chunk_size_feed_forward": 3}),
    ("bert", {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}),
    ("electra", {"embedding_size": 32}),
    ("electra", {"embedding_size": 8}),
    ("roberta", {"layer_norm_eps": 1e-5, "type_vocab_size": 2}),
    ("roberta", {"pad_token_id": 0}),
]


@pytest.mark.parametrize(("kind", "changes"), VARIANTS)
def test_the_fused_pass_follows_the_config(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    assert_fused_is_plain(load_pretrained(find_checkpoint(make(tmp_path / kind, kind, **changes)))[0])


def test_the_fused_pass_has_every_activation(folder_of: Callable[[str], Path]) -> None:
    from transformers.activations import ACT2FN

    model = load_pretrained(find_checkpoint(folder_of("bert")))[0]
    ids, tried = torch.tensor([[2, 7, 9, 3]]), []
    for name in sorted(ACT2FN):
        for layer in model.encoder.layer:
            layer.intermediate.intermediate_act_fn = ACT2FN[name]
        with torch.no_grad():
            try:
                expected = model(ids).last_hidden_state
            except (RuntimeError, TypeError, AttributeError):
                continue  # it wants parameters or a shape of its own: no BERT has it
            body = FusedBert.of(model)
            assert body is not None
            np.testing.assert_allclose(body(ids).layers[-1], expected, atol=TOLERANCE, err_msg=name)
        tried.append(name)
    assert {"gelu", "gelu_new", "relu", "silu", "tanh", "quick_gelu"} <= set(tried)


@pytest.mark.parametrize("kind", PLAIN)
def test_other_shapes_are_left_to_transformers(model_of: Callable[[str], Any], kind: str) -> None:
    model = model_of(kind)[0]
    assert FusedBert.of(model) is None
    assert not PooledEncoder(model, ("mean",)).fused


@pytest.mark.parametrize("changes", [{"is_decoder": True}, {"is_decoder": True, "add_cross_attention": True}])
def test_decoders_are_left_to_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert FusedBert.of(load_pretrained(find_checkpoint(make(tmp_path / "d", "bert", **changes)))[0]) is None


def shifted(self: Any, hidden: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return original(self, hidden, bias) + 1e-3


def deaf_to_padding(self: Any, hidden: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return original(self, hidden, None)


def wrong_without_padding(self: Any, hidden: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return original(self, hidden, bias) + (1e-3 if bias is None else 0.0)


def lost(self: Any, hidden: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return original(self, hidden, bias) * float("nan")


original = fused._Layer.forward


@pytest.mark.parametrize("tamper", [shifted, deaf_to_padding, wrong_without_padding, lost])
@pytest.mark.parametrize("poolings", [("cls",), ("mean",), ("pooler", "last4")])
@pytest.mark.parametrize("kind", ["bert"])
def test_a_tampered_fused_pass_is_not_used(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    poolings: tuple[Pooling, ...], tamper: Any,
) -> None:  # fmt: skip
    monkeypatch.setattr(fused._Layer, "forward", tamper)
    encoder = Encoder(checkpoint, settings(poolings))
    assert [r.levelno for r in caplog.records if "not used" in r.getMessage()] == [logging.WARNING]
    vectors = encoder.encode(encoder.tokenize(TEXTS).rows)
    for pooling in poolings:
        expected = alone(checkpoint.folder, TEXTS, pooling, max_length=POSITIONS)
        np.testing.assert_allclose(vectors[pooling], expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["bert"])
def test_a_tampered_pooler_is_noticed(model_of: Callable[[str], Any], kind: str) -> None:
    model = model_of(kind)[0]
    body = FusedBert.of(model)
    assert body is not None
    plain = PlainBody(model, layer=-1, kept=1)
    assert graph.agrees(body, plain)
    body.pooler = torch.nn.Sequential(model.pooler, torch.nn.Threshold(0.1, 0.0))
    assert not graph.agrees(body, plain)


@pytest.mark.parametrize(("kind", "positions"), [("bert", 3), ("roberta", 5)])
def test_very_few_positions_are_enough_to_try_the_fused_pass(tmp_path: Path, kind: str, positions: int) -> None:
    folder = make(tmp_path / kind, kind, max_position_embeddings=positions)
    assert find_checkpoint(folder).max_length == 3
    assert PooledEncoder(load_pretrained(find_checkpoint(folder))[0], ("cls",)).fused


# Normalisation


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_normalized_vectors_are_the_others_scaled_to_length_one(checkpoint: Checkpoint, precision: str) -> None:
    plain, unit = (
        Encoder(checkpoint, settings(("cls", "mean"), precision=precision, normalize=n)) for n in (False, True)
    )
    rows = plain.tokenize(TEXTS).rows
    for pooling, vectors in plain.encode(rows).items():
        scaled = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(unit.encode(rows)[pooling], scaled, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["bert"])
def test_a_vector_of_zeros_stays_one(checkpoint: Checkpoint) -> None:
    model = load_pretrained(checkpoint)[0]
    for norm in (model.encoder.layer[-1].output.LayerNorm.weight, model.encoder.layer[-1].output.LayerNorm.bias):
        norm.zero_()
    (vectors,) = PooledEncoder(model, ("cls",), normalize=True)(torch.tensor([[2, 7, 3]]), torch.ones(1, 3))
    assert (vectors == 0).all()


# Checkpoints that are no encoder


def test_a_folder_without_a_tokenizer_is_refused(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "bare", "distilbert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(EncoderUnfit, match="no tokenizer files") as error:
        find_checkpoint(folder)
    assert error.value.exit_code == 4


def test_a_tokenizer_of_another_architecture_whose_ids_do_not_fit_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "small", "roberta", vocab_size=20)
    save_tokenizer(folder, ARCHITECTURES["bert"].special)
    with pytest.raises(EncoderUnfit, match="different checkpoints"):
        load_pretrained(find_checkpoint(folder))
