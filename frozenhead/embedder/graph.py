"""The whole computation of a frozen encoder as one torch module: token ids in, one pooled vector a text out.

Every backend computes this module: torch calls it, others convert it. So they agree on what is computed.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from frozenhead.embedder.dropout import switch_on
from frozenhead.embedder.fused import FusedBert, States
from frozenhead.embedder.pooling import LAST_LAYERS, Pooling, pool

CLS_POOLINGS = {"pooler", "cls", "last4"}

# Sums in another order: hidden states of real BERTs differ by 1e-6 and less, those of another function by far more.
_FUSED_TOLERANCE = 1e-5
_TRIED_LENGTHS = (8, 3, 1)

_log = logging.getLogger(__name__)


class PooledEncoder(nn.Module):
    """A transformer with its poolings.

    Parameters
    ----------
    model : transformers model
        In eval mode, float32, on the CPU.
    poolings : sequence of Pooling
        One output each.
    layer : int
        Which layer's states are pooled: -1 is the last.
    normalize : bool
        Scale vectors to length 1, in float32. A vector of zeros stays one.
    dropout : bool
        Leave the model's dropout on, for `ViewDropout` to draw its masks; the pass is then transformers' own.

    Attributes
    ----------
    fused : bool
        Whether the pass is the faster one.
    """

    def __init__(
        self,
        model: Any,
        poolings: Sequence[Pooling],
        *,
        layer: int = -1,
        normalize: bool = False,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.poolings, self.normalize = tuple(poolings), normalize
        kept = LAST_LAYERS if "last4" in poolings else 1
        plain = PlainBody(model, layer=layer, kept=kept)
        cls_only = set(poolings) <= CLS_POOLINGS
        fused = None if dropout else FusedBert.of(model, layer=layer, kept=kept, cls_only=cls_only)
        self.fused = fused is not None and agrees(fused, plain)
        self.body = fused if self.fused else plain
        if fused is not None and not self.fused:
            _log.warning("the faster pass of %s does not give its own numbers; not used", model.config.model_type)
        self.eval()
        if dropout:
            switch_on(model)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Vectors (B, D) of ids (B, T), one for each pooling. Without a mask every token is real."""
        states: States = self.body(input_ids, attention_mask, token_type_ids)  # type: ignore[misc]
        vectors = [pool(p, states.layers, attention_mask, states.pooler_output) for p in self.poolings]
        return tuple(F.normalize(v.float(), dim=-1) if self.normalize else v for v in vectors)


class PlainBody(nn.Module):
    """transformers' own forward pass. Parameters as those of `FusedBert`."""

    def __init__(self, model: Any, *, layer: int, kept: int) -> None:
        super().__init__()
        self.model, self.layer, self.kept = model, layer, kept

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> States:
        """States of ids (B, T). Without a mask every token is real."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        last_alone = self.layer == -1 and self.kept == 1
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=not last_alone,
            return_dict=True,
            **types,
        )
        pooled = getattr(output, "pooler_output", None)  # (B, D)
        if last_alone:
            return States((output.last_hidden_state,), pooled)
        states = (*output.hidden_states[:-1], output.last_hidden_state)  # embeddings, layer 1, ..., last layer
        stop = len(states) + 1 + self.layer
        return States(states[stop - self.kept : stop], pooled)


def agrees(fused: FusedBert, plain: PlainBody) -> bool:
    """Whether a fused body gives the states of transformers' own on a few made-up texts, padded and not."""
    config, embeddings = plain.model.config, plain.model.embeddings
    offset = getattr(embeddings, "padding_idx", -1) + 1  # where RoBERTa's positions begin; BERT's at 0
    longest = min(_TRIED_LENGTHS[0], config.max_position_embeddings - offset)
    lengths = torch.tensor(_TRIED_LENGTHS).clamp(max=longest)
    ids = torch.randint(config.vocab_size, (len(lengths), longest), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(longest) < lengths[:, None]).long()  # (B, T)
    with torch.inference_mode():
        padded = _near(fused(ids, mask), plain(ids, mask), mask)
        return padded and _near(fused(ids[:1]), plain(ids[:1]), mask[:1])


def _near(mine: States, theirs: States, mask: Tensor) -> bool:
    """Whether states agree at every real token that both have, and so do the pooler's vectors."""
    pairs = []
    for a, b in zip(mine.layers, theirs.layers, strict=True):
        real = mask[:, : a.shape[1]].bool()  # (B, T), or (B, 1) of [CLS] alone
        pairs.append((a[real], b[:, : a.shape[1]][real]))
    if mine.pooler_output is not None and theirs.pooler_output is not None:
        pairs.append((mine.pooler_output, theirs.pooler_output))
    return all(bool(((a - b).abs() <= _FUSED_TOLERANCE * (1 + b.abs())).all()) for a, b in pairs)
