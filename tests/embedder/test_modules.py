"""Folders of sentence-transformers: what they say is done as they would, or refused; never is anything of them run."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenhead import Embedder
from frozenhead.embedder import EmbedSettings, find_checkpoint, space_of
from frozenhead.embedder.modules import SentenceModules
from frozenhead.embedder.settings import decide
from frozenhead.errors import EncoderUnfit, EncoderUntrusted
from tests.embedder.architectures import alone
from tests.embedder.test_checkpoint import edit_json

TOLERANCE = 1e-5
TEXTS = ["the cat sat on the mat", "win", "The Dog ran " * 9]
AUTO = EmbedSettings(poolings=("auto",), device="cpu", precision="fp32", backend="torch")  # type: ignore[arg-type]

OLD, NEW = "sentence_transformers.models.", "sentence_transformers.sentence_transformer.modules.pooling."
TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": OLD + "Transformer"}
POOLING = {"idx": 1, "name": "1", "path": "1_Pooling", "type": OLD + "Pooling"}
NORMALIZE = {"idx": 2, "name": "2", "path": "2_Normalize", "type": OLD + "Normalize"}
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": OLD + "Dense"}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A mean-pooling, normalising sentence-transformers folder of the tiny encoder, as version 2 wrote them."""
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "sentences"))
    write(copy / "modules.json", [TRANSFORMER, POOLING, NORMALIZE])
    write(copy / "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": False})
    write(copy / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    return copy


def said(folder: Path) -> SentenceModules:
    modules = find_checkpoint(folder).modules
    assert modules is not None
    return modules


def test_a_folder_without_such_files_says_nothing(tiny_folder: Path) -> None:
    assert find_checkpoint(tiny_folder).modules is None


def test_pooling_length_and_normalisation_are_taken(folder: Path) -> None:
    assert said(folder) == SentenceModules(pooling="mean", normalize=True, max_length=12)
    decided = decide(AUTO, find_checkpoint(folder))
    assert (decided.poolings, decided.max_length, decided.normalize, decided.prefix) == (("mean",), 12, True, "")


def test_vectors_are_those_that_the_files_describe(folder: Path, tmp_path: Path) -> None:
    vectors = Embedder(folder, pooling="auto", device="cpu", precision="fp32", cache_dir=tmp_path).transform(TEXTS)
    expected = alone(folder, TEXTS, "mean", max_length=12)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=TOLERANCE, rtol=0)


def test_auto_is_a_space_of_its_outcome(folder: Path, tiny_folder: Path) -> None:
    by_name = EmbedSettings(
        poolings=("mean",), max_length=12, normalize=True, device="cpu", precision="fp32", backend="torch"
    )
    assert space_of(find_checkpoint(folder), "mean", AUTO) == space_of(find_checkpoint(tiny_folder), "mean", by_name)


def test_the_bytes_of_these_files_decide_no_identity(folder: Path) -> None:
    before = space_of(find_checkpoint(folder), "mean", AUTO)
    for path in (folder / "modules.json", folder / "sentence_bert_config.json", folder / "1_Pooling" / "config.json"):
        path.write_text(path.read_text() + "\n")
    assert space_of(find_checkpoint(folder), "mean", AUTO) == before
    write(folder / "sentence_bert_config.json", {"max_seq_length": 11})
    assert space_of(find_checkpoint(folder), "mean", AUTO) != before


def test_what_is_asked_for_by_name_wins(folder: Path) -> None:
    write(folder / "config_sentence_transformers.json", {"prompts": {"q": "red "}, "default_prompt_name": "q"})
    asked = EmbedSettings(
        poolings=("auto",), max_length=5, normalize=False, prefix="", device="cpu"  # type: ignore[arg-type]
    )  # fmt: skip
    decided = decide(asked, find_checkpoint(folder))
    assert (decided.max_length, decided.normalize, decided.prefix) == (5, False, "")
    other = decide(EmbedSettings(poolings=("mean",), device="cpu"), find_checkpoint(folder))
    assert (other.max_length, other.normalize, other.prefix) == (64, False, "")  # of auto alone they are taken


def test_a_length_beyond_the_encoders_is_cut_to_it(folder: Path) -> None:
    write(folder / "sentence_bert_config.json", {"max_seq_length": 4096})
    assert decide(AUTO, find_checkpoint(folder)).max_length == 64


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["max"]}, "max"),
        ({"pooling_mode": "cls", "pooling_mode_mean_tokens": True}, "cls"),  # the newer name counts
        ({"embedding_dimension": 16}, "mean"),
        ({"pooling_mode_mean_tokens": True, "include_prompt": True}, "mean"),
    ],
)
def test_a_pooling_of_any_version_is_understood(folder: Path, config: dict[str, Any], pooling: str) -> None:
    write(folder / "1_Pooling" / "config.json", config)
    write(folder / "modules.json", [TRANSFORMER, {**POOLING, "type": NEW + "Pooling"}])
    assert (said(folder).pooling, said(folder).normalize, said(folder).refusal) == (pooling, False, None)


