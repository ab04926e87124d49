"""A plain transformers forward pass, without this room's batching, pooling and caching: what `verify` compares with.

Padding and truncation are the tokenizer's own, and poolings and windows are written out again from their definitions.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from frozenhead.cache.space import View
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
        self,
        texts: Sequence[str],
        *,
        pooling: str,
        max_length: int,
        layer: int = -1,
        normalize: bool = False,
        long: str = "cut",
        view: View | None = None,
    ) -> "Tensor":
        """Vectors (B, D) float32 on the CPU of texts that are padded to the longest of them; in a view each text alone.

        In a view the model is in training mode and takes the view's masks; afterwards it is in eval mode again.
        """
        from frozenhead.embedder.dropout import switched_on

        pooled = partial(self._pooled, pooling=pooling, layer=layer, normalize=normalize, view=view)
        with switched_on(self.model) if view else nullcontext():
            if not view:
                return self._encoded(texts, pooled, max_length=max_length, normalize=normalize, long=long)
            import torch

            alone = [self._encoded([t], pooled, max_length=max_length, normalize=normalize, long=long) for t in texts]
            return torch.cat(alone)

    def _encoded(
        self, texts: Sequence[str], pooled: "Callable[[Any], Tensor]", *, max_length: int, normalize: bool, long: str
    ) -> "Tensor":
        if long == "windows":
            return self._over_windows(texts, pooled, max_length=max_length, normalize=normalize)
        return pooled(
            self.tokenizer(list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        )

    def _pooled(self, inputs: Any, *, pooling: str, layer: int, normalize: bool, view: View | None) -> "Tensor":
        """Vectors (B, D) of one batch of token ids."""
        from frozenhead.embedder.dropout import ViewDropout

        ids, lengths = inputs["input_ids"].numpy(), inputs["attention_mask"].sum(dim=1).numpy()
        inputs = {name: table.to(self.device) for name, table in inputs.items()}
        with ViewDropout(view, ids, lengths) if view else nullcontext():
            output = self.model(**inputs, output_hidden_states=layer != -1 or pooling == "last4", return_dict=True)
        pooled = _pooled(output, inputs["attention_mask"], pooling, layer).cpu()
        return _scaled(pooled) if normalize else pooled

    def _over_windows(
        self, texts: Sequence[str], pooled: "Callable[[Any], Tensor]", *, max_length: int, normalize: bool
    ) -> "Tensor":
        """Vectors (B, D): of each text the mean over its windows, each computed alone, weighted by their content."""
        import torch

        means = []
        for text in texts:
            vectors, weights = [], []
            for window, content in _windows(self.tokenizer, text, max_length):
                vectors.append(pooled({name: torch.tensor([ids]) for name, ids in window.items()})[0])  # (D,)
                weights.append(max(content, 1.0))  # only a text of nothing has a window of nothing
            shares = torch.tensor(weights) / sum(weights)  # (windows,)
            means.append(shares @ torch.stack(vectors))
        return _scaled(torch.stack(means)) if normalize else torch.stack(means)

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


def _scaled(vectors: "Tensor") -> "Tensor":
    """Each vector (B, D) at length 1; one of zeros stays."""
    scaled: Tensor = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return scaled


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
