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

    def vectors(
        self, texts: Sequence[str], *, pooling: str, max_length: int, layer: int = -1, normalize: bool = False
    ) -> "Tensor":
        """Vectors (B, D) float32 on the CPU of texts that are padded to the longest of them."""
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt"
        ).to(self.device)
        output = self.model(**inputs, output_hidden_states=layer != -1 or pooling == "last4", return_dict=True)
        pooled = _pooled(output, inputs["attention_mask"], pooling, layer).cpu()
        return pooled / pooled.norm(dim=1, keepdim=True).clamp(min=1e-12) if normalize else pooled

    def digest(self) -> str:
        """sha256 over all parameters and buffers: equal before and after, the encoder was frozen."""
        sha256 = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            sha256.update(name.encode())
            sha256.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return sha256.hexdigest()


def _pooled(output: Any, mask: "Tensor", pooling: str, layer: int) -> "Tensor":
    import torch

    if pooling == "pooler":
        return output.pooler_output  # type: ignore[no-any-return]
    if pooling == "last4":
        return torch.hstack([output.hidden_states[k][:, 0] for k in (-4, -3, -2, -1)])
    hidden = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    if pooling == "cls":
        return hidden[:, 0, :]  # type: ignore[no-any-return]
    per_text = [states[kept == 1] for states, kept in zip(hidden, mask, strict=True)]
    if pooling == "mean":
        return torch.stack([states.mean(dim=0) for states in per_text])
    return torch.stack([states.max(dim=0).values for states in per_text])
