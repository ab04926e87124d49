"""A vector belongs to the bytes of its encoder: real checkpoints on disk, changed, moved and swapped.

The table of the space's own fields is in tests/cache/test_space.py; here are the files that fill its first field.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from frozenhead.cache import VectorCache
from frozenhead.commands.embed import embed
from frozenhead.commands.options import EmbedOptions
from frozenhead.corpus import CorpusOptions
from frozenhead.embedder import Embedder, EmbedSettings, embed_texts, find_checkpoint, space_of, torch_backend
from frozenhead.embedder.checkpoint import identity_files, weight_files
from frozenhead.embedder.encoder import Encoder
from frozenhead.embedder.finding import HUB_FILES
from frozenhead.embedder.loading import load_pretrained
from frozenhead.errors import EncoderUnfit

TEXTS = ["the cat sat on the mat", "the dog ran", "win a free prize now"]

TOLERANCE = 1e-5  # of fp32, whatever the batch

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
TOKENIZER_FILES = [
    "added_tokens.json", "bpe.codes", "merges.txt", "sentencepiece.bpe.model", "special_tokens_map.json", "spm.model",
    "tokenizer.4.0.0.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt",
    "word_pronunciation.json", "word_shape.json",
]  # fmt: skip
DECIDING = {
    "whole": ["config.json", "model.safetensors", *TOKENIZER_FILES],
    "sharded": ["config.json", "model.safetensors.index.json", *SHARDS, *TOKENIZER_FILES],
}
CASES = [(kind, name) for kind, names in DECIDING.items() for name in names]

# What else stands in published checkpoints. Weights of other frameworks and of other precisions are not loaded.
IDLE = [
    ".gitattributes", "1_Pooling/config.json", "LICENSE", "README.md", "chat_template.jinja", "config.json.bak",
    "config_sentence_transformers.json", "flax_model.msgpack", "generation_config.json", "images/card.png",
    "model.fp16.safetensors", "modules.json", "onnx/model.onnx", "onnx/tokenizer.json", "optimizer.pt",
    "preprocessor_config.json", "pytorch_model.bin", "sentence_bert_config.json", "tf_model.h5", "trainer_state.json",
    "training_args.bin",
]  # fmt: skip


def space_id(folder: str | Path) -> str:
    return space_of(find_checkpoint(folder), "cls", EmbedSettings()).id


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


@pytest.fixture
def full(folder: Path, request: pytest.FixtureRequest) -> Path:
    """A checkpoint with every file that an encoder may have, its weights in one file or in two."""
    if request.param == "sharded":
        weights = load_file(folder / "model.safetensors")
        names = sorted(weights)
        for shard, part in zip(SHARDS, (names[::2], names[1::2]), strict=True):
            save_file({name: weights[name] for name in part}, folder / shard, {"format": "pt"})
        weight_map = {name: SHARDS[i % 2] for i, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        (folder / "model.safetensors").unlink()
    for name in TOKENIZER_FILES:
        if not (folder / name).exists():
            (folder / name).write_text("{\n}")
    return folder


def write_in_place(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes by as many others in the same file, and give it its time back."""
    status, content = path.stat(), path.read_bytes()
    assert old != new
    assert old in content
    with open(path, "r+b") as file:
        file.write(content.replace(old, new))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (status.st_ino, status.st_size, status.st_mtime_ns)


def change_one_byte(path: Path) -> Callable[[], None]:
    """Change one byte so that the file can still be read, and return what takes the change back."""
    content = path.read_bytes()
    changed = bytearray(content)
    if path.suffix == ".safetensors":
        changed[-1] ^= 1  # of the last weight
    else:
        space = max(content.rfind(b" "), content.rfind(b"\n"))
        changed[space] = ord("\t")  # between two tokens of JSON
    write_in_place(path, content, bytes(changed))
    return lambda: write_in_place(path, bytes(changed), content)


@pytest.mark.parametrize("full", DECIDING, indirect=True)
def test_every_file_of_a_checkpoint_has_a_case(full: Path, request: pytest.FixtureRequest) -> None:
    assert sorted(p.name for p in full.iterdir()) == sorted(DECIDING[request.node.callspec.params["full"]])


@pytest.mark.parametrize(("full", "name"), CASES, indirect=["full"])
def test_one_byte_of_any_file_changes_the_id_even_under_an_old_time(full: Path, name: str) -> None:
    original = space_id(full)
    take_back = change_one_byte(full / name)
    assert space_id(full) != original
    take_back()
    assert space_id(full) == original


