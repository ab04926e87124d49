"""A checkpoint read into memory by transformers: checked against its hashes, eval mode, float32, frozen.

Loads torch and transformers when called, not when this module is imported.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from frozenhead.embedder.checkpoint import Checkpoint, file_signatures, hash_files, weight_files
from frozenhead.errors import EncoderUnfit

_TOKENIZER = "the tokenizer (tokenizer.json, vocab.txt, ...) of "

_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load_pretrained(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The model (eval mode, float32, frozen, on the CPU) and its tokenizer, from the checkpoint's folder alone."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    before = _signatures(checkpoint)
    with _loading(checkpoint, _TOKENIZER):
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **_LOCAL)
    # A missing weight is drawn at random while loading: keep the caller's random state out of it.
    with _loading(checkpoint), torch.random.fork_rng(devices=[]):
        config = AutoConfig.from_pretrained(checkpoint.folder, **_LOCAL)
        config._attn_implementation = None  # a config can name a kernel, which is code: transformers' own choice
        model, info = AutoModel.from_pretrained(
            checkpoint.folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are told of, and refused below
            output_loading_info=True,
            **_LOCAL,
        )
    _check_whole(info, checkpoint)
    _check_finite(model, checkpoint)
    _check_tokenizer(model, tokenizer, checkpoint)
    taken = inspect.signature(model.forward).parameters  # DistilBERT, MPNet and ModernBERT have no token types
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]
    model.has_trained_pooler = getattr(model, "pooler", None) is not None and not any(
        "pooler" in name for name in info["missing_keys"]
    )
    _copy_weights(model)
    _check_unchanged(checkpoint, before)
    model.requires_grad_(requires_grad=False)
    return model.eval(), tokenizer


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer alone; no weights are loaded."""
    from transformers import AutoTokenizer

    before = _signatures(checkpoint)
    with _loading(checkpoint, _TOKENIZER):
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **_LOCAL)
    _check_unchanged(checkpoint, before)
    return tokenizer


@contextlib.contextmanager
def _loading(checkpoint: Checkpoint, part: str = "") -> Iterator[None]:
    """Quietly, and with one error for whatever transformers cannot load; `part` of the checkpoint, if not all."""
    from huggingface_hub.errors import HFValidationError, StrictDataclassError
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            yield
    # A config that does not fit raises nearly anything here; whatever it is, this checkpoint cannot be loaded.
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        RuntimeError,
        ImportError,
        SafetensorError,
        HFValidationError,
        StrictDataclassError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderUnfit(
            f"transformers cannot load {part}{checkpoint.model}: {reason}\n"
            "Its files may not belong together: copy or download the checkpoint again."
        ) from error


def _check_whole(info: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Refuse weights that are missing, or of other shapes than the config says: transformers would make some up."""
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if info["mismatched_keys"]:
        name, stored, wanted = min(info["mismatched_keys"])
        raise EncoderUnfit(
            f"{checkpoint.model}: {name} is {_shape(stored)} in the weights and {_shape(wanted)} by config.json "
            f"({len(info['mismatched_keys'])} such).\nThey belong to different checkpoints: download both again."
        )
    if missing:
        raise EncoderUnfit(
            f"{checkpoint.model} lacks weights of its own architecture ({', '.join(missing[:3])}, ...): "
            "they would be random. Download the checkpoint again."
        )


def _shape(sizes: Any) -> str:
    return " x ".join(str(size) for size in sizes)


def _check_finite(model: Any, checkpoint: Checkpoint) -> None:
    """Refuse weights with NaN or infinity, by the first such tensor and its file."""
    # A sum is not finite where a term is not, and reads each weight once: 7 ms for MiniLM, a tenth of its hash.
    doubtful = [(name, t) for name, t in model.named_parameters() if not t.sum().isfinite()]
    if any(not bool(t.isfinite().all()) for _, t in doubtful):
        raise EncoderUnfit(
            f"The weights of {checkpoint.model} hold NaN or infinity: {_find_not_finite(checkpoint) or doubtful[0][0]}."
            "\nDownload the checkpoint again."
        )


def _find_not_finite(checkpoint: Checkpoint) -> str | None:
    from safetensors import safe_open

    for file in weight_files(checkpoint.folder, checkpoint.model):
        with safe_open(checkpoint.folder / file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                if not tensors.get_tensor(name).isfinite().all():
                    return f"tensor {name} of {file}"
    return None


def _copy_weights(model: Any) -> None:
    """Move the weights out of the mapped file: editing it in place would change them under a running encoder."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _check_unchanged(checkpoint: Checkpoint, before: tuple[tuple[int, ...], ...]) -> None:
    """Raise unless the files just loaded are the ones that were hashed, which may be long ago.

    The hashes see a change that stayed, the signatures one that was taken back while the files were read.
    """
    weights = weight_files(checkpoint.folder, checkpoint.model)
    if _signatures(checkpoint) != before or hash_files(checkpoint.folder, weights) != checkpoint.files:
        raise EncoderUnfit(f"The files of {checkpoint.folder} changed while they were read. Run the command again.")


def _signatures(checkpoint: Checkpoint) -> tuple[tuple[int, ...], ...]:
    try:
        return file_signatures(checkpoint.folder, [name for name, _ in checkpoint.files])
    except OSError as error:
        raise EncoderUnfit(f"The files of {checkpoint.folder} are no longer there. Run the command again.") from error


def _check_tokenizer(model: Any, tokenizer: Any, checkpoint: Checkpoint) -> None:
    """Refuse a tokenizer that knows no words, or whose ids the model has no embedding for."""
    vocabulary = tokenizer.get_vocab()
    rows = model.get_input_embeddings().weight.shape[0]
    if len(set(vocabulary) - set(tokenizer.all_special_tokens)) == 0:
        raise EncoderUnfit(f"The tokenizer of {checkpoint.model} knows no words. Copy or download its files again.")
    if max(vocabulary.values()) >= rows:
        raise EncoderUnfit(
            f"The tokenizer of {checkpoint.model} gives ids up to {max(vocabulary.values())}, but the model has "
            f"{rows} embeddings: they belong to different checkpoints. Download both again."
        )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' bars and notices on stderr: what matters of them is checked here and raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
