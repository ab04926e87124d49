"""A plain transformers forward pass, without this room's batching, pooling and caching: what `verify` compares with.

Padding and truncation are the tokenizer's own, and poolings and windows are written out again from their definitions.
"""

import hashlib
from collections.abc import Iterator, Sequence
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

    def vectors(self, texts: Sequence[str], *, pooling: str, max_length: int, long: str = "cut") -> "Tensor":
        """Vectors (B, D) float32 on the CPU of texts that are padded to the longest of them."""
        if long == "windows":
            return self._over_windows(texts, pooling=pooling, max_length=max_length)
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt"
        ).to(self.device)
        output = self.model(**inputs)
        return _pooled(output, inputs["attention_mask"], pooling).cpu()

    def _over_windows(self, texts: Sequence[str], *, pooling: str, max_length: int) -> "Tensor":
        """Vectors (B, D): of each text the mean over its windows, each computed alone, weighted by their content."""
        import torch

        means = []
        for text in texts:
            vectors, weights = [], []
            for window, content in _windows(self.tokenizer, text, max_length):
                inputs = {name: torch.tensor([ids], device=self.device) for name, ids in window.items()}
                vectors.append(_pooled(self.model(**inputs), inputs["attention_mask"], pooling)[0].cpu())  # (D,)
                weights.append(max(content, 1.0))  # only a text of nothing has a window of nothing
            shares = torch.tensor(weights) / sum(weights)  # (windows,)
            means.append(shares @ torch.stack(vectors))
        return torch.stack(means)

    def digest(self) -> str:
        """sha256 over all parameters and buffers: equal before and after, the encoder was frozen."""
        sha256 = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            sha256.update(name.encode())
            sha256.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return sha256.hexdigest()


def _windows(tokenizer: Any, text: str, max_length: int) -> Iterator[tuple[dict[str, list[int]], int]]:
    """The windows of a text, sliced out of its token ids, and the content tokens of each.

    The content stands in the whole between its special tokens; every window gets the same ones around its part.
    """
    whole = tokenizer(text, verbose=False)
    content = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    n, special = len(content), len(whole["input_ids"]) - len(content)
    lead = next(i for i in range(special + 1) if whole["input_ids"][i : i + n] == content)
    room = max_length - special
    step = room - room // 4
    starts = [0, *range(step, n - room + step, step)]
    for start in starts:
        a, b = start, min(start + room, n)
        if tokenizer.truncation_side == "left":
            a, b = n - b, n - a
        row = {k: [*v[:lead], *v[lead + a : lead + b], *v[lead + n :]] for k, v in whole.items()}
        yield row, b - a


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