@pytest.mark.parametrize("full", ["whole"], indirect=True)
def test_every_changed_file_gives_an_id_of_its_own(full: Path) -> None:
    ids = [space_id(full)]
    for name in DECIDING["whole"]:
        take_back = change_one_byte(full / name)
        ids.append(space_id(full))
        take_back()
    assert len(set(ids)) == len(DECIDING["whole"]) + 1


@pytest.mark.parametrize("full", ["whole"], indirect=True)
@pytest.mark.parametrize("name", TOKENIZER_FILES)
def test_a_tokenizer_file_that_goes_changes_the_id_until_it_is_back(full: Path, name: str, tmp_path: Path) -> None:
    original = space_id(full)
    (full / name).rename(tmp_path / name)
    assert space_id(full) != original
    (tmp_path / name).rename(full / name)
    assert space_id(full) == original


def test_every_file_that_a_tokenizer_of_transformers_reads_is_in_the_identity(folder: Path) -> None:
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    names = set()
    for tokenizer in filter(None, TOKENIZER_MAPPING_NAMES.values()):
        try:
            names |= set((tokenizer_class_from_name(tokenizer).vocab_files_names or {}).values())
        except (ImportError, AttributeError):
            continue  # it needs a package that is not here, so it cannot be loaded here either
    assert {"vocab.txt", "tokenizer.json", "word_shape.json"} <= names
    for name in names:
        (folder / name).touch()
    assert names <= set(identity_files(folder, ["model.safetensors"]))
    from huggingface_hub.utils import filter_repo_objects

    assert set(filter_repo_objects(names, allow_patterns=HUB_FILES)) == names  # and a hub id brings it here


def write_idle(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\0 neither JSON nor weights")


@pytest.mark.parametrize("name", IDLE)
def test_a_file_that_decides_no_vector_does_not_change_the_id(tiny_folder: Path, folder: Path, name: str) -> None:
    write_idle(folder, name)
    assert space_id(folder) == space_id(tiny_folder)


def vectors(folder: Path) -> NDArray[np.float32]:
    encoder = cls_encoder(folder)
    return encoder.encode(encoder.tokenize(TEXTS).rows)["cls"]


def cls_encoder(folder: Path) -> Encoder:
    return Encoder(find_checkpoint(folder), EmbedSettings(poolings=("cls",), device="cpu", precision="fp32"))


def test_the_hashed_files_alone_give_the_vectors(folder: Path, tmp_path: Path) -> None:
    for name in IDLE:
        write_idle(folder, name)
    (folder / "chat_template.jinja").write_text("text")  # the tokenizer does read it, for chats
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in identity_files(folder, weight_files(folder, "copy")):
        shutil.copy(folder / name, alone / name)
    np.testing.assert_array_equal(vectors(folder), vectors(alone))


def renamed(folder: Path) -> Path:
    return folder.rename(folder.parent / "another name")


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(folder, folder.parent / "deeper" / "down" / "bert", copy_function=shutil.copy))


def linked(folder: Path) -> Path:
    (folder.parent / "link").symlink_to(folder)
    return folder.parent / "link"


def linked_file_by_file(folder: Path) -> Path:
    """As a hub cache's snapshots are."""
    links = folder.parent / "snapshot"
    links.mkdir()
    for path in folder.iterdir():
        (links / path.name).symlink_to(path)
    return links


def from_within(folder: Path) -> Path:
    os.chdir(folder)
    return Path()


def aged(folder: Path) -> Path:
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    return folder


def written_again(folder: Path) -> Path:
    for path in sorted(folder.iterdir(), reverse=True):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    return folder


@pytest.mark.parametrize("move", [renamed, copied, linked, linked_file_by_file, from_within, aged, written_again])
def test_where_and_when_the_files_are_does_not_change_the_id(
    tiny_folder: Path, folder: Path, move: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)  # and back, after `from_within`
    assert space_id(move(folder)) == space_id(tiny_folder)


