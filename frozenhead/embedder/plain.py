"""A plain transformers forward pass, without this room's batching, pooling and caching: what `verify` compares with.

Padding and truncation are the tokenizer's own, and each pooling is written out again from its definition.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.hardware import choose_arithmetic
from frozenhead.embedder.loading import load_pretrained

if TYPE_CHECKING:
    from torch import Tensor


class PlainEncoder:
    """A frozen encoder inside the graph: eval mode, parameters that take no gradient.

    Parameters
    ----------
    checkpoint : Checkpoint
    device : str
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str = "auto") -> None:
        self.model, self.tokenizer = load_pretrained(checkpoint)
        self.device = choose_arithmetic(device=device, backend="torch").device
        self.model.to(self.device)

    def vectors(self, texts: Sequence[str], *, pooling: str, max_length: int) -> "Tensor":
        """Vectors (B, D) float32 on the CPU of texts that are padded to the longest of them."""
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt"
        ).to(self.device)
        output = self.model(**inputs)
        return _pooled(output, inputs["attention_mask"], pooling).cpu()

    def digest(self) -> str:
        """sha256 over all parameters and buffers: equal before and after, the encoder was frozen."""
        sha256 = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            sha256.update(name.encode())
            sha256.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return sha256.hexdigest()


def _pooled(output: Any, mask: "Tensor", pooling: str) -> "Tensor":
    if pooling == "pooler":
        return output.pooler_output  # type: ignore[no-any-return]
    if pooling == "cls":
        return output.last_hidden_state[:, 0, :]  # type: ignore[no-any-return]
    per_text = [states[kept == 1] for states, kept in zip(output.last_hidden_state, mask, strict=True)]
    import torch

    if pooling == "mean":
        return torch.stack([states.mean(dim=0) for states in per_text])
    return torch.stack([states.max(dim=0).values for states in per_text])
