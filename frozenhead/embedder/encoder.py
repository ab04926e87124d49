"""A transformer, frozen and loaded: token ids in, pooled vectors out.

Loads torch and transformers when an `Encoder` is made, not when this module is imported.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.embedder.checkpoint import Checkpoint, file_signatures, hash_files, weight_files
from frozenhead.embedder.pooling import Pooling, pool
from frozenhead.errors import EncoderUnfit, UsageError

if TYPE_CHECKING:
    import torch

# Tokens of one batch, padding included. The first is measured on 2 cores in benchmarks/RESULTS.md, the second is not.
CPU_TOKEN_BUDGET = 2048
CUDA_TOKEN_BUDGET = 32768

# Texts given to the tokenizer at once. It cannot be interrupted: 16,384 long ones kept Ctrl-C waiting for 30 s.
TOKENIZED_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """Tokenised texts.

    Attributes
    ----------
    rows : list of dict
        For each text the model's inputs as lists of int, truncated to `max_length`.
    counts : int32 array (n,)
        Tokens before truncation, special tokens included.
    lengths : int32 array (n,)
        Tokens after truncation.
    """

    rows: list[dict[str, list[int]]]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int32]


def choose_device(device: str) -> "torch.device":
    """`auto` is CUDA where there is one, else the CPU. Raises `UsageError` for a device that is not there."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"Device {device!r} is none of auto, cpu, cuda, cuda:N.") from error
    if chosen.type not in ("cpu", "cuda"):
        raise UsageError(f"Device {device!r} is none of auto, cpu, cuda, cuda:N.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"Device {device!r} is not on this machine ({torch.cuda.device_count()} CUDA devices).")
    return chosen


class Encoder:
    """A checkpoint in memory: eval mode, float32, no gradients.

    Parameters
    ----------
    checkpoint : Checkpoint
    device : str
        `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises
    ------
    EncoderUnfit
        The weights do not fit the architecture, or changed while they were read.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str = "auto") -> None:
        self.checkpoint = checkpoint
        self.device = choose_device(device)
        self.model, self.tokenizer = load_pretrained(checkpoint)
        self.model.to(self.device)

    @property
    def token_budget(self) -> int:
        """Tokens of one batch on this device."""
        return CUDA_TOKEN_BUDGET if self.device.type == "cuda" else CPU_TOKEN_BUDGET

    def tokenize(self, texts: Sequence[str], *, max_length: int) -> TokenRows:
        """Token ids of each text, cut at `max_length`, and how many tokens there were before the cut."""
        rows: list[dict[str, list[int]]] = []
        counts = np.zeros(len(texts), np.int32)
        for start in range(0, len(texts), TOKENIZED_AT_ONCE):
            part = list(texts[start : start + TOKENIZED_AT_ONCE])
            whole = self.tokenizer(part, padding=False, truncation=False, verbose=False)
            counts[start : start + len(part)] = [len(ids) for ids in whole["input_ids"]]
            rows += [{name: whole[name][i] for name in whole} for i in range(len(part))]
            long = np.flatnonzero(counts[start : start + len(part)] > max_length)
            if len(long):
                # The tokenizer knows how to cut: [SEP] stays, and some models cut on the left.
                cut = self.tokenizer([part[i] for i in long], padding=False, truncation=True, max_length=max_length)
                for j, i in enumerate(long):
                    rows[start + i] = {name: cut[name][j] for name in cut}
        lengths = np.array([len(row["input_ids"]) for row in rows], np.int32)
        return TokenRows(rows=rows, counts=counts, lengths=lengths)

    def encode(
        self, rows: Sequence[dict[str, list[int]]], poolings: Sequence[Pooling]
    ) -> dict[str, NDArray[np.float32]]:
        """Vectors (B, D) float32 of one batch, for each pooling, from one forward pass."""
        import torch

        if "pooler" in poolings and not self.model.has_trained_pooler:
            raise EncoderUnfit(
                f"{self.checkpoint.model}: its architecture has no pooler with trained weights.\n"
                "Use --pooling cls (the last state of [CLS]) or --pooling mean."
            )
        with torch.inference_mode():
            inputs = {name: t.to(self.device) for name, t in self._pad(rows).items()}  # (B, T) each
            output = self.model(**inputs)
            hidden = output.last_hidden_state  # (B, T, D)
            pooled = getattr(output, "pooler_output", None)  # (B, D)
            vectors = {p: pool(p, hidden, inputs["attention_mask"], pooled) for p in poolings}
            return {p: v.float().cpu().numpy() for p, v in vectors.items()}

    def _pad(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, "torch.Tensor"]:
        """Rows of unequal length as integer tensors (B, T), padded on the right."""
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self.tokenizer.pad_token_id or 0, "token_type_ids": self.tokenizer.pad_token_type_id}
        padded = {}
        for name in rows[0]:
            table = np.full((len(rows), longest), fill.get(name, 0), np.int64)
            for i, row in enumerate(rows):
                table[i, : len(row[name])] = row[name]
            padded[name] = torch.from_numpy(table)
        return padded


def load_pretrained(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The model (eval mode, float32, frozen, on the CPU) and its tokenizer, from the checkpoint's folder alone."""
    import torch
    from huggingface_hub.errors import HFValidationError, StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    before = _signatures(checkpoint)
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        # A missing weight is drawn at random while loading: keep the caller's random state out of it.
        with _quiet_transformers(), torch.random.fork_rng(devices=[]):
            tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **local)
            model, info = AutoModel.from_pretrained(
                checkpoint.folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **local
            )
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
            f"transformers cannot load {checkpoint.model}: {reason}\n"
            "Its files may not belong together: copy or download the checkpoint again."
        ) from error
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing or info["mismatched_keys"]:
        names_shown = ", ".join((missing or sorted(str(k) for k in info["mismatched_keys"]))[:3])
        raise EncoderUnfit(
            f"{checkpoint.model} lacks weights of its own architecture ({names_shown}, ...): "
            "they would be random. Download the checkpoint again."
        )
    _check_tokenizer(model, tokenizer, checkpoint)
    model.has_trained_pooler = getattr(model, "pooler", None) is not None and not any(
        "pooler" in name for name in info["missing_keys"]
    )
    _copy_weights(model)
    _check_unchanged(checkpoint, before)
    model.requires_grad_(requires_grad=False)
    return model.eval(), tokenizer


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
def _quiet_transformers() -> Iterator[None]:
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