def test_the_order_in_which_a_folder_lists_its_files_does_not_change_the_id(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = space_id(tiny_folder)
    listed = list(tiny_folder.iterdir())
    for order in (listed[::-1], sorted(listed), sorted(listed)[::-1]):
        monkeypatch.setattr(Path, "iterdir", lambda _, order=order: iter(order))
        assert space_id(tiny_folder) == original


@pytest.fixture
def run_embed(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`frozenhead embed` on the texts, each time into a run of its own."""
    table = tmp_path / "texts.csv"
    pd.DataFrame({"text": TEXTS}).to_csv(table, index=False)

    def run(model: str | Path, *, name: str | None = None, revision: str | None = None, **settings: Any) -> Any:
        chosen = EmbedSettings(**{"poolings": ("cls",), "device": "cpu", **settings})
        out = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        return embed(
            EmbedOptions(
                data=str(table), out=out, corpus=CorpusOptions(labelled=False), model=str(model), name=name,
                revision=revision, settings=chosen,
            )
        )  # fmt: skip

    return run


def spaces_of(result: dict[str, Any]) -> list[str]:
    return [feature["space"] for feature in result["features"].values()]


@pytest.mark.parametrize(
    "change",
    [{"name": "another"}, {"device": "auto"}, {"precision": "fp32"}, {"backend": "torch"}, {"max_length": 64}, {}],
    ids=str,
)
@pytest.mark.parametrize("budget", [1, 4096])
def test_names_devices_and_batches_find_the_vectors_of_the_first_run(
    folder: Path, run_embed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], budget: int
) -> None:
    first = run_embed(folder)
    monkeypatch.setattr(torch_backend, "CPU_TOKEN_BUDGET", budget)
    again = run_embed(copied(aged(folder)), **change)
    assert (first["computed"], again["computed"]) == (3, 0)
    assert spaces_of(again) == spaces_of(first)


def own_vectors(folder: Path) -> NDArray[np.float32]:
    """Each text alone through plain transformers."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        alone = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[:, 0] for text in TEXTS]  # (1, D) each
    return np.asarray(torch.cat(alone).numpy())


def cached_vectors(model: str | Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float32]:
    """Vectors that the shared cache holds; to compute one is an error."""
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "start", None)
        return Embedder(str(model), pooling="cls", device="cpu").transform(TEXTS)


def first_weights(folder: Path) -> tuple[bytes, bytes]:
    """The first weights in the file, and others: a bias behind the embeddings, so that every vector moves."""
    content = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    bias = np.linspace(-1, 1, 16, dtype=np.float32).tobytes()
    return content[: start + 64], content[:start] + bias


def other_activation(folder: Path) -> tuple[bytes, bytes]:
    return b'"gelu"', b'"silu"'


def swapped_words(folder: Path) -> tuple[bytes, bytes]:
    content = (folder / "tokenizer.json").read_bytes()
    start, end = content.index(b'"cat"'), content.index(b'"dog"') + 5
    old = content[start:end]
    return old, old.replace(b"cat", b"???").replace(b"dog", b"cat").replace(b"???", b"dog")


EDITS = [
    ("model.safetensors", first_weights),
    ("config.json", other_activation),
    ("tokenizer.json", swapped_words),
]
Edit = Callable[[Path], tuple[bytes, bytes]]


@pytest.mark.parametrize(("name", "edit"), EDITS)
def test_a_checkpoint_edited_in_place_is_embedded_anew_and_its_first_vectors_are_kept(
    folder: Path, run_embed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str, edit: Edit
) -> None:
    assert run_embed(folder)["computed"] == 3
    first = cached_vectors(folder, monkeypatch)
    np.testing.assert_allclose(first, own_vectors(folder), atol=TOLERANCE, rtol=0)

    old, new = edit(folder)
    write_in_place(folder / name, old, new)
    assert run_embed(folder)["computed"] == 3
    edited = cached_vectors(folder, monkeypatch)
    np.testing.assert_allclose(edited, own_vectors(folder), atol=TOLERANCE, rtol=0)
    assert np.abs(edited - first).max() > 0.01

    write_in_place(folder / name, new, old)
    assert run_embed(folder)["computed"] == 0
    np.testing.assert_array_equal(cached_vectors(folder, monkeypatch), first)


@pytest.mark.parametrize(("name", "edit"), EDITS)
def test_a_change_between_hashing_and_loading_is_refused_and_leaves_no_vector(
    folder: Path, tmp_path: Path, name: str, edit: Edit
) -> None:
    checkpoint, cache = find_checkpoint(folder), VectorCache(tmp_path / "cache")
    write_in_place(folder / name, *edit(folder))
    with pytest.raises(EncoderUnfit, match="changed while"):
        embed_texts(checkpoint, TEXTS, settings=EmbedSettings(device="cpu"), cache=cache)
    assert sum(space.rows for space in cache.spaces()) == 0


@pytest.mark.parametrize("name", ["vocab.txt", "special_tokens_map.json"])
def test_a_file_that_comes_between_hashing_and_loading_is_refused(folder: Path, name: str) -> None:
    checkpoint = find_checkpoint(folder)
    (folder / name).write_text("{}")
    with pytest.raises(EncoderUnfit, match="changed while"):
        load_pretrained(checkpoint)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "model.safetensors", "config.json"])
