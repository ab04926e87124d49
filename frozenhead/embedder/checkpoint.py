"""A checkpoint folder: what identifies it, and whether it may be used at all.

Reads JSON and file hashes only; no torch and no transformers is loaded, so that a warm cache answers at once.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenhead.embedder.architecture import (
    SHORTEST,
    can_pool,
    check_computable,
    layer_count,
    layer_from_top,
    own_limit,
    state_size,
)
from frozenhead.embedder.headers import tensor_names
from frozenhead.embedder.modules import SentenceModules, read_modules, transformer_folder
from frozenhead.embedder.pooling import LAST_LAYERS
from frozenhead.errors import EncoderUnfit, EncoderUntrusted, UsageError

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"

# Every file that a tokenizer may read. More than one tokenizer needs, so that none is missed.
TOKENIZER_TABLES = (
    "byte_maps", "emoji", "entity_vocab", "normalizer", "tekken", "word_pronunciation", "word_shape",
)  # fmt: skip
_TOKENIZER_FILE = re.compile(
    r"(tokenizer|vocab|merges|special_tokens_map|added_tokens|bpe).*|.*\.(model|tokenizer|spm)"
    rf"|({'|'.join(TOKENIZER_TABLES)})\.json"
)
# Weights of transformers' distributed checkpoints: one such name, and all safetensors of the folder are read.
_DISTRIBUTED_WEIGHTS = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
# Paths that old versions left in tokenizer_config.json; transformers looks beside it instead, or nowhere.
_INERT_PATHS = {"tokenizer_file", "special_tokens_map_file", "added_tokens_file", "tokenizer_config_file"}

_POOLER_WEIGHT = re.compile(r"(.*\.)?pooler\.(dense\.)?weight")  # BERT's; ALBERT's has no `dense`
_VOCABULARY_FILE = re.compile(r"tokenizer\.json|vocab\..*|bpe\.codes|.*\.model")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A frozen encoder on disk.

    Attributes
    ----------
    model : str
        As the user named it: a folder, a hub id, or `minilm`.
    name : str
        For feature sets: the last part of `model`.
    revision, commit : str or None
        What was asked of the hub, and what it was.
    folder : Path
        Where its config, weights and tokenizer are.
    files : tuple of (name, sha256)
        Weights, config and tokenizer files.
    dim : int
        D, the size of a token state.
    max_length : int
        The encoder's own limit in tokens, special tokens included.
    has_pooler : bool
        Whether trained pooler weights are in the checkpoint.
    architecture : str
        transformers' name for it: `bert`, `roberta`, ...
    layers : int or None
        Layers on the embeddings; None if the config does not say it.
    modules : SentenceModules or None
        What its sentence-transformers files say, if it has them.
    """

    model: str
    name: str
    revision: str | None
    commit: str | None
    folder: Path
    files: tuple[tuple[str, str], ...]
    dim: int
    max_length: int
    has_pooler: bool
    architecture: str = ""
    layers: int | None = None
    modules: SentenceModules | None = None

    def dim_of(self, pooling: str) -> int:
        """D, the size of a vector of one pooling."""
        return LAST_LAYERS * self.dim if pooling == "last4" else self.dim

    def check_length(self, max_length: int) -> int:
        """`max_length` if the encoder can take it, else `UsageError`."""
        if not SHORTEST <= max_length <= self.max_length:
            raise UsageError(
                f"max_length is {max_length}; {self.name} takes {SHORTEST} to {self.max_length} tokens, "
                "[CLS] and [SEP] included."
            )
        return max_length

    def check_pooling(self, pooling: str) -> str:
        """`pooling` if the checkpoint has what it needs, else `EncoderUnfit` with the way out."""
        if pooling == "pooler" and not self.has_pooler:
            reason = (
                "has no trained pooler weights: transformers would make up random ones on every load"
                if can_pool({"model_type": self.architecture})
                else f"has no pooler: the architecture {self.architecture} knows none"
            )
            raise EncoderUnfit(
                f"{self.model} {reason}.\nUse --pooling cls (the last state of [CLS]) or --pooling mean."
            )
        if pooling == "last4" and (self.layers is None or self.layers < LAST_LAYERS):
            raise EncoderUnfit(
                f"{self.model} has {self.layers or 'an unknown number of'} layers; last4 joins the [CLS] states of the "
                f"last {LAST_LAYERS}.\nUse --pooling cls (the last state of [CLS]) or --pooling mean."
            )
        return pooling

    def check_layer(self, layer: int, poolings: Sequence[str]) -> int:
        """`layer` as -1 for the last, -2 for the one before, ..., down to the embeddings.

        Raises
        ------
        UsageError
            There is no such layer, or a pooling is not defined on it.
        EncoderUnfit
            The config does not say how many layers there are.
        """
        from_top = layer_from_top(layer, self.layers, self.name)
        bound = [pooling for pooling in poolings if pooling in ("pooler", "last4")]
        if from_top != -1 and bound:
            raise UsageError(
                f"Pooling {bound[0]} is of the last layer, not of layer {layer}.\n"
                f"Use --pooling cls, mean or max with --layer {layer}, or leave --layer out."
            )
        return from_top