REFUSED_MODULES: list[tuple[Any, str]] = [
    ([TRANSFORMER, POOLING, DENSE], "Dense"),
    ([TRANSFORMER, POOLING, DENSE, NORMALIZE], "Dense"),
    ([{**TRANSFORMER, "type": OLD + "CLIPModel"}], "CLIPModel"),
    ([{**TRANSFORMER, "type": OLD + "WordEmbeddings"}, POOLING], "WordEmbeddings"),
    ([{**TRANSFORMER, "type": "sentence_transformers.base.modules.router.Router"}], "Router"),
    ([TRANSFORMER, {**DENSE, "type": OLD + "LSTM"}, POOLING], "LSTM"),
    ([{**TRANSFORMER, "type": "custom_st.Transformer"}, POOLING], r"custom_st\.Transformer"),
    ([TRANSFORMER, {"idx": 1, "name": "1", "path": "1_Pooling"}], "None"),
    ([TRANSFORMER], "Transformer, not one Transformer and one Pooling"),
    ([POOLING, TRANSFORMER], "Pooling, Transformer, not"),
    ([TRANSFORMER, NORMALIZE, POOLING], "Transformer, Normalize, Pooling, not"),
    ([TRANSFORMER, POOLING, POOLING], "not one Transformer"),
    ([], "nothing"),
    ({}, "not a list"),
    (["Transformer"], "not a list"),
]


@pytest.mark.parametrize(("modules", "match"), REFUSED_MODULES)
def test_modules_that_are_not_computed_are_named_with_the_way_out(folder: Path, modules: Any, match: str) -> None:
    write(folder / "modules.json", modules)
    checkpoint = find_checkpoint(folder)
    with pytest.raises(EncoderUnfit, match=rf"{match}[\s\S]*--pooling mean") as error:
        decide(AUTO, checkpoint)
    assert error.value.exit_code == 4
    assert decide(EmbedSettings(poolings=("mean",), device="cpu"), checkpoint).normalize is False


REFUSED_FILES: list[tuple[str, Any, str]] = [
    ("1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, "cls and max"),
    ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, "cls and mean"),
    ("1_Pooling/config.json", {"pooling_mode_lasttoken": True}, "lasttoken"),
    ("1_Pooling/config.json", {"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
    ("1_Pooling/config.json", {"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
    ("1_Pooling/config.json", {"pooling_mode": "median"}, "median"),
    ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "include_prompt": False}, "include_prompt"),
    ("1_Pooling/config.json", [], "not a JSON object"),
    ("2_Normalize/config.json", {"module_input_name": "token_embeddings"}, "Normalize works on token_embeddings"),
    ("sentence_bert_config.json", {"max_seq_length": 12, "tokenizer_name_or_path": "x/y"}, "tokenizer_name_or_path"),
    ("sentence_bert_config.json", {"model_args": {"torch_dtype": "float16"}}, "model_args"),
    ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task"),
    ("sentence_bert_config.json", {"modality_config": {"text": {"method": "get_text_features"}}}, "modality_config"),
    ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length 'long'"),
    ("sentence_roberta_config.json", {"query_length": 5}, "query_length"),
    ("config_sentence_transformers.json", {"truncate_dim": 8}, "truncate_dim"),
    ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder"),
    ("config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": "query"}, "'query'"),
    ("config_sentence_transformers.json", {"prompts": {"q": 5}, "default_prompt_name": "q"}, "'q'"),
]


@pytest.mark.parametrize(("name", "content", "match"), REFUSED_FILES)
def test_settings_that_are_not_followed_are_named(folder: Path, name: str, content: Any, match: str) -> None:
    if name.startswith("sentence_"):
        (folder / "sentence_bert_config.json").unlink()
    write(folder / name, content)
    with pytest.raises(EncoderUnfit, match=rf"{match}[\s\S]*--pooling mean"):
        decide(AUTO, find_checkpoint(folder))


@pytest.mark.parametrize(
    "name", ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json"]
)
def test_a_damaged_file_is_refused_for_auto_alone(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\0 no JSON")
    with pytest.raises(EncoderUnfit, match=rf"{Path(name).name}[\s\S]*--pooling mean"):
        decide(AUTO, find_checkpoint(folder))
    decide(EmbedSettings(poolings=("mean",), device="cpu"), find_checkpoint(folder))


def test_a_pooling_file_that_is_not_there_is_refused(folder: Path) -> None:
    shutil.rmtree(folder / "1_Pooling")
    with pytest.raises(EncoderUnfit, match=r"1_Pooling/config\.json"):
        decide(AUTO, find_checkpoint(folder))


# Lower case: the tiny tokenizer's own normalizer lower-cases.


def test_lower_case_is_followed_where_the_tokenizer_does_it(folder: Path) -> None:
    write(folder / "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": True})
    assert said(folder).refusal is None


@pytest.mark.parametrize("normalizer", [None, {"type": "NFC"}, {"type": "Sequence", "normalizers": [{"type": "NFC"}]}])
def test_lower_case_that_the_tokenizer_does_not_do_is_refused(folder: Path, normalizer: Any) -> None:
    write(folder / "sentence_bert_config.json", {"do_lower_case": True})
    edit_json(folder / "tokenizer.json", normalizer=normalizer)
    with pytest.raises(EncoderUnfit, match="do_lower_case"):
        decide(AUTO, find_checkpoint(folder))
    edit_json(folder / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [{"type": "Lowercase"}]})
    assert said(folder).refusal is None