def test_a_file_that_goes_between_hashing_and_loading_is_refused(folder: Path, name: str) -> None:
    checkpoint = find_checkpoint(folder)
    (folder / name).unlink()
    with pytest.raises(EncoderUnfit, match="no longer there"):
        load_pretrained(checkpoint)


@pytest.mark.parametrize(
    ("loader", "name", "edit"),
    [("AutoModel", *EDITS[0]), ("AutoModel", *EDITS[1]), ("AutoTokenizer", *EDITS[2])],
)
def test_a_change_taken_back_while_the_files_are_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, loader: str, name: str, edit: Edit
) -> None:
    import transformers

    checkpoint = find_checkpoint(folder)
    auto = getattr(transformers, loader)
    load = auto.from_pretrained

    def read_another(*args: Any, **given: Any) -> Any:
        old, new = edit(folder)
        write_in_place(folder / name, old, new)
        loaded = load(*args, **given)
        write_in_place(folder / name, new, old)
        return loaded

    monkeypatch.setattr(auto, "from_pretrained", read_another)
    with pytest.raises(EncoderUnfit, match="changed while"):
        load_pretrained(checkpoint)
    assert find_checkpoint(folder).files == checkpoint.files


def test_a_change_after_loading_does_not_reach_the_vectors(folder: Path) -> None:
    encoder = cls_encoder(folder)
    rows = encoder.tokenize(TEXTS).rows
    before = encoder.encode(rows)["cls"]
    write_in_place(folder / "model.safetensors", *first_weights(folder))
    np.testing.assert_array_equal(encoder.encode(rows)["cls"], before)


Place = Callable[[Path, Path, pytest.MonkeyPatch], tuple[Callable[[], str], Callable[[], str]]]


def two_folders(one: Path, two: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], str], Callable[[], str]]:
    return lambda: str(one), lambda: str(two)


def one_path(one: Path, two: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], str], Callable[[], str]]:
    """Now one checkpoint stands at the path, now the other."""
    place = one.parent / "here"

    def put(folder: Path) -> str:
        place.unlink(missing_ok=True)
        place.symlink_to(folder)
        return str(place)

    return lambda: put(one), lambda: put(two)


def one_relative_name(
    one: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[[], str], Callable[[], str]]:
    def stand_beside(folder: Path) -> str:
        monkeypatch.chdir(folder.parent)
        return folder.name

    return lambda: stand_beside(one), lambda: stand_beside(two)


def one_hub_id(one: Path, two: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], str], Callable[[], str]]:
    """Two snapshots of one repository in the local hub cache; `main` is now the one, now the other."""
    from huggingface_hub import constants

    repository = one.parent / "hub" / "models--someone--bert"
    (repository / "refs").mkdir(parents=True)
    for commit, folder in (("a" * 40, one), ("b" * 40, two)):
        shutil.copytree(folder, repository / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(repository.parent))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # the variable counts only before the first import

    def point(commit: str) -> str:
        (repository / "refs" / "main").write_text(commit)
        return "someone/bert"

    return lambda: point("a" * 40), lambda: point("b" * 40)


@pytest.mark.parametrize("place", [two_folders, one_path, one_relative_name, one_hub_id])
def test_two_encoders_behind_one_name_never_share_vectors(
    tiny_folder: Path, tmp_path: Path, make_checkpoint: Callable[..., Path], run_embed: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch, place: Place,
) -> None:  # fmt: skip
    one = Path(shutil.copytree(tiny_folder, tmp_path / "one" / "bert"))
    two = make_checkpoint(tmp_path / "two" / "bert", seed=1)
    names = place(one, two, monkeypatch)
    results = [run_embed(name()) for name in names]
    assert [result["computed"] for result in results] == [3, 3]
    assert list(results[0]["features"]) == list(results[1]["features"])  # one name
    for name, folder in zip(names, (one, two), strict=True):
        np.testing.assert_allclose(
            cached_vectors(name(), monkeypatch), own_vectors(folder), atol=TOLERANCE, rtol=0, err_msg=str(folder)
        )