def read_checkpoint(folder: Path, *, model: str, revision: str | None = None, commit: str | None = None) -> Checkpoint:
    """Inspect and hash the checkpoint in `folder`, or in the folder in it that sentence-transformers' files name.

    Raises
    ------
    EncoderUnfit
        No config, no safetensors weights, files that cannot be read, or weights and words that stand elsewhere.
    EncoderUntrusted
        The config asks for code of its own (`auto_map`).
    """
    named, folder = folder, transformer_folder(folder, model)
    config = _read_json(folder / CONFIG, model)
    tokenizer_config = _read_json(folder / TOKENIZER_CONFIG, model) if (folder / TOKENIZER_CONFIG).exists() else {}
    for name, content in ((CONFIG, config), (TOKENIZER_CONFIG, tokenizer_config)):
        if "auto_map" in content:
            raise EncoderUntrusted(
                f"{folder / name} has an auto_map: the checkpoint wants to run Python code of its own, "
                "which frozenhead never does.\nUse a checkpoint of an architecture that transformers knows."
            )
    check_computable(config, model)
    _check_complete(folder, config, tokenizer_config, model)
    weights = weight_files(folder, model)
    _check_vocabulary(folder, model)
    try:
        names = [name for file in weights for name in tensor_names(folder / file)]  # first: it takes no time
        files = hash_files(folder, weights)
    except (OSError, ValueError) as error:
        raise EncoderUnfit(f"The checkpoint {folder} cannot be read: {error}. Copy or download it again.") from error
    return Checkpoint(
        model=model,
        name=re.sub(r"[^A-Za-z0-9_-]+", "-", Path(model).resolve().name if named == Path(model) else Path(model).name),
        revision=revision,
        commit=commit,
        folder=folder,
        files=files,
        dim=state_size(config, model),
        max_length=own_limit(config, tokenizer_config),
        has_pooler=can_pool(config) and any(_POOLER_WEIGHT.fullmatch(name) for name in names),
        architecture=str(config.get("model_type", "")),
        layers=layer_count(config),
        modules=read_modules(named, model),
    )


def weight_files(folder: Path, model: str) -> list[str]:
    """Names of the safetensors files that transformers would load."""
    if (folder / WEIGHTS).exists():
        return [WEIGHTS]
    if (folder / WEIGHTS_INDEX).exists():
        weight_map = _read_json(folder / WEIGHTS_INDEX, model).get("weight_map")
        names = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
        if names and all(Path(name).name == name and (folder / name).exists() for name in names):
            return names
        raise EncoderUnfit(f"{folder / WEIGHTS_INDEX} names files that are not there. Download the checkpoint again.")
    pickled = sorted(p.name for p in folder.glob("*.bin"))
    if pickled:
        raise EncoderUnfit(
            f"{folder} has only {pickled[0]}: pickled weights can run code when loaded, so only safetensors are read.\n"
            "Take the model.safetensors of the same checkpoint, or convert it once: load it with transformers "
            "and call save_pretrained()."
        )
    raise EncoderUnfit(f"{folder} holds no model.safetensors. --model takes minilm, a hub id, or a checkpoint folder.")