# Prompts


def test_the_default_prompt_is_the_prefix(folder: Path, tmp_path: Path) -> None:
    prompts = {"prompts": {"query": "blue text ", "passage": "red "}, "default_prompt_name": "query"}
    write(folder / "config_sentence_transformers.json", prompts)
    assert said(folder).prefix == "blue text "
    vectors = Embedder(folder, pooling="auto", device="cpu", precision="fp32", cache_dir=tmp_path).transform(TEXTS)
    expected = alone(folder, [f"blue text {text}" for text in TEXTS], "mean", max_length=12)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=TOLERANCE, rtol=0)


def test_prompts_without_a_default_are_no_prefix(folder: Path) -> None:
    write(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "blue "}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
    assert said(folder).prefix == ""


# Transformers in a folder of their own


@pytest.fixture
def nested(folder: Path, tmp_path: Path) -> Path:
    """The same with its transformer in 0_Transformer, and beside it the config.json that version 0 wrote."""
    outer = tmp_path / "nested"
    outer.mkdir()
    folder.rename(outer / "0_Transformer")
    for name in ("modules.json", "1_Pooling"):
        (outer / "0_Transformer" / name).rename(outer / name)
    write(outer / "modules.json", [{**TRANSFORMER, "path": "0_Transformer"}, POOLING, NORMALIZE])
    write(outer / "config.json", {"__version__": "0.2.5"})
    return outer


def test_a_transformer_in_a_folder_of_its_own_is_found(nested: Path, tiny_folder: Path, tmp_path: Path) -> None:
    checkpoint = find_checkpoint(nested)
    assert checkpoint.files == find_checkpoint(tiny_folder).files
    assert checkpoint.name == "nested"
    assert checkpoint.modules == SentenceModules(pooling="mean", normalize=True, max_length=12)
    vectors = Embedder(nested, pooling="mean", device="cpu", precision="fp32", cache_dir=tmp_path).transform(TEXTS)
    np.testing.assert_allclose(vectors, alone(tiny_folder, TEXTS, "mean", max_length=64), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "path", ["../elsewhere", "/etc", "C:\\models", "a/../../b", "..\\b", "\\\\host\\share", "a\0b", None, 5]
)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_path_that_leaves_the_folder_is_untrusted(folder: Path, path: Any, which: int) -> None:
    modules = [TRANSFORMER, POOLING, NORMALIZE]
    modules[which] = {**modules[which], "path": path}
    write(folder / "modules.json", modules)
    with pytest.raises(EncoderUntrusted, match=r"modules\.json") as error:
        find_checkpoint(folder)
    assert error.value.exit_code == 4


def test_nothing_that_the_files_name_is_imported(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for modules in ([{**TRANSFORMER, "type": "planted_module.Transformer"}, POOLING],):
        write(folder / "modules.json", modules)
        write(folder / "1_Pooling" / "config.json", {"pooling_mode": "planted_module.mode"})
        with pytest.raises(EncoderUnfit):
            decide(AUTO, find_checkpoint(folder))
    assert "planted_module" not in sys.modules


# Folders of plain transformers


def test_without_such_files_auto_is_the_pooler_that_was_trained_else_mean(tiny_folder: Path, tmp_path: Path) -> None:
    from tests.embedder.test_checkpoint import drop_weights

    assert decide(AUTO, find_checkpoint(tiny_folder)).poolings == ("pooler",)
    without = drop_weights(Path(shutil.copytree(tiny_folder, tmp_path / "without")), "pooler")
    decided = decide(AUTO, without)
    assert (decided.poolings, decided.max_length, decided.normalize, decided.prefix) == (("mean",), 64, False, "")


# The library itself


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("mode", "prompt"), [("cls", None), ("max", "free "), ("mean", None)])
def test_a_folder_that_the_library_saves_gives_its_vectors(
    make_checkpoint: Callable[..., Path], tmp_path: Path, mode: str, prompt: str | None, normalize: bool
) -> None:
    library: Any = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    parts: Any = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    transformer = parts.Transformer(str(make_checkpoint(tmp_path / "bert")), processor_kwargs={"model_max_length": 9})
    modules = [transformer, parts.Pooling(16, pooling_mode=mode), *([parts.Normalize()] if normalize else [])]
    prompts = {"prompts": {"own": prompt}, "default_prompt_name": "own"} if prompt else {}
    model = library.SentenceTransformer(modules=modules, device="cpu", **prompts)
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    assert said(tmp_path / "saved").refusal is None
    ours = Embedder(tmp_path / "saved", pooling="auto", device="cpu", precision="fp32", cache_dir=tmp_path / "cache")
    theirs = model.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(ours.transform(TEXTS), theirs, atol=TOLERANCE, rtol=0)