def test_two_revisions_of_one_hub_id_never_share_vectors(
    tiny_folder: Path, tmp_path: Path, make_checkpoint: Callable[..., Path], run_embed: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    one = Path(shutil.copytree(tiny_folder, tmp_path / "one" / "bert"))
    two = make_checkpoint(tmp_path / "two" / "bert", seed=1)
    one_hub_id(one, two, monkeypatch)[0]()
    results = [run_embed("someone/bert", revision=commit) for commit in ("a" * 40, "b" * 40)]
    assert [result["computed"] for result in results] == [3, 3]
    assert [spaces_of(result) for result in results] == [[space_id(one)], [space_id(two)]]


def test_one_embedder_follows_the_encoder_behind_its_path(
    tiny_folder: Path, tmp_path: Path, make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Path(shutil.copytree(tiny_folder, tmp_path / "one" / "bert"))
    two = make_checkpoint(tmp_path / "two" / "bert", seed=1)
    names = one_path(one, two, monkeypatch)
    embedder = Embedder(names[0](), pooling="cls", device="cpu")
    for text, name, folder in zip(range(3), (*names, names[0]), (one, two, one), strict=True):
        name()  # one text at a time, so that each time the encoder has to run
        np.testing.assert_allclose(
            embedder.transform([TEXTS[text]])[0], own_vectors(folder)[text], atol=TOLERANCE, rtol=0
        )


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"
ELSEWHERE: list[tuple[str, str, Any]] = [
    (CONFIG, "transformers_weights", "other.safetensors"),
    (CONFIG, "configuration_files", ["config.4.0.0.json"]),
    (TOKENIZER, "fast_tokenizer_files", ["../tokenizer.4.0.0.json"]),
    (TOKENIZER, "fast_tokenizer_files", ["old-tokenizer.4.0.0.json"]),
    (TOKENIZER, "fast_tokenizer_files", {"tokenizer.x/../../tokenizer.4.0.0.json": 1}),
    (TOKENIZER, "vocab", "/elsewhere/vocab.txt"),
    (TOKENIZER, "merges", "merges.txt"),
    (TOKENIZER, "init_inputs", ["/elsewhere/vocab.txt"]),
    (TOKENIZER, "vocab_file", __file__),
    (TOKENIZER, "spm_file", __file__),
]


@pytest.mark.parametrize(("file", "key", "value"), ELSEWHERE)
def test_a_checkpoint_that_names_files_outside_its_identity_is_unfit(
    folder: Path, file: str, key: str, value: Any
) -> None:
    edit_json(folder / file, **{key: value})
    with pytest.raises(EncoderUnfit, match=rf"names other files \({key}\)[\s\S]*save_pretrained"):
        find_checkpoint(folder)


def test_weights_of_a_distributed_checkpoint_are_unfit(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "shard-00001-model-00001-of-00001.safetensors")
    with pytest.raises(EncoderUnfit, match="distributed"):
        find_checkpoint(folder)


def test_an_adapter_beside_the_weights_is_refused_with_both_ways_out(tiny_folder: Path, folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "someone/bert"}')
    with pytest.raises(EncoderUnfit, match=r"peft[\s\S]*merge_and_unload[\s\S]*remove adapter_config\.json"):
        find_checkpoint(folder)
    (folder / "adapter_config.json").unlink()
    assert space_id(folder) == space_id(tiny_folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer_file", __file__),
        ("special_tokens_map_file", __file__),
        ("vocab_file", "/not/on/this/machine/vocab.txt"),
        ("vocab_file", None),
        ("init_inputs", []),
        ("fast_tokenizer_files", ["tokenizer.4.0.0.json"]),
    ],
)
def test_names_that_lead_nowhere_else_are_no_obstacle(tiny_folder: Path, folder: Path, key: str, value: Any) -> None:
    shutil.copy(folder / "tokenizer.json", folder / "tokenizer.4.0.0.json")
    edit_json(folder / TOKENIZER, **{key: value})
    np.testing.assert_array_equal(vectors(folder), vectors(tiny_folder))