def _check_complete(folder: Path, config: dict[str, Any], tokenizer_config: dict[str, Any], model: str) -> None:
    """Refuse a folder that makes transformers read a file whose hash would not be in the identity."""
    if (folder / ADAPTER_CONFIG).exists():
        raise EncoderUnfit(
            f"{model} has an {ADAPTER_CONFIG}: where peft is installed, transformers would add an adapter."
            "\nMerge it once with peft (merge_and_unload, then save_pretrained into a new folder), "
            f"or remove {ADAPTER_CONFIG} to use the encoder without it."
        )
    reason = _reads_elsewhere(folder, config, tokenizer_config)
    if reason:
        raise EncoderUnfit(
            f"{model}: {reason}, but an encoder is known by its {CONFIG}, {WEIGHTS} and tokenizer files alone.\n"
            "Load it once with transformers and save model and tokenizer with save_pretrained() into a new folder."
        )


def _reads_elsewhere(folder: Path, config: dict[str, Any], tokenizer_config: dict[str, Any]) -> str | None:
    """What in the folder sends transformers to other files, if anything does."""
    for key in ("transformers_weights", "configuration_files"):
        if config.get(key):
            return f"its {CONFIG} names other files ({key})"
    if any(_DISTRIBUTED_WEIGHTS.fullmatch(p.name) for p in folder.iterdir()):
        return "it holds weights of a distributed checkpoint (shard-*-model-*.safetensors)"
    versions = tokenizer_config.get("fast_tokenizer_files")
    if isinstance(versions, list | dict) and not all(_is_hashed(folder, folder / str(name)) for name in versions):
        return f"its {TOKENIZER_CONFIG} names other files (fast_tokenizer_files)"
    for key, value in tokenizer_config.items():
        listed = key in ("vocab", "merges") and isinstance(value, str)  # a path; a table is in the hash of this file
        named = key.endswith("_file") and key not in _INERT_PATHS and isinstance(value, str) and Path(value).is_file()
        if (key == "init_inputs" and value) or listed or (named and not _is_hashed(folder, Path(value))):
            return f"its {TOKENIZER_CONFIG} names other files ({key})"
    return None


def _is_hashed(folder: Path, path: Path) -> bool:
    return path.parent.resolve() == folder.resolve() and _TOKENIZER_FILE.fullmatch(path.name) is not None


def _check_vocabulary(folder: Path, model: str) -> None:
    """Refuse a folder without a vocabulary: transformers would make an empty one, and every word would be [UNK]."""
    if not any(p.is_file() and _VOCABULARY_FILE.fullmatch(p.name) for p in folder.iterdir()):
        raise EncoderUnfit(
            f"{model} has no tokenizer files (tokenizer.json, vocab.txt, ...): every text would be unknown words.\n"
            "Copy or download the tokenizer's files of the same checkpoint into its folder."
        )


def identity_files(folder: Path, weights: list[str]) -> list[str]:
    """Names of all files that decide which vector a text gets: config, weights, tokenizer."""
    index = [WEIGHTS_INDEX] if weights != [WEIGHTS] else []
    tokenizer = [p.name for p in folder.iterdir() if p.is_file() and _TOKENIZER_FILE.fullmatch(p.name)]
    return sorted({CONFIG, *weights, *index, *tokenizer})


def hash_files(folder: Path, weights: list[str]) -> tuple[tuple[str, str], ...]:
    """Name and sha256 of all files that decide which vector a text gets."""
    return tuple((name, _sha256(folder / name)) for name in identity_files(folder, weights))


def file_signatures(folder: Path, names: list[str]) -> tuple[tuple[int, ...], ...]:
    """Inode, size and times of files: a change that is taken back still shows, as nobody can set ctime."""
    status = [os.stat(folder / name) for name in names]
    return tuple((s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in status)


def _read_json(path: Path, model: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise EncoderUnfit(
            f"{path.parent} has no {path.name}, so it is not a transformers checkpoint.\n"
            "--model takes minilm, a hub id such as bert-base-uncased, or a checkpoint folder."
        ) from error
    except (OSError, ValueError) as error:
        raise EncoderUnfit(f"{path} of {model} cannot be read: {error}. Download the checkpoint again.") from error
    if not isinstance(content, dict):
        raise EncoderUnfit(f"{path} of {model} is not a JSON object. Download the checkpoint again.")
    return content


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
